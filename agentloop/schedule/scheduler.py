"""Decides what is due, claims it, has it run: once (`tick`), or for as long as the process lives (`serve`)."""

import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from agentloop.errors import AgentLoopError
from agentloop.ports import Clock
from agentloop.schedule.claims import Claims
from agentloop.schedule.due import next_start
from agentloop.schedule.runners import Runner, attempt
from agentloop.schedule.sources import Loaded
from agentloop.schedule.spec import Schedule
from agentloop.schedule.store import Row, Store
from agentloop.types.jobs import Job

LOOK_S = 5.0
"""Seconds after which `serve` looks again, due or not: schedules may have changed, clocks may have been set."""
AT_MOST = 4
"""Runs side by side in one process."""
Key = tuple[str, datetime]


class News(NamedTuple):
    """Something an operator may want to know at once."""

    kind: str
    """`skipped`, `started`, `ended`, `held`, `paused`, `unreadable`, `database`."""
    text: str
    row: Row | None = None


class LostClaims(AgentLoopError):
    """This process can no longer say that what it runs is its own."""

    exit_code = 75


class Scheduler:
    """One process that starts what is due. Any number of them may share a store."""

    def __init__(
        self, store: Store, claims: Claims, load: Callable[[], Loaded], runner: Runner, clock: Clock,
        *, at_most: int = AT_MOST, tell: Callable[[News], None] = lambda news: None, stopping: threading.Event | None = None,
        redact: Callable[[str], str] = lambda text: text,
    ) -> None:  # fmt: skip
        """`load` gives the schedules as they are now; `tell` is told what happens, from several threads; `redact` takes out
        what must be kept nowhere."""
        self._store, self._claims, self._load, self._runner, self._clock = store, claims, load, runner, clock
        self._at_most, self._tell, self._redact = at_most, tell, redact
        self._schedules: dict[str, Schedule] = {}
        self._errors: tuple[str, ...] = ()
        self._running: dict[Key, Row] = {}
        self._touched: set[Key] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self.stopping = stopping or threading.Event()
        """Once it is set, nothing more is started."""

    @property
    def running(self) -> int:
        """Runs under way in this process."""
        with self._lock:
            return len(self._running)

    def stop(self) -> None:
        """Come to an end. May be called from a signal handler, and from any thread."""
        self.stopping.set()
        self._wake.set()

    def tick(self, stop_within_s: float = 30.0) -> list[Row]:
        """Run what is due now, and what waits behind it, to its end. The due times that this concerned."""
        at = self._clock.now()
        self._touched.clear()
        tried: set[Key] = set()
        while not self.stopping.is_set():
            idle = not self.running  # before looking: what ends while we look may let something start
            self._decide(at)
            self._follow()
            tried |= self._start(without=tried)
            if self.running:
                self._wait(LOOK_S)
            elif idle:
                break
        self._finish(stop_within_s)
        return [self._store.row(*key) for key in sorted(self._touched)]

    def run_one(self, row: Row, stop_within_s: float = 30.0) -> Row:
        """Run this one to its end, whatever else is due."""
        self._schedules = {s.name: s for s in self._load().schedules}
        self._start(only=(row.name, row.due))
        while self.running and not self.stopping.is_set():
            self._wait(LOOK_S)
        self._finish(stop_within_s)
        return self._store.row(row.name, row.due)

    def serve(self, beat: Callable[[datetime], None] = lambda now: None, stop_within_s: float = 30.0) -> None:
        """Run what is due whenever it is, until `stop`. `beat` is called each time round. Raises LostClaims."""
        while not self.stopping.is_set():
            now = self._clock.now()
            try:
                beat(now)
                if not self._claims.safe():
                    self.stop()
                    self._finish(stop_within_s)
                    raise LostClaims("the database let go of this scheduler's lock; start it again")
                self._decide(now)
                self._follow()
                self._start()
                self._wait(self._pause(now))
            except sa.exc.DBAPIError as e:
                self._tell(News("database", f"the database cannot be used: {str(e.orig).partition(chr(10))[0]}"))
                self._wait(LOOK_S)
        self._finish(stop_within_s)

    # one round

    def _decide(self, now: datetime) -> None:
        loaded = self._load()
        for error in loaded.errors:
            if error not in self._errors:
                self._tell(News("unreadable", error))
        self._errors = loaded.errors
        left = self._schedules if loaded.errors else {}  # a file that cannot be read now is as it was
        self._schedules = {**left, **{s.name: s for s in loaded.schedules}}
        at = self._clock.now()  # a tick that takes long decides as of its beginning: what has changed since is no older
        self._store.sync(loaded.schedules, at, complete=not loaded.errors)
        for schedule in loaded.schedules:
            for row in self._store.decide(schedule, now):
                self._touched.add((row.name, row.due))
                if row.status == "skipped":
                    self._tell(News("skipped", f"{_named(row)} skipped: {row.reason}", row))

    def _follow(self) -> None:
        for row in self._store.rows(("submitted", "parked")):
            after = self._claims.follow(row, self._schedules.get(row.name), self._clock.now())
            if after.status in ("done", "held"):
                self._tell(News("ended", f"{_named(row)} ended: {after.outcome}", after))

    def _start(self, without: Iterable[Key] = (), only: Key | None = None) -> set[Key]:
        """Take what may run, as far as there is room. Which were looked at."""
        left, looked = set(without), set()
        for row in self._store.rows(("claimed", "running"), self._clock.now()):
            key = (row.name, row.due)
            if key in left or key in self._running or (only is not None and key != only):
                continue
            if self.running >= self._at_most or self.stopping.is_set():
                break
            looked.add(key)
            job = self._claims.begin(row, self._schedules.get(row.name), self._clock.now())
            if job is not None:
                self._launch(row, job)
            elif (held := self._store.row(*key)).status == "held":
                self._touched.add(key)
                self._tell(News("held", f"{_named(row)} {held.reason}", held))
        return looked

    def _launch(self, row: Row, job: Job) -> None:
        key = (row.name, row.due)
        self._touched.add(key)
        with self._lock:
            self._running[key] = row
        self._tell(News("started", f"{_named(row)} started: {row.session_id}", row))
        threading.Thread(target=self._run, args=(row, job), name=job.session_id, daemon=True).start()

    def _run(self, row: Row, job: Job) -> None:
        """One run, in a thread of its own."""
        ended = attempt(self._runner, job)
        try:
            if ended is None:
                self._claims.submitted(row)
                return
            ended = ended._replace(detail=self._redact(ended.detail))
            paused = self._claims.settle(row, ended, self._schedules.get(row.name), self._clock.now())
            after = self._store.row(row.name, row.due)
            detail = f" ({ended.detail})" if ended.detail else ""
            self._tell(News("ended", f"{_named(row)} ended: {ended.outcome}{detail}", after))
            if paused:
                self._tell(News("paused", f"schedule '{row.name}' is paused: {paused}", after))
        except sa.exc.DBAPIError as e:  # the run is over; its row is settled when the database is back
            self._tell(News("database", f"{_named(row)} ended, which could not be written: {type(e).__name__}", row))
        finally:
            with self._lock:
                del self._running[row.name, row.due]
            self._wake.set()

    def _pause(self, now: datetime) -> float:
        """Seconds until something is due that was not at `now`, and no more than until the next look."""
        coming = [start for s in self._schedules.values() if (start := next_start(s, now)) is not None]
        if (retry := self._store.next_retry()) is not None:
            coming.append(retry)
        present = self._clock.now()  # later than `now` by what the look took
        return max(0.05, min([LOOK_S, *((at - present).total_seconds() for at in coming if at > now)]))

    def _wait(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    def _finish(self, within_s: float) -> None:
        """Let what runs come to an end; what does not is left to whoever looks next."""
        deadline = self._clock.monotonic() + within_s
        while self.running and self._clock.monotonic() < deadline:
            self._wait(min(0.2, within_s))
        with self._lock:
            left = list(self._running.values())
        try:
            for row in left:
                self._claims.let_go(row, "the scheduler was stopped while it ran; it is carried on")
        except sa.exc.DBAPIError as e:  # this process ends, and what it had is carried on all the same
            self._tell(News("database", f"what still runs could not be given back: {type(e).__name__}"))


def _named(row: Row) -> str:
    return f"{row.name}, due {row.due:%Y-%m-%d %H:%M} UTC,"
