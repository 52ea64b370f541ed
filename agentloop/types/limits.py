"""Where a session stops, by itself and with others."""

from decimal import Decimal
from typing import NamedTuple

from agentloop.types.base import Frozen


class SharedLimits(NamedTuple):
    """USD, at most. None: no limit."""

    workspace_day: Decimal | None = None
    workspace_total: Decimal | None = None
    job_day: Decimal | None = None
    job_total: Decimal | None = None
    run: str = ""
    """What begins the ids of the sessions of one run: those of a wave."""
    run_total: Decimal | None = None
    """For all of them together."""


class Limits(Frozen):
    """Where a session stops. None: no limit."""

    max_turns: int | None = None
    max_budget_usd: Decimal | None = None
    max_wall_s: float | None = None
    max_tokens: int = 64_000
    """Output tokens of one reply, thinking included."""
    max_session_tokens: int | None = None
    """Tokens of all requests together, in and out, cached ones too."""
