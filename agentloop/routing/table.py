"""Which model takes a kind of step: a table that is data, and the one function that reads it.

One session speaks to one model: what is routed is a leaf, a sub-task, a batch, or a session before it starts. Kinds are
open: a kind that the table does not name takes the row `other`.
"""

from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Literal, NamedTuple

from pydantic import Field

from agentloop.core import costs
from agentloop.errors import ConfigError
from agentloop.types.base import Settings
from agentloop.types.usage import ModelCard

OTHER = "other"
"""The row of every kind that has none of its own."""
Effort = Literal["low", "medium", "high", "xhigh", "max"]
Verdict = Literal["demote", "promote", "dearer", "undecided"]
USUAL_OUTPUT_SHARE = Decimal("0.1")
"""Output tokens for each prompt token, where a route is priced before its answer is known: only to compare two models."""


class Evidence(Settings):
    """What the evals of a kind have shown when its row was last written."""

    verdict: Verdict
    candidate: str
    """The cheaper model."""
    against: str
    n: int = Field(ge=0)
    """Pairs of answers since the verdict before this one."""
    wins: int = Field(ge=0)
    """Pairs in which only the candidate was right."""
    losses: int = Field(ge=0)
    """Pairs in which only the other was."""
    delta: float = Field(gt=0, lt=1)
    """The margin: so much less often may the candidate be right."""
    wealth: float = Field(ge=0)
    """Of the test that demotes; 20 is 5 %."""
    worse_wealth: float = Field(ge=0)
    """Of the test that promotes."""
    day: date
    candidate_usd_per_solved: Decimal | None = None
    """None where nothing was solved."""
    against_usd_per_solved: Decimal | None = None
    candidate_effort: Effort | None = None
    against_effort: Effort | None = None
    """With which they were asked: a step that is given back goes back with it."""
    pairs: int = Field(default=0, ge=0)
    """Pairs in all, those before earlier verdicts too."""


class Row(Settings):
    """Who takes a kind of step, and why."""

    model: str
    effort: Effort | None = None
    """None: as the model does it unless told."""
    max_tokens: int = Field(default=16_000, ge=1)
    """Output tokens, thinking included."""
    reason: str = Field(min_length=1)
    fallback: tuple[str, ...] = ()
    """Who is asked where the model is not available, or refuses: in this order, and always on record."""
    beyond_step: str | None = None
    """Who takes prompts that cross a step of the model's prices, where that costs less."""
    evidence: Evidence | None = None


class Table(Settings):
    """Rows by kind of step."""

    about: str = ""
    steps: dict[str, Row]

    def row(self, kind: str) -> Row:
        """The row of a kind. Raises ConfigError where there is neither one nor a row for all others."""
        found = self.steps.get(kind) or self.steps.get(OTHER)
        if found is None:
            raise ConfigError(
                f"no route for steps of kind '{kind}': the table has {', '.join(sorted(self.steps)) or 'no rows'}\n"
                f"add [steps.{kind}] to routing.toml, or [steps.{OTHER}] for all kinds without a row"
            )
        return found


class Route(NamedTuple):
    """Who takes a step."""

    kind: str
    model: str
    effort: str | None
    max_tokens: int
    fallback: tuple[str, ...]
    reason: str


def route(kind: str, table: Table, models: Callable[[str], ModelCard], prompt_tokens: int = 0) -> Route:
    """Who takes a step of this kind, with a prompt of so many tokens. `models` finds a card and raises UnknownModel.

    Raises ConfigError where the table says nothing.
    """
    row = table.row(kind)
    card, reason = models(row.model), row.reason if kind in table.steps else f"no row of its own: {row.reason}"
    if (other := _beyond(row, card, models, prompt_tokens)) is not None:
        card, reason = other
    known = tuple(models(name).id for name in row.fallback)
    return Route(
        kind=kind,
        model=card.id,
        effort=row.effort if card.default_effort is not None else None,
        max_tokens=min(row.max_tokens, card.max_output_tokens),
        fallback=tuple(name for name in dict.fromkeys(known) if name != card.id),
        reason=reason,
    )


def _beyond(row: Row, card: ModelCard, models: Callable[[str], ModelCard], prompt_tokens: int) -> tuple[ModelCard, str] | None:
    """The model for a prompt beyond the price step, where it costs less there."""
    step = price_step(card)
    if row.beyond_step is None or step is None or prompt_tokens <= step:
        return None
    other = models(row.beyond_step)
    own, theirs = (_rough_usd(c, prompt_tokens) for c in (card, other))
    if theirs >= own:
        return None
    return other, (
        f"{prompt_tokens:,} tokens are beyond the price step of {card.id} at {step:,}: about {own:.4f} USD there, "
        f"{theirs:.4f} with {other.id}"
    )


def price_step(card: ModelCard) -> int | None:
    """The longest prompt at a model's lowest prices, in tokens; None where all lengths cost the same."""
    return card.prices[0].max_prompt_tokens if len(card.prices) > 1 else None


def _rough_usd(card: ModelCard, prompt_tokens: int) -> Decimal:
    prices = costs.prices_for(card, prompt_tokens)
    return prompt_tokens * (prices.input + USUAL_OUTPUT_SHARE * prices.output) / costs.MILLION


def unknown_models(table: Table, models: Mapping[str, object]) -> list[str]:
    """The models that a table names and a price table does not, sorted."""
    named = {n for r in table.steps.values() for n in (r.model, *r.fallback, *([r.beyond_step] if r.beyond_step else []))}
    return sorted(named - models.keys())
