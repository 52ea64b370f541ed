"""What leaves may spend and do: their parts of what the session that delegates has left, and how it is counted afterwards.

Pure. Money is taken out of one pot leaf by leaf, as each starts: an even part of what no other holds. What a leaf did not
use goes back, for those that come later. With rights it is the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_DOWN, Decimal

from agentloop.core import costs
from agentloop.core.permits import Permits, Used
from agentloop.core.state import State, changed
from agentloop.types.grants import Grant, Grants
from agentloop.types.leaves import LeafRun, LeafUse

SMALLEST = Decimal(10) ** -12
"""USD: parts are rounded down to this."""
NEXT_REPLY_TOKENS = 4_096
"""Output tokens of the reply that has to be paid for when the leaves are back."""


@dataclass(frozen=True)
class Pot:
    """What the leaves of one call may spend together, and what each of them holds of it: while it runs, the most that it may
    spend in all; before and after, what it was charged. USD."""

    usd: Decimal | None
    """None: no limit."""
    held: Mapping[int, Decimal] = field(default_factory=dict)

    @property
    def left_usd(self) -> Decimal | None:
        """What nobody holds; never below 0, even where an estimate was too low."""
        return None if self.usd is None else max(Decimal(0), self.usd - sum(self.held.values(), Decimal(0)))

    def drawn(self, leaf: int, most_usd: Decimal | None, waiting: int) -> tuple["Pot", Decimal | None]:
        """What a leaf may spend in all, what it was charged before included; `waiting` leaves, this one too, have yet to
        be given their part."""
        charged, left = self.held.get(leaf, Decimal(0)), self.left_usd
        if left is None:
            return self, most_usd
        part = charged + (left / waiting).quantize(SMALLEST, ROUND_DOWN)
        limit = part if most_usd is None else min(part, max(most_usd, charged))
        return replace(self, held={**self.held, leaf: limit}), limit

    def returned(self, leaf: int, charged_usd: Decimal) -> "Pot":
        """A leaf has ended."""
        return replace(self, held={**self.held, leaf: charged_usd})


def for_leaves(state: State, answer_tokens: int) -> Decimal | None:
    """What leaves may spend (USD): what the session has left, less the most that its next request can cost when they have
    answered with so many tokens. None: no limit."""
    limit = state.limits.max_budget_usd
    if limit is None:
        return None
    coming = costs.worst_case(state.card, state.prompt_tokens + answer_tokens, NEXT_REPLY_TOKENS)
    return max(Decimal(0), limit - state.charged_usd - coming)


def tokens_for_each(state: State, answer_tokens: int, leaves: int) -> int | None:
    """Tokens that each leaf may use in all its requests, by the session's limit; None: no limit."""
    limit = state.limits.max_session_tokens
    if limit is None:
        return None
    return max(1, (limit - state.all_tokens - state.prompt_tokens - answer_tokens - NEXT_REPLY_TOKENS) // leaves)


@dataclass(frozen=True)
class Rights:
    """What the leaves of one call may do unattended together, and what each of them holds of it: while it runs, the most that
    it may do in all; before and after, what it did."""

    permits: Permits
    """Of the session that delegates."""
    held: Mapping[int, Mapping[str, Used]] = field(default_factory=dict)

    def drawn(self, leaf: int, waiting: Mapping[str, int]) -> tuple["Rights", Grants | None]:
        """What a leaf may do in all, what it did before included; `waiting`: for each of its tools, the leaves that have it,
        this one too, and have yet to be given their part. None: somebody watches, and nothing has to be granted."""
        grants = self.permits.grants
        if grants is None:
            return self, None
        parts = {name: self._part(name, grant, leaf, waiting[name]) for name, grant in grants.tools.items() if name in waiting}
        holds = {name: Used(part.at_most or 0, part.sum_at_most or Decimal(0)) for name, part in parts.items()}
        return replace(self, held={**self.held, leaf: holds}), grants.model_copy(update={"tools": parts})

    def returned(self, leaf: int, used: Mapping[str, Used]) -> "Rights":
        """A leaf has ended."""
        return replace(self, held={**self.held, leaf: dict(used)})

    def _part(self, name: str, grant: Grant, leaf: int, waiting: int) -> Grant:
        """An even part of what nobody holds."""
        others = [held.get(name, Used()) for held in self.held.values()]
        used, before = self.permits.used.get(name, Used()), self.held.get(leaf, {}).get(name, Used())
        calls, total = grant.at_most, grant.sum_at_most
        if calls is not None:
            left = max(0, calls - used.calls - sum(o.calls for o in others))
            calls = before.calls + -(-left // waiting)
        if total is not None:
            rest = max(Decimal(0), total - used.total - sum((o.total for o in others), Decimal(0)))
            total = before.total + (rest / waiting).quantize(SMALLEST, ROUND_DOWN)
        return grant.model_copy(update={"at_most": calls, "sum_at_most": total})


def used_by(permits: Permits) -> dict[str, LeafUse]:
    """What a leaf used up of its grants."""
    return {tool: LeafUse(calls=used.calls, total=used.total) for tool, used in permits.used.items()}


def counted(state: State, leaves: tuple[LeafRun, ...]) -> State:
    """The session once the leaves of a call are counted to it."""
    spent = sum((leaf.spent_usd for leaf in leaves), Decimal(0))
    at_risk = sum((leaf.at_risk_usd for leaf in leaves), Decimal(0))
    return changed(
        state,
        spent_usd=state.spent_usd + spent,
        at_risk_usd=state.at_risk_usd + at_risk,
        leaves_usd=state.leaves_usd + spent + at_risk,
        leaves_tokens=state.leaves_tokens + sum(leaf.usage.all_tokens for leaf in leaves),
        permits=state.permits.delegated(leaves),
    )
