import json
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from agentloop.baselines import baselines
from agentloop.core.folding import begin
from agentloop.report import AttemptCost, Report, report
from agentloop.testing import NOON, calls_tool, card, given, reply, says, started
from agentloop.types.blocks import text
from agentloop.types.events import Compacted, Decision, Event, RawResult, SessionEnded, SessionStarted
from agentloop.types.usage import Prices, Usage
from tests.unit.lines import answered, asked, failed, finished, used, words


def session(*lines: object, system_tokens: int = 1_000) -> list[Event]:
    """A log whose lines are a second apart; a number lets so many seconds pass first."""
    at: datetime = NOON
    found: list[Event] = []
    for line in [started(system=words(system_tokens - 6)), given("task"), *lines]:
        if isinstance(line, int):
            at += timedelta(seconds=line)
        else:
            found.append(Event.model_validate({"seq": len(found), "at": at, "body": line}))
            at += timedelta(seconds=1)
    return found


def turn(usage: Usage, call_id: str = "c") -> list[object]:
    answer = calls_tool(call_id, "look").model_copy(update={"usage": usage})
    return [asked(), answered(answer), finished(call_id)]


def of(*lines: object, system_tokens: int = 1_000) -> Report:
    return report(session(*lines, system_tokens=system_tokens), with_baselines=False)


def last(*lines: object, system_tokens: int = 1_000) -> AttemptCost:
    return of(*lines, system_tokens=system_tokens).cost_by_turn[-1]


WRITTEN, READ = used(written=1_000, output=100), used(read=1_000, written=200, output=50)
FIRST = turn(WRITTEN, "c0")  # 1,000 at 3.75 and 100 at 15: 0.00525
SECOND = turn(READ, "c1")  # 1,000 at 0.3, 200 at 3.75, 50 at 15: 0.0018


def test_the_bill_is_the_sum_over_the_requests() -> None:
    found = of(*FIRST, *SECOND)

    assert found.cost_usd == Decimal("0.00705")
    assert [c.cost_usd for c in found.cost_by_turn] == [Decimal("0.00525"), Decimal("0.0018")]
    assert found.usage == used(read=1_000, written=1_200, output=150)


def test_the_bill_by_kind_of_token_adds_up() -> None:
    assert of(*FIRST, *SECOND).cost_by_kind == {
        "fresh": 0,
        "read": Decimal("0.0003"),
        "written_5m": Decimal("0.0045"),
        "written_1h": 0,
        "output": Decimal("0.00225"),
        "fees": 0,
        "total": Decimal("0.00705"),
    }


def test_the_bill_by_cause_adds_up() -> None:
    assert of(*FIRST, *SECOND).cost_by_cause == {"start": Decimal("0.00525"), "extends": Decimal("0.0018")}


def test_a_reply_of_another_model_counts_at_its_prices_everywhere() -> None:
    free = card(id="free", prices=(Prices(input=1, cache_write_5m=0, cache_write_1h=0, cache_read=0, output=0),))
    fallen_back = says("Done.").model_copy(update={"usage": used(1_000, output=100), "priced_by": free})

    found = of(*FIRST, asked(2), answered(fallen_back, 2))

    assert found.cost_usd == Decimal("0.00525") + Decimal("0.001")
    assert found.cost_by_kind["total"] == sum(found.cost_by_cause.values()) == found.cost_usd


def test_the_first_request_is_the_start() -> None:
    assert last(*FIRST).cause == "start"


def test_a_request_that_read_the_cache_extends_the_one_before_it() -> None:
    assert last(*FIRST, *SECOND).cause == "extends"


def test_a_request_after_the_lifetime_is_cold() -> None:
    assert last(*FIRST, 300, *turn(WRITTEN, "c1")).cause == "cold"


def test_a_warm_request_that_read_nothing_has_a_moved_prefix() -> None:
    assert last(*FIRST, *turn(WRITTEN, "c1")).cause == "moved"


def test_a_prompt_too_short_to_be_cached_is_no_moved_prefix() -> None:
    assert last(*FIRST, *turn(WRITTEN, "c1"), system_tokens=100).cause == "extends"


def test_a_request_after_a_cut_says_why_it_was_cut() -> None:
    compacted = Compacted(keep_from=1, segment="state", decision=Decision(keep_from=1, reason="the rent was due"))

    found = of(*FIRST, *SECOND, compacted, *turn(WRITTEN, "c2"), *turn(READ, "c3"))

    assert [(c.cause, c.decision) for c in found.cost_by_turn[2:]] == [("cut", "the rent was due"), ("extends", "")]
    assert found.compactions == 1


def test_a_request_for_the_state_is_a_summary_and_no_turn() -> None:
    found = of(*FIRST, asked(2, "summary"), answered(reply(text("state"), usage=READ), 2, "summary"))

    assert (found.cost_by_turn[-1].cause, found.turns) == ("summary", 1)


def test_an_attempt_that_broke_off_is_billed_for_what_it_used() -> None:
    broken = failed("unavailable", retry_in_s=1.0, usage=used(1_000, output=100), possibly_billed=True)

    found = of(asked(), broken, answered(reply(text("Done."), usage=WRITTEN)))

    assert [(c.cause, c.cost_usd) for c in found.cost_by_turn] == [
        ("failed", Decimal("0.0045")),
        ("start", Decimal("0.00525")),
    ]
    assert found.cost_usd == sum(c.cost_usd for c in found.cost_by_turn)
    assert (found.attempts, found.failed_attempts) == (2, 1)


def test_what_may_have_been_billed_besides_is_told_apart() -> None:
    lost = failed("unavailable", retry_in_s=1.0, possibly_billed=True)

    found = of(asked(max_tokens=1_000), lost, answered(reply(text("Done."), usage=WRITTEN)))

    # 1,000 of prefix and 2 of task at 6, 1,000 of output at 15
    assert (found.cost_usd, found.at_risk_usd) == (Decimal("0.00525"), Decimal("0.021012"))


def test_the_reason_of_the_api_for_a_miss_is_shown() -> None:
    missed = reply(text("Done."), usage=WRITTEN).model_copy(update={"cache_miss": {"type": "system_changed"}})

    assert last(*FIRST, asked(2), answered(missed, 2)).cache_miss == "system_changed"


def test_tool_calls_are_counted_and_unknown_outcomes_are_named() -> None:
    lost = finished("c2", "?", "pay", is_error=True, outcome="unknown")

    found = of(*FIRST, asked(2), answered(calls_tool("c2", "pay"), 2), lost)

    assert (found.tool_calls, found.tool_errors, found.unknown_outcomes) == (2, 1, ("pay c2",))


def test_tokens_that_the_model_was_spared_are_the_whole_less_what_was_shown() -> None:
    raw = RawResult(digest="0" * 64, bytes=9_000, tokens=3_000)

    found = of(asked(), answered(calls_tool("c", "look")), finished("c", words(200), raw=raw))

    assert (found.trimmed_results, found.trimmed_tokens) == (1, 2_800)


def test_a_session_that_has_not_ended_is_unfinished() -> None:
    assert of(*FIRST).outcome == "unfinished"


def test_an_ended_session_has_its_outcome_and_its_reason() -> None:
    found = of(*FIRST, SessionEnded(outcome="budget_exceeded", detail="spent"))

    assert (found.outcome, found.detail, found.ended_at - found.started_at) == (
        "budget_exceeded",
        "spent",
        timedelta(seconds=5),
    )


def test_money_is_written_as_decimals_and_never_in_powers_of_ten() -> None:
    tiny = of(asked(), answered(reply(text("x"), usage=used(read=1))))

    assert json.loads(tiny.model_dump_json())["cost_usd"] == "0.0000003"


def test_the_baselines_are_those_of_all_events() -> None:
    lines = session(*FIRST, *SECOND)
    first = lines[0].body
    assert isinstance(first, SessionStarted)

    assert report(lines).baselines == baselines(lines[1:], begin(first, NOON))


def test_the_events_may_come_one_by_one() -> None:
    lines = session(*FIRST, *SECOND)

    assert report(iter(lines)) == report(lines)


def test_a_report_without_turns_leaves_out_nothing_else() -> None:
    lines = session(*FIRST, *SECOND)

    assert report(lines, with_turns=False) == report(lines).model_copy(update={"cost_by_turn": ()})


@pytest.mark.parametrize("lines", [[], session()[1:]])
def test_a_log_starts_with_session_started(lines: list[Event]) -> None:
    with pytest.raises(ValueError, match="a log starts with session_started"):
        report(lines)


def test_usage_and_prices_that_nobody_knows_are_named() -> None:
    estimated = says("a").model_copy(update={"usage_estimated": True})
    stranger = says("b").model_copy(update={"model": "claude-new", "price_unknown": True})

    found = of(asked(), answered(estimated), given("more"), asked(), answered(stranger)).uncertain

    assert len(found) == 2
    assert "no usage" in found[0]
    assert "'claude-new'" in found[1]
