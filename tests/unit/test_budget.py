from datetime import timedelta
from decimal import Decimal

import pytest

from agentloop.core.state import State
from agentloop.policies import HardBudget
from agentloop.testing import NOON, card, given, reply, started
from agentloop.types.blocks import text
from agentloop.types.events import SessionEnded, SessionResumed
from agentloop.types.limits import Limits
from agentloop.types.usage import Prices
from tests.unit.lines import after, answered, asked, failed, used, words

BUDGET = HardBudget()


def state(*more: object, **limits: object) -> State:
    """A prompt of 1,000 tokens, at 3 / 3.75 / 6 / 0.30 / 15 USD a million."""
    return after(started(system=words(94), limits=Limits.model_validate(limits)), given(words(900)), *more)


def stopped(of: State, after_s: float = 0) -> str | None:
    stop = BUDGET.stop(of, NOON + timedelta(seconds=after_s))
    return stop[0] if stop else None


def test_without_limits_nothing_stops() -> None:
    assert stopped(state(), after_s=10**9) is None


def test_a_budget_of_nothing_stops_the_first_request() -> None:
    assert stopped(state(max_budget_usd=0)) == "budget_exceeded"


@pytest.mark.parametrize(("budget", "expected"), [("0.02136", None), ("0.02135999", "budget_exceeded")])
def test_the_worst_case_of_the_next_request_must_fit_into_the_budget(budget: str, expected: str | None) -> None:
    """1,000 tokens written for an hour at 6, and 1,024 of output at 15: 0.006 and 0.01536."""
    assert stopped(state(max_budget_usd=budget)) == expected


def test_the_output_is_limited_to_what_the_budget_affords() -> None:
    assert BUDGET.max_tokens(state(max_budget_usd="0.05")) == 2_933  # 0.05 less 0.006, at 15 a million, rounded down


def test_a_model_without_a_price_is_never_over_the_budget() -> None:
    free = {k: Decimal(0) for k in ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")}
    own = card(prices=(Prices.model_validate(free),))
    unpaid = after(started(system=words(94), model=own, limits=Limits(max_budget_usd=Decimal(5))), given(words(900)))

    assert stopped(unpaid) is None
    assert BUDGET.max_tokens(unpaid) == min(own.max_output_tokens, unpaid.limits.max_tokens)


def test_what_was_spent_is_gone() -> None:
    spent = [asked(), answered(reply(text(words(10)), usage=used(10_000)))]

    # 0.03 spent; the next prompt has the reply's 10 tokens too: 1,010 at 6
    assert BUDGET.max_tokens(state(*spent, max_budget_usd="0.08")) == 2_929  # 0.04394 at 15


def test_what_may_have_been_billed_counts_as_spent() -> None:
    lost = [asked(max_tokens=1_000), failed("unavailable", possibly_billed=True)]

    # at risk: 1,000 at 6 and 1,000 at 15, 0.021; left of 0.05: 0.029, less 0.006
    assert BUDGET.max_tokens(state(*lost, max_budget_usd="0.05")) == 1_533


def test_the_stop_says_what_was_spent_and_how_to_go_on() -> None:
    stop = BUDGET.stop(state(asked(), answered(reply(text("x"), usage=used(10_000))), max_budget_usd="0.03"), NOON)

    assert stop is not None
    assert stop[1].startswith("0.0300 of 0.03 USD are spent")
    assert "--max-budget-usd" in stop[1]


def test_the_output_is_never_more_than_was_asked_for_or_than_the_model_can() -> None:
    assert BUDGET.max_tokens(state(max_tokens=500)) == 500
    assert BUDGET.max_tokens(state(max_tokens=100_000)) == 64_000
    assert BUDGET.max_tokens(state(max_tokens=500, max_budget_usd=100)) == 500


@pytest.mark.parametrize(("limit", "expected"), [(1, "max_turns"), (2, None)])
def test_the_last_turn_allowed_is_the_last(limit: int, expected: str | None) -> None:
    assert stopped(state(asked(), answered(reply(text("x"))), max_turns=limit)) == expected


@pytest.mark.parametrize(("seconds", "expected"), [(59.9, None), (60, "time_limit")])
def test_the_time_limit_ends_a_session(seconds: float, expected: str | None) -> None:
    assert stopped(state(max_wall_s=60), after_s=seconds) == expected


def test_a_resumed_session_has_its_whole_time_again() -> None:
    resumed = state(SessionEnded(outcome="interrupted"), SessionResumed(), max_wall_s=60)  # resumed 3 seconds after noon

    assert (stopped(resumed, after_s=62.9), stopped(resumed, after_s=63)) == (None, "time_limit")


def test_raising_the_budget_lets_a_session_go_on() -> None:
    poor = [SessionEnded(outcome="budget_exceeded"), SessionResumed(limits=Limits(max_budget_usd=Decimal(1)))]

    assert stopped(state(max_budget_usd=0)) == "budget_exceeded"
    assert stopped(state(*poor, max_budget_usd=0)) is None


def test_a_cheaper_least_answer_lets_the_rest_of_a_budget_be_used() -> None:
    assert HardBudget(least_output_tokens=1).stop(state(max_budget_usd="0.0061"), NOON) is None
