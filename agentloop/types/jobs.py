"""A session that is to run by itself: who put it there, and what it may do and spend."""

from datetime import datetime
from decimal import Decimal

from pydantic import Field

from agentloop.types.base import Frozen

LOWEST_PRIORITY = 2**31 - 1


class Job(Frozen):
    """One run that is to happen exactly once. Its session's id is the claim: whoever starts it twice carries it on."""

    session_id: str
    agent: str
    """The agent's name in the workspace, or its prompt file."""
    prompt: str
    """The task: the first user message."""
    name: str
    """What it belongs to: the schedule's name, or the agent's. Budgets per job and per day are kept under it."""
    due: datetime | None = None
    """When it should have started, UTC; None: at once."""
    priority: int = Field(default=0, ge=0, le=LOWEST_PRIORITY)
    """A smaller number is taken first."""
    max_budget_usd: Decimal | None = None
    """For this run; None: as the agent's file says."""
    max_day_usd: Decimal | None = None
    """For all runs of its name in a day; None: as the settings say."""
