"""How long cache entries are asked to live, from the gaps between the session's own requests.

A token that stands in the prefix of every request costs, in the mean over the gaps, a read where the entry is still there
and a write where it is not; longer lives cost dearer writes. Whichever is cheapest is asked for.
Source: docs/economics.md, "Gaps and lifetimes".
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, NamedTuple

from agentloop.core import costs
from agentloop.core.state import State
from agentloop.types.usage import TTL_SECONDS, Prices, Ttl

WrittenTtl = Ttl | Literal["off"]
_PAIRS_AFTER_A_CUT = 6


class Lifetimes(NamedTuple):
    """Of tools and system; of the session state; of the history behind it. `off`: not written."""

    static: WrittenTtl
    state: WrittenTtl
    tail: WrittenTtl


def planned(state: State, cuts: bool = True) -> Lifetimes:
    """The cheapest lifetimes, if the next gaps are as the last were. The API wants longer ones first.

    `cuts`: the history is cut back where it would have to be written anew.
    """
    p = costs.prices_for(state.card, state.prompt_tokens)
    pairs = max(1, len(state.turns))
    new = state.turns_tokens // pairs if state.turns else state.given_tokens
    fixed = state.prefix_tokens + state.opening_tokens + state.state_tokens
    carried = max(0, state.prompt_tokens - fixed) + new
    rewritten = min(carried, _PAIRS_AFTER_A_CUT * new) if cuts else carried
    choices = _choices(p, state.gaps)
    tail = min(choices, key=lambda ttl: _cost(p, ttl, state.gaps, carried, new, rewritten))
    front = min(choices, key=lambda ttl: _cost(p, ttl, state.gaps, fixed, 0, fixed))
    if tail == "1h" and front == "5m":
        front = "1h"
    return Lifetimes(front, front, tail)


def _choices(p: Prices, gaps: Sequence[float]) -> tuple[WrittenTtl, ...]:
    """What comes into question: not to write only where even an hour is seldom enough to pay for a write."""
    pays = (p.cache_write_5m - p.input) / (p.input - p.cache_read)
    return ("5m", "1h") if hits(gaps, TTL_SECONDS["1h"]) >= pays else ("5m", "1h", "off")


def hits(gaps: Sequence[float], seconds: float) -> Decimal:
    """The share of gaps (seconds) that an entry of this life outlives. One short gap is assumed beside those seen."""
    return Decimal(1 + sum(gap <= seconds for gap in gaps)) / (1 + len(gaps))


def _cost(p: Prices, ttl: WrittenTtl, gaps: Sequence[float], carried: int, new: int, rewritten: int) -> Decimal:
    """What a turn pays for so many carried tokens and so many new ones, in the mean, in millionths of a USD.

    Where the entries are gone, or never were, so many tokens are sent again: a cold turn is when a history is cut.
    """
    if ttl == "off":
        return (rewritten + new) * p.input
    write = p.cache_write_1h if ttl == "1h" else p.cache_write_5m
    hit = hits(gaps, TTL_SECONDS[ttl])
    return hit * (carried * p.cache_read + new * write) + (1 - hit) * (rewritten + new) * write
