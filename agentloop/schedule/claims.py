"""From a claimed due time to the outcome of its run: who has it, what its end means, when it is tried again.

A process that runs sessions holds a lock which dies with it. A run whose process is dead is carried on by the next one that
looks; one whose process died again and again without a step forward is held.
"""

import os
import secrets
import socket
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from agentloop.adapters.worker_locks import locks
from agentloop.core.crashes import Crashes
from agentloop.crash_points import reached
from agentloop.database import transaction
from agentloop.schedule.due import Status
from agentloop.schedule.spec import Schedule
from agentloop.schedule.store import Row, Store, paused
from agentloop.schedule.tables import DUE_TIMES, SCHEDULES
from agentloop.types.jobs import Job

HELD_AFTER = 3
"""A run whose process died so often in a row without a step forward is held."""
TRIES = 6
"""Of a run whose provider is unavailable: 5 minutes, 10, 20, 40 and 60 after one another."""
RETRY_S = 300
ELSEWHERE_S = 30
"""Seconds until a session that somebody else holds, or that a signal ended, is taken up again."""
_AT_ONCE = frozenset({"spend_limit", "unauthorized"})
"""Outcomes that every later run would have too: the schedule is paused after the first."""
_OVER = ("done", "held")
_D, _S = DUE_TIMES.c, SCHEDULES.c


class Ended(NamedTuple):
    """What came of a run."""

    outcome: str
    """The session's, or `error` where it never got so far."""
    exit_code: int
    detail: str = ""
    cost_usd: Decimal | None = None
    until: datetime | None = None
    """When a sleeping session is to be taken up again."""


class Seen(NamedTuple):
    """What a session's log says: nothing at all where there is none."""

    progress: int = 0
    """Steps behind it, see `agentloop.core.crashes`."""
    ended: Ended | None = None


Look = Callable[[str], Seen]


class Claims:
    """The runs that this process has, and those it may take."""

    def __init__(self, store: Store, look: Look, queued: Look | None = None) -> None:
        """`look` reads a session's log; `queued` asks the queue, where there is one."""
        self._store, self._look, self._queued = store, look, queued or look
        self.me = f"{socket.gethostname()[:60]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._locks = locks(store.url)
        if not self._locks.hold(self.me):
            raise AssertionError(f"the new name {self.me} is taken")

    def safe(self) -> bool:
        """Whether what this process runs is still its own: with PostgreSQL, a connection that broke may have lost it."""
        return self._locks.holds()

    def close(self) -> None:
        """Let everything go: others may carry on what is still running."""
        self._locks.close()

    def begin(self, row: Row, schedule: Schedule | None, now: datetime) -> Job | None:
        """Take this run, if nobody has it. None: somebody has, or it is not to be run any more."""
        here = sa.and_(_D.name == row.name, _D.due == row.due)
        with transaction(self._store.database) as c:
            found = c.execute(sa.select(DUE_TIMES).where(here).with_for_update()).one()
            crashes = Crashes(found.progress, found.crashes)
            if found.status == "running":
                if not self._gone(found.owner):
                    return None
                crashes = crashes.after(self._look(found.session_id).progress)
                if crashes.times >= HELD_AFTER:
                    c.execute(sa.update(DUE_TIMES).where(here).values(ended_at=now, **_held(found.session_id, crashes)))
                    _counted(c, row, Ended("held", 75, "its process died"), schedule, now)
                    return None
            elif found.status != "claimed" or _no_room(c, row, schedule):
                return None
            values: dict[str, Any] = {"status": "running", "owner": self.me, "tries": found.tries + 1, "not_before": None}
            values |= {"crashes": crashes.times, "progress": crashes.progress, "started_at": found.started_at or now}
            c.execute(sa.update(DUE_TIMES).where(here).values(**values))
        reached("schedule.begun")
        return Job.model_validate_json(found.job)

    def _gone(self, owner: str) -> bool:
        """Whether that process is dead. Of our own runs only those are asked for that no thread has."""
        if owner == self.me:
            return True
        with self._locks.of_the_dead(owner) as dead:
            return dead

    def submitted(self, row: Row) -> None:
        """The queue has it now."""
        self._update(row, self._mine, {"status": "submitted", "owner": None})

    def settle(self, row: Row, ended: Ended, schedule: Schedule | None, now: datetime) -> str:
        """Write down what came of a run, unless somebody else did or has it. The reason why its schedule is paused from now
        on; empty where it is not."""
        status, not_before = _standing(ended, self._store.row(row.name, row.due).tries, now)
        reached("schedule.ended")
        values = {"status": status, "outcome": ended.outcome, "exit_code": ended.exit_code, "owner": None}
        values |= {"not_before": not_before, "ended_at": now if status in _OVER else None}
        values |= {} if ended.outcome == "elsewhere" else {"crashes": 0}
        values |= {"cost_usd": None if ended.cost_usd is None else str(ended.cost_usd)}
        if ended.detail or ended.outcome != "completed":
            values["reason"] = ended.detail[:1_000]
        unchanged = _D.status == row.status if row.status in _STILL else self._mine
        with transaction(self._store.database) as c:
            here = sa.and_(_D.name == row.name, _D.due == row.due, unchanged)
            written = c.execute(sa.update(DUE_TIMES).where(here).values(**values)).rowcount
            why = _counted(c, row, ended, schedule, now) if written and status in _OVER else ""
        reached("schedule.settled")
        return why

    def let_go(self, row: Row, why: str) -> None:
        """Give a run back: the next one that looks carries it on, and it is no crash."""
        self._update(row, self._mine, {"status": "claimed", "owner": None, "reason": why})

    def follow(self, row: Row, schedule: Schedule | None, now: datetime) -> Row:
        """Look what became of a run that is the queue's, or of a session that waits for a person."""
        look = self._queued if row.status == "submitted" else self._look
        ended = look(row.session_id).ended
        if row.status == "parked" and ended is None:
            self._update(row, _D.status == "parked", {"status": "claimed", "reason": "answered"})
        elif ended is not None and ended.outcome not in _STILL[row.status]:
            self.settle(row, ended, schedule, now)
        return self._store.row(row.name, row.due)

    @property
    def _mine(self) -> sa.ColumnElement[bool]:
        """A run that this process has lost is another's: nothing is written about it."""
        return sa.and_(_D.status == "running", _D.owner == self.me)

    def _update(self, row: Row, unchanged: sa.ColumnElement[bool], values: dict[str, Any]) -> None:
        with transaction(self._store.database) as c:
            c.execute(sa.update(DUE_TIMES).where(_D.name == row.name, _D.due == row.due, unchanged).values(**values))


_STILL: Mapping[str, frozenset[str]] = {
    "submitted": frozenset({"sleeping", "interrupted", "provider_unavailable"}),  # the queue takes these up again by itself
    "parked": frozenset({"waiting_for_approval"}),
}
"""Outcomes in a log that are not the end of it."""


def _no_room(c: sa.Connection, row: Row, schedule: Schedule | None) -> bool:
    """Whether as many others run as may: one that a person answered comes back in the midst of a later one."""
    going = sa.and_(_D.name == row.name, _D.due != row.due, _D.status.in_(("running", "submitted")))
    others = c.execute(sa.select(sa.func.count()).where(going)).scalar_one()
    return others >= (schedule.side_by_side if schedule is not None else 1)


def _standing(ended: Ended, tries: int, now: datetime) -> tuple[Status, datetime | None]:
    match ended.outcome:
        case "held":
            return "held", None
        case "interrupted" | "elsewhere":
            return "claimed", now + timedelta(seconds=ELSEWHERE_S)
        case "sleeping":
            return "claimed", ended.until or now + timedelta(seconds=RETRY_S)
        case "waiting_for_approval":
            return "parked", None
        case "provider_unavailable" if tries < TRIES:
            return "claimed", now + timedelta(seconds=min(3_600, RETRY_S * 2 ** max(0, tries - 1)))
        case _:
            return "done", None


def _held(session_id: str, crashes: Crashes) -> dict[str, Any]:
    reason = (
        f"held: the process died {crashes.times} times in a row at the same step ({crashes.progress} steps done); "
        f"look with 'agentloop sessions show {session_id}', go on by hand with 'agentloop resume {session_id}'"
    )
    return {"status": "held", "reason": reason, "crashes": crashes.times, "owner": None}


def _counted(c: sa.Connection, row: Row, ended: Ended, schedule: Schedule | None, now: datetime) -> str:
    """Count failures in a row, and pause the schedule that has had enough of them."""
    known = c.execute(sa.select(SCHEDULES).where(_S.name == row.name).with_for_update()).first()
    if known is None:
        return ""
    failures = 0 if ended.outcome == "completed" else known.failures + 1
    c.execute(sa.update(SCHEDULES).where(_S.name == row.name).values(failures=failures))
    limit = schedule.pause_after if schedule is not None else None
    if limit is None or not failures or (failures < limit and ended.outcome not in _AT_ONCE) or known.paused:
        return ""
    why = _why_paused(row, ended, failures)
    paused(c, row.name, why, now)
    return why


def _why_paused(row: Row, ended: Ended, failures: int) -> str:
    what = f"{failures} runs in a row did not complete" if failures > 1 else "the run did not complete"
    last = f"{ended.outcome}: {ended.detail}" if ended.detail else ended.outcome
    return f"{what}, the last with {last[:300]}; go on with 'agentloop cron resume {row.name}'"
