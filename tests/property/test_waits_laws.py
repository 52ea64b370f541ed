"""Pings, cold, cut: how many pings a wait may take before they lose, and that nothing else decides it."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from agentloop.core.costs import MILLION
from agentloop.core.prewarming import prewarming
from agentloop.core.waits import Carried, interval_s, pings, wait
from agentloop.testing import card
from agentloop.types.usage import TTL_SECONDS, Prices, Ttl

ttls = st.sampled_from(["5m", "1h"])
sizes = st.integers(1, 200_000)
waits_s = st.floats(1, 200_000, allow_nan=False)


@st.composite
def some_prices(draw: st.DrawFn) -> Prices:
    """Prices in the proportions that models have: writes dearer than input, reads at a tenth to a fortieth."""
    base = draw(st.integers(1, 50))
    read = base * draw(st.sampled_from([Decimal("0.1"), Decimal("0.05"), Decimal("0.025")]))
    return Prices(input=base, cache_write_5m=base * Decimal("1.25"), cache_write_1h=base * 2, cache_read=read, output=base * 5)


@given(some_prices(), sizes, sizes, sizes, ttls, waits_s)
def test_pings_lose_beyond_the_writes_of_a_cut_over_the_reads_of_a_ping(
    prices: Prices, state: int, pairs: int, removable: int, ttl: Ttl, wait_s: float
) -> None:
    """`w*(state + six pairs)/(rho*P) - 1`, where the static part costs nothing on any way."""
    carried = Carried(0, state, pairs, removable)
    write = prices.cache_write_1h if ttl == "1h" else prices.cache_write_5m
    most = write * (state + pairs) / (prices.cache_read * carried.tokens) - 1

    priced = wait(prices, carried, ttl, wait_s)

    assert (priced.cheapest == "pings") == (priced.pings < most)


@given(some_prices(), sizes, sizes, sizes, sizes, ttls, waits_s)
def test_a_static_part_that_outlives_the_wait_moves_the_limit_by_less_than_a_ping(
    prices: Prices, static: int, state: int, pairs: int, removable: int, ttl: Ttl, wait_s: float
) -> None:
    carried = Carried(static, state, pairs, removable, outlives=static)
    write = prices.cache_write_1h if ttl == "1h" else prices.cache_write_5m
    most = write * (state + pairs) / (prices.cache_read * carried.tokens) - 1

    priced = wait(prices, carried, ttl, wait_s)

    assert priced.cheapest != "pings" or priced.pings < most + 1
    assert priced.cheapest == "pings" or priced.pings >= most


@given(ttls, waits_s, st.floats(0, 269))
def test_pings_keep_the_entries_alive_to_the_end_and_one_less_does_not_with_its_margin(
    ttl: Ttl, wait_s: float, age_s: float
) -> None:
    sent = pings(wait_s, ttl, age_s)
    last = sent * interval_s(ttl)

    assert age_s + wait_s - last <= TTL_SECONDS[ttl]
    assert last < age_s + wait_s
    assert sent == 0 or age_s + wait_s - (last - interval_s(ttl)) > interval_s(ttl)


@given(some_prices(), st.integers(512, 100_000), st.integers(1, 50), ttls)
def test_warming_pays_for_two_sessions_that_start_together_and_never_for_one(
    prices: Prices, tokens: int, sessions: int, ttl: Ttl
) -> None:
    write = prices.cache_write_1h if ttl == "1h" else prices.cache_write_5m

    plan = prewarming(card(prices=(prices,)), tokens, ttl, sessions)

    assert plan.cold_usd == sessions * tokens * write / MILLION
    assert plan.pays == (sessions >= 2)
