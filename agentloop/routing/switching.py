"""What it costs to give one step of a running session to another model: the cold cache is a part of the price.

The session's own model reads what stands in its cache; another one starts cold. Three ways are priced for one step: to stay,
to switch inside the session, and to delegate to a fresh, small context whose answer is handed back.
"""

from decimal import Decimal
from typing import NamedTuple

from agentloop.core import costs
from agentloop.types.usage import ModelCard, Prices

HANDED_BACK = 300
"""Tokens of a delegated step's answer that the session reads, unless said otherwise: a few sentences of facts."""
_ZERO = Decimal(0)


class Step(NamedTuple):
    """One step of a session, in tokens."""

    cached: int
    """Of the prompt that stands in the cache of the session's model."""
    new: int
    """Behind it."""
    output: int
    fresh_context: int
    """A delegated sub-task's whole prompt."""
    handed_back: int = HANDED_BACK


class Way(NamedTuple):
    """One way to do the step."""

    name: str
    usd: Decimal
    line: str
    """The arithmetic: tokens times USD per million tokens."""


class Switch(NamedTuple):
    """The ways, priced."""

    stay: Way
    inside: Way
    delegated: Way

    @property
    def cheapest(self) -> Way:
        """The cheapest; to stay where two cost the same."""
        return min((self.stay, self.inside, self.delegated), key=lambda way: way.usd)


def switch(step: Step, own: ModelCard, other: ModelCard) -> Switch:
    """What a step costs with the session's own model, with another inside the session, and delegated to that one.

    Each prompt is priced by its own length: one that crosses a model's price step pays the higher price for every token.
    """
    prompt = step.cached + step.new
    here = costs.prices_for(own, prompt)
    there, beside = costs.prices_for(other, prompt), costs.prices_for(other, step.fresh_context)
    stay = [(step.cached, here.cache_read), (step.new, here.cache_write_5m), (step.output, here.output)]
    inside = [(prompt, there.input), (step.output, there.output)]
    # handing back: the call that delegates and the facts that come of it are written to the session's cache
    delegated = [
        (step.fresh_context, beside.input),
        (step.output, beside.output),
        (step.handed_back, here.cache_write_5m),
    ]
    return Switch(
        stay=_way("stay", own, here, stay),
        inside=_way("switch inside the session", other, there, inside),
        delegated=_way("delegate", other, beside, delegated),
    )


def _way(name: str, card: ModelCard, prices: Prices, parts: list[tuple[int, Decimal]]) -> Way:
    usd = sum((tokens * price for tokens, price in parts), _ZERO) / costs.MILLION
    sums = " + ".join(f"{tokens:,} x {price.normalize():f}" for tokens, price in parts)
    beyond = prices != card.prices[0]
    told = f" (beyond the price step of {card.id} at {card.prices[0].max_prompt_tokens:,} tokens)" if beyond else ""
    return Way(name, usd, f"{name} with {card.id}: {sums} USD per million = {usd.normalize():f} USD{told}")
