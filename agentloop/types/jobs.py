"""A session that is to run by itself: who put it there, and what it may do and spend."""

from datetime import datetime
from decimal import Decimal

from pydantic import Field

from agentloop.types.base import Frozen

LOWEST_PRIORITY = 2**31 - 1


class Job(Frozen):
    """One run that is to happen exactly once. Its session's id is the claim: whoever starts it twice carries it on."""

    session_id: str
    """Of a wave: what it is called; its sessions are `session_id-00001` and so on."""
    agent: str
    """The agent's name in the workspace, or its prompt file."""
    prompt: str
    """The task: the first user message. Of a wave, the template that makes one of each row."""
    inputs: str | None = None
    """The file, as the workspace names it, for each of whose rows there is one session of a wave; None: a single session."""
    deadline: datetime | None = None
    """From when on a wave asks everything live, UTC; None: never."""
    name: str
    """What it belongs to: the schedule's name, or the agent's. Budgets per job and per day are kept under it."""
    due: datetime | None = None
    """When it should have started, UTC; None: at once."""
    priority: int = Field(default=0, ge=0, le=LOWEST_PRIORITY)
    """A smaller number is taken first."""
    max_budget_usd: Decimal | None = None
    """For this run, all sessions of a wave together; None: as the agent's file says."""
    max_day_usd: Decimal | None = None
    """For all runs of its name in a day; None: as the settings say."""
