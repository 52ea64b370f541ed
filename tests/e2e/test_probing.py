"""What a model still knows of a session: asked on the command line, of a reader and of an API."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from agentloop.emulated import EmulatedApi
from agentloop.probe import candidates, chosen
from agentloop.probe.contexts import contexts
from agentloop.probe.reader import reader
from agentloop.sessions import Sessions
from tests.e2e.workplace import agentloop
from tests.unit.probed import RICH, played


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("desk")
    played(made)
    played(made, RICH, "rich-1")
    (made / "agentloop.toml").write_text('provider = "scripted"\n')
    return made


def test_offline_a_reader_answers_and_the_page_says_so(folder: Path) -> None:
    ran = agentloop(folder, "probe", "desk-1")

    assert (ran.code, ran.err) == (0, "")
    assert "script:reader answered: it finds what stands there and understands nothing" in ran.out
    assert "full" in ran.out
    assert "lost, turn" in ran.out


def test_a_model_behind_an_api_is_asked_and_paid(folder: Path) -> None:
    sessions = Sessions(folder / "sessions")
    place = contexts(sessions.events("desk-1"), sessions.blobs("desk-1"))
    api = EmulatedApi(reader(chosen(candidates(place), 8)))

    try:
        ran = agentloop(
            folder, "probe", "desk-1", "--provider", "anthropic", "--base-url", api.url, "--questions", "8", "--json",
            ANTHROPIC_API_KEY="emulator",
        )  # fmt: skip
        report = json.loads(ran.out)
        assert (report["played_by"], report["full"]["right"], len(report["questions"])) == ("api", 8, 8)
        assert report["compacted"]["share"] < 1
        assert Decimal(report["cost_usd"]) == api.bill().cost_usd
    finally:
        api.close()


def test_the_questions_can_be_looked_at_for_nothing(folder: Path) -> None:
    listed = json.loads(agentloop(folder, "probe", "desk-1", "--list", "--questions", "5", "--json").out)
    shown = agentloop(folder, "probe", "desk-1", "--list", "--questions", "5").out

    assert [q.keys() for q in listed] == [{"kind", "turn", "question", "answer"}] * 5
    assert all(q["answer"] in shown for q in listed)


def test_a_probe_writes_nothing_to_the_session(folder: Path) -> None:
    log = folder / "sessions" / "desk-1" / "log.jsonl"
    before = log.read_bytes()

    agentloop(folder, "probe", "desk-1")

    assert log.read_bytes() == before


def test_a_session_whose_state_keeps_more_answers_more(folder: Path) -> None:
    poor, rich = (json.loads(agentloop(folder, "probe", s, "--json").out) for s in ("desk-1", "rich-1"))

    assert rich["compacted"]["share"] > poor["compacted"]["share"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nobody",), 2, "session 'nobody' does not exist"),
        (("desk-1", "--at", "99"), 2, "asks for no turn 99"),
        (("desk-1", "--at", "2"), 2, "there is nothing to probe"),
        (("desk-1", "--model", "claude-sonet"), 2, "unknown model 'claude-sonet'"),
        (("desk-1", "--max-budget-usd", "0.001"), 3, "has no room for another question"),
        (("desk-1", "--provider", "anthropic"), 2, "ANTHROPIC_API_KEY"),
    ],
)
def test_what_cannot_be_done_is_said(folder: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    ran = agentloop(folder, "probe", *arguments)

    assert ran.code == code
    assert said in ran.err
