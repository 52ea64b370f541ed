"""Another model takes over where the one that a session speaks to is not available, or refuses: the next of its chain.

The chain is frozen when the session starts, so nobody is asked whom nobody named. The new model begins with an empty cache
and without the thinking of the one before it (https://platform.claude.com/docs/en/build-with-claude/thinking). The session
stays with it: going back would write the cache once more.
"""

from decimal import Decimal

from agentloop.core import costs, measuring, results, wire
from agentloop.core.costs import MILLION
from agentloop.core.state import State, changed
from agentloop.types.events import Because, Fallback, FellBack
from agentloop.types.usage import ModelCard


def fallback(card: ModelCard, effort: str | None, max_tokens: int) -> Fallback:
    """A model that takes over, asked as the one before it as far as it takes that."""
    taken = effort if card.default_effort is not None else None
    return Fallback(card=card, effort=taken, max_tokens=min(max_tokens, card.max_output_tokens))


def following(state: State, because: Because, said: str) -> FellBack | None:
    """What is written when the next model of the chain takes over; None where nobody is left to ask."""
    if not state.fallback:
        return None
    to = state.fallback[0]
    after = _speaking_to(state, to)
    new = f"{after.prompt_tokens:,} tokens that it has not in its cache, {_written_usd(after):.4f} USD"
    return FellBack(
        to=to,
        because=because,
        detail=f"{said}; {to.card.id} takes over: {new}",
        prefix_digest=wire.prefix_digest(after.prefix),
    )


def fell_back(state: State, to: Fallback) -> State:
    """The session as it speaks to another model. Nothing of it is cached there, and what stopped the last one is gone."""
    refused = state.trouble is not None and state.trouble.kind == "refused"
    return changed(
        _speaking_to(state, to),
        fallback=state.fallback[1:],
        sent=state.sent._replace(lost=True) if state.sent is not None else None,
        failure=None,
        trouble=None if refused else state.trouble,
        refused=(),
        summary=None,
        rent_usd=Decimal(0),
    )


def _speaking_to(state: State, to: Fallback) -> State:
    """What was to be shown once is shown as facts: whether the new model may see it again without is not asked."""
    prefix = state.prefix.model_copy(update={"model": to.card.id, "effort": to.effort, "thinking": None})
    limits = state.limits.model_copy(update={"max_tokens": min(state.limits.max_tokens, to.max_tokens)})
    moved = changed(measuring.without_thinking(results.as_facts(state)), prefix=prefix, card=to.card, limits=limits)
    return measuring.measured(moved)


def _written_usd(state: State) -> Decimal:
    """What the prompt costs where none of it is in the cache, and it is written for five minutes."""
    prices = costs.prices_for(state.card, state.prompt_tokens)
    return state.prompt_tokens * max(prices.cache_write_5m, prices.input) / MILLION
