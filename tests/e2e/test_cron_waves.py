"""A schedule whose runs are waves: one for each due time, carried on by whoever looks next, whatever dies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from agentloop.adapters.model_table import models
from agentloop.cli.cron_store import opened
from agentloop.database import engine
from agentloop.emulator.app import Emulator
from agentloop.emulator.script import Function
from agentloop.emulator.server import running
from agentloop.emulator.settings import BatchSettings, EmulatorSettings
from agentloop.policies import preset
from agentloop.replay import replay
from agentloop.schedule.tables import DUE_TIMES, SCHEDULES
from agentloop.sessions import Sessions
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block
from agentloop.types.events import InputGiven
from tests.e2e.test_cron import KILLED_AT, there_since
from tests.e2e.workplace import PLAIN, Ran, agentloop

SESSIONS, TURNS = 4, 3
TEXT = "You count words. " + "Say exactly what you counted, and in which file. " * 300
"""Long enough to be cached."""
QUICK = BatchSettings(start_s=0.01, item_s=0.01)
POINTS = ("schedule.begun", "wave.started", "wave.intended", "wave.submitted", "wave.made", "wave.answered", "wave.over")


def said(request: Json, step: int) -> list[Block]:
    if step == TURNS - 1:
        return [blocks.text("Counted.")]
    return [blocks.tool_use(f"toolu_{step}", "count_words", {"path": "notes.md"})]


class Shop:
    """A workspace with an agent, an API for it, and a schedule whose one due time of the day was a moment ago."""

    def __init__(self, folder: Path, url: str, emulator: Emulator) -> None:
        self.folder, self.emulator = folder, emulator
        self.environment = {
            "ANTHROPIC_API_KEY": "sk-ant-nobody-0001",
            "AGENTLOOP_BASE_URL": url,
            "AGENTLOOP_PROVIDER": "anthropic",
        }
        assert agentloop(folder, "init", str(folder)).code == 0
        head = "name: counter\nmodel: claude-sonnet-4-6\nmax_tokens: 2000"
        (folder / "prompts" / "counter.md").write_text(f"---\n{head}\n---\n{TEXT}\n")
        (folder / "notes.md").write_text("one two three\n")
        (folder / "tasks.txt").write_text("".join(f"Count for day {i}.\n" for i in range(SESSIONS)))

    def falls_due(self, *options: str) -> str:
        """What the wave will be called."""
        due = datetime.now(UTC).replace(second=0, microsecond=0)
        add = ("cron", "add", "counter", "--cron", f"{due.minute} {due.hour} * * *", "--inputs", "tasks.txt", *options)
        added = self.runs(*add)
        assert added.code == 0, added.err
        there_since(self.folder, due - timedelta(seconds=30))
        return f"counter-{due:%Y%m%dT%H%M}Z"

    def runs(self, *arguments: str, **more: str) -> Ran:
        return agentloop(self.folder, *arguments, **self.environment, **more)

    def starts(self, *arguments: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "agentloop", *arguments]
        environment = {**PLAIN, **self.environment}
        return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def killed_at(self, point: str) -> None:
        command = [sys.executable, "-c", KILLED_AT, point, "cron", "tick"]
        killed = subprocess.run(command, cwd=self.folder, env={**PLAIN, **self.environment}, capture_output=True, timeout=120)
        assert killed.returncode == -signal.SIGKILL, killed.stderr

    def history(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.runs("cron", "history", "--json").out)
        return found

    def sessions(self) -> list[str]:
        return sorted(p.parent.name for p in (self.folder / "sessions").glob("*/log.jsonl"))

    def items(self) -> list[Json]:
        return [r for r in self.emulator.report()["requests"] if r["request_id"].startswith("req_msgbatch")]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    emulator = Emulator(Function("counting", said), models(), settings=EmulatorSettings(batches=QUICK))
    with running(emulator) as url:
        yield Shop(tmp_path, url, emulator)


def members(wave: str) -> list[str]:
    return [f"{wave}-{i:05d}" for i in range(1, SESSIONS + 1)]


def test_a_due_time_is_one_wave_with_a_session_for_each_row(shop: Shop) -> None:
    wave = shop.falls_due()

    ran = shop.runs("cron", "tick", "--json")

    (row,) = json.loads(ran.out)
    assert (ran.code, row["session_id"], row["status"], row["outcome"]) == (0, wave, "done", "completed"), ran.err
    assert shop.sessions() == members(wave)
    assert Decimal(row["cost_usd"]) == Decimal(shop.emulator.report()["totals"]["cost_usd"])
    assert len(shop.items()) > SESSIONS
    assert shop.runs("cron", "tick") == Ran(0, "", "")


@pytest.mark.parametrize("point", POINTS)
def test_a_wave_whose_process_is_killed_is_carried_on_by_the_next_tick(shop: Shop, point: str) -> None:
    wave = shop.falls_due()
    shop.killed_at(point)

    next_one = shop.runs("cron", "tick")

    assert next_one.code == 0, next_one.err
    assert [(r["session_id"], r["outcome"]) for r in shop.history()] == [(wave, "completed")]
    assert shop.sessions() == members(wave)
    assert [p.name for p in (shop.folder / ".agentloop" / "waves").iterdir()] == [wave]
    data = json.loads(shop.runs("batch", "run", "counter", "--inputs", "tasks.txt", "--id", wave, "--json").out)
    assert (data["outcomes"], data["replies"]) == ({"completed": SESSIONS}, SESSIONS * TURNS)
    assert data["batched"] == len(shop.items())  # no item was paid for twice
    events = [list(Sessions(shop.folder / "sessions").events(i)) for i in members(wave)]
    assert all(replay(log, preset("rent").policies()).same for log in events)


def test_four_schedulers_at_once_make_one_wave(shop: Shop) -> None:
    wave = shop.falls_due()

    ticks = [shop.starts("cron", "tick") for _ in range(4)]
    printed = [tick.communicate(timeout=120)[0] for tick in ticks]

    assert sum(b"completed" in text for text in printed) == 1
    assert [(r["session_id"], r["status"]) for r in shop.history()] == [(wave, "done")]
    assert shop.sessions() == members(wave)
    assert len(shop.emulator.report()["requests"]) == SESSIONS * TURNS


def test_a_scheduler_that_is_told_to_stop_leaves_its_batches_to_the_next_one(tmp_path: Path) -> None:
    slow = EmulatorSettings(batches=BatchSettings(start_s=4, item_s=0.01))
    emulator = Emulator(Function("counting", said), models(), settings=slow)
    with running(emulator) as url:
        shop = Shop(tmp_path, url, emulator)
        wave = shop.falls_due()
        tick = shop.starts("cron", "tick")
        log = tmp_path / ".agentloop" / "waves" / wave / "log.jsonl"
        until(lambda: log.exists() and "batch_made" in log.read_text())
        began = time.monotonic()
        tick.send_signal(signal.SIGTERM)
        tick.communicate(timeout=60)
        took_s = time.monotonic() - began
        (row,) = shop.history()
        again_at_once(tmp_path)

        next_one = shop.runs("cron", "tick")

        assert (tick.returncode, took_s < 3.5) == (143, True)
        assert (row["status"], row["outcome"]) == ("claimed", "interrupted")
        assert next_one.code == 0, next_one.err
        assert [(r["session_id"], r["outcome"]) for r in shop.history()] == [(wave, "completed")]
        assert len(emulator.report()["requests"]) == SESSIONS * TURNS  # what was under way was not asked again


def until(is_so: Any) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def again_at_once(folder: Path) -> None:
    with opened(folder) as here, here.store.database.begin() as connection:
        connection.execute(sa.update(DUE_TIMES).values(not_before=None))


def test_all_sessions_of_a_wave_share_the_budget_of_the_run(shop: Shop) -> None:
    """A first turn costs some 0.02 USD at worst; four of them are not to be had for 0.03."""
    wave = shop.falls_due("--max-budget-usd", "0.05")

    ran = shop.runs("cron", "tick", "--json")

    (row,) = json.loads(ran.out)
    assert (ran.code, row["outcome"]) == (3, "budget_exceeded")
    assert "budget_exceeded" in row["reason"]
    assert Decimal(row["cost_usd"]) <= Decimal("0.05")
    assert shop.sessions() == members(wave)


def test_after_its_deadline_a_wave_asks_live(shop: Shop) -> None:
    shop.falls_due("--deadline-s", "1")
    time.sleep(1.1)

    ran = shop.runs("cron", "tick")

    assert ran.code == 0, ran.err
    assert (shop.items(), len(shop.emulator.report()["requests"])) == ([], SESSIONS * TURNS)


def test_the_task_of_a_row_may_be_made_by_a_template(shop: Shop) -> None:
    (shop.folder / "tasks.csv").write_text("day,place\n1,Cork\n2,Kerry\n")
    wave = shop.falls_due("--inputs", "tasks.csv", "-p", "Count day {{day}} in {{place}}.")

    assert shop.runs("cron", "tick").code == 0

    bodies = (e.body for e in Sessions(shop.folder / "sessions").events(f"{wave}-00002"))
    first = next(body for body in bodies if isinstance(body, InputGiven))
    assert first.content[0]["text"] == "Count day 2 in Kerry."


def test_the_worst_of_its_sessions_is_what_a_wave_comes_to(shop: Shop) -> None:
    shop.falls_due()

    ran = shop.runs("cron", "tick", "--json", AGENTLOOP_MAX_TURNS="1")

    (row,) = json.loads(ran.out)
    assert (ran.code, row["outcome"], row["reason"]) == (3, "max_turns", f"{SESSIONS} max_turns")


@pytest.mark.parametrize(
    ("options", "said_is"),
    [
        (("--inputs", "missing.txt"), "missing.txt cannot be read"),
        (("--inputs", "notes.md"), "expected a file whose name ends in .jsonl"),
        (("--inputs", "tasks.txt", "-p", "{{day}}"), "day"),
        (("--deadline-s", "60"), "deadline_s is for waves"),
    ],
)
def test_a_wave_that_could_not_begin_is_refused_when_it_is_added(shop: Shop, options: tuple[str, ...], said_is: str) -> None:
    ran = shop.runs("cron", "add", "counter", "--cron", "@daily", *options)

    assert (ran.code, said_is in ran.err) == (2, True), ran.err
    assert os.listdir(shop.folder / "sessions") == [] if (shop.folder / "sessions").exists() else True


def test_inputs_that_are_gone_when_it_falls_due_are_said(shop: Shop) -> None:
    shop.falls_due()
    (shop.folder / "tasks.txt").unlink()

    ran = shop.runs("cron", "tick", "--json")

    (row,) = json.loads(ran.out)
    assert (ran.code, row["outcome"], "tasks.txt cannot be read" in row["reason"]) == (2, "error", True)


def test_another_machine_carries_a_wave_on_where_the_sessions_are_in_a_database(tmp_path: Path, new_postgres_url: str) -> None:
    """They share the database and the files that were deployed, and nothing else."""
    emulator = Emulator(Function("counting", said), models(), settings=EmulatorSettings(batches=QUICK))
    with running(emulator) as url:
        first, second = (Shop(made(tmp_path / name), url, emulator) for name in ("first", "second"))
        for shop in (first, second):
            shop.environment["AGENTLOOP_DATABASE_URL"] = new_postgres_url
        due = datetime.now(UTC).replace(second=0, microsecond=0)
        head = f"schedule: {{cron: '{due.minute} {due.hour} * * *', inputs: tasks.txt}}"
        for shop in (first, second):
            prompt = shop.folder / "prompts" / "counter.md"
            prompt.write_text(prompt.read_text().replace("name: counter", f"name: counter\n{head}"))
        assert first.runs("cron", "tick").code == 0  # it is known from now on
        since(new_postgres_url, due - timedelta(seconds=30))
        first.killed_at("wave.made")

        next_one = second.runs("cron", "tick", "--json")

        (row,) = json.loads(next_one.out)
        assert (next_one.code, row["session_id"], row["outcome"]) == (0, f"counter-{due:%Y%m%dT%H%M}Z", "completed")
        assert len(emulator.report()["requests"]) == SESSIONS * TURNS  # nothing was asked twice
        assert not (second.folder / ".agentloop" / "waves").exists()


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def since(url: str, at: datetime) -> None:
    with engine(url).begin() as connection:
        connection.execute(sa.update(SCHEDULES).values(since=at, seen_until=at))


@pytest.mark.slow
def test_a_worker_runs_a_wave_as_it_runs_a_session(shop: Shop) -> None:
    wave = shop.falls_due()
    assert shop.runs("cron", "tick", "--queue", "default").code == 0

    worked = shop.runs("worker", "--drain")
    settled = shop.runs("cron", "tick", "--queue", "default", "--json")

    assert (worked.code, settled.code) == (0, 0), worked.err
    assert [(r["session_id"], r["status"], r["outcome"]) for r in shop.history()] == [(wave, "done", "completed")]
    assert shop.sessions() == members(wave)


def test_an_operator_is_told_once_of_a_wave_that_failed(shop: Shop) -> None:
    wave = shop.falls_due()
    told = shop.folder / "told.jsonl"
    (shop.folder / "tell").write_text(f"#!/bin/sh\ncat >> {told}; echo >> {told}\n")
    (shop.folder / "tell").chmod(0o700)

    ran = shop.runs("cron", "tick", AGENTLOOP_MAX_TURNS="1", AGENTLOOP_NOTIFY_COMMAND=str(shop.folder / "tell"))

    assert ran.code == 3, ran.err
    (notice,) = [json.loads(line) for line in told.read_text().splitlines() if line]
    assert (notice["subject"], notice["kind"], notice["schedule"]) == (wave, "budget", "counter")
    assert f"batch run counter --inputs tasks.txt --id {wave}" in notice["next_step"]
