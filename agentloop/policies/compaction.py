"""When the oldest turns leave the view, and why then.

Carrying history costs a cache read of it on every turn; cutting it costs a cache write of everything behind the cut.
`Rent` weighs the one against the other as in the ski-rental problem; the others are kept for comparison.
"""

from datetime import datetime
from decimal import Decimal
from typing import Literal, NamedTuple

from pydantic import Field

from agentloop.core import costs, cuts, finding, lifetimes
from agentloop.core.choices import LedgerPolicy
from agentloop.core.costs import MILLION
from agentloop.core.lifetimes import WrittenTtl
from agentloop.core.state import State
from agentloop.core.tokens import estimate
from agentloop.types.base import Settings
from agentloop.types.events import Decision
from agentloop.types.usage import TTL_SECONDS

NOT_SHORTER = "the state would be longer than what it stands for"


class Never(Settings):
    """Keep the whole history."""

    kind: Literal["never"] = "never"

    @property
    def keep_pairs(self) -> int | None:
        """Nothing is ever cut."""
        return None

    def weigh(self, state: State, ledger: LedgerPolicy, now: datetime) -> Decision:
        """Never a cut."""
        return Decision()


class EveryTurn(Settings):
    """Keep the last pairs and summarise the rest on each turn: the habit that agentloop is measured against."""

    kind: Literal["every_turn"] = "every_turn"
    keep_pairs: int = Field(default=6, ge=1)

    def weigh(self, state: State, ledger: LedgerPolicy, now: datetime) -> Decision:
        """A cut whenever more than `keep_pairs` pairs stand."""
        cut = cuts.latest_cut(state, self.keep_pairs)
        return Decision(keep_from=cut, reason=f"more than {self.keep_pairs} pairs" if cut is not None else "")


class KeepPairs(Settings):
    """Let the history grow to `at_most` pairs, then cut it back to `keep_pairs`."""

    kind: Literal["keep_pairs"] = "keep_pairs"
    keep_pairs: int = Field(default=6, ge=1)
    at_most: int = Field(default=18, ge=2)

    def weigh(self, state: State, ledger: LedgerPolicy, now: datetime) -> Decision:
        """A cut when more than `at_most` pairs stand."""
        if len(state.turns) <= self.at_most:
            return Decision()
        keep_from = cuts.latest_cut(state, self.keep_pairs)
        if keep_from is None:
            return Decision()
        if _segment_tokens(state, ledger, keep_from) >= cuts.removed_tokens(state, keep_from):
            return Decision(reason=NOT_SHORTER)
        return Decision(keep_from=keep_from, reason=f"more than {self.at_most} pairs")


class Rent(Settings):
    """Cut when carrying the old pairs has cost as much as cutting them would, or when cutting is free.

    The source of the formulas is docs/economics.md. Every amount is USD at the prices of the session's own model, so the
    policy follows a changed cache-read price by itself.
    """

    kind: Literal["rent"] = "rent"
    keep_pairs: int = Field(default=6, ge=1)
    hard_cap_tokens: int = Field(default=150_000, ge=1_000)
    """Above this prompt a cut is made for the quality of answers, whatever it costs."""
    ttl: WrittenTtl | Literal["auto"] = "auto"
    """Lifetime of the moving part, as the caching policy writes it; `auto`: as it is planned."""
    edition: Literal[1, 2, 3] = 3
    """1: as it was decided before lifetimes knew how long rent lets a history grow, the cap what the API had counted, and what
    was never written was known to be cold; 2: before it was counted how much of what should be in the cache is found there."""

    def weigh(self, state: State, ledger: LedgerPolicy, now: datetime) -> Decision:
        """A cut when the rent that was paid reaches its price."""
        keep_from = cuts.latest_cut(state, self.keep_pairs)
        if keep_from is None or state.sent is None:
            return Decision(rent_usd=state.rent_usd)
        segment = _segment_tokens(state, ledger, keep_from)
        gain = cuts.removed_tokens(state, keep_from) - segment
        if gain <= 0:
            return Decision(rent_usd=state.rent_usd, reason=NOT_SHORTER)
        warm = self._warm(state, now)
        p = self._prices(state)
        price = self._price(state, p, segment, gain, warm)
        saves = gain * p.read / MILLION
        rent = state.rent_usd + (saves if warm else gain * p.write / MILLION)
        reason = self._reason(state, price, saves, warm, p.found)
        if reason is None:
            return Decision(rent_usd=rent, price_usd=price, saves_usd=saves)
        return Decision(keep_from=keep_from, reason=reason, rent_usd=state.rent_usd, price_usd=price, saves_usd=saves)

    def _warm(self, state: State, now: datetime) -> bool:
        """Whether the last request is still cached, if it ever was: by the clock, never by the last reply's usage."""
        assert state.sent is not None
        if state.sent.lost:
            return False
        ttl = self.ttl
        if ttl == "auto":
            ttl = state.sent.ttl or ("5m" if self.edition == 1 else "off")
        return ttl != "off" and (now - state.sent.at).total_seconds() <= TTL_SECONDS[ttl]

    def _prices(self, state: State) -> "_Moving":
        """What a token of the moving part costs when it is written, and when it is carried on, warm, in the mean."""
        found = finding.share(state.found) if self.edition > 2 else lifetimes.ALL
        ttl = self.ttl
        if ttl == "auto":
            ttl = lifetimes.planned(state, bounded=self.edition > 1, found=found).tail
        p = finding.prices(costs.prices_for(state.card, state.prompt_tokens), ttl, found)
        return _Moving(p.cache_read, {"5m": p.cache_write_5m, "1h": p.cache_write_1h, "off": p.input}[ttl], found)

    def _price(self, state: State, p: "_Moving", segment: int, gain: int, warm: bool) -> Decimal:
        """What a cut costs now, net: the input of this request after the cut, less the input as it stands."""
        if not warm:
            return -gain * p.write / MILLION
        assert state.sent is not None
        cached = state.prefix_tokens + state.opening_tokens + state.state_tokens
        unsent = max(0, state.prompt_tokens - state.sent.prompt_tokens)
        kept = state.prompt_tokens - cached - (gain + segment)
        cut = cached * p.read + (segment + kept) * p.write
        keep = (state.prompt_tokens - unsent) * p.read + unsent * p.write
        return (cut - keep) / MILLION

    def _reason(self, state: State, price: Decimal, saves: Decimal, warm: bool, found: Decimal) -> str | None:
        if price <= 0:
            return f"the cache is {'warm' if warm else 'cold'} and a cut makes this very request cheaper by {-price:.4f} USD"
        size = state.probable_tokens if self.edition > 1 else state.prompt_tokens
        if size > min(self.hard_cap_tokens, costs.longest_prompt(state.card, state.limits.max_tokens)):
            return f"the prompt of {size:,} tokens is over the cap"
        left = state.limits.max_turns - state.asked if state.limits.max_turns is not None else None
        if left is not None and saves * left < price:
            return None
        if state.rent_usd >= price:
            missed = "" if found == 1 else f"; the cache finds {found:.0%} of what it should"
            return f"rent {state.rent_usd:.4f} ≥ price {price:.4f} USD; saves {saves:.4f} a turn{missed}"
        return None


class _Moving(NamedTuple):
    """What a token of the history costs, in USD a million."""

    read: Decimal
    """Carried on while the clock says that it is cached: in the mean, where not all of that is found."""
    write: Decimal
    found: Decimal
    """The share that is found."""


def _segment_tokens(state: State, ledger: LedgerPolicy, keep_from: int) -> int:
    return estimate(ledger.segment(state, keep_from), state.card.tokenizer)


Compaction = Never | EveryTurn | KeepPairs | Rent
