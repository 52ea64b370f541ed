"""When the next request of a session goes into a batch, and when it is asked live. Pure.

A batch costs half, but finds less in the cache: of the tokens that a session carries, a live request reads nearly all, an item
of a batch only the share `hits`; the rest is written anew, at twelve times the price and more. With what stands there priced
`read` or `written`, and `rest` for what is new and what is answered, a batch is cheaper than a live call from

    hits* = (written - 2 * read - rest) / (written - read)

on, which is below 0 where a session carries little: then it always is. Source: docs/waves.md, "Break-even".
"""

from collections import deque
from decimal import Decimal
from typing import Literal, NamedTuple

from pydantic import Field

from agentloop.core.costs import BATCH
from agentloop.types.base import Settings

Way = Literal["batch", "live"]
ALWAYS = Decimal(0)


class Expected(NamedTuple):
    """What the next request of a session will cost at live prices, in USD, part by part."""

    read: Decimal
    """What it carries, where the cache has it."""
    written: Decimal
    """What it carries, where the cache does not."""
    rest: Decimal
    """What is new, and what will be answered."""
    warm: bool = True
    """Whether the cache still has it, as far as the clock tells."""

    @property
    def live_usd(self) -> Decimal:
        """The price of a live call."""
        return (self.read if self.warm else self.written) + self.rest

    def batch_usd(self, hits: Decimal) -> Decimal:
        """The price of an item of a batch, in the mean."""
        hits = hits if self.warm else Decimal(0)
        return BATCH * (hits * self.read + (1 - hits) * self.written + self.rest)

    @property
    def break_even(self) -> Decimal:
        """The share of hits from which a batch is cheaper; 0 where it always is."""
        if not self.warm or self.written <= self.read:
            return ALWAYS
        return max(ALWAYS, (self.written - 2 * self.read - self.rest) / (self.written - self.read))


class Chosen(NamedTuple):
    """Which way a request goes, and why."""

    way: Way
    reason: str
    is_probe: bool = False
    """Asked in a batch although it will probably cost more there: to see whether that has changed."""


class Course(Settings):
    """Batch mode is left where the share of hits is below break-even + margin, and taken up again above it."""

    margin: Decimal = Field(default=Decimal("0.03"), ge=0, le=1)
    learn: int = Field(default=5, ge=0)
    """So many items go into a batch first, while the others wait for what those find."""
    assumed_hits: Decimal = Field(default=Decimal("0.65"), ge=0, le=1)
    """Before anything is measured: the documentation of the API quotes 30% to 98%."""
    assumed_weight: int = Field(default=2, ge=0)
    """As how many measured items that counts."""
    optimism: Decimal = Field(default=Decimal("0.5"), ge=0)
    """Over the square root of the number of measured items, what the share may be higher than measured: the standard error of
    hit or miss is at most that."""
    remembered: int = Field(default=100, ge=1)
    """Items of batches, the newest, of which the share is the mean."""
    curiosity: Decimal = Field(default=Decimal("0.01"), ge=0, le=1)
    """What probes may cost more than live calls would, as a share of what live calls have cost."""


class Hits:
    """What was measured so far. Not thread-safe: its caller holds a lock."""

    def __init__(self, course: Course) -> None:
        """Nothing is measured yet."""
        self.course = course
        self._seen: deque[Decimal] = deque(maxlen=course.remembered)
        self._live_usd, self._probed_usd = Decimal(0), Decimal(0)
        self._to_learn = course.learn
        self._is_out = False
        self.measured = 0
        """Items of batches that could have found something."""

    @property
    def share(self) -> Decimal:
        """The share of hits to expect."""
        weight = self.course.assumed_weight
        counted = weight + len(self._seen)
        return (self.course.assumed_hits * weight + sum(self._seen, Decimal(0))) / counted if counted else ALWAYS

    @property
    def upper(self) -> Decimal:
        """What the share may be, as far as it was measured."""
        return min(Decimal(1), self.share + self.course.optimism / Decimal(max(1, self.measured)).sqrt())

    @property
    def is_learning(self) -> bool:
        """Whether the first items are out, and nothing is known yet."""
        return self._is_out and self._to_learn == 0 and self.measured == 0

    def landed(self) -> None:
        """What was out is back, whatever it brought."""
        self._is_out = False

    def seen(self, share: Decimal) -> None:
        """An item of a batch found this share of what it could have found."""
        self._seen.append(min(Decimal(1), share))
        self.measured += 1

    def paid_live(self, usd: Decimal) -> None:
        """A live call cost this: the more of them, the more probes."""
        self._live_usd += usd

    def chosen(self, expected: Expected | None) -> Chosen:
        """The way of a request; None: nothing that it carries was ever in the cache."""
        if expected is None:
            return Chosen("batch", "it carries nothing")
        if not expected.warm:
            return Chosen("batch", "the cache has forgotten what it carries")
        needed = expected.break_even
        if needed == ALWAYS:
            return Chosen("batch", "it carries so little that a batch is cheaper without any hit")
        needed += self.course.margin
        if self._to_learn > 0:
            self._to_learn -= 1
            self._is_out = True
            return Chosen("batch", "to learn how much is found", is_probe=True)
        if self.upper >= needed:
            return Chosen("batch", f"hits {self.share:.2f}, up to {self.upper:.2f} ≥ {needed:.2f}")
        return self._probe_or_live(expected, f"hits {self.share:.2f}, up to {self.upper:.2f} < {needed:.2f}")

    def _probe_or_live(self, expected: Expected, reason: str) -> Chosen:
        more = max(Decimal(0), expected.batch_usd(self.share) - expected.live_usd)
        if self._probed_usd + more > self.course.curiosity * self._live_usd:
            return Chosen("live", reason)
        self._probed_usd += more
        return Chosen("batch", f"{reason}; a probe", is_probe=True)
