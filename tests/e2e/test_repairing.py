"""A session whose history the API accepts no longer, and the new one that takes over from it (A10)."""

import json
from pathlib import Path

import pytest

from agentloop import Agent, tool
from agentloop.adapters.model_table import models
from agentloop.emulator import Emulator, Function
from agentloop.emulator.faults import Faults
from agentloop.emulator.server import running
from agentloop.types.base import Json
from agentloop.types.blocks import Block, text, tool_use
from agentloop.types.events import ToolStarted
from tests.e2e.workplace import agentloop, workspace

KEY = {"ANTHROPIC_API_KEY": "any"}
PAID: list[str] = []


@tool(effect="once")
def pay(order: str) -> str:
    """Pay an order.

    Args:
        order: Its number.
    """
    PAID.append(order)
    return f"{order} is paid, receipt R-77-{order}\n" + "\n".join(f"line {n} of the receipt of {order}" for n in range(900))


def answer(request: Json, step: int) -> list[Block]:
    told = json.dumps(request["messages"])
    if step < 3 and "Taken over" not in told:
        return [text(f"I pay W{step}."), tool_use(f"toolu_{step}", "pay", {"order": f"W{step}"})]
    return [text("All is paid.")]


@pytest.fixture(autouse=True)
def _nothing_paid() -> None:
    PAID.clear()


def test_a_repair_is_a_new_session_that_knows_what_the_old_one_knew_and_leaves_it_as_it_was(tmp_path: Path) -> None:
    emulator = Emulator(Function("payer", answer), models(), faults=Faults.of({"request": 4, "fault": "400"}))
    with running(emulator) as url:
        payer = Agent(system="You pay.", tools=[pay], workspace=tmp_path, base_url=url, environment=KEY)
        refused = payer.run("Pay what is due, except W9.", session_id="old")
        before = (tmp_path / "sessions" / "old" / "log.jsonl").read_bytes()

        repaired = agentloop(tmp_path, "sessions", "repair", "old", "--to", "new")
        result = payer.resume("new")

    events = payer.sessions.events("new")
    first = json.dumps(events[1].body.model_dump(mode="json"))
    assert (refused.outcome, refused.detail) == ("failed", "Invalid request")
    assert (repaired.code, "agentloop resume new" in repaired.out) == (0, True), repaired.err
    assert (result.outcome, result.text, result.turns) == ("completed", "All is paid.", 1)
    assert all(words in first for words in ("Pay what is due, except W9.", "session old", "W0", "W1", "W2", "R-77-W2"))
    assert PAID == ["W0", "W1", "W2"]
    assert not any(isinstance(e.body, ToolStarted) for e in events)
    assert (tmp_path / "sessions" / "old" / "log.jsonl").read_bytes() == before
    kept, copied = (payer.sessions.blobs(n) for n in ("old", "new"))
    assert [copied.find(d) for d in kept.digests()] == [kept.find(d) for d in kept.digests()] != []


def test_what_cannot_be_repaired_is_said(tmp_path: Path) -> None:
    folder = workspace(tmp_path)
    agentloop(folder, "run", "assistant", "--session-id", "s", "-q")

    taken = agentloop(folder, "sessions", "repair", "s", "--to", "s")
    unknown = agentloop(folder, "sessions", "repair", "nobody")
    made = agentloop(folder, "sessions", "repair", "s")

    assert (taken.code, unknown.code, made.code) == (2, 2, 0)
    assert "exists already" in taken.err
    assert len(agentloop(folder, "sessions", "list", "--json").out) > 10
