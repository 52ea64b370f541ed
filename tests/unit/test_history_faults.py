"""What can go wrong with a history: the rows H01 to H10 of docs/faults.md that no other test stands for."""

import json
from pathlib import Path

import pytest

from agentloop.adapters.jsonl_log import JsonlLog
from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.toolbox import Toolbox
from agentloop.core.state import State
from agentloop.engine import Shell, run
from agentloop.policies import EveryTurn, ModelLedger, Never, PolicySettings
from agentloop.ports import Log
from agentloop.testing import NOON, FixedClock, Scripted, ScriptedModel, calls_tool, given, reply, says, started
from agentloop.tooling import Registry, tool
from agentloop.types.blocks import text, tool_use
from agentloop.types.events import Compacted, ModelReplied, ModelRequested
from agentloop.types.request import Failure

ASKING = PolicySettings(compaction=EveryTurn(keep_pairs=2), ledger=ModelLedger())


@tool(effect="read")
def look(n: int = 0) -> str:
    """Look.

    Args:
        n: Where.
    """
    return f"seen {n}"


def play(log: Log, answers: list[Scripted], settings: PolicySettings) -> tuple[State, ScriptedModel]:
    registry = Registry([look])
    model = ScriptedModel(answers)
    if not list(log.events()):
        log.append(started(tools=registry.definitions, tool_cards=registry.cards), NOON)
        log.append(given("task"), NOON)
    box = Toolbox(registry, session_id="test", root=Path("/"))
    return run(log, Shell(model, box, MemoryBlobs(), FixedClock(step_s=1)), settings.policies()), model


# H01, H02


@pytest.mark.parametrize(
    "summary",
    [
        Failure(kind="unavailable", error_type="rate_limit_error", message="rate limited", status=429),
        reply(text("I will not."), stop_reason="refusal"),
        reply(text(" \n")),
        reply(),
        says("It looked, and looked again. " * 2_000),
    ],
    ids=["failure", "refusal", "blank", "empty", "longer"],
)
def test_a_summary_that_cannot_be_used_costs_no_turn_and_no_session(summary: Scripted) -> None:
    log = MemoryLog()
    answers = [*(calls_tool(f"c{n}", "look", n=n) for n in range(3)), summary, says("Done.")]

    state, model = play(log, answers, ASKING)

    (cut,) = [e.body for e in log.events() if isinstance(e.body, Compacted)]
    assert (state.outcome, cut.written_by, len(state.turns), len(model.bodies)) == ("completed", "engine", 3, 5)
    assert "seen 0" in cut.segment
    for body in map(json.loads, model.bodies):
        blocks = [b for m in body["messages"] for b in m["content"]]
        assert all(b["text"].strip() for b in blocks if b["type"] == "text")


# H05


def test_a_crash_around_a_summary_loses_no_turn_and_asks_at_most_twice() -> None:
    def answers() -> list[Scripted]:
        return [*(calls_tool(f"c{n}", "look", n=n) for n in range(3)), says("It looked."), says("Done.")]

    whole = MemoryLog()
    before, model = play(whole, answers(), ASKING)
    lines = list(whole.events())

    for kept in range(2, len(lines)):
        replies = sum(isinstance(e.body, ModelReplied) for e in lines[:kept])
        state, resumed = play(MemoryLog(lines[:kept]), answers()[replies:], ASKING)

        assert (state.outcome, state.segments, len(state.turns)) == ("completed", before.segments, len(before.turns))
        asked_before_the_crash = sum(isinstance(e.body, ModelRequested) for e in lines[:kept])
        assert asked_before_the_crash + len(resumed.bodies) <= len(model.bodies) + 1


# H06, H10


def test_a_session_read_back_from_its_file_sends_the_same_bytes_as_one_that_was_never_interrupted(tmp_path: Path) -> None:
    odd = '{"z":1.0,"a":1e5,"n":-0.0,"big":123456789012345678901234567890,"é":"\\u2028","b":{"y":[1.10,null],"x":true}}'
    thinking = {"type": "thinking", "thinking": "hm\u2028", "signature": "sig+/=="}
    first = reply(thinking, text("I see."), tool_use("c1", "look", json.loads(odd)))
    last = [calls_tool("c2", "look", n=2), says("Done.")]
    settings = PolicySettings(compaction=Never())
    _, whole = play(MemoryLog(), [first, *last], settings)

    def crash(body: bytes) -> Failure:
        raise KeyboardInterrupt

    with JsonlLog(tmp_path) as log:
        play(log, [first, crash], settings)
    lines = (tmp_path / "log.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "log.jsonl").write_bytes(b"".join(lines[:-2]))  # without the line that says that it was interrupted
    with JsonlLog(tmp_path) as log:
        state, resumed = play(log, list(last), settings)

    assert state.outcome == "completed"
    assert resumed.bodies == whole.bodies[1:]
    assert b'"z":1.0,"a":100000.0,"n":-0.0,"big":123456789012345678901234567890' in whole.bodies[1]
