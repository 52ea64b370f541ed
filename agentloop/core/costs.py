"""Usage times prices: the lines of a bill, exact to the last digit."""

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from agentloop.types.usage import ModelCard, Prices, Usage

MILLION = Decimal(1_000_000)


class Bill(NamedTuple):
    """USD by kind of token."""

    fresh: Decimal = Decimal(0)
    read: Decimal = Decimal(0)
    written_5m: Decimal = Decimal(0)
    written_1h: Decimal = Decimal(0)
    output: Decimal = Decimal(0)

    @property
    def total(self) -> Decimal:
        """USD in all."""
        return self.fresh + self.read + self.written_5m + self.written_1h + self.output


def prices_for(card: ModelCard, prompt_tokens: int) -> Prices:
    """The prices of a prompt of this length: a price step prices every token of the request, output too."""
    for prices in card.prices:
        if prices.max_prompt_tokens is None or prompt_tokens <= prices.max_prompt_tokens:
            return prices
    return card.prices[-1]


def bill(usage: Usage, card: ModelCard) -> Bill:
    """What a request cost."""
    p = prices_for(card, usage.prompt_tokens)
    return Bill(
        fresh=usage.input_tokens * p.input / MILLION,
        read=usage.cache_read_input_tokens * p.cache_read / MILLION,
        written_5m=usage.ephemeral_5m_input_tokens * p.cache_write_5m / MILLION,
        written_1h=usage.ephemeral_1h_input_tokens * p.cache_write_1h / MILLION,
        output=usage.output_tokens * p.output / MILLION,
    )


def cost(usage: Usage, card: ModelCard) -> Decimal:
    """What a request cost, in USD."""
    return bill(usage, card).total


def total(bills: Iterable[Bill]) -> Bill:
    """The sum of bills, kind by kind."""
    sums = [sum(kind, Decimal(0)) for kind in zip(*bills, strict=True)]
    return Bill(*sums) if sums else Bill()


def worst_case(card: ModelCard, prompt_tokens: int, max_tokens: int) -> Decimal:
    """The most that one request can cost: everything written anew, for an hour, and every output token used (USD)."""
    p = prices_for(card, prompt_tokens)
    return (prompt_tokens * max(p.cache_write_1h, p.input) + max_tokens * p.output) / MILLION
