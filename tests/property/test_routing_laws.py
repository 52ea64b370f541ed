"""Laws of routing: of the gate, the table's file, the price of a switch and the graders."""

import itertools
import math
import tomllib
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.adapters.model_table import models
from agentloop.core import costs
from agentloop.routing import files, graders
from agentloop.routing.cases import AsSet, Case, Exact, Number, Regex
from agentloop.routing.gate import STAKES, Pair, Tally, standing, standings
from agentloop.routing.switching import Step, switch
from agentloop.routing.table import Evidence, Row, Table, route
from agentloop.types.usage import Usage

TABLE = models()
PAIRS = st.lists(st.sampled_from((-1, 0, 1)), max_size=60)
DELTAS = st.integers(1, 99).map(lambda n: n / 100)
IDS = st.sampled_from(sorted(TABLE))


@given(PAIRS, DELTAS)
def test_wealth_is_the_mean_of_products_whatever_the_order(pairs: list[Pair], delta: float) -> None:
    now = standing(Tally(pairs.count(-1), pairs.count(0), pairs.count(1)), delta)
    d = Fraction(delta)
    stakes = [Fraction(s) for s in STAKES]
    good = sum(math.prod(1 + s * (p + d) for p in pairs) for s in stakes) / len(stakes)
    bad = sum(math.prod(1 - s / (1 + d) * (p + d) for p in pairs) for s in stakes) / len(stakes)

    assert now.not_worse == pytest.approx(float(good), rel=1e-6)
    assert now.worse == pytest.approx(float(bad), rel=1e-6)


@given(st.integers(1, 8), DELTAS)
def test_at_the_margin_the_wealth_that_is_expected_never_grows(n: int, delta: float) -> None:
    """Over every outcome of n pairs, each with its probability: losing delta of the time, and nothing else."""
    chances = {-1: delta, 0: 1 - delta}
    expected = sum(
        math.prod(chances[p] for p in pairs) * standing(Tally(pairs.count(-1), pairs.count(0), 0), delta).not_worse
        for pairs in itertools.product((-1, 0), repeat=n)
    )

    assert expected == pytest.approx(1.0, rel=1e-9)


@given(PAIRS, DELTAS, st.integers(0, 60))
def test_what_is_decided_does_not_change_when_more_cases_come(pairs: list[Pair], delta: float, at: int) -> None:
    assert list(standings(pairs, delta))[:at] == list(standings(pairs[:at], delta))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\u2028\x85[]\n"), min_size=1, max_size=40)
EVIDENCE = st.builds(
    Evidence,
    verdict=st.sampled_from(("demote", "promote", "dearer", "undecided")),
    candidate=IDS,
    against=IDS,
    n=st.integers(0, 999),
    wins=st.integers(0, 999),
    losses=st.integers(0, 999),
    delta=DELTAS,
    wealth=st.floats(0, 1e300),
    worse_wealth=st.floats(0, 1e300),
    day=st.dates(date(2026, 1, 1), date(2030, 1, 1)),
    candidate_usd_per_solved=st.none() | st.decimals(0, 9, places=9),
    against_usd_per_solved=st.none() | st.decimals(0, 9, places=9),
)
ROWS = st.builds(
    Row,
    model=IDS,
    effort=st.none() | st.sampled_from(("low", "medium", "high", "xhigh", "max")),
    max_tokens=st.integers(1, 200_000),
    reason=TEXTS,
    fallback=st.lists(IDS, max_size=3).map(tuple),
    evidence=st.none() | EVIDENCE,
)
KINDS = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)


@given(st.dictionaries(KINDS, ROWS, max_size=4), KINDS, ROWS)
def test_a_row_is_written_in_its_place_and_every_other_stays(rows: dict[str, Row], kind: str, row: Row) -> None:
    text = "# ours\n\n" + "\n".join(f"# about {k}\n{files.written(k, r)}" for k, r in rows.items())

    changed = files.with_row(text, kind, row)

    assert Table.model_validate(tomllib.loads(changed)).steps == {**rows, kind: row}
    assert [line for line in text.splitlines() if line.startswith("# ")] == [
        line for line in changed.splitlines() if line.startswith("# ")
    ]
    assert files.with_row(changed, kind, row) == changed


@given(IDS, IDS, *[st.integers(0, 300_000)] * 4, st.integers(0, 2_000))
def test_a_switch_costs_what_the_bills_of_its_requests_say(
    own: str, other: str, cached: int, new: int, output: int, fresh: int, back: int
) -> None:
    mine, theirs = TABLE[own].card, TABLE[other].card

    ways = switch(Step(cached, new, output, fresh, back), mine, theirs)

    stay = Usage(cache_read_input_tokens=cached, ephemeral_5m_input_tokens=new, output_tokens=output)
    inside = Usage(input_tokens=cached + new, output_tokens=output)
    alone = Usage(input_tokens=fresh, output_tokens=output)
    handed = back * costs.prices_for(mine, cached + new).cache_write_5m / costs.MILLION
    assert ways.stay.usd == costs.cost(stay, mine)
    assert ways.inside.usd == costs.cost(inside, theirs)
    assert ways.delegated.usd == costs.cost(alone, theirs) + handed
    assert ways.cheapest.usd == min(w.usd for w in ways)
    assert all(f"{w.usd.normalize():f} USD" in w.line for w in ways)


@given(ROWS, st.integers(0, 500_000))
def test_a_route_never_asks_for_more_than_its_model_takes(row: Row, prompt_tokens: int) -> None:
    taken = route("any", Table(steps={"other": row}), lambda name: TABLE[name].card, prompt_tokens)
    card = TABLE[taken.model].card

    assert taken.max_tokens <= card.max_output_tokens
    assert taken.effort is None or card.default_effort is not None
    assert taken.model not in taken.fallback
    assert len(set(taken.fallback)) == len(taken.fallback)


def no_function(name: str) -> graders.Function:
    raise AssertionError(name)


WORDS = st.text("abcXYZ 019.-", min_size=1, max_size=12).filter(lambda t: bool(t.strip()))


@given(WORDS, st.text(" \n\t", max_size=3))
def test_the_expected_answer_passes_and_white_space_does_not_matter(words: str, around: str) -> None:
    case = Case(id="c", input="x", expected=words, grader=Exact())

    assert graders.graded(case, around + words + around, no_function).passed
    assert not graders.graded(case, words + "!", no_function).passed


@given(st.lists(st.text("abc1", min_size=1, max_size=4), min_size=1, max_size=6), st.randoms())
def test_a_set_has_no_order_and_no_item_may_be_missing(items: list[str], chance: object) -> None:
    case = Case(id="c", input="x", expected=items, grader=AsSet(type="set"))
    turned = list(reversed(items))

    assert graders.graded(case, "\n".join(turned), no_function).passed
    assert graders.graded(case, "[" + ", ".join(f'"{i}"' for i in turned) + "]", no_function).passed
    assert not graders.graded(case, "\n".join([*turned, "zzz"]), no_function).passed


@given(st.decimals(-9_999, 9_999, places=2), st.integers(0, 300))
def test_a_number_is_right_up_to_its_tolerance_and_no_further(wanted: Decimal, off: int) -> None:
    case = Case(id="c", input="x", expected=float(wanted), grader=Number(type="number", tolerance=1.5))

    graded = graders.graded(case, f"It is {wanted + Decimal(off) / 100}", no_function)

    assert graded.passed == (off <= 150)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "([a-z]+)*[0-9]"])
def test_a_regex_that_would_take_for_ever_elsewhere_is_linear_here(pattern: str) -> None:
    case = Case(id="c", input="x", expected=pattern, grader=Regex(type="regex"))

    assert not graders.graded(case, "a" * 100_000 + "!", no_function).passed


def test_the_packaged_tables_name_models_that_there_are(tmp_path: Path) -> None:
    for path in (files.CURRENT, files.OLDER):
        table = files.load(path)
        assert {route(kind, table, lambda n: TABLE[n].card).kind for kind in table.steps} == table.steps.keys()
    assert files.load(files.path_of(tmp_path)) == files.load(files.CURRENT)
