"""When a cheaper model takes a step over, and when it has to give it back: two tests that may be looked at after every case.

Each case gives a pair: d = 1 where only the cheaper model is right, -1 where only the other is, 0 where both are or neither.
Whoever bets that the cheaper model is not worse by the margin delta has, after each pair, the mean over a grid of stakes l of
the product of 1 + l (d + delta). Where it is worse by delta or more, that wealth is a supermartingale that starts at 1, and
reaches 20 with a probability of at most 5 %, however often one looks (Ville's inequality). The mirrored bet, that it is worse
by more than delta, has 1 - l (d + delta).
"""

import math
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

ENOUGH = 20.0
"""The wealth at which a test is decided: 1 / 0.05."""
STAKES = tuple(i / 10 for i in range(1, 10))
DELTA = 0.05
Pair = Literal[-1, 0, 1]
Decided = Literal["demote", "promote"]


class Tally(NamedTuple):
    """Pairs, counted: the wealth depends on nothing else."""

    losses: int = 0
    ties: int = 0
    wins: int = 0

    @property
    def n(self) -> int:
        """Pairs in all."""
        return self.losses + self.ties + self.wins

    def plus(self, pair: Pair) -> "Tally":
        """With one pair more."""
        return Tally(self.losses + (pair < 0), self.ties + (pair == 0), self.wins + (pair > 0))


class Standing(NamedTuple):
    """Where both tests stand."""

    tally: Tally
    not_worse: float
    """The wealth of the bet that the cheaper model is not worse by the margin."""
    worse: float
    """The wealth of the bet that it is."""

    @property
    def verdict(self) -> Decided | None:
        """What is decided, if anything."""
        return "demote" if self.not_worse >= ENOUGH else "promote" if self.worse >= ENOUGH else None


def standing(tally: Tally, delta: float) -> Standing:
    """Where both tests stand after these pairs."""
    worse = [-stake / (1 + delta) for stake in STAKES]  # so that no pair can cost more than the whole stake
    return Standing(tally, _wealth(tally, delta, STAKES), _wealth(tally, delta, worse))


def standings(pairs: Iterable[Pair], delta: float) -> Iterator[Standing]:
    """Where both tests stand after each pair. After a verdict both begin anew: what comes later is judged by itself."""
    tally = Tally()
    for pair in pairs:
        tally = tally.plus(pair)
        now = standing(tally, delta)
        yield now
        if now.verdict is not None:
            tally = Tally()


def _wealth(tally: Tally, delta: float, stakes: Iterable[float]) -> float:
    logs = [_log_wealth(tally, delta, stake) for stake in stakes]
    most = max(logs)
    return math.exp(min(700.0, most + math.log(sum(math.exp(log - most) for log in logs) / len(logs))))


def _log_wealth(tally: Tally, delta: float, stake: float) -> float:
    return sum(
        count * math.log1p(stake * (pair + delta))
        for pair, count in ((-1, tally.losses), (0, tally.ties), (1, tally.wins))
        if count
    )
