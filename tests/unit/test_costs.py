from datetime import date
from decimal import Decimal

import pytest

from agentloop.adapters.model_table import find, models
from agentloop.core import costs
from agentloop.core.costs import Bill
from agentloop.testing import card
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
