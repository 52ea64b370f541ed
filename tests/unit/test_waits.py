from decimal import Decimal

import pytest

from agentloop.core.costs import MILLION
from agentloop.core.waits import MARGIN_S, Carried, pings, wait
from agentloop.types.usage import Prices
from tests.unit.lines import unit_card

PRICES: Prices = unit_card().prices[0]
SIX_PAIRS = 12_000
STATIC = 8_000


def carried(prompt: int, state: int) -> Carried:
    """A prompt of so many tokens: six pairs of 2,000 tokens each, and older ones that would leave."""
    return Carried(STATIC, state, SIX_PAIRS, prompt - STATIC - state - SIX_PAIRS, outlives=STATIC)


def test_a_ping_is_sent_each_interval_and_none_at_the_end() -> None:
    assert [pings(s, "5m") for s in (60, 270, 271, 540, 541, 1_200)] == [0, 0, 1, 1, 2, 4]
    assert [pings(s, "1h") for s in (3_570, 3_571, 7_200)] == [0, 1, 2]


def test_the_age_of_the_entries_counts_as_waited_already() -> None:
    assert (pings(240, "5m", age_s=30), pings(240, "5m", age_s=31)) == (0, 1)


def test_a_wait_is_told_in_one_line_with_its_figures() -> None:
    priced = wait(PRICES, carried(30_000, 2_500), "5m", 1_200)

    assert priced.arithmetic == "a wait of 20 min: 4 pings 0.0150 < cold and cut 0.0189"


def test_where_pings_lose_the_line_says_to_what() -> None:
    priced = wait(PRICES, carried(120_000, 12_000), "5m", 1_200)

    assert (priced.cheapest, priced.arithmetic) == ("cut", "a wait of 20 min: cold and cut 0.0308 ≤ 4 pings 0.0600")


def test_without_anything_to_cut_the_wait_is_simply_cold() -> None:
    priced = wait(PRICES, Carried(8_000, 600, 4_000), "1h", 12 * 3_600)

    assert priced.arithmetic == "a wait of 12 h: 12 pings 0.0164 < cold 0.0252"
    assert priced.cut_usd == priced.cold_usd == Decimal("0.0252")


def test_an_hour_is_written_at_its_own_price() -> None:
    what = Carried(0, 0, 10_000)

    assert [wait(PRICES, what, ttl, 60).cold_usd for ttl in ("5m", "1h")] == [Decimal("0.0125"), Decimal("0.02")]


def test_what_outlives_the_wait_is_read_and_not_written() -> None:
    alive = wait(PRICES, Carried(8_000, 0, 10_000, outlives=8_000), "5m", 1_200)
    dead = wait(PRICES, Carried(8_000, 0, 10_000), "5m", 1_200)

    assert dead.cold_usd - alive.cold_usd == 8_000 * (PRICES.cache_write_5m - PRICES.cache_read) / MILLION


def test_what_stood_behind_the_last_breakpoint_is_paid_in_full_by_each_ping() -> None:
    with_tail = wait(PRICES, Carried(8_000, 0, 10_000, unwritten=500), "5m", 1_200)
    without = wait(PRICES, Carried(8_000, 0, 10_000), "5m", 1_200)

    assert with_tail.pings_usd - without.pings_usd == 4 * 500 / MILLION


def test_the_rent_that_was_paid_counts_against_every_way_that_does_not_cut() -> None:
    plain = wait(PRICES, carried(30_000, 2_500), "5m", 1_200)
    late = wait(PRICES, carried(30_000, 2_500), "5m", 1_200, rent_usd=Decimal("0.01"))

    assert (plain.cheapest, late.cheapest) == ("pings", "cut")
    assert late.cold_usd - plain.cold_usd == late.pings_usd - plain.pings_usd == Decimal("0.01")


@pytest.mark.parametrize(("prompt", "state", "most"), [(30_000, 2_500, 5), (60_000, 10_000, 3), (120_000, 12_000, 1)])
def test_the_most_pings_that_pay_by_the_size_of_the_prompt(prompt: int, state: int, most: int) -> None:
    """State of 500 tokens a removed pair, at most 12,000; reads at 0.1, static part alive: ECONOMICS says 5, 3 and 1."""
    interval = 300 - MARGIN_S

    paid = [wait(PRICES, carried(prompt, state), "5m", (n + 1) * interval) for n in range(1, 9)]

    assert [w.pings for w in paid if w.cheapest == "pings"] == list(range(1, most + 1))
