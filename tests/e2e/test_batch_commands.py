"""`agentloop batch` from the command line, on an emulator with a port."""

import csv
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agentloop.adapters.model_table import models
from agentloop.cli import cli
from agentloop.emulated import as_script
from agentloop.emulator import Emulator, EmulatorSettings
from agentloop.emulator.server import running
from agentloop.emulator.settings import BatchSettings
from agentloop.errors import AgentLoopError
from agentloop.types.base import Json

SCHEMA = {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"], "additionalProperties": False}


class Desk:
    """A workspace, and an emulator whose batches end at once unless they are told to take their time."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.start_s = 0.0
        monkeypatch.setenv("ANTHROPIC_API_KEY", "emulator")
        monkeypatch.setenv("AGENTLOOP_MODEL", "claude-haiku-4-5-20251001")
        self.monkeypatch = monkeypatch
        (folder / "tickets.csv").write_text("id,text\nT1,the app is slow\nT2,thank you\n")
        (folder / "schema.json").write_text(json.dumps(SCHEMA))

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["batch", *arguments, "--workspace", str(self.folder)])

    def json(self, *arguments: str) -> Any:
        found = self(*arguments, "--json")
        assert found.exit_code == 0, found.output
        return json.loads(found.stdout)

    @property
    def tickets(self) -> str:
        return str(self.folder / "tickets.csv")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    made = Desk(tmp_path, monkeypatch)
    yield from opened(made)


def opened(desk: Desk, start_s: float = 0.0) -> Iterator[Desk]:
    def answer(request: Json, step: int) -> str:
        return '{"kind":"bug"}' if "slow" in request["messages"][0]["content"] else '{"kind":"praise"}'

    settings = EmulatorSettings(batches=BatchSettings(start_s=start_s, item_s=0.0))
    with running(Emulator(as_script(answer), models(), settings=settings)) as url:
        desk.monkeypatch.setenv("AGENTLOOP_BASE_URL", url)
        yield desk


ASKED = ("-p", "Classify: {{text}}", "--id", "id", "--name", "tickets")


def test_rows_go_in_and_results_come_out_with_their_fields_and_the_bill(desk: Desk) -> None:
    schema = str(desk.folder / "schema.json")
    found = desk.json("submit", desk.tickets, *ASKED, "--schema", schema, "--wait", "--output", str(desk.folder / "out.csv"))

    rows = list(csv.DictReader((desk.folder / "out.csv").open()))
    assert [(r["id"], r["text"], r["_outcome"], json.loads(r["_output"])["kind"]) for r in rows] == [
        ("T1", "the app is slow", "succeeded", "bug"),
        ("T2", "thank you", "succeeded", "praise"),
    ]
    assert found["outcomes"] == {"succeeded": 2}
    assert Decimal(found["cost_usd"]) * 2 == Decimal(found["live_usd"]) > 0
    assert sum(Decimal(r["_cost_usd"]) for r in rows) == Decimal(found["cost_usd"])


def test_submit_status_collect_and_list_are_commands_of_their_own(desk: Desk) -> None:
    sent = desk.json("submit", desk.tickets, *ASKED)
    seen = desk.json("status", "tickets")
    offline = desk.json("status", "tickets", "--offline")
    got = desk.json("collect", "tick")
    listed = desk.json("list")

    assert (sent["status"], sent["done"]) == ("processing", 0)
    assert Decimal(sent["set_aside_usd"]) > 0
    assert seen["at_the_api"][0]["status"] == "ended"
    assert "at_the_api" not in offline
    assert (got["status"], got["done"]) == ("ended", 2)
    assert Decimal(got["set_aside_usd"]) == 0
    assert [json.loads(line)["output"] for line in Path(got["results"]).read_text().splitlines()] == [
        '{"kind":"bug"}', '{"kind":"praise"}'
    ]  # fmt: skip
    assert [(r["name"], r["cost_usd"]) for r in listed] == [("tickets", got["cost_usd"])]
    assert "tickets" in desk("list").output


def test_the_same_command_again_sends_nothing_again(desk: Desk) -> None:
    first = desk.json("submit", desk.tickets, *ASKED, "--wait")

    again = desk.json("submit", desk.tickets, *ASKED, "--wait")

    assert again == first


def test_a_batch_that_goes_on_is_no_success_yet_and_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for desk in opened(Desk(tmp_path, monkeypatch), start_s=3_600):
        desk("submit", desk.tickets, *ASKED)
        waiting = desk("collect", "tickets")
        cancelled = desk("cancel", "tickets")

        assert waiting.exit_code == 75
        assert "looks again" in waiting.stderr
        assert cancelled.exit_code == 0
        assert desk.json("status", "tickets")["at_the_api"][0]["status"] == "canceling"


def test_a_budget_that_is_too_small_has_its_own_exit_code_and_can_be_raised(desk: Desk) -> None:
    poor = desk("submit", desk.tickets, *ASKED, "--max-budget-usd", "0")
    rich = desk("collect", "tickets", "--max-budget-usd", "1", "--wait")

    assert poor.exit_code == 3
    assert "budget: the next requests can cost" in poor.stderr
    assert rich.exit_code == 0
    assert "2 succeeded" in rich.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("submit", "TICKETS", "-p", "no field"), "names no field"),
        (("submit", "TICKETS", "-p", "{{text}}", "--template", "TICKETS"), "use one"),
        (("submit", "TICKETS", "-p", "{{text}}", "--max-budget-usd", "much"), "expected a number of USD"),
        (("submit", "nowhere.csv", "-p", "{{text}}"), "cannot be read"),
        (("collect", "nobody"), "no batch 'nobody'"),
        (("submit", "TICKETS", "-p", "{{text}}", "--wait", "--output", "out.pdf"), "ends in .jsonl or .csv"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_next_step(desk: Desk, arguments: tuple[str, ...], told: str) -> None:
    found = desk(*(a.replace("TICKETS", desk.tickets) for a in arguments))

    assert isinstance(found.exception, AgentLoopError)
    assert told in str(found.exception)
    assert found.exception.exit_code == 2
    assert desk.json("list") == []


def test_a_secret_in_a_row_is_neither_sent_nor_kept(desk: Desk) -> None:
    desk.monkeypatch.setenv("MY_API_KEY", "sk-ant-very-secret-indeed-1234567890")
    (desk.folder / "tickets.csv").write_text("id,text\nT1,my key is sk-ant-very-secret-indeed-1234567890\n")

    found = desk("submit", desk.tickets, *ASKED, "--wait")

    assert found.exit_code == 0
    assert "taken out" in found.stderr
    kept = b"".join(p.read_bytes() for p in (desk.folder / ".agentloop").rglob("*") if p.is_file())
    assert b"very-secret" not in kept


@pytest.mark.parametrize("command", ["status", "collect", "cancel"])
def test_a_run_of_which_only_the_place_was_made_says_so(desk: Desk, command: str) -> None:
    place = desk.folder / ".agentloop" / "batches" / "torn"
    place.mkdir(parents=True)
    (place / "log.jsonl").touch()

    found = desk(command, "torn")

    assert isinstance(found.exception, AgentLoopError)
    assert "was never written down" in str(found.exception)


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "1e300"])
def test_a_wait_without_an_end_is_wrong_use(desk: Desk, seconds: str) -> None:
    found = desk("submit", desk.tickets, "-p", "{{text}}", "--max-wait-s", seconds)

    assert found.exit_code == 2
    assert not (desk.folder / ".agentloop").exists()
