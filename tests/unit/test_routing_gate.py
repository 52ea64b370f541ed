"""The gate that decides which model takes a step: simulated models of known quality."""

import random
import statistics
from collections.abc import Iterator
from itertools import islice, pairwise

import pytest

from agentloop.routing.gate import ENOUGH, STAKES, Pair, Standing, Tally, standing, standings

RUNS = 1_000


def drawn(seed: int, losing: float, winning: float) -> Iterator[Pair]:
    """Pairs of two models: the cheap one loses and wins so often."""
    chance = random.Random(seed)
    while True:
        at = chance.random()
        yield -1 if at < losing else 1 if at < losing + winning else 0


def cases_until(seed: int, losing: float, winning: float, delta: float, most: int) -> tuple[int, str | None]:
    """After how many cases the first verdict falls, and which."""
    n, now = 0, standing(Tally(), delta)
    products = [[1 + s * (d + delta) for s in STAKES] for d in (-1, 0, 1)]
    mirrored = [[1 - s / (1 + delta) * (d + delta) for s in STAKES] for d in (-1, 0, 1)]
    good, bad = [1.0] * len(STAKES), [1.0] * len(STAKES)
    for n, pair in enumerate(islice(drawn(seed, losing, winning), most), 1):
        good = [w * m for w, m in zip(good, products[pair + 1], strict=True)]
        bad = [w * m for w, m in zip(bad, mirrored[pair + 1], strict=True)]
        now = Standing(Tally(), sum(good) / len(good), sum(bad) / len(bad))
        if now.verdict is not None:
            return n, now.verdict
    return n, None


@pytest.mark.parametrize(("delta", "discordant"), [(0.05, 0.05), (0.05, 0.2), (0.10, 0.2), (0.10, 0.5)])
def test_a_model_that_is_worse_by_the_margin_is_demoted_to_in_at_most_one_run_of_twenty(
    delta: float, discordant: float
) -> None:
    losing, winning = (discordant + delta) / 2, (discordant - delta) / 2

    wrong = sum(cases_until(seed, losing, winning, delta, 1_000)[1] == "demote" for seed in range(RUNS))

    assert wrong <= 0.05 * RUNS


@pytest.mark.parametrize("delta", [0.05, 0.10])
def test_a_model_that_is_just_not_worse_by_the_margin_is_given_back_in_at_most_one_run_of_twenty(delta: float) -> None:
    losing, winning = (0.2 + delta) / 2, (0.2 - delta) / 2

    wrong = sum(cases_until(seed, losing, winning, delta, 1_000)[1] == "promote" for seed in range(RUNS))

    assert wrong <= 0.05 * RUNS


@pytest.mark.parametrize(("delta", "median"), [(0.05, 234), (0.10, 73)])
def test_equal_models_with_one_pair_in_ten_discordant_are_told_apart_after_so_many_cases(delta: float, median: int) -> None:
    found = [cases_until(seed, 0.05, 0.05, delta, 5_000) for seed in range(RUNS)]

    middle = statistics.median(n for n, _ in found)

    assert abs(middle - median) <= 0.08 * median
    assert sum(verdict == "demote" for _, verdict in found) >= 0.94 * RUNS


def test_a_much_worse_model_is_given_back_soon() -> None:
    found = [cases_until(seed, 0.3, 0.02, 0.05, 1_000) for seed in range(200)]

    assert {verdict for _, verdict in found} == {"promote"}
    assert statistics.median(n for n, _ in found) < 60


def test_nothing_is_decided_before_the_first_case() -> None:
    assert standing(Tally(), 0.05)[1:] == (1.0, 1.0)


def test_after_a_verdict_both_tests_begin_anew() -> None:
    ties: list[Pair] = [0] * 1_000

    found = list(standings(ties, 0.1))
    falls = [i for i, now in enumerate(found) if now.verdict == "demote"]

    assert len(falls) > 2
    assert {b - a for a, b in pairwise(falls)} == {falls[0] + 1}
    assert found[falls[0] + 1].tally == Tally(ties=1)


def test_ten_thousand_cases_neither_overflow_nor_vanish() -> None:
    good, bad = standing(Tally(0, 10_000, 10_000), 0.1), standing(Tally(10_000, 0, 0), 0.1)

    assert good.not_worse > ENOUGH > bad.not_worse >= 0
    assert bad.worse > ENOUGH > good.worse >= 0
