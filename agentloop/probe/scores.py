"""Whether an answer is right, and how sure a score of so many answers is."""

import math
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

Z95 = 1.959964
"""The 97.5th percentile of the normal distribution."""
_WRAPPED = re.compile(r"^[\s`*_\"'“”‘’«»(\[]+|[\s`*_\"'“”‘’«»)\].,;:!]+$")
_GROUPED = re.compile(r"(?<=\d)[, _'](?=\d{3}(?:\D|$))")
_AMOUNT = re.compile(r"(?:(?:usd|eur|gbp|[$€£¥])\s*)?(-?\d+(?:\.\d+)?)(?:\s*(?:usd|eur|gbp|[$€£¥%]))?", re.IGNORECASE)


class Interval(NamedTuple):
    """A share or a difference, and the bounds that hold it with a confidence of 95 %."""

    value: float
    low: float
    high: float


def exact(said: str, answer: str) -> bool:
    """Character by character, white space around it aside."""
    return said.strip() == answer


def normalised(said: str, answer: str) -> bool:
    """Case, quotes, marks around it and the way a number is written do not matter. Nothing may be said besides."""
    return _normal(said) == _normal(answer)


def _normal(text: str) -> str:
    text = " ".join(_WRAPPED.sub("", text).split()).casefold()
    if found := _AMOUNT.fullmatch(_GROUPED.sub("", text)):
        try:
            return f"{Decimal(found[1]).normalize():f}"
        except InvalidOperation:
            return text
    return text


def wilson(right: int, asked: int, z: float = Z95) -> Interval:
    """A share with Wilson's score interval (Wilson 1927): it stays within 0 and 1, for few answers too."""
    if not asked:
        return Interval(0.0, 0.0, 1.0)
    p, square = right / asked, z * z
    middle = (p + square / (2 * asked)) / (1 + square / asked)
    reach = z / (1 + square / asked) * math.sqrt(p * (1 - p) / asked + square / (4 * asked * asked))
    return Interval(p, max(0.0, min(p, middle - reach)), min(1.0, max(p, middle + reach)))


def difference(first: Sequence[bool], second: Sequence[bool]) -> Interval:
    """The share of the first less that of the second, both of the same questions: Newcombe's interval for paired shares,
    from Wilson's for each (Statistics in Medicine 17, 1998, 2635-2650, method 10)."""
    n = len(first)
    if not n:
        return Interval(0.0, -1.0, 1.0)
    both = sum(a and b for a, b in zip(first, second, strict=True))
    one, two = wilson(sum(first), n), wilson(sum(second), n)
    together = _correlation(both, sum(first) - both, sum(second) - both, n - sum(first) - sum(second) + both)
    value = one.value - two.value
    down = _joined(one.value - one.low, two.high - two.value, together)
    up = _joined(one.high - one.value, two.value - two.low, together)
    return Interval(value, max(-1.0, value - down), min(1.0, value + up))


def _joined(a: float, b: float, together: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * together * a * b + b * b))


def _correlation(both: int, first: int, second: int, neither: int) -> float:
    """How far the two go together, with Newcombe's correction for continuity."""
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    if not product:
        return 0.0
    crossed, n = both * neither - first * second, both + first + second + neither
    corrected = max(crossed - n / 2, 0.0) if crossed > 0 else float(crossed)
    return corrected / math.sqrt(product)
