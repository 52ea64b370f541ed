"""Leaves: what an agent's file says of them, where one belongs, and what is recorded of one that has ended."""

import re
from decimal import Decimal
from typing import Literal

from pydantic import Field

from agentloop.types.base import Frozen, Settings
from agentloop.types.usage import Usage

DELEGATE = "delegate"
"""The tool by which the model hands tasks to leaves."""
KIND = re.compile(r"[a-z][a-z0-9_-]{0,39}")
"""The name of a kind of step."""
Mode = Literal["live", "batch"]
"""How leaves ask: at once, or together with those that wait as well, in batches at half price."""
NOT_RUN = "not_run"
"""What stands for the outcome of a leaf that could not be run."""


class LeafSettings(Settings):
    """What an agent's file says of the leaves of one kind."""

    model: str | None = None
    """None: as the routing says; where that says nothing, the agent's own."""
    fallback_model: tuple[str, ...] | None = None
    """Who takes over where the model is not available, or refuses. None: as the routing says; where that says nothing, as the
    agent's own; nobody, where `model` is set."""
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    mode: Mode | None = None
    """None: that of all leaves."""
    tools: tuple[str, ...] | None = None
    """Of the agent's tools. None: those that only read, for kinds that look things up; none for the others."""
    max_turns: int = Field(default=12, ge=1)
    max_budget_usd: Decimal | None = Field(default=None, ge=0, allow_inf_nan=False)
    """None: an even part of what the agent has left."""
    max_wall_s: float = Field(default=900.0, gt=0, allow_inf_nan=False)
    """Seconds. Of a leaf that asks in batches, from when those have to be back."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Output tokens of one reply. None: as the routing says; where that says nothing, 16,000."""
    prompt: str | None = None
    """A file with the system prompt, relative to the agent's."""
    system: str | None = None
    """The system prompt itself."""


class LeavesSettings(Settings):
    """What an agent's file says of all of its leaves."""

    parallel: int = Field(default=4, ge=1, le=16)
    """So many run at once, or ask live at once."""
    mode: Mode = "live"
    deadline_s: float = Field(default=3600.0, gt=0, le=43_200, allow_inf_nan=False)
    """Seconds from the call on that batches may take; what they have not answered by then is asked live. Most batches end
    within an hour (https://platform.claude.com/docs/en/build-with-claude/batch-processing)."""
    kinds: dict[str, LeafSettings] = Field(default_factory=dict)


class LeafOf(Frozen):
    """Whose leaf a session is, and what it has to know of that one."""

    session_id: str
    call_id: str
    number: int
    """Which task of the call, counted from 1."""
    kind: str
    mode: Mode = "live"
    strangers: str = ""
    """The tool by which the session that delegates was given what strangers wrote."""
    denied: dict[str, str] = Field(default_factory=dict)
    """What a person has denied to that session, by tool and values: it is denied here too."""


class LeafUse(Frozen):
    """What a leaf used up of a grant."""

    calls: int
    total: Decimal = Decimal(0)


class LeafRun(Frozen):
    """One leaf that has ended, as the session that delegated counts it."""

    session_id: str
    kind: str
    model: str
    outcome: str
    """An outcome of a session; `not_run` where there was none."""
    detail: str = ""
    turns: int = 0
    batched: int = 0
    """Replies that came out of batches, at half price."""
    usage: Usage = Usage()
    spent_usd: Decimal = Decimal(0)
    at_risk_usd: Decimal = Decimal(0)
    """The most that attempts without known usage may have cost besides."""
    used: dict[str, LeafUse] = Field(default_factory=dict)
    """By tool, what was used up of what is granted."""
    strangers: str = ""
    """The first tool by which it was given what strangers wrote."""

    @property
    def charged_usd(self) -> Decimal:
        """What was spent, and may have been spent besides."""
        return self.spent_usd + self.at_risk_usd
