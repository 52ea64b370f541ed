from datetime import timedelta
from pathlib import Path

import pytest

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.toolbox import Toolbox
from agentloop.engine import Shell, run
from agentloop.policies import EveryTurn, Never, PolicySettings, Rent
from agentloop.replay import replay
from agentloop.testing import NOON, FixedClock, ScriptedModel, calls_tool, events, given, reply, says, started
from agentloop.tooling import Registry, tool
from agentloop.types.blocks import text
from agentloop.types.events import Event, ModelRequested, SessionEnded

SETTINGS = PolicySettings(compaction=EveryTurn(keep_pairs=2))


@tool(effect="read")
def look(n: int = 0) -> str:
    """Look."""
    return f"seen {n}"


def recorded(settings: PolicySettings = SETTINGS, gap_s: float = 1) -> list[Event]:
    """A session of five turns, one of them empty, one with an unknown tool."""
    registry = Registry([look])
    log = MemoryLog()
    log.append(started(tools=registry.definitions, tool_cards=registry.cards), NOON)
    log.append(given("task"), NOON)
    answers = [calls_tool(f"c{n}", "look", n=n) for n in range(4)]
    model = ScriptedModel([*answers, reply(text(" ")), calls_tool("x", "nothing"), says("Done.")])
    box = Toolbox(registry, session_id="test", root=Path("/"))
    run(log, Shell(model, box, MemoryBlobs(), FixedClock(step_s=gap_s)), settings.policies())
    return list(log.events())


def test_a_recorded_session_decides_the_same_again() -> None:
    lines = recorded()

    found = replay(lines, SETTINGS.policies())

    assert (found.same, found.events, found.requests) == (True, len(lines), 7)


def test_every_part_of_a_log_decides_the_same_again() -> None:
    lines = recorded()

    assert all(replay(lines[:n], SETTINGS.policies()).same for n in range(1, len(lines)))


def test_a_decision_by_the_clock_is_made_again_at_the_recorded_time() -> None:
    rent = PolicySettings(compaction=Rent(keep_pairs=1))
    lines = recorded(rent, gap_s=200)

    assert replay(lines, rent.policies()).same


def test_another_policy_is_named_where_it_first_decides_differently() -> None:
    lines = recorded()
    first_cut = next(e for e in lines if e.body.type == "compacted")

    difference = replay(lines, PolicySettings(compaction=Never()).policies()).difference

    assert difference is not None
    assert (difference.seq, difference.turn) == (first_cut.seq, 4)
    assert difference.recorded.startswith("compact before turn 1")
    assert difference.decided.startswith("request (turn)")


def test_a_request_of_other_bytes_is_found_by_its_digest() -> None:
    lines = recorded()
    at = next(i for i, e in enumerate(lines) if isinstance(e.body, ModelRequested))
    lines[at] = lines[at].model_copy(update={"body": lines[at].body.model_copy(update={"digest": "f" * 64})})

    difference = replay(lines, SETTINGS.policies()).difference

    assert difference is not None
    assert (difference.seq, difference.recorded) == (at, f"request (turn) {'f' * 64}")


def test_another_outcome_is_found() -> None:
    lines = recorded()
    lines[-1] = lines[-1].model_copy(update={"body": SessionEnded(outcome="refused")})

    difference = replay(lines, SETTINGS.policies()).difference

    assert difference is not None
    assert (difference.recorded, difference.decided) == ("finish refused", "finish completed")


@pytest.mark.parametrize("outcome", ["interrupted", "prefix_unstable"])
def test_an_end_that_came_from_outside_is_not_decided_again(outcome: str) -> None:
    lines = recorded()[:2]
    end = SessionEnded.model_validate({"outcome": outcome})

    assert replay([*lines, Event(seq=2, at=NOON + timedelta(seconds=9), body=end)], SETTINGS.policies()).same


def test_what_stands_behind_the_first_difference_is_not_looked_at() -> None:
    found = replay(recorded(), PolicySettings(compaction=Never()).policies())

    assert found.difference is not None
    assert found.events == found.difference.seq + 1


def test_a_log_starts_with_session_started() -> None:
    with pytest.raises(ValueError, match="a log starts with session_started"):
        replay(events(given("task")), SETTINGS.policies())
