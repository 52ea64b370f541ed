"""A workspace whose sessions are in PostgreSQL: every command does what it does with files."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agentloop.agents import find_agent
from agentloop.api import Agent
from agentloop.result import Result
from agentloop.testing import NOON, FixedClock
from tests.e2e.workplace import Ran, agentloop, workspace

ROOT = Path(__file__).parents[2]
Command = Callable[..., Ran]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return workspace(tmp_path)


@pytest.fixture
def command(folder: Path, new_postgres_url: str) -> Command:
    return lambda *arguments: agentloop(folder, *arguments, AGENTLOOP_DATABASE_URL=new_postgres_url)


def test_atlas_on_postgresql_has_the_log_the_blobs_and_the_bill_that_it_has_on_files(
    tmp_path: Path, new_postgres_url: str
) -> None:
    on_files = morning(tmp_path / "files", None)
    on_postgres = morning(tmp_path / "postgres", new_postgres_url)

    for name, url in (("files", ""), ("postgres", new_postgres_url)):
        exported = agentloop(tmp_path / name, "sessions", "export", "morning", "copy", AGENTLOOP_DATABASE_URL=url)
        assert exported.code == 0, exported.err
    first, second = (read(tmp_path / name / "copy") for name in ("files", "postgres"))
    assert first.keys() == second.keys()
    assert len(first) > 20
    assert without_durations(first.pop("log.jsonl")) == without_durations(second.pop("log.jsonl"))
    assert first == second
    assert (on_postgres.cost, on_postgres.usage, on_postgres.turns) == (on_files.cost, on_files.usage, on_files.turns)
    assert on_files.outcome == on_postgres.outcome == "completed"


def test_an_export_of_a_session_on_files_is_byte_for_byte_the_session(tmp_path: Path) -> None:
    morning(tmp_path, None)
    (tmp_path / "sessions" / "morning" / "lock").unlink()

    exported = agentloop(tmp_path, "sessions", "export", "morning", "copy")

    assert exported.code == 0
    assert read(tmp_path / "copy") == read(tmp_path / "sessions" / "morning")


def test_a_session_is_run_listed_shown_reported_explained_replayed_and_taken_up_again(
    folder: Path, command: Command, new_postgres_url: str
) -> None:
    ran = command("run", "assistant", "--session-id", "first", "--json")
    listed = json.loads(command("sessions", "list", "--json").out)
    shown = command("sessions", "show", "fir")
    reported = json.loads(command("report", "first", "--json").out)
    explained = command("explain", "first")
    replayed = json.loads(command("replay", "first", "--json").out)
    resumed = command("resume", "first", "-p", "And now?", "--json")

    assert ran.code == 0, ran.err
    assert [(s["session_id"], s["outcome"]) for s in listed] == [("first", "completed")]
    assert "count_words" in shown.out
    assert Decimal(reported["cost_usd"]) == Decimal(json.loads(ran.out)["cost_usd"])
    assert explained.code == 0
    assert replayed["same"] is True
    assert json.loads(resumed.out)["turns"] > reported["turns"]
    assert not (folder / "sessions").exists()
    assert re.fullmatch(r"postgresql://[^@/]+/[^/]+/first", json.loads(ran.out)["log"])


def test_no_command_says_the_password(command: Command, new_postgres_url: str) -> None:
    password = psycopg.conninfo.conninfo_to_dict(new_postgres_url).get("password")
    if not password:
        pytest.skip("this server asks for no password")
    command("run", "assistant", "--session-id", "s")

    said = [
        command("report", "s"),
        command("config", "show"),
        command("config", "show", "--json"),
        command("doctor"),
        command("sessions", "export", "nobody", "x"),
    ]

    assert not [ran for ran in said if str(password) in ran.out + ran.err]


def test_a_server_that_is_not_there_is_told_before_anything_is_spent(folder: Path) -> None:
    ran = agentloop(folder, "run", "assistant", AGENTLOOP_DATABASE_URL="postgresql://ann:hunter2@127.0.0.1:1/shop")

    assert ran.code == 75
    assert "postgresql://127.0.0.1:1/shop cannot be reached" in ran.err
    assert "hunter2" not in ran.err
    assert len(ran.err.splitlines()) <= 3


def test_the_whole_lines_of_a_damaged_log_can_be_exported(folder: Path, command: Command, new_postgres_url: str) -> None:
    command("run", "assistant", "--session-id", "s")
    with psycopg.connect(new_postgres_url) as connection:
        connection.execute("UPDATE agentloop_lines SET line = set_byte(line, 30, 7) WHERE seq = 3")

    refused = command("sessions", "export", "s", "copy")
    there = (folder / "copy").exists()
    written = command("sessions", "export", "s", "copy", "--whole-lines")

    assert (refused.code, there, written.code) == (1, False, 0)
    assert "line 4 is damaged" in refused.err
    assert (folder / "copy" / "log.jsonl").read_bytes().count(b"\n") == 3


def morning(place: Path, url: str | None) -> Result:
    """Atlas's morning, in a workspace of its own, with a clock that moves a millisecond at each look."""
    place.mkdir(exist_ok=True)
    for name in ("tools", "prompts"):
        (place / name).symlink_to(ROOT / name)
    file = find_agent(place, "prompts", "atlas")
    clock = FixedClock(NOON, step_s=0.001)
    agent = Agent(file, workspace=place, clock=clock, environment={}, provider="scripted", database_url=url)
    return agent.run("Execute the morning session.", session_id="morning")


def read(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def without_durations(log: bytes) -> list[Any]:
    """The events, without what a machine took for them: durations, times, and the checksums over both."""
    events = [json.loads(line) for line in log.splitlines()]
    return [{**event["body"], "duration_s": None} for event in events]
