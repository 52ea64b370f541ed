"""Usage times prices: the lines of a bill, exact to the last digit."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from agentloop.types.usage import ModelCard, Prices, Tokens, Usage

MILLION = Decimal(1_000_000)
BATCH = Decimal("0.5")
"""What every price of tokens is multiplied by in a batch. https://platform.claude.com/docs/en/about-claude/pricing"""
WEB_SEARCH_USD = Decimal("0.01")
NO_OTHERS: Mapping[str, ModelCard] = {}

_BILLED_REFUSALS = frozenset({"bio", "frontier_llm", "reasoning_extraction"})
_REFUSALS_BILLED_FROM = date(2026, 9, 24)


class Bill(NamedTuple):
    """USD by kind of token, and the fees that no token stands for."""

    fresh: Decimal = Decimal(0)
    read: Decimal = Decimal(0)
    written_5m: Decimal = Decimal(0)
    written_1h: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    """Web searches."""

    @property
    def total(self) -> Decimal:
        """USD in all."""
        return self.fresh + self.read + self.written_5m + self.written_1h + self.output + self.fees


def prices_for(card: ModelCard, prompt_tokens: int, speed: str | None = None) -> Prices:
    """The prices of a prompt of this length: a price step prices every token of the request, output too."""
    steps = card.fast_prices if speed == "fast" and card.fast_prices else card.prices
    for prices in steps:
        if prices.max_prompt_tokens is None or prompt_tokens <= prices.max_prompt_tokens:
            return prices
    return steps[-1]


def bill(usage: Usage, card: ModelCard, others: Mapping[str, ModelCard] = NO_OTHERS) -> Bill:
    """What a request cost. `others` are the cards of models that may have answered a part of it."""
    if usage.iterations:
        tokens = total(_of_tokens(t, others.get(t.model or "", card), usage.speed) for t in usage.iterations)
    else:
        tokens = _of_tokens(usage, card, usage.speed)
    factor = _factor(usage, card)
    if factor != 1:
        tokens = Bill(*(factor * kind for kind in tokens))
    return tokens._replace(fees=usage.web_search_requests * WEB_SEARCH_USD) if usage.web_search_requests else tokens


def _of_tokens(tokens: Tokens, card: ModelCard, speed: str | None) -> Bill:
    p = prices_for(card, tokens.prompt_tokens, speed)
    return Bill(
        fresh=tokens.input_tokens * p.input / MILLION,
        read=tokens.cache_read_input_tokens * p.cache_read / MILLION,
        written_5m=tokens.ephemeral_5m_input_tokens * p.cache_write_5m / MILLION,
        written_1h=tokens.ephemeral_1h_input_tokens * p.cache_write_1h / MILLION,
        output=tokens.output_tokens * p.output / MILLION,
    )


def _factor(usage: Usage, card: ModelCard) -> Decimal:
    """What the request's circumstances multiply every price of tokens by."""
    batch = BATCH if usage.service_tier == "batch" else Decimal(1)
    return batch * card.geo_multiplier if usage.inference_geo == "us" and card.geo_multiplier else batch


def cost(usage: Usage, card: ModelCard) -> Decimal:
    """What a request cost, in USD."""
    return bill(usage, card).total


def total(bills: Iterable[Bill]) -> Bill:
    """The sum of bills, kind by kind."""
    sums = [sum(kind, Decimal(0)) for kind in zip(*bills, strict=True)]
    return Bill(*sums) if sums else Bill()


def refusal_is_billed(category: str | None, output: Sequence[object], day: date) -> bool:
    """Whether a refused request is paid for: always where it broke off an answer, before one only for some categories.

    https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons
    """
    return bool(output) or (day >= _REFUSALS_BILLED_FROM and category in _BILLED_REFUSALS)


def longest_prompt(card: ModelCard, max_tokens: int) -> int:
    """Tokens of the longest prompt that crosses no step of the prices and leaves a reply of `max_tokens` its room."""
    room = card.context_window - min(max_tokens, card.max_output_tokens)
    steps = [p.max_prompt_tokens for p in card.prices if p.max_prompt_tokens is not None]
    return min([*steps, room if room > 0 else card.context_window])


def worst_case(card: ModelCard, prompt_tokens: int, max_tokens: int) -> Decimal:
    """The most that one request can cost: everything written anew, for an hour, and every output token used (USD)."""
    p = prices_for(card, prompt_tokens)
    return (prompt_tokens * max(p.cache_write_1h, p.input) + max_tokens * p.output) / MILLION
