from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given as example
from hypothesis import strategies as st

from agentloop.core import lifetimes
from agentloop.core.lifetimes import planned
from agentloop.core.state import State
from agentloop.policies import FourMarks, PolicySettings, recorded
from agentloop.testing import calls_tool, given, started
from agentloop.types.past import PastSession, Prior
from agentloop.types.usage import Prices
from tests.unit.lines import after, answered, asked, finished, started_call, unit_card, words

MINUTE = 60.0


def session(gaps: tuple[float, ...] | None = (), turns: int = 8, read: str = "0.1") -> State:
    """A session with turns of some 2,000 tokens."""
    lines: list[object] = [started(model=unit_card(read), system=words(4_000)), given(words(500))]
    for i in range(turns):
        called = calls_tool(f"c{i}", "look", text=words(500))
        lines += [asked(), answered(called), started_call(f"c{i}"), finished(f"c{i}", words(1_500))]
    return after(*lines) if gaps is None else replace(after(*lines), gaps=gaps)


@pytest.mark.parametrize(
    ("gaps", "tail"),
    [
        ((), "5m"),
        ((10.0,) * 20, "5m"),
        ((7 * MINUTE,) * 20, "1h"),
        ((7 * MINUTE,), "1h"),
        ((10.0,) * 15 + (20 * MINUTE,) * 5, "1h"),
        ((90 * MINUTE,) * 20, "off"),
        ((10.0,) * 19 + (24 * 60 * MINUTE,), "5m"),
    ],
)
def test_the_tail_lives_as_long_as_the_gaps_pay_for(gaps: tuple[float, ...], tail: str) -> None:
    assert planned(session(gaps)).tail == tail


def test_a_lasting_front_is_worth_its_write_at_a_smaller_share_of_long_gaps() -> None:
    """Economics 5: what is written once needs fewer gaps to pay than what is written on each turn."""
    share = next(n for n in range(21) if planned(session((10.0,) * (20 - n) + (7 * MINUTE,) * n)).static == "1h")
    tail = next(n for n in range(21) if planned(session((10.0,) * (20 - n) + (7 * MINUTE,) * n)).tail == "1h")

    assert 0 < share <= tail


@example(st.lists(st.floats(0, 100_000), max_size=20), st.integers(0, 12), st.sampled_from(("0.1", "0.025", "0", "3")))
def test_longer_lives_come_first(gaps: list[float], turns: int, read: str) -> None:
    state = session(tuple(gaps), turns, read)
    for marks in (FourMarks(), FourMarks(static_ttl="5m"), FourMarks(tail_ttl="1h"), FourMarks(state_ttl="off")):
        written = [t for t in marks.lifetimes(state) if t != "off"]

        assert all(a >= b for a, b in pairwise({"5m": 0, "1h": 1}[t] for t in written))


@pytest.mark.parametrize(("waits", "tail"), [(0, "5m"), (1, "5m"), (3, "5m"), (10, "1h"), (20, "1h")])
def test_pings_count_as_what_they_cost_and_an_hour_takes_fewer(waits: int, tail: str) -> None:
    """Twenty gaps, all within five minutes; so many of them behind four pings each, one of which may not come again."""
    kept = replace(session((30.0,) * 20), pinged_s=(0.0,) * (20 - waits) + (4 * 270.0,) * waits)

    assert planned(kept).tail == tail
    assert (lifetimes.pings(kept, "5m"), lifetimes.pings(kept, "1h")) == (Decimal(4 * max(0, waits - 1)) / 21, Decimal(0))


@pytest.mark.parametrize(("read", "usd"), [("0", "0"), ("1", "1")])
def test_a_model_of_one_s_own_may_be_free_or_know_no_discount(read: str, usd: str) -> None:
    price = Decimal(usd)
    prices = Prices(input=price, cache_write_5m=price, cache_write_1h=price, cache_read=Decimal(read), output=price)
    state = session((10.0,) * 5)

    plan = planned(replace(state, card=state.card.model_copy(update={"prices": (prices,)})))

    assert plan.static == "5m"


@example(st.lists(st.floats(0, 100_000), min_size=1, max_size=20))
def test_an_entry_that_lives_longer_is_hit_more_often(gaps: list[float]) -> None:
    state = session(tuple(gaps), 1)

    assert Decimal(0) < lifetimes.hits(state, "5m") <= lifetimes.hits(state, "1h") <= 1


def test_what_is_set_is_kept() -> None:
    state = session((7 * MINUTE,) * 20)

    assert FourMarks(static_ttl="5m", state_ttl="5m", tail_ttl="5m").lifetimes(state) == ("5m", "5m", "5m")
    assert FourMarks(static_ttl="5m").lifetimes(state) == ("5m", "5m", "5m")
    assert FourMarks(tail_ttl="off").lifetimes(state) == ("1h", "1h", "off")


def test_gaps_are_counted_from_request_to_request() -> None:
    state = session(None, turns=3)

    assert len(state.gaps) == 2
    assert all(isinstance(g, float) for g in state.gaps)


@pytest.mark.parametrize(("gap_s", "tail"), [(None, "5m"), (10.0, "5m"), (7 * MINUTE, "1h")])
def test_an_announced_gap_counts_from_the_first_request(gap_s: float | None, tail: str) -> None:
    start = started(model=unit_card(), system=words(4_000)).model_copy(update={"expected_gap_s": gap_s})

    assert planned(after(start, given(words(500)))).tail == tail


SHORT = PastSession(gaps=30, within_5m=30, within_1h=30)
LONG = PastSession(gaps=30, within_5m=0, within_1h=30)
RARE = PastSession(gaps=30, within_5m=0, within_1h=0)
ONE_SHOT = PastSession(gaps=0, within_5m=0, within_1h=0)


def knowing(
    *sessions: PastSession,
    gaps: tuple[float, ...] = (),
    turns: int = 0,
    starts_s: tuple[float, ...] = (),
    next_start_s: float | None = None,
    expected_gap_s: float | None = None,
) -> State:
    """A session that began with what past ones say."""
    prior = Prior(sessions=sessions, starts_s=starts_s, next_start_s=next_start_s)
    return replace(session(gaps, turns), prior=prior, expected_gap_s=expected_gap_s)


def test_after_sessions_of_long_gaps_the_first_request_lives_for_an_hour() -> None:
    assert planned(knowing()) == ("5m", "5m", "5m")
    assert planned(knowing(LONG))[:2] == ("1h", "1h")
    assert planned(knowing(*[LONG] * 5)) == ("1h", "1h", "1h")


def test_after_sessions_of_gaps_above_the_hour_nothing_behind_the_front_is_written() -> None:
    assert planned(knowing(*[RARE] * 5)).tail == "off"


def test_each_gap_of_its_own_takes_the_place_of_a_past_session() -> None:
    weights = [lifetimes.weight_of_past(knowing(*[LONG] * 5, gaps=(10.0,) * n)) for n in range(7)]

    assert weights == [5, 4, 3, 2, 1, 0, 0]
    assert planned(knowing(*[LONG] * 5, gaps=(10.0,) * 5, turns=6)) == planned(session((10.0,) * 5, 6))


def test_a_session_without_a_gap_says_nothing_of_gaps() -> None:
    assert lifetimes.weight_of_past(knowing(ONE_SHOT, ONE_SHOT)) == 0


def test_what_was_announced_wins_over_past_sessions() -> None:
    announced = knowing(*[LONG] * 5, expected_gap_s=10.0)

    assert lifetimes.weight_of_past(announced) == 0
    assert planned(announced).tail == "5m"
    assert planned(knowing(*[SHORT] * 5, expected_gap_s=7 * MINUTE)).tail == "1h"


@pytest.mark.parametrize(
    ("starts_s", "static"),
    [
        ((), "5m"),
        ((20 * MINUTE,), "1h"),
        ((20 * MINUTE,) * 4, "1h"),
        ((MINUTE,) * 4, "5m"),
        ((24 * 60 * MINUTE,) * 4, "5m"),
        ((20 * MINUTE, 24 * 60 * MINUTE, 24 * 60 * MINUTE), "5m"),
    ],
)
def test_tools_and_system_live_for_an_hour_where_another_session_soon_shares_them(
    starts_s: tuple[float, ...], static: str
) -> None:
    assert planned(knowing(SHORT, starts_s=starts_s)) == (static, "5m", "5m")


def test_an_announced_gap_counts_as_five_until_there_are_twenty_others() -> None:
    def hits(own: int) -> Decimal:
        return lifetimes.hits(replace(session((10.0,) * own), expected_gap_s=7 * MINUTE), "5m")

    assert [hits(own) for own in (0, 15, 18, 20)] == [Decimal(1) / 6, Decimal(16) / 21, Decimal(19) / 21, 1]


def test_sharing_pays_from_the_share_on_that_the_prices_say() -> None:
    """A write for an hour costs 0.75 more; another session that finds it pays 0.1 in the place of 2.0."""
    for hours in range(12):
        starts = (20 * MINUTE,) * hours + (24 * 60 * MINUTE,) * (11 - hours)
        pays = Decimal(hours) / 12 * Decimal("1.9") > Decimal("0.75")

        assert planned(knowing(SHORT, starts_s=starts)).static == ("1h" if pays else "5m")


@pytest.mark.parametrize(("next_start_s", "static"), [(1_200.0, "1h"), (200.0, "5m")])
def test_an_announced_start_counts_more_than_those_seen(next_start_s: float, static: str) -> None:
    seen = (24 * 60 * MINUTE,) * 4

    assert planned(knowing(SHORT, starts_s=seen, next_start_s=next_start_s)).static == static


def test_a_long_history_that_rent_would_cut_is_no_reason_to_let_it_go_cold() -> None:
    """Before, 70 small pairs made a cut on every turn look cheaper than reading them, which goes on only until the next cut."""
    state = session((7 * MINUTE,) * 20, turns=75)

    assert planned(state, bounded=False).tail == "5m"
    assert planned(state).tail == "1h"


def test_logs_from_before_are_planned_as_they_were() -> None:
    data = PolicySettings().data()
    for name in ("compaction", "caching"):
        del data[name]["edition"]
    before = recorded(data)

    assert (before.caching.edition, PolicySettings().caching.edition) == (1, 3)
    assert before.caching.lifetimes(session((7 * MINUTE,) * 20, turns=75)).tail == "5m"
