"""What one past session would cost today: played again, offline, with what recorded usage says of its tokens."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from agentloop.core import costs, tokens
from agentloop.core.calibration import Calibration
from agentloop.plan.past import Besides, Past
from agentloop.plan.sizes import Sizes
from agentloop.policies import ModelLedger, PolicySettings, Whole, preset
from agentloop.types.blocks import Blocks
from agentloop.types.events import SessionStarted
from agentloop.types.usage import ModelCard, Usage
from agentloop.whatif import driver


class Costs(NamedTuple):
    """Of one session, in USD."""

    turns: int
    run: Decimal
    never: Decimal
    naive: Decimal
    fits: bool
    """Whether it comes to its end without a cut."""


def costs_of(
    past: Past, start: SessionStarted, policies: PolicySettings, learned: Calibration, others: Mapping[str, ModelCard]
) -> Costs:
    """A past session under this first line and these policies; uncut; and in the plain loop."""
    start, card = _unlimited(start), start.card
    run = _usages(past, start, policies, learned)
    never = _usages(past, start, preset("never").model_copy(update={"facts": Whole()}), learned)
    naive = [_uncached(u) for u in never]
    besides = sum((_again(b, policies, card, others) for b in past.besides), Decimal(0))
    return Costs(len(run), _sum(run, card) + besides, _sum(never, card), _sum(naive, card), fits=len(never) == len(run))


def _unlimited(start: SessionStarted) -> SessionStarted:
    """Without the limits of money and time, which would end a past session in a place of its own; without models that are
    asked about results, whose answers nobody knows."""
    limits = start.limits.model_copy(update={"max_budget_usd": None, "max_wall_s": None})
    tools = tuple(t.model_copy(update={"facts_card": None}) for t in start.tools)
    return start.model_copy(update={"limits": limits, "tools": tools})


def _usages(past: Past, start: SessionStarted, policies: PolicySettings, learned: Calibration) -> list[Usage]:
    """The usage of each turn, as it will probably be."""
    played = driver.play(past.recording, start.card, policies.policies(), past.gaps_s or None, start=start)
    sizes = Sizes(start.prefix, start.card)
    return [
        _scaled(
            turn.usage, sizes.factor(turn.request.messages, learned), _output(output, step.reply, past, start.card), step.reply
        )
        for turn, step, output in zip(played.turns, past.recording.steps, past.output_tokens, strict=False)
    ]


def _output(recorded: int, reply: Blocks, past: Past, card: ModelCard) -> int:
    """Recorded output tokens, as this model's tokenizer would count them."""
    if card.tokenizer == past.tokenizer:
        return recorded
    before, now = (tokens.blocks_tokens(reply, family) for family in (past.tokenizer, card.tokenizer))
    return round(recorded * now / before) if before else recorded


def _uncached(usage: Usage) -> Usage:
    return Usage(
        input_tokens=usage.prompt_tokens, output_tokens=usage.output_tokens, web_search_requests=usage.web_search_requests
    )


def _searches(reply: Blocks) -> int:
    """Web searches that a reply paid for: those that failed cost nothing, and bring no list."""
    return sum(b.get("type") == "web_search_tool_result" and isinstance(b.get("content"), list) for b in reply)


def _scaled(usage: Usage, factor: float, output_tokens: int, reply: Blocks) -> Usage:
    return Usage(
        input_tokens=round(usage.input_tokens * factor),
        cache_read_input_tokens=round(usage.cache_read_input_tokens * factor),
        ephemeral_5m_input_tokens=round(usage.ephemeral_5m_input_tokens * factor),
        ephemeral_1h_input_tokens=round(usage.ephemeral_1h_input_tokens * factor),
        output_tokens=output_tokens,
        web_search_requests=_searches(reply),
    )


def _again(one: Besides, policies: PolicySettings, card: ModelCard, others: Mapping[str, ModelCard]) -> Decimal:
    """What else was asked costs the same tokens again; no session state where no model is asked for one any more."""
    if one.summary and not isinstance(policies.ledger, ModelLedger):
        return Decimal(0)
    return costs.cost(one.usage, card if one.card is None else others.get(one.card.id, one.card))


def _sum(usages: Sequence[Usage], card: ModelCard) -> Decimal:
    return sum((costs.cost(u, card) for u in usages), Decimal(0))
