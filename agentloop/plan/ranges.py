"""Between which two costs the next session will be, from those of past ones."""

import math
from collections.abc import Sequence
from decimal import Decimal
from statistics import median
from typing import NamedTuple

ENOUGH = 9
"""From so many sessions on, the order of their costs alone gives the range."""
PRIOR_SPREAD = 0.5
"""Standard deviation of the logarithm of a session's cost, before any session is known: two thirds are within a factor of
1.65."""
PRIOR_WEIGHT = 2
"""For how many sessions that assumption counts."""
_T90 = (3.078, 1.886, 1.638, 1.533, 1.476, 1.440, 1.415, 1.397, 1.383, 1.372)
"""The 90th percentile of Student's t, by degrees of freedom from 1 on."""


class Range(NamedTuple):
    """Low, expected, high: four of five sessions end between low and high."""

    low: Decimal
    expected: Decimal
    high: Decimal

    def holds(self, value: Decimal) -> bool:
        """Whether a value is in it."""
        return self.low <= value <= self.high


def predicted(values: Sequence[Decimal]) -> Range:
    """The range of the next value, if it is drawn as these were; the median is what is expected. Needs one value.

    From nine values on, two of them: by their order alone, the next one is between them with a probability of 0.8 or more,
    whatever the distribution. With fewer, as if logarithms were normal, with a spread that is assumed at first.
    """
    ordered = sorted(values)
    n, middle = len(ordered), Decimal(median(ordered))
    if n >= ENOUGH:
        return Range(ordered[(n + 1) // 10 - 1], middle, ordered[n - (n + 1) // 10])
    if ordered[0] <= 0:
        return Range(ordered[0], middle, ordered[-1])
    logs = [math.log(v) for v in ordered]
    mean, freedom = sum(logs) / n, PRIOR_WEIGHT + n - 1
    variance = (PRIOR_WEIGHT * PRIOR_SPREAD**2 + sum((x - mean) ** 2 for x in logs)) / freedom
    reach = _T90[freedom - 1] * math.sqrt(variance * (1 + 1 / n))
    return Range(min(ordered[0], _decimal(mean - reach)), middle, max(ordered[-1], _decimal(mean + reach)))


def _decimal(log: float) -> Decimal:
    return Decimal(f"{math.exp(log):.8g}")
