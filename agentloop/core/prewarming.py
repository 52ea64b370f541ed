"""When one request that only writes the static prefix pays before several sessions start together.

An entry can be read once the response of the request that wrote it has begun. Sessions that start at the same moment find
nothing, and each writes the prefix they share; where a `max_tokens: 0` request has written it before, each reads it.
Source: docs/economics.md, "Waits: pings, cold, cut".
"""

from decimal import Decimal
from typing import NamedTuple

from agentloop.core import costs
from agentloop.core.costs import MILLION
from agentloop.core.tokens import block_tokens
from agentloop.core.wire import SYSTEM
from agentloop.types import blocks
from agentloop.types.request import Breakpoint, Prefix, Request
from agentloop.types.usage import ModelCard, Ttl

_WORD = blocks.text("Ready.")
"""A request needs a message; it stands behind the breakpoint and is never read again."""


class Prewarming(NamedTuple):
    """The two ways to start `sessions` sessions together, in USD for the prefix alone."""

    sessions: int
    tokens: int
    """Of the prefix, estimated."""
    cold_usd: Decimal
    """Each writes it."""
    warmed_usd: Decimal
    """One request writes it, each reads it."""

    @property
    def pays(self) -> bool:
        """Whether the request before is worth it."""
        return self.warmed_usd < self.cold_usd

    @property
    def arithmetic(self) -> str:
        """The comparison as one line."""
        times = f"{self.sessions} session{'s' if self.sessions != 1 else ''} together"
        warmed, cold = f"written once and read {self.warmed_usd:.4f}", f"written by each {self.cold_usd:.4f}"
        compared = f"{warmed} < {cold}" if self.pays else f"{cold} ≤ {warmed}"
        return f"a prefix of {self.tokens:,} tokens, {times}: {compared} USD"


def prewarming(card: ModelCard, prefix_tokens: int, ttl: Ttl, sessions: int) -> Prewarming:
    """What it comes to. A prefix that is too short to be cached costs every session its full price on both ways."""
    p = costs.prices_for(card, prefix_tokens)
    cacheable = prefix_tokens >= card.min_cacheable_tokens
    write, read = (_write(card, prefix_tokens, ttl), p.cache_read) if cacheable else (p.input, p.input)
    besides = block_tokens(_WORD, card.tokenizer) * p.input
    return Prewarming(
        sessions=sessions,
        tokens=prefix_tokens,
        cold_usd=sessions * prefix_tokens * write / MILLION,
        warmed_usd=(prefix_tokens * write + besides + sessions * prefix_tokens * read) / MILLION,
    )


def _write(card: ModelCard, prefix_tokens: int, ttl: Ttl) -> Decimal:
    p = costs.prices_for(card, prefix_tokens)
    return p.cache_write_1h if ttl == "1h" else p.cache_write_5m


def request(prefix: Prefix, ttl: Ttl) -> Request:
    """The request that writes a prefix and answers nothing."""
    return Request(prefix, (blocks.user(_WORD),), (Breakpoint(SYSTEM, 0, ttl),), max_tokens=0, purpose="keepalive")
