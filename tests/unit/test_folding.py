from decimal import Decimal

import pytest

from agentloop.core.folding import evolve, fold
from agentloop.core.state import Sent
from agentloop.testing import NOON, calls_tool, card, events, given, reply, says, started
from agentloop.types.blocks import text, tool_result, tool_use
from agentloop.types.events import Decision, InputGiven, Outcome, SessionEnded, SessionResumed
from agentloop.types.limits import Limits
from agentloop.types.request import Prefix
from agentloop.types.tools import ToolCard
from agentloop.types.usage import Prices
from tests.unit.lines import after, answered, asked, cut, failed, finished, started_call, used, words

THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "s"}


def turns(count: int) -> list[object]:
    """A session of this many tool-calling turns, the last one answered."""
    lines: list[object] = [started(), given("task")]
    for n in range(count):
        lines += [asked(n + 1), answered(calls_tool(f"call-{n}", "look"), n + 1), finished(f"call-{n}", f"result {n}")]
    return lines


def test_a_log_starts_with_session_started() -> None:
    with pytest.raises(ValueError, match="a log starts with session_started"):
        fold(events(given("hello")))


def test_an_empty_log_is_no_session() -> None:
    with pytest.raises(ValueError, match="a log starts with session_started"):
        fold([])


def test_a_session_starts_once() -> None:
    with pytest.raises(ValueError, match="session_started again at seq 1"):
        after(started(), started())


def test_a_new_session_waits_for_its_task() -> None:
    state = after(started())

    assert (state.awaits_reply, state.outcome, state.asked) == (False, None, 0)


def test_the_first_input_is_the_task_and_is_given_to_the_model() -> None:
    state = after(started(), given("task"))

    assert (state.task, state.given, state.awaits_reply) == ((text("task"),), (text("task"),), True)


def test_what_is_said_before_the_reply_is_given_behind_the_task() -> None:
    state = after(started(), given("task"), given("and quickly"))

    assert state.given == (text("task"), text("and quickly"))


def test_a_request_is_pending_until_it_is_answered() -> None:
    lines = [started(), given("task"), asked(1)]

    assert after(*lines).pending is not None
    assert after(*lines, answered(says("done"))).pending is None


def test_a_reply_becomes_a_turn_with_what_it_answered() -> None:
    state = after(started(), given("task"), asked(1), answered(says("done")))

    (turn,) = state.turns
    assert (turn.given, turn.reply, state.given, state.text) == ((text("task"),), (text("done"),), (), "done")


def test_a_reply_is_paid_for() -> None:
    usage = used(1_000, read=10_000, written=2_000, hour=500, output=100)

    state = after(started(), given("task"), asked(1), answered(reply(text("done"), usage=usage)))

    # 1,000 at 3, 10,000 at 0.3, 2,000 at 3.75, 500 at 6, 100 at 15
    assert (state.spent_usd, state.usage) == (Decimal("0.018"), usage)


def test_a_reply_of_another_model_is_paid_for_at_its_prices() -> None:
    other = card(id="other", prices=(Prices(input=100, cache_write_5m=1, cache_write_1h=1, cache_read=1, output=0),))
    fallen_back = says("done").model_copy(update={"usage": used(1_000), "priced_by": other})

    state = after(started(), given("task"), asked(1), answered(fallen_back))

    assert state.spent_usd == Decimal("0.1")


def test_tool_calls_are_open_until_each_has_its_answer() -> None:
    both = reply(tool_use("a", "look", {}), tool_use("b", "look", {}))
    lines = [started(), given("task"), asked(1), answered(both)]

    assert [c.id for c in after(*lines).open_calls] == ["a", "b"]
    assert [c.id for c in after(*lines, finished("b")).open_calls] == ["a"]
    assert after(*lines, finished("b")).awaits_reply is False


def test_results_are_given_in_the_order_of_the_calls() -> None:
    both = reply(tool_use("a", "look", {}), tool_use("b", "look", {}))

    state = after(started(), given("task"), asked(1), answered(both), finished("b", "2"), finished("a", "1", is_error=True))

    assert state.given == (tool_result("a", "1", is_error=True), tool_result("b", "2"))


def test_what_a_user_says_while_tools_run_stands_behind_their_results() -> None:
    lines = [started(), given("task"), asked(1), answered(calls_tool("a", "look")), given("hurry"), finished("a", "1")]

    assert after(*lines).given == (tool_result("a", "1"), text("hurry"))


def test_calls_of_a_reply_that_was_cut_off_are_not_open() -> None:
    cut_off = reply(tool_use("a", "look", {}), stop_reason="max_tokens")

    state = after(started(), given("task"), asked(1), answered(cut_off))

    assert (state.open_calls, state.turns, state.given) == ((), (), (text("task"),))


def test_a_started_call_is_known_until_it_finishes() -> None:
    lines = [started(), given("task"), asked(1), answered(calls_tool("a", "look")), started_call("a")]

    assert after(*lines).started == {"a": started_call("a").effect}
    assert after(*lines, finished("a")).started == {}


def test_a_cut_takes_the_oldest_turns_out_and_adds_a_segment() -> None:
    state = after(*turns(5), cut(3, "what happened"))

    assert [t.reply[0]["id"] for t in state.turns] == ["call-3", "call-4"]
    assert (state.keep_from, state.compactions, [s.text for s in state.segments]) == (3, 1, ["what happened"])
    assert state.opening == (text("task"),)


def test_a_cut_ends_the_rent() -> None:
    lines = [started(), given("task"), asked(1, decision=Decision(rent_usd=Decimal("0.5")))]
    lines += [answered(calls_tool("a", "look")), finished("a")]

    assert after(*lines).rent_usd == Decimal("0.5")
    assert after(*lines, *[asked(2), answered(calls_tool("b", "look")), finished("b"), cut(1)]).rent_usd == 0


def test_only_calls_in_the_view_are_remembered_by_their_ids() -> None:
    assert after(*turns(3), cut(2)).call_ids == {"call-2"}


def test_a_cut_that_drops_thinking_leaves_it_in_no_kept_turn() -> None:
    lines = [started(), given("task"), asked(1), answered(calls_tool("a", "look")), finished("a")]
    lines += [asked(2), answered(reply(THINKING, tool_use("b", "look", {}))), finished("b")]

    kept = after(*lines, cut(1, thinking_dropped=True))

    assert kept.turns[0].reply == (tool_use("b", "look", {}),)
    assert kept.turns_tokens == kept.turns[0].reply_tokens


def test_the_size_of_the_next_request_is_the_sum_of_its_parts() -> None:
    lines = [started(system=words(94)), given(words(50))]  # 6 tokens are the API's frame
    lines += [asked(1), answered(says(words(20))), given(words(30)), asked(2), answered(says(words(40))), given(words(5))]

    assert after(*lines).prompt_tokens == 100 + 50 + 20 + 30 + 40 + 5
    # the second turn's 40 tokens stay, its question's 30 give way to the segment
    assert after(*lines, cut(1, words(7))).prompt_tokens == 100 + 50 + 7 + 40 + 5


def test_tools_count_with_what_the_api_adds_for_them() -> None:
    tool = {"name": "abcdefghij"}  # 14 letters: 4.34; 7 marks: 4.2

    with_tool = after(started(tools=[tool], model=card(tool_system_tokens=290), system=""))

    assert with_tool.prefix_tokens == 9 + 290 + 6


def test_the_last_request_is_remembered_with_its_time_and_size() -> None:
    lines = events(started(), given("task"), asked(1), answered(says("done")))

    state = fold(lines)

    size = fold(lines[:3]).prompt_tokens
    assert state.sent == Sent(lines[2].at, size, 0, "msg_test")


def test_after_a_cut_the_last_request_is_known_to_be_lost_to_the_cache() -> None:
    sent = after(*turns(3), cut(2)).sent

    assert sent is not None
    assert sent.cut


def test_a_failure_that_is_retried_leaves_the_request_pending() -> None:
    state = after(started(), given("task"), asked(1), failed("unavailable", retry_in_s=1.0))

    assert (state.pending is not None, state.failure) == (True, None)


def test_the_last_failure_is_known() -> None:
    state = after(started(), given("task"), asked(1), failed("unavailable"))

    assert state.failure is not None
    assert (state.failure.kind, state.pending) == ("unavailable", None)


def test_tokens_of_an_attempt_that_broke_off_are_paid_for() -> None:
    broken = failed("unavailable", retry_in_s=1.0, usage=used(1_000, output=10))

    state = after(started(), given("task"), asked(1), broken, answered(reply(text("done"), usage=used(1_000, output=10))))

    assert state.spent_usd == Decimal("0.0063")  # twice 1,000 at 3 and 10 at 15


def test_an_attempt_without_usage_that_may_be_billed_is_at_risk_with_its_worst_case() -> None:
    lines = [started(system=words(94)), given(words(50)), asked(1, max_tokens=1_000)]

    state = after(*lines, failed("unavailable", possibly_billed=True))

    assert state.at_risk_usd == Decimal("0.0159")  # 150 at 6, written for an hour, and 1,000 of output at 15


def test_an_attempt_whose_prompt_was_counted_is_at_risk_with_its_output_only() -> None:
    lines = [started(), given("task"), asked(1, max_tokens=1_000)]

    state = after(*lines, failed("unavailable", possibly_billed=True, usage=used(10_000)))

    assert (state.spent_usd, state.at_risk_usd) == (Decimal("0.03"), Decimal("0.015"))


def test_the_output_at_risk_is_priced_by_the_length_of_the_prompt() -> None:
    cheap, dear = (
        Prices(max_prompt_tokens=limit, input=1, cache_write_5m=1, cache_write_1h=1, cache_read=1, output=output)
        for limit, output in ((100_000, 1), (None, 5))
    )
    lines = [started(model=card(prices=(cheap, dear))), given("task"), asked(1, max_tokens=1_000)]

    state = after(*lines, failed("unavailable", possibly_billed=True, usage=used(100_001)))

    assert state.at_risk_usd == Decimal("0.005")


def test_an_attempt_that_never_reached_the_api_is_not_at_risk() -> None:
    assert after(started(), given("task"), asked(1), failed("unavailable")).at_risk_usd == 0


def test_what_was_spent_never_decreases() -> None:
    lines = events(*turns(3), cut(2), SessionEnded(outcome="failed"), SessionResumed(limits=Limits(max_turns=9)))

    spent = [fold(lines[: n + 1]).spent_usd for n in range(len(lines))]

    assert spent == sorted(spent)
    assert spent[-1] == 3 * Decimal("0.000105")  # each reply: 10 at 3 and 5 at 15


def test_the_same_call_with_the_same_result_is_counted() -> None:
    def turn(n: int, result: str) -> list[object]:
        return [asked(n), answered(calls_tool(f"c{n}", "look", at="x")), finished(f"c{n}", result)]

    lines = [started(), given("task"), *turn(1, "same"), *turn(2, "same"), *turn(3, "same")]

    assert after(*lines).repeats[1] == 3
    assert after(*lines, *turn(4, "other")).repeats[1] == 1


def test_turns_without_a_valid_call_are_counted_until_one_is_valid() -> None:
    def turn(n: int, outcome: str) -> list[object]:
        return [asked(n), answered(calls_tool(f"c{n}", "look")), finished(f"c{n}", f"{n}", outcome=outcome)]

    lines = [started(), given("task"), *turn(1, "invalid"), *turn(2, "invalid")]

    assert after(*lines).invalid_turns == 2
    assert after(*lines, *turn(3, "ok")).invalid_turns == 0


def test_an_ended_session_has_its_outcome() -> None:
    state = after(started(), given("task"), SessionEnded(outcome="refused", detail="no"))

    assert (state.outcome, state.detail) == ("refused", "no")


def test_a_resumed_session_goes_on_under_its_new_limits() -> None:
    lines = events(started(), given("task"), SessionEnded(outcome="max_turns"), SessionResumed(limits=Limits(max_turns=9)))

    state = fold(lines)

    assert (state.outcome, state.limits.max_turns, state.running_since) == (None, 9, lines[-1].at)


def test_a_resumed_session_may_get_other_tools_and_another_prefix() -> None:
    other = Prefix(model="claude-test", system=words(194))

    state = after(
        started(), given("task"), asked(1), answered(says("x")), SessionResumed(prefix=other, tools=(ToolCard(name="new"),))
    )

    assert (state.prefix, state.prefix_tokens, state.sent) == (other, 200, None)
    assert [t.name for t in state.tools] == ["new"]


def test_more_input_opens_an_ended_session_again() -> None:
    state = after(started(), given("task"), asked(1), answered(says("x")), SessionEnded(outcome="completed"), given("more"))

    assert (state.outcome, state.given, state.awaits_reply) == (None, (text("more"),), True)


def test_a_summary_is_kept_for_the_cut_and_is_no_turn() -> None:
    lines = [*turns(2), asked(3, "summary"), answered(says(" The summary. "), 3, "summary")]

    state = after(*lines)

    assert (state.summary, len(state.turns), state.asked) == ("The summary.", 2, 2)
    assert state.spent_usd == 3 * Decimal("0.000105")


@pytest.mark.parametrize(
    "bad",
    [reply(text(" \n")), reply(text("half"), stop_reason="max_tokens"), reply(tool_use("x", "look", {}))],
    ids=["blank", "cut off", "a tool call"],
)
def test_a_summary_that_is_none_is_counted_as_a_failure(bad: object) -> None:
    lines = [*turns(2), asked(3, "summary"), answered(bad, 3, "summary")]  # type: ignore[arg-type]

    state = after(*lines)

    assert (state.summary, state.summary_failures, len(state.turns)) == ("", 1, 2)


def test_a_summary_request_that_fails_ends_nothing() -> None:
    state = after(*turns(2), asked(3, "summary"), failed("unavailable", "summary"))

    assert (state.failure, state.summary, state.summary_failures) == (None, "", 1)


@pytest.mark.parametrize("outcome", ["interrupted", "failed"])
def test_a_paused_reply_still_waits_for_its_rest_when_the_session_is_resumed(outcome: Outcome) -> None:
    paused = reply(text("Searching."), stop_reason="pause_turn")
    lines = [started(), given("task"), asked(1), answered(paused), SessionEnded(outcome=outcome)]

    assert after(*lines, SessionResumed()).awaits_reply


def test_a_paused_reply_still_waits_for_its_rest_after_a_cut() -> None:
    paused = reply(text("Searching."), stop_reason="pause_turn")

    assert after(*turns(3), asked(4), answered(paused, 4), cut(2)).awaits_reply


@pytest.mark.parametrize("details", ["cyber", ["cyber"], 7, {"category": None}, {}, None])
def test_details_of_a_refusal_in_another_shape_do_not_make_a_log_unreadable(details: object) -> None:
    refusal = reply(text("No."), stop_reason="refusal").model_copy(update={"stop_details": details})

    state = after(started(), given("task"), asked(1), answered(refusal))

    assert state.trouble is not None
    assert state.trouble.kind == "refused"


def test_an_event_changes_nothing_in_the_state_before_it() -> None:
    before = after(*turns(2))
    turns_before, spent_before = before.turns, before.spent_usd

    evolve(before, events(*turns(2), cut(1))[-1])

    assert (before.turns, before.spent_usd, before.keep_from) == (turns_before, spent_before, 0)


def test_input_of_the_engine_is_given_like_any_other() -> None:
    told = InputGiven(content=(text("go on"),), source="engine")

    assert after(*turns(1), told).given == (tool_result("call-0", "result 0"), text("go on"))
    assert after(*turns(1), told).started_at == NOON
