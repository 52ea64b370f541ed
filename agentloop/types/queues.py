"""A queue of sessions as a person sets it up, and one session in it."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Literal, NamedTuple

from pydantic import Field

from agentloop.types.base import Settings

DEFAULT = "default"
"""The queue of a job that names none."""

Standing = Literal["queued", "delayed", "running", "done", "cancelled", "held"]
"""`done`: the run has an outcome, whichever. `held`: it ended its process again and again, and is not tried any more."""


class QueueSettings(Settings):
    """What a queue lets run at once. It holds for all workers: each reads it from the database as it goes."""

    concurrency: int | None = Field(default=None, ge=1)
    """Sessions of this queue at once, on all machines together; none: as many as the workers take."""
    per_worker: int = Field(default=4, ge=1)
    """Sessions at once in one worker process."""
    per_agent: int | None = Field(default=None, ge=1)
    """Sessions of one agent at once, on all machines together."""
    starts_per_minute: int | None = Field(default=None, ge=1)
    """Sessions started in any minute, on all machines together."""
    agent_starts_per_minute: int | None = Field(default=None, ge=1)
    """The same, for each agent by itself."""
    poll_s: float = Field(default=0.5, gt=0, le=60, allow_inf_nan=False)
    """Seconds between two looks for work."""
    held_after: int = Field(default=3, ge=1)
    """A session whose process died so often in a row without a step forward is held. The last time it runs in a process of
    its own, so that it is known to be the cause; with 1, every session does."""


class Submitted(NamedTuple):
    """What became of a wish to run a session."""

    session_id: str
    run: str
    """Which run of it: the session's id; `id#2` when it was queued again."""
    new: bool
    """False where it was there already: nothing was queued twice."""


class Ran(NamedTuple):
    """What came of running a session in a worker."""

    outcome: str
    """The session's; or `try_later`, where another process holds it or its store does not answer."""
    detail: str = ""
    cost_usd: Decimal | None = None
    until: datetime | None = None
    """When it wants to be taken up again."""


Stopped = Callable[[], str | None]
"""Who wants a session to stop between two of its steps, if anybody; asked by the one who runs it."""


class Queued(NamedTuple):
    """One run of a session, waiting or past."""

    session_id: str
    run: str
    queue: str | None
    agent: str
    standing: Standing
    priority: int
    created_at: datetime
    not_before: datetime | None
    worker: str | None
    """The worker that has it, or had it last."""
    started_at: datetime | None
    """When a worker took it, to the second."""
    crashes: int
    """How often its process died in a row without a step forward."""
    outcome: str | None
    """The session's, where it is done."""
    cost_usd: Decimal | None
    detail: str


class QueueState(NamedTuple):
    """A queue as the workers see it."""

    name: str
    paused: bool
    concurrency: int | None
    per_worker: int | None
    per_agent: int | None
    starts_per_minute: int | None
    agent_starts_per_minute: int | None
    queued: int
    running: int


def run_id(session_id: str, part: int) -> str:
    """The name of the nth run of a session, from 1. Sessions' ids hold no '#'."""
    return session_id if part == 1 else f"{session_id}#{part}"


def session_of(run: str) -> tuple[str, int]:
    """The session that a run belongs to, and which of its runs it is. Raises ValueError for what is no run's name."""
    session_id, mark, part = run.partition("#")
    return session_id, int(part) if mark else 1
