from datetime import date
from decimal import Decimal

import pytest

from agentloop.adapters.model_table import find, models
from agentloop.core import costs
from agentloop.core.costs import Bill
from agentloop.testing import card
from agentloop.types.usage import Iteration, Prices, Usage
from tests.unit.lines import used

TABLE = models()
SONNET, OPUS, HAIKU = "claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5"


@pytest.mark.parametrize(
    ("model", "tokens", "usd"),
    [
        pytest.param(SONNET, (21, 188_086, 0, 0, 393), "0.474187", id="1 cold write"),
        pytest.param(SONNET, (21, 0, 0, 188_086, 393), "0.0227806", id="2 the same, warm"),
        pytest.param(OPUS, (300, 1_500, 4_000, 10_000, 700), "0.0567", id="3 both lifetimes"),
        pytest.param(HAIKU, (500, 500, 0, 99_000, 200), "0.0012025", id="4 a prompt of exactly 100,000"),
        pytest.param(HAIKU, (501, 500, 0, 99_000, 200), "0.006013", id="5 one token more"),
        pytest.param("claude-haiku-4-5-20251001", (4_095, 0, 0, 0, 100), "0.004595", id="8 below the minimum"),
        pytest.param("claude-fable-5-2", (50, 2_000, 0, 60_000, 900), "0.0684", id="10 warm turn"),
    ],
)
def test_a_request_costs_what_the_price_list_says_to_the_last_digit(
    model: str, tokens: tuple[int, int, int, int, int], usd: str
) -> None:
    fresh, written, hour, read, output = tokens

    paid = costs.cost(used(fresh, read, written, hour, output), find(model, TABLE).card)

    assert paid == Decimal(usd)


@pytest.mark.parametrize(
    ("day", "usd"),
    [(date(2026, 10, 6), "0.0415892"), (date(2026, 10, 7), "0.0227806")],  # 188,086 read at 0.20, then at 0.10
)
def test_a_request_is_priced_by_the_prices_of_its_day(day: date, usd: str) -> None:
    known = find(SONNET, TABLE).card_on(day)

    assert costs.cost(used(21, read=188_086, output=393), known) == Decimal(usd)


def test_a_bill_names_each_kind_of_token() -> None:
    parts = costs.bill(used(1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000), card())

    assert parts == Bill(Decimal(3), Decimal("0.6"), Decimal("11.25"), Decimal(24), Decimal(75))
    assert parts.total == Decimal("113.85")


def test_a_million_small_amounts_add_up_exactly() -> None:
    small = costs.bill(used(1), card())

    assert costs.total([small] * 1_000_000).total == Decimal(3)


def test_no_bills_add_up_to_nothing() -> None:
    assert costs.total([]) == Bill()


def test_cached_tokens_count_towards_the_price_step() -> None:
    haiku = find(HAIKU, TABLE).card

    assert costs.prices_for(haiku, used(1, read=50_000, written=25_000, hour=25_000).prompt_tokens) == haiku.prices[1]


def test_a_prompt_longer_than_every_step_is_priced_by_the_last() -> None:
    only = card().prices[0].model_copy(update={"max_prompt_tokens": 10})

    assert costs.prices_for(card(prices=(only,)), 11) == only


def test_the_worst_case_writes_everything_for_an_hour_and_uses_every_output_token() -> None:
    assert costs.worst_case(card(), 10_000, 1_000) == Decimal("0.075")  # 10,000 at 6, 1,000 at 15


FAST = Prices(
    input=Decimal(6), cache_write_5m=Decimal("7.5"), cache_write_1h=Decimal(12), cache_read=Decimal("0.6"), output=Decimal(30)
)


def usage(**changes: object) -> Usage:
    return used(1_000_000, output=1_000_000).model_copy(update=changes)


@pytest.mark.parametrize(
    ("changes", "usd"),
    [
        ({}, "18"),
        ({"service_tier": "batch"}, "9"),
        ({"service_tier": "priority"}, "18"),
        ({"inference_geo": "us"}, "19.8"),
        ({"inference_geo": "eu"}, "18"),
        ({"service_tier": "batch", "inference_geo": "us"}, "9.9"),
        ({"speed": "fast"}, "36"),
        ({"speed": "fast", "inference_geo": "us"}, "39.6"),
        ({"web_search_requests": 5, "service_tier": "batch", "inference_geo": "us"}, "9.95"),
    ],
)
def test_how_a_request_was_run_multiplies_the_prices_of_its_tokens(changes: dict[str, object], usd: str) -> None:
    known = card(fast_prices=(FAST,), geo_multiplier=Decimal("1.1"))

    assert costs.cost(usage(**changes), known) == Decimal(usd)


def test_a_card_that_was_written_before_there_were_other_prices_has_one() -> None:
    assert costs.cost(usage(speed="fast", inference_geo="us"), card()) == Decimal(18)


def test_the_calls_of_one_request_are_priced_one_by_one() -> None:
    """Two of 60,000 tokens each stay below the step that one of 120,000 would cross."""
    haiku = find(HAIKU, TABLE).card
    call = Iteration(input_tokens=60_000, output_tokens=10)

    twice = costs.cost(Usage(input_tokens=60_000, output_tokens=10, iterations=(call, call)), haiku)

    assert twice == 2 * costs.cost(Usage(input_tokens=60_000, output_tokens=10), haiku)


def test_a_call_that_another_model_answered_has_that_ones_prices() -> None:
    other = card(id="other", prices=(FAST,))
    calls = (Iteration(input_tokens=1_000_000), Iteration(input_tokens=1_000_000, model="other"))

    assert costs.bill(Usage(iterations=calls), card(), {"other": other}).fresh == Decimal(9)


def test_usages_add_up_by_what_is_billed() -> None:
    compacted = Usage(iterations=(Iteration(input_tokens=7, output_tokens=2, type="compaction"),), web_search_requests=1)

    assert compacted + used(1, output=1) + compacted == Usage(input_tokens=15, output_tokens=5, web_search_requests=2)


@pytest.mark.parametrize(
    ("category", "output", "day", "billed"),
    [
        ("bio", (), date(2026, 9, 24), True),
        ("bio", (), date(2026, 9, 23), False),
        ("cyber", (), date(2026, 11, 1), False),
        (None, (), date(2026, 11, 1), False),
        (None, ("said",), date(2026, 1, 1), True),
    ],
)
def test_a_refusal_is_billed_once_something_was_said_or_for_some_categories(
    category: str | None, output: tuple[str, ...], day: date, billed: bool
) -> None:
    assert costs.refusal_is_billed(category, output, day) is billed
