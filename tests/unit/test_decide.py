from datetime import timedelta
from decimal import Decimal

import pytest

from agentloop.core import decide as module
from agentloop.core.choices import Policies
from agentloop.core.decide import CallModel, Compact, Finish, RunTools, Tell, decide
from agentloop.core.view import messages
from agentloop.policies import EveryTurn, KeepPairs, ModelLedger, Never, PolicySettings
from agentloop.testing import NOON, calls_tool, card, given, reply, says, started
from agentloop.types.blocks import assistant, text, tool_use, user
from agentloop.types.events import InputGiven
from agentloop.types.limits import Limits
from agentloop.types.request import FailureKind, Reply
from tests.unit.lines import after, answered, asked, cut, failed, finished

POLICIES = PolicySettings(compaction=Never()).policies()
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "s"}


def replied(what: Reply, times: int = 1, policies: Policies = POLICIES, **limits: object) -> module.Effect:
    """What is decided after this reply came this many times in a row, each decision carried out."""
    lines: list[object] = [started(limits=Limits.model_validate(limits)), given("task")]
    for n in range(times):
        lines += [asked(n + 1), answered(what.model_copy(update={"message_id": f"m{n}"}), n + 1)]
        effect = decide(after(*lines), policies, NOON)
        if isinstance(effect, Tell):
            lines.append(InputGiven(content=(text(effect.text),), source="engine"))
    return effect


def turns(count: int) -> list[object]:
    lines: list[object] = [started(), given("task")]
    for n in range(count):
        lines += [asked(n + 1), answered(calls_tool(f"call-{n}", "look", n=n), n + 1), finished(f"call-{n}", f"r{n}")]
    return lines


def outcome(effect: module.Effect) -> str:
    assert isinstance(effect, Finish)
    return effect.outcome


def test_a_task_is_put_to_the_model() -> None:
    effect = decide(after(started(), given("task")), POLICIES, NOON)

    assert isinstance(effect, CallModel)
    assert effect.request.messages == (user(text("task")),)
    assert (effect.request.previous_message_id, effect.request.purpose) == (None, "turn")


def test_a_request_names_the_reply_before_it() -> None:
    effect = decide(after(*turns(1)), POLICIES, NOON)

    assert isinstance(effect, CallModel)
    assert effect.request.previous_message_id == "msg_test"


def test_end_turn_completes_the_session() -> None:
    assert outcome(replied(says("Done."))) == "completed"


def test_a_stop_sequence_completes_the_session() -> None:
    assert outcome(replied(reply(text("Done"), stop_reason="stop_sequence"))) == "completed"


def test_tool_use_runs_every_call_of_the_reply() -> None:
    effect = replied(reply(tool_use("a", "look", {}), text("and"), tool_use("b", "touch", {"x": 1})))

    assert isinstance(effect, RunTools)
    assert [(c.id, c.name, c.input) for c in effect.calls] == [("a", "look", {}), ("b", "touch", {"x": 1})]


@pytest.mark.parametrize("content", [(), (text(" \n"),), (THINKING,)], ids=["nothing", "white space", "only thinking"])
def test_an_empty_end_turn_is_nudged_once_and_then_fails(content: tuple[dict[str, object], ...]) -> None:
    empty = reply(*content, stop_reason="end_turn")

    assert isinstance(replied(empty, 1), Tell)
    assert outcome(replied(empty, 2)) == "failed"


def test_an_empty_reply_never_enters_the_history() -> None:
    state = after(started(), given("task"), asked(1), answered(reply(text(" "))), given("nudge"))

    assert messages(state) == (user(text("task"), text("nudge")),)


def test_tool_use_without_a_call_is_an_empty_reply() -> None:
    assert isinstance(replied(reply(stop_reason="tool_use")), Tell)


def test_a_reply_cut_off_in_a_tool_call_is_asked_for_again_with_all_the_room_there_is() -> None:
    effect = replied(reply(tool_use("a", "pay", {}), stop_reason="max_tokens"), max_tokens=1_000)

    assert isinstance(effect, CallModel)
    assert effect.request.max_tokens == 64_000
    assert effect.request.messages == (user(text("task")),)


def test_the_request_after_a_reply_with_more_room_has_the_usual_room_again() -> None:
    cut_off = reply(text("half"), stop_reason="max_tokens")
    limits = Limits(max_tokens=1_000)
    lines = [started(limits=limits), given("task"), asked(1), answered(cut_off), asked(2), answered(calls_tool("a", "look"), 2)]

    effect = decide(after(*lines, finished("a")), POLICIES, NOON)

    assert isinstance(effect, CallModel)
    assert effect.request.max_tokens == 1_000


def test_a_reply_cut_off_twice_ends_the_session_as_truncated() -> None:
    assert outcome(replied(reply(text("half"), stop_reason="max_tokens"), 2, max_tokens=1_000)) == "truncated"


def test_a_reply_cut_off_with_all_the_room_there_is_ends_the_session_as_truncated() -> None:
    assert outcome(replied(reply(text("half"), stop_reason="max_tokens"), 1, max_tokens=64_000)) == "truncated"


def test_a_paused_turn_is_sent_back_unchanged() -> None:
    paused = reply(text("Searching."), {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})

    effect = replied(paused.model_copy(update={"stop_reason": "pause_turn"}))

    assert isinstance(effect, CallModel)
    assert effect.request.messages == (user(text("task")), assistant(*paused.content))


def test_a_paused_turn_is_continued_ten_times_and_no_more() -> None:
    paused = reply(text("Searching."), stop_reason="pause_turn")

    assert isinstance(replied(paused, 10), CallModel)
    assert outcome(replied(paused, 11)) == "failed"


def test_a_paused_turn_goes_on_after_a_cut() -> None:
    lines = [*turns(8), asked(9), answered(reply(text("Searching."), stop_reason="pause_turn"), 9)]
    policies = PolicySettings(compaction=EveryTurn(keep_pairs=6)).policies()

    first = decide(after(*lines), policies, NOON)
    assert isinstance(first, Compact)
    second = decide(after(*lines, cut(first.keep_from)), policies, NOON)

    assert isinstance(second, CallModel)


def test_a_refusal_ends_the_session_as_refused_with_its_category() -> None:
    refusal = reply(text("I"), stop_reason="refusal").model_copy(update={"stop_details": {"category": "cyber"}})

    assert replied(refusal) == Finish("refused", "the model refused: cyber")


def test_a_refused_reply_is_not_in_the_history() -> None:
    lines = [started(), given("task"), asked(1), answered(reply(text("I"), stop_reason="refusal"))]

    assert messages(after(*lines)) == (user(text("task")),)


def test_a_full_context_window_is_answered_by_a_cut_to_the_last_pairs() -> None:
    full = reply(text("ha"), stop_reason="model_context_window_exceeded")
    policies = PolicySettings(compaction=KeepPairs(keep_pairs=3)).policies()

    effect = decide(after(*turns(5), asked(6), answered(full, 6)), policies, NOON)

    assert isinstance(effect, Compact)
    assert effect.keep_from == 2
    assert isinstance(decide(after(*turns(5), asked(6), answered(full, 6), cut(2)), policies, NOON), CallModel)


def test_a_full_context_window_with_nothing_to_remove_ends_with_the_sizes() -> None:
    effect = replied(reply(text("ha"), stop_reason="model_context_window_exceeded"))

    assert isinstance(effect, Finish)
    # system: 14 letters and spaces and a mark, 4.94, with the frame of 6; task: 4 letters, 1.24
    assert effect.detail == (
        "the context window is full; nothing is left to compact (prefix 11, task 2, state 0, turns 0 tokens)"
    )


def test_an_unknown_stop_reason_is_not_success() -> None:
    effect = replied(reply(text("Done."), stop_reason="astonished"))

    assert effect == Finish("failed", "unknown stop reason 'astonished'; the raw reply is in the log")


def test_a_stop_reason_that_never_came_is_a_failed_attempt() -> None:
    # the adapter has already asked again: see test_stream and test_messages_api
    effect = decide(after(started(), given("task"), asked(1), failed("not_an_answer", attempt=8)), POLICIES, NOON)

    assert effect == Finish("provider_unavailable", "it was not_an_answer (8 attempts)")


def test_two_calls_with_one_id_are_told_once_and_then_fail() -> None:
    clash = reply(tool_use("a", "look", {}), tool_use("a", "look", {"again": True}))

    assert replied(clash) == Tell(module.DUPLICATE_IDS)
    assert outcome(replied(clash, 2)) == "failed"


def test_a_call_with_an_id_that_stands_in_the_view_is_not_run() -> None:
    lines = [*turns(1), asked(2), answered(calls_tool("call-0", "look", other=1), 2)]

    assert decide(after(*lines), POLICIES, NOON) == Tell(module.DUPLICATE_IDS)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("spend_limit", "spend_limit"),
        ("unauthorized", "unauthorized"),
        ("unavailable", "provider_unavailable"),
        ("not_an_answer", "provider_unavailable"),
        ("model_not_found", "failed"),
        ("request_too_large", "failed"),
        ("invalid_request", "failed"),
    ],
)
def test_a_request_that_failed_for_good_ends_the_session(kind: FailureKind, expected: str) -> None:
    assert outcome(decide(after(started(), given("task"), asked(1), failed(kind)), POLICIES, NOON)) == expected


def test_a_request_that_was_interrupted_is_sent_again() -> None:
    assert isinstance(decide(after(started(), given("task"), asked(1), failed("interrupted")), POLICIES, NOON), CallModel)


def test_a_prompt_that_is_too_long_is_cut_once_and_then_stops_with_the_sizes() -> None:
    policies = PolicySettings(compaction=KeepPairs(keep_pairs=6)).policies()
    lines = [*turns(8), asked(9), failed("prompt_too_long")]

    first = decide(after(*lines), policies, NOON)
    assert isinstance(first, Compact)
    again = decide(after(*lines, cut(first.keep_from), asked(9), failed("prompt_too_long")), policies, NOON)

    assert (first.keep_from, outcome(again)) == (2, "failed")


def test_results_come_before_limits() -> None:
    """A call that the model has made is answered, even when its turn was the last one allowed."""
    lines = [started(limits=Limits(max_turns=1)), given("task"), asked(1), answered(calls_tool("a", "look"))]

    assert isinstance(decide(after(*lines), POLICIES, NOON), RunTools)
    assert outcome(decide(after(*lines, finished("a")), POLICIES, NOON)) == "max_turns"


def test_a_session_whose_last_reply_came_in_time_is_completed_whatever_the_limits_say() -> None:
    lines = [started(limits=Limits(max_turns=1)), given("task"), asked(1), answered(says("done"))]

    assert outcome(decide(after(*lines), POLICIES, NOON)) == "completed"


def test_a_budget_of_nothing_sends_nothing() -> None:
    state = after(started(limits=Limits(max_budget_usd=Decimal(0))), given("task"))

    assert outcome(decide(state, POLICIES, NOON)) == "budget_exceeded"


def loops(times: int) -> list[object]:
    lines: list[object] = [started(), given("task")]
    for n in range(times):
        lines += [asked(n + 1), answered(calls_tool(f"c{n}", "look", at="x"), n + 1), finished(f"c{n}", "same")]
    return lines


def test_the_same_call_with_the_same_result_is_told_at_four_times() -> None:
    told = InputGiven(content=(text("told"),), source="engine")

    assert isinstance(decide(after(*loops(3)), POLICIES, NOON), CallModel)
    assert decide(after(*loops(4)), POLICIES, NOON) == Tell(module.LOOPING.format(times=4))
    assert isinstance(decide(after(*loops(4), told), POLICIES, NOON), CallModel)


def test_the_same_call_with_the_same_result_ends_the_session_at_eight_times() -> None:
    assert isinstance(decide(after(*loops(7)), POLICIES, NOON), CallModel)
    assert outcome(decide(after(*loops(8)), POLICIES, NOON)) == "failed"


def test_five_turns_without_a_valid_call_end_the_session() -> None:
    lines: list[object] = [started(), given("task")]
    for n in range(5):
        assert isinstance(decide(after(*lines), POLICIES, NOON), CallModel)
        lines += [
            asked(n + 1),
            answered(calls_tool(f"c{n}", "look", n=n), n + 1),
            finished(f"c{n}", f"no {n}", outcome="invalid"),
        ]

    assert outcome(decide(after(*lines), POLICIES, NOON)) == "failed"


def test_a_cut_that_the_engine_writes_is_made_at_once() -> None:
    policies = PolicySettings(compaction=EveryTurn(keep_pairs=2)).policies()

    effect = decide(after(*turns(3)), policies, NOON)

    assert isinstance(effect, Compact)
    assert (effect.keep_from, effect.written_by, effect.drop_thinking) == (1, "engine", False)


def test_a_cut_drops_thinking_where_the_model_checks_what_stands_before_it() -> None:
    lines = [started(model=card(checks_thinking_prefix=True)), *turns(3)[1:]]

    effect = decide(after(*lines), PolicySettings(compaction=EveryTurn(keep_pairs=2)).policies(), NOON)

    assert isinstance(effect, Compact)
    assert effect.drop_thinking


MODEL_WRITES = PolicySettings(compaction=EveryTurn(keep_pairs=2), ledger=ModelLedger()).policies()


def test_a_model_that_writes_the_state_is_asked_at_the_end_of_the_request_that_is_cached() -> None:
    state = after(*turns(3))

    effect = decide(state, MODEL_WRITES, NOON)

    assert isinstance(effect, CallModel)
    assert (effect.request.purpose, effect.request.messages[:-1]) == ("summary", messages(state))
    assert effect.request.messages[-1].role == "user"


def test_the_summary_that_a_model_wrote_becomes_the_segment() -> None:
    lines = [*turns(3), asked(4, "summary"), answered(says("What happened."), 4, "summary")]

    effect = decide(after(*lines), MODEL_WRITES, NOON)

    assert isinstance(effect, Compact)
    assert effect.written_by == "model"
    assert "What happened." in effect.segment


def test_a_summary_that_failed_is_written_by_the_engine() -> None:
    lines = [*turns(3), asked(4, "summary"), failed("unavailable", "summary")]

    effect = decide(after(*lines), MODEL_WRITES, NOON)

    assert isinstance(effect, Compact)
    assert effect.written_by == "engine"


def test_the_same_state_at_the_same_time_decides_the_same() -> None:
    now = NOON + timedelta(seconds=40)

    assert decide(after(*turns(9)), POLICIES, now) == decide(after(*turns(9)), POLICIES, now)
