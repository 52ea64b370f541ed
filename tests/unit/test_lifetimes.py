from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given as example
from hypothesis import strategies as st

from agentloop.core import lifetimes
from agentloop.core.lifetimes import planned
from agentloop.core.state import State
from agentloop.policies import FourMarks
from agentloop.testing import calls_tool, given, started
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


@example(st.lists(st.floats(0, 100_000), max_size=20), st.integers(0, 12), st.sampled_from(("0.1", "0.05", "0.025")))
def test_longer_lives_come_first(gaps: list[float], turns: int, read: str) -> None:
    state = session(tuple(gaps), turns, read)
    for marks in (FourMarks(), FourMarks(static_ttl="5m"), FourMarks(tail_ttl="1h"), FourMarks(state_ttl="off")):
        written = [t for t in marks.lifetimes(state) if t != "off"]

        assert all(a >= b for a, b in pairwise({"5m": 0, "1h": 1}[t] for t in written))


@example(st.lists(st.floats(0, 100_000), min_size=1, max_size=20))
def test_an_entry_that_lives_longer_is_hit_more_often(gaps: list[float]) -> None:
    assert Decimal(0) < lifetimes.hits(gaps, 300) <= lifetimes.hits(gaps, 3_600) <= 1


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
