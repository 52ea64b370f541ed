from decimal import Decimal

import pytest

from agentloop.errors import UsageError
from agentloop.policies import FourMarks, Rent, Threshold, Whole, preset
from agentloop.testing import card
from agentloop.types.usage import ModelCard
from agentloop.whatif.grid import Cell, Choice, Row, cells, totals
from agentloop.whatif.schedule import schedule
from tests.property.recordings import steady

CHOICES = [Choice(p, f) for p in ("never", "every_turn", "rent") for f in (False, True)]


@pytest.fixture(scope="module")
def found() -> list[Cell]:
    return list(cells(steady(30, rows_each=60), CHOICES, [card()], [schedule("10s"), schedule("7m")]))


def row(found: list[Cell], policy: str, facts: bool = False, gap: str = "10s") -> Row:
    return next(c.row for c in found if (c.row.policy, c.row.facts, c.row.gap) == (policy, facts, gap))


def test_there_is_a_row_for_each_combination(found: list[Cell]) -> None:
    assert len(found) == len(CHOICES) * 2
    assert all(c.row.turns == 30 and len(c.cost_by_turn) == 30 for c in found)
    assert all(sum(c.cost_by_turn, Decimal(0)) == c.row.cost_usd for c in found)


def test_never_loses_nothing_and_the_seeds_way_does(found: list[Cell]) -> None:
    assert (row(found, "never").need_recall, row(found, "never").whole_turns) == (1.0, 1.0)
    assert row(found, "every_turn").compactions > row(found, "rent").compactions > 0
    assert row(found, "never").recalls_usd == 0


def test_facts_make_it_cheaper(found: list[Cell]) -> None:
    assert row(found, "never", facts=True).cost_usd < row(found, "never").cost_usd
    assert row(found, "never", facts=True).optimum_usd < row(found, "never").optimum_usd


def test_every_policy_is_held_against_one_optimum_and_the_floor_lies_below(found: list[Cell]) -> None:
    for gap in ("10s", "7m"):
        rows = [c.row for c in found if not c.row.facts and c.row.gap == gap]
        assert len({r.optimum_usd for r in rows}) == 1
        assert all(r.floor_usd <= r.optimum_usd and (r.ratio_to_optimum or 0) >= 1 for r in rows)


def test_totals_add_up_by_policy(found: list[Cell]) -> None:
    rows = [c.row for c in found]
    summed = totals(rows + [r.model_copy(update={"session": "other"}) for r in rows])

    assert [(t.policy, t.facts, t.gap) for t in summed] == [(r.policy, r.facts, r.gap) for r in rows]
    assert all(t.session == "all" and t.sessions == 2 and t.turns == 60 for t in summed)
    for one, both in zip(rows, summed, strict=True):
        assert both.cost_usd == 2 * one.cost_usd
        assert (both.need_recall, both.ratio_to_naive) == (one.need_recall, one.ratio_to_naive)


def test_a_missing_value_is_priced_as_a_recall_of_its_own() -> None:
    free: ModelCard = card(prices=(card().prices[0].model_copy(update={"output": Decimal(0), "cache_write_5m": Decimal(0)}),))
    cell = next(cells(steady(12, 60), [Choice("every_turn", False)], [free], [schedule("10s")]))

    misses = cell.row.needs - cell.row.needs_met
    assert misses > 0
    cheapest = misses * 1_000 * Decimal("0.3") / 1_000_000
    assert cell.row.recalls_usd > cheapest


def test_what_is_seen_once_costs_more_than_facts_and_is_added_up_by_itself() -> None:
    choices = [Choice("rent", True), Choice("rent", True, see_once=True)]
    facts, once = (c.row for c in cells(steady(30, rows_each=60), choices, [card()], [schedule("10s")]))

    assert [c.label for c in choices] == ["rent + facts", "rent + see_once"]
    assert once.cost_usd > facts.cost_usd
    assert once.modelled_usd == once.cost_usd
    assert [(t.see_once, t.cost_usd) for t in totals([facts, once])] == [(False, facts.cost_usd), (True, once.cost_usd)]


def test_a_choice_is_a_policy_with_or_without_facts_and_with_a_lifetime() -> None:
    plain, timed, limit = Choice("rent", False), Choice("rent", True, "1h"), Choice("threshold:20_000", False)

    assert plain.settings() == preset("rent").model_copy(update={"facts": Whole()})
    assert isinstance(timed.settings().compaction, Rent)
    assert timed.settings().caching == FourMarks(static_ttl="1h", state_ttl="1h", tail_ttl="1h")
    assert timed.settings().facts == preset("rent").facts
    assert limit.settings().compaction == Threshold(over_tokens=20_000)
    assert [c.label for c in (plain, timed, limit)] == ["rent", "rent + facts, 1h", "threshold:20_000"]


@pytest.mark.parametrize(
    "name",
    ["rant", "threshold", "threshold:", "threshold:0", "threshold:x", "threshold:1__0", "threshold:" + "9" * 5_000, "never:5"],
)
def test_a_policy_that_is_not_known_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"policy '{name}' is none that is known"):
        Choice(name, False).settings()


def test_a_policy_that_outgrows_the_window_is_held_against_nothing() -> None:
    small = card().model_copy(update={"context_window": 12_000})
    never, every = (c.row for c in cells(steady(30, rows_each=20), CHOICES[:3:2], [small], [schedule("10s")]))
    (both, _) = totals([never, never.model_copy(update={"session": "other"}), every])

    assert (never.ended_early, every.ended_early, both.ended_early) == (1, 0, 2)
    assert never.turns < every.turns == 30
    assert (never.ratio_to_naive, never.ratio_to_automatic_caching, never.ratio_to_optimum) == (None, None, None)
    assert both.ratio_to_naive is None
    assert every.ratio_to_naive is not None
