from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.core.calibration import KINDS, Calibration, Kind, Sample

ratios = st.lists(st.floats(0.6, 1.8), min_size=len(KINDS), max_size=len(KINDS))


@given(ratios, st.integers(0, 2**32))
def test_the_ratios_that_made_the_samples_are_found_again(true: list[float], seed: int) -> None:
    of = dict(zip(KINDS, true, strict=True))
    chance = random.Random(seed)
    learned = Calibration()
    for _ in range(400):
        estimated: dict[Kind, int] = {kind: chance.randint(1, 20_000) for kind in chance.sample(KINDS, chance.randint(1, 4))}
        actual = round(sum(of[kind] * size for kind, size in estimated.items()))
        learned = learned.learned(Sample(estimated, 6, actual + 6))

    assert learned.ratios() == pytest.approx(of, abs=0.02)


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(-10, 10**8)), max_size=30))
def test_whatever_it_is_told_a_forecast_stays_within_a_factor_of_two(told: list[tuple[int, int, int]]) -> None:
    learned = Calibration()
    for text, results, actual in told:
        learned = learned.learned(Sample({"text": text, "results": results}, 6, actual))

    assert 500 <= learned.tokens({"text": 700, "results": 300}) <= 2_000
