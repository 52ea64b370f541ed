"""A scheduler whose sessions are played: what they come to is said beforehand, and each run is counted."""

import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from agentloop.errors import EXIT_CODES
from agentloop.schedule.claims import Claims, Ended, Seen
from agentloop.schedule.scheduler import News, Scheduler
from agentloop.schedule.sources import Loaded
from agentloop.schedule.spec import Schedule
from agentloop.schedule.store import Row, Store
from agentloop.testing import FixedClock
from agentloop.types.jobs import Job

SIX = datetime(2026, 11, 22, 6, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


class Died(BaseException):
    """The process ends here."""


class Sessions:
    """The sessions that all schedulers of a test share: one that completed is not run again."""

    def __init__(self) -> None:
        self.completed: Counter[str] = Counter()
        self.started: Counter[str] = Counter()
        self.progress: dict[str, int] = {}
        self.ended: dict[str, Ended] = {}
        self.play: Callable[[Job], Ended | None] = lambda job: ended("completed")
        self._lock = threading.Lock()

    def run(self, job: Job) -> Ended | None:
        """A run of one, as the engine would: a completed session stays as it is."""
        with self._lock:
            self.started[job.session_id] += 1
            if self.completed[job.session_id]:
                return ended("completed")
        found = self.play(job)
        if found is not None and found.outcome == "completed":
            with self._lock:
                self.completed[job.session_id] += 1
        return found

    def look(self, session_id: str) -> Seen:
        """What its log says."""
        return Seen(self.progress.get(session_id, 0), self.ended.get(session_id))


def ended(outcome: str, detail: str = "", until: datetime | None = None) -> Ended:
    return Ended(outcome, EXIT_CODES.get(outcome, 1), detail, until=until)


def hourly(**settings: Any) -> Schedule:
    return Schedule.model_validate({"name": "atlas", "agent": "atlas", "cron": "0 * * * *", **settings})


class World:
    """A database, a clock, schedules that stand somewhere, and one process after another."""

    def __init__(self, url: str, *schedules: Schedule) -> None:
        self.url = url
        self.clock = FixedClock(SIX - HOUR / 2)
        self.schedules = list(schedules)
        self.errors: tuple[str, ...] = ()
        self.sessions = Sessions()
        self.news: list[News] = []
        self.store = Store(url)
        self.store.sync(self.schedules, self.clock.at)
        self._claims: list[Claims] = []

    def process(self, **options: Any) -> Scheduler:
        """A new process that may schedule."""
        store = Store(self.url)
        claims = Claims(store, self.sessions.look)
        self._claims.append(claims)
        return Scheduler(store, claims, self.load, self.sessions.run, self.clock, tell=self.news.append, **options)

    def die(self) -> None:
        """Every process is gone: their locks are free."""
        while self._claims:
            self._claims.pop().close()

    def load(self) -> Loaded:
        """The schedules as they are now."""
        return Loaded(tuple(self.schedules), self.errors)

    def at(self, moment: datetime) -> list[Row]:
        """One `tick` of a process of its own at this moment."""
        self.clock.at = moment
        rows = self.process().tick()
        self.die()
        return rows

    def statuses(self) -> dict[int, str]:
        """How each due time stands, by its hour."""
        return {row.due.hour: row.status for row in reversed(self.store.history())}

    def reasons(self) -> list[str]:
        """Why each due time stands so, the oldest first."""
        return [row.reason for row in reversed(self.store.history())]

    def told(self, kind: str) -> list[str]:
        """What an operator was told."""
        return [n.text for n in self.news if n.kind == kind]
