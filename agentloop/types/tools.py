"""What a tool declares of itself, beyond the definition that the model sees."""

from typing import Literal

from pydantic import Field

from agentloop.types.base import Frozen
from agentloop.types.usage import ModelCard

Effect = Literal["read", "idempotent", "once"]
"""What running a tool call twice means: nothing, nothing if the key is the same, or a second effect in the world."""

FactsMode = Literal["facts", "see_once", "keep"]
"""How the model is shown a large result: as facts; whole in the next request and as facts ever after; whole."""


class FactsSettings(Frozen):
    """What a tool says about the facts of its large results."""

    fields: tuple[str, ...] = ()
    """JSON fields that matter, by name or by a path with dots; lists are passed through."""
    over_tokens: int | None = Field(default=None, ge=50)
    """A result of at most this many tokens is shown whole; None: as the session's policy says."""
    share: float | None = Field(default=None, gt=0, le=1)
    """What is shown of a larger one, at most."""
    keep_lines: tuple[str, ...] = ()
    """Words whose lines are always kept."""
    model: str | None = None
    """A cheap model that is asked for the facts; those made without one stand in where it fails."""
    ask: str = ""
    """What that model is told to look for, in a sentence."""
    see_once: bool = False
    """The next request carries a large result whole; from then on its facts take its place."""

    @property
    def mode(self) -> FactsMode:
        """How large results are shown, as these settings say."""
        return "see_once" if self.see_once else "facts"


class ToolCard(Frozen):
    """What a tool declared about itself, beyond the definition that the model sees."""

    name: str
    effect: Effect = "once"
    timeout_s: float = 60.0
    takes_s: float | None = None
    """How long a call takes, where that is known beforehand: the cache is kept warm meanwhile, if that pays."""
    facts: str = "facts"
    facts_settings: FactsSettings | None = None
    facts_card: ModelCard | None = None
    """The model that its `facts_settings` names."""
    outward: bool = False
    """It speaks to the world outside: mail, posts, payments."""
    untrusted: bool = False
    """Its results hold what strangers wrote."""
