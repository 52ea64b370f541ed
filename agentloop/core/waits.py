"""What a wait costs that is known beforehand: the cache kept warm by pings, or gone cold and cut, or gone cold uncut.

A ping is the last request again with `max_tokens: 0`: it reads what is carried, answers nothing, and the entries live on.
Each way is priced up to and with what the request after the wait pays for what it carries; what is new to that request
costs the same on every way. Source: docs/economics.md, "Waits: pings, cold, cut".
"""

from decimal import Decimal
from math import ceil
from typing import Literal, NamedTuple

from agentloop.core.costs import MILLION
from agentloop.types.usage import TTL_SECONDS, Prices, Ttl

MARGIN_S = 30
"""A ping starts this long before the entries would die: it has to reach the API, and a clock may be off."""

Way = Literal["pings", "cut", "cold"]
_NAMES: dict[Way, str] = {"cut": "cold and cut", "cold": "cold"}


class Carried(NamedTuple):
    """What the last request left in the cache, in tokens."""

    static: int
    """Tools and system prompt."""
    state: int
    """The task, and the session state as it would stand after a cut."""
    pairs: int
    """The pairs that a cut keeps."""
    removable: int = 0
    """What a cut takes away, net: the older pairs, less the state that it adds for them."""
    unwritten: int = 0
    """What stood behind the last breakpoint: every ping pays it in full."""
    outlives: int = 0
    """Tokens at the front whose own entries outlive the wait without pings."""

    @property
    def tokens(self) -> int:
        """All that pings keep warm."""
        return self.static + self.state + self.pairs + self.removable


class Wait(NamedTuple):
    """The three ways through one wait, in USD."""

    wait_s: float
    pings: int
    pings_usd: Decimal
    cut_usd: Decimal
    cold_usd: Decimal

    @property
    def cheapest(self) -> Way:
        """The cheapest way; where two cost the same, the one that does less."""
        ways: list[tuple[Decimal, Way]] = [(self.cold_usd, "cold"), (self.cut_usd, "cut"), (self.pings_usd, "pings")]
        return min(ways, key=lambda way: way[0])[1]

    @property
    def arithmetic(self) -> str:
        """The comparison as one line: `a wait of 20 min: 4 pings 0.0123 < cold and cut 0.0311`."""
        other: Way = "cut" if self.cut_usd < self.cold_usd else "cold"
        pings = f"{self.pings} ping{'s' if self.pings != 1 else ''} {self.pings_usd:.4f}"
        cold = f"{_NAMES[other]} {min(self.cut_usd, self.cold_usd):.4f}"
        compared = f"{pings} < {cold}" if self.cheapest == "pings" else f"{cold} ≤ {pings}"
        return f"a wait of {_told(self.wait_s)}: {compared}"


def interval_s(ttl: Ttl) -> int:
    """Seconds from one request to the ping that keeps its entries alive."""
    return TTL_SECONDS[ttl] - MARGIN_S


def pings(wait_s: float, ttl: Ttl, age_s: float = 0.0) -> int:
    """How many pings a wait takes: one an interval, each before the end. The entries are `age_s` old when it begins."""
    return max(0, ceil((age_s + wait_s) / interval_s(ttl)) - 1)


def wait(prices: Prices, carried: Carried, ttl: Ttl, wait_s: float, age_s: float = 0.0, rent_usd: Decimal = Decimal(0)) -> Wait:
    """What a wait of so many seconds costs on each way, where what is carried was written for `ttl`.

    `rent_usd`: what carrying the removable pairs has cost since the last cut. So much, by the rule that cuts by rent, a cut
    is worth by now; whoever does not cut has it still to pay.
    """
    times = pings(wait_s, ttl, age_s)
    read = carried.tokens * prices.cache_read / MILLION
    after_cut = carried.tokens - carried.removable
    return Wait(
        wait_s=wait_s,
        pings=times,
        pings_usd=times * (read + carried.unwritten * prices.input / MILLION) + read + rent_usd,
        cut_usd=_cold(prices, after_cut, ttl, carried.outlives),
        cold_usd=_cold(prices, carried.tokens, ttl, carried.outlives) + rent_usd,
    )


def _cold(prices: Prices, size: int, ttl: Ttl, outlives: int) -> Decimal:
    """What the request after the wait pays for so many tokens where all but the front has to be written again."""
    write = prices.cache_write_1h if ttl == "1h" else prices.cache_write_5m
    return (outlives * prices.cache_read + (size - outlives) * write) / MILLION


def _told(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7_200 else f"{seconds / 3_600:.3g} h"
