from pathlib import Path

import pytest

from agentloop.adapters.toolbox import Toolbox
from agentloop.core.state import State
from agentloop.engine.recovery import UNKNOWN, Interrupted, interrupted, left_open
from agentloop.testing import given, reply, says, started
from agentloop.tooling import Registry, tool
from agentloop.types.blocks import tool_use
from agentloop.types.events import ModelFailed, SessionEnded, ToolFinished, ToolStarted
from agentloop.types.tools import Effect
from tests.unit.lines import after, answered, asked, finished, started_call


@tool(effect="once")
def pay() -> str:
    """Pay."""
    return "paid"


@tool(effect="read")
def look() -> str:
    """Look."""
    return "seen"


@tool(effect="idempotent")
def transfer() -> str:
    """Transfer."""
    return "transferred"


BOX = Toolbox(Registry([pay, look, transfer]), session_id="test", root=Path("/"))


def calling(*lines: object) -> State:
    calls = reply(tool_use("p", "pay", {}), tool_use("l", "look", {}), tool_use("t", "transfer", {}), tool_use("g", "gone", {}))
    return after(started(), given("task"), asked(), answered(calls), *lines)


def test_nothing_is_left_open_by_a_session_that_stopped_between_steps() -> None:
    assert list(left_open(after(started(), given("task"), asked(), answered(says("done"))), BOX)) == []


def test_a_request_without_an_answer_may_have_been_billed() -> None:
    (body,) = left_open(after(started(), given("task"), asked(7)), BOX)

    assert isinstance(body, ModelFailed)
    assert (body.turn, body.failure.kind, body.failure.possibly_billed) == (7, "interrupted", True)


def test_a_call_with_a_second_effect_that_was_started_has_an_unknown_outcome() -> None:
    (body,) = left_open(calling(started_call("p", "pay")), BOX)

    assert isinstance(body, ToolFinished)
    assert (body.call_id, body.outcome, body.is_error, body.content) == ("p", "unknown", True, UNKNOWN)


@pytest.mark.parametrize(("call_id", "name"), [("l", "look"), ("t", "transfer")])
def test_a_call_that_may_run_twice_is_left_to_run_again(call_id: str, name: str) -> None:
    assert list(left_open(calling(recorded_as(call_id, name, BOX.card(name).effect)), BOX)) == []  # type: ignore[union-attr]


def test_a_started_call_of_a_tool_that_is_gone_has_an_unknown_outcome() -> None:
    (body,) = left_open(calling(started_call("g", "gone")), BOX)

    assert isinstance(body, ToolFinished)
    assert (body.call_id, body.outcome) == ("g", "unknown")


def test_a_call_that_was_not_started_is_left_to_run() -> None:
    assert list(left_open(calling(), BOX)) == []


def test_a_call_that_finished_is_not_touched() -> None:
    assert list(left_open(calling(started_call("p", "pay"), finished("p", "paid", "pay")), BOX)) == []


def recorded_as(call_id: str, name: str, effect: Effect) -> ToolStarted:
    return ToolStarted(turn=1, call_id=call_id, name=name, effect=effect, idempotency_key=call_id)


def test_a_call_runs_again_only_if_both_the_log_and_the_tool_say_that_it_may() -> None:
    def runner(effect: Effect) -> Toolbox:
        return Toolbox(Registry([tool(name="pay", effect=effect)(pay.function or pay)]), session_id="test", root=Path("/"))

    def left(recorded: Effect, now: Effect) -> int:
        return len(list(left_open(calling(recorded_as("p", "pay", recorded)), runner(now))))

    assert (left("once", "once"), left("once", "read"), left("read", "once"), left("read", "read")) == (1, 1, 1, 0)


def test_an_interrupt_says_by_what_and_how_to_go_on() -> None:
    (body,) = interrupted(after(started(), given("task")), Interrupted("SIGTERM"))

    assert isinstance(body, SessionEnded)
    assert (body.outcome, body.detail) == ("interrupted", "stopped by SIGTERM; 'agentloop resume test' goes on")


def test_an_interrupt_while_a_reply_is_under_way_is_recorded_as_possibly_billed() -> None:
    first, second = interrupted(after(started(), given("task"), asked()), KeyboardInterrupt())

    assert isinstance(first, ModelFailed)
    assert first.failure.possibly_billed
    assert isinstance(second, SessionEnded)
