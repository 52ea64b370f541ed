"""One simulated workspace: its schedules, those who look after them, what people do meanwhile; and what has to hold.

The program's own store, claims and scheduler run, in any number of processes, on a database in memory and a clock of their own.
Sessions, locks, threads and the queue are simulated.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple, NoReturn, cast
from unittest.mock import patch

import sqlalchemy as sa

from agentloop.crash_points import watching
from agentloop.queueing import SessionQueue
from agentloop.schedule import claims, runners, scheduler, tables
from agentloop.schedule.claims import Claims
from agentloop.schedule.scheduler import Scheduler
from agentloop.schedule.sources import Loaded
from agentloop.schedule.spec import Schedule
from agentloop.schedule.store import Row, Store
from tests.simulator.books import Books, Broken, Key, Timetable
from tests.simulator.books import Line as Written
from tests.simulator.chance import Chance, weighted
from tests.simulator.hosts import Host, Register
from tests.simulator.lives import Lives
from tests.simulator.people import People
from tests.simulator.plans import DAY_S, any_schedule, plan, some_change, some_start
from tests.simulator.tasks import Event, Process, Task, Tasks, Threading
from tests.simulator.waiting_line import Line
from tests.simulator.world import Killed

LOOK_S = 21_600.0
"""Between two looks when nothing happens. What happens is seen within `SOON_S`, so idle looks need not be played."""
SOON_S = 5.0
MOST_DRAINING = 8


class Ran(NamedTuple):
    """What came of a seed."""

    seed: int
    digest: str
    statuses: Counter[str]
    looks: int
    """Decisions that were held against the policy."""
    deaths: int


class Shelf(Store):
    """A store whose every transaction is checked."""

    def __init__(self, simulation: "Simulation") -> None:
        self.url, self.database = "sqlite://", _database()
        self._simulation = simulation

    def sync(self, schedules: Any, now: datetime, *, complete: bool = True) -> None:
        """As it is; then what it wrote is looked at."""
        super().sync(schedules, now, complete=complete)
        self._simulation.look(now)

    def decide(self, schedule: Schedule, now: datetime) -> list[Row]:
        """As it is; then what was decided is held against the policy."""
        task = self._simulation.tasks.current
        self._simulation.deciding[task], self._simulation.began = (schedule, now), None
        try:
            return super().decide(schedule, now)
        finally:
            self._simulation.decided(task)


@cache
def _database() -> sa.Engine:
    """One for all seeds of a process; each begins by emptying it."""
    alone: Any = {"poolclass": sa.pool.StaticPool, "pool_reset_on_return": None, "connect_args": {"check_same_thread": False}}
    found = sa.create_engine("sqlite://", **alone)
    tables.make(found)
    return found


class Simulation:
    """One seed's workspace."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = Chance(seed)
        self.plan = plan(chance)
        self.tasks, self.register = Tasks(), Register()
        self.often = chance.plan.random() < 0.5
        self.near = some_change(chance.plan)
        """A zone whose clock is changed meanwhile, and when."""
        self.start, self.ahead = some_start(chance.plan, self.often, self.near), timedelta()
        self.lasts_s = chance.plan.choice([0.5, 1, 2]) * 3_600 if self.often else chance.plan.choice([1.2, 2.2, 3.2]) * DAY_S
        first, last = self.start - timedelta(days=2), self.start + timedelta(seconds=self.lasts_s, days=MOST_DRAINING + 2)
        self.timetable = Timetable(first, last)
        self.lives = Lives(seed, self.tasks, self.wall, self.plan.failing, self.often)
        self.schedules: dict[str, Schedule] = {}
        self.errors: tuple[str, ...] = ()
        self.widest: Counter[str] = Counter()
        self.store = Shelf(self)
        self.books = self._books()
        self.deciding: dict[Task | None, tuple[Schedule, datetime]] = {}
        self.before: dict[Key, Written] = {}
        self.fresh: set[Task | None] = set()
        """Threads that have just read the schedules, and not yet compared them with the database's."""
        self.began: Task | None = None
        """Who began the last transaction."""
        self.line = Line(self.tasks, self.lives, self.wall, self.soon) if chance.plan.random() < 0.2 else None
        self.quiet, self._soon = False, False
        self.told: list[str] = []
        self.deaths = 0
        for n in range(weighted(chance.plan, [(1, 8), (2, 2), (3, 0.4), (4, 0.1)])):
            self.write(self.new_schedule(f"s{n}"))
        hosts = range(weighted(chance.plan, [(1, 6), (2, 2), (3, 0.5)]))
        self.hosts = [Host(self, n, chance.plan.random() < 0.6) for n in hosts]
        self.people = People(self)
        self.lives.room, self.lives.waits = self.widest.__getitem__, self.people.asked
        self.lives.owns = lambda process: self.line is not None or self.register.has(process)

    def play(self) -> Ran:
        """Let it run; then let everything come to its end, and check it once more."""
        with self._patched():
            try:
                for host in self.hosts:
                    host.boot()
                self.people.plan()
                self.tasks.run(self.lasts_s)
                self._drain()
            finally:
                self._end()
        self.books.whole(self.schedules.values(), lambda s: self.lives.of[s].log is not None)
        lines = sorted((key, line.told) for key, line in self.books.lines.items())
        digest = hashlib.sha256(repr((self.told, lines)).encode()).hexdigest()
        statuses = Counter(line.outcome or line.status for line in self.books.lines.values())
        return Ran(self.chance.seed, digest, statuses, self.books.decided, self.deaths)

    @contextmanager
    def _patched(self) -> Iterator[None]:
        sa.event.listen(_database(), "begin", self._begins)
        try:
            with (
                patch.object(claims, "locks", lambda url: self.register.locks()),
                patch.object(scheduler, "threading", Threading(self.tasks)),
                patch.object(scheduler, "LOOK_S", LOOK_S),
                watching(self._reached),
            ):
                yield
        finally:
            sa.event.remove(_database(), "begin", self._begins)

    def _drain(self) -> None:
        """Nothing bad happens any more, nothing more falls due, and somebody is there until everything is over."""
        self.quiet, self.errors = True, ()
        self.people.leave()
        for host in self.hosts[1:]:
            host.retire()
        self.hosts[0].stays = True
        self.hosts[0].boot()
        self.soon()
        step = 600 if self.often else DAY_S / 24
        for n in range(1, int(MOST_DRAINING * DAY_S / step)):
            self.tasks.run(self.lasts_s + n * step)
            if self._over():
                return

    def _over(self) -> bool:
        seen = all(s.name in self.books.known and self.books.known[s.name].digest == s.digest for s in self.schedules.values())
        return seen and not any(line.status in ("claimed", "running", "submitted") for line in self.books.lines.values())

    def _end(self) -> None:
        """Every thread is unwound."""
        self.tasks.broken = None
        for process in self.tasks.processes:
            self.tasks.kill(process)
        self.tasks.run(self.tasks.now)

    # time

    def wall(self) -> datetime:
        """What the machines' clocks show."""
        return self.start + self.ahead + timedelta(seconds=self.tasks.now)

    def now(self) -> datetime:
        """As a clock."""
        return self.wall()

    def monotonic(self) -> float:
        """Seconds."""
        return self.tasks.now

    def soon(self) -> None:
        """Something happened: whoever stays looks within a few seconds, whoever comes now and then within a minute."""
        if not self._soon:
            self._soon = True
            self.tasks.at(self.tasks.now + self.chance.faults.uniform(0, SOON_S), self._look)

    def _look(self) -> None:
        self._soon = False
        for host in self.hosts:
            host.wake()

    # what the schedules are

    def new_schedule(self, name: str) -> Schedule:
        """Any schedule."""
        made, means = any_schedule(self.chance.plan, name, self.often, self.near)
        self.timetable.enter(made, means)
        return made

    def write(self, schedule: Schedule) -> None:
        """Somebody writes it into the agent's file."""
        old = self.schedules.get(schedule.name)
        self.schedules[schedule.name] = schedule
        self.widest[schedule.name] = max(self.widest[schedule.name], schedule.side_by_side)
        self.books.limits[schedule.name].add(schedule.pause_after)
        if old is None or old.digest != schedule.digest:
            self.books.born[schedule.name] = self.wall()

    def load(self) -> Loaded:
        """The schedules as they are now. A file that cannot be read is one of them less."""
        self.fresh.add(self.tasks.current)
        shown = [s for name, s in sorted(self.schedules.items()) if name not in self.errors]
        return Loaded(tuple(shown), self.errors)

    def _books(self) -> Books:
        with _database().begin() as connection:
            connection.execute(sa.delete(tables.DUE_TIMES))
            connection.execute(sa.delete(tables.SCHEDULES))
        raw = _database().raw_connection().driver_connection
        return Books(cast(Any, raw), self.timetable, not self.plan.jumps, self.register.is_free)

    # what happens at named places, and before each transaction

    def _reached(self, name: str) -> None:
        task = self.tasks.current
        self.decided(task)
        self.look()
        if task is None or self.quiet or self.host(task) is None:
            return
        if self.plan.kills and self.chance.faults.random() < self.plan.kills:
            self.die(task.process, name)
        self._stalls(task, (2, 40, 4_000))

    def _begins(self, connection: sa.Connection) -> None:
        self.look()
        task = self.tasks.current
        if task is not None and not self.quiet and self.host(task) is not None and task not in self.fresh:
            self._stalls(task, (0.2, 3))
            self._refuses(task)
            self.look()
        self.fresh.discard(task)
        self.before = self.books.lines
        self.began = task

    def _stalls(self, task: Task, seconds: tuple[float, ...]) -> None:
        if self.plan.stalls and self.chance.faults.random() < self.plan.stalls:
            self._absent(task)
            self.tasks.wait(self.chance.faults.choice(seconds))
            self._absent(task)

    def _refuses(self, task: Task) -> None:
        if self.plan.refusals and self.chance.faults.random() < self.plan.refusals:
            self._absent(task)
            self.soon()
            raise sa.exc.OperationalError("BEGIN", None, Exception("disk I/O error"))

    def decided(self, task: Task | None) -> None:
        """A look at a schedule has just been written down, if that is what this thread does."""
        found, begun = self.deciding.pop(task, None), self.began is task
        self.began = None
        if found is None or not begun:
            return
        schedule, now = found
        self.look()
        self.books.decision(schedule, now, self.before, self._present)
        if (host := self.host(task)) is not None:
            host.has_looked(schedule.name)

    def look(self, now: datetime | None = None) -> None:
        """At what the last transaction wrote. What others may have waited for is seen soon."""
        new = self.books.look(now)
        self.told += [f"{self.tasks.now:.3f} {name} due {due:%d %H:%M:%S} {line.told}" for (name, due), line in new.items()]
        ended = {name for (name, _), line in new.items() if line.status in ("done", "held", "parked")}
        if any(line.status in ("waiting", "claimed") for (name, _), line in self.books.lines.items() if name in ended):
            self.soon()

    def next_start(self) -> datetime | None:
        """When the next run starts."""
        now = self.wall()
        coming = [at for s in self.schedules.values() if (at := self.timetable.next_start(s, now)) is not None]
        return min(coming, default=None)

    def host(self, task: Task | None) -> Host | None:
        """Whose process this is."""
        return None if task is None else next((h for h in self.hosts if task.process in h.processes), None)

    def _absent(self, task: Task) -> None:
        if (host := self.host(task)) is not None:
            host.present.clear()

    def _present(self, name: str, since: datetime) -> bool:
        return not self.plan.jumps and any(h.present.get(name, self.wall()) <= since for h in self.hosts)

    def die(self, process: Process, place: str) -> NoReturn:
        """The process whose turn it is is gone."""
        self.gone(process, place)
        raise Killed(place)

    def gone(self, process: Process, place: str) -> None:
        """A process is gone, and its lock with it."""
        self.deaths += 1
        self.told.append(f"{self.tasks.now:.3f} {process.name} dies at {place}")
        self.tasks.kill(process)
        self.register.forget(process)
        for host in self.hosts:
            host.lost(process)
        self.soon()

    # a process that schedules

    @contextmanager
    def scheduling(self, process: Process) -> Iterator[Scheduler]:
        """A scheduler in this process, as the commands make one."""
        self.register.taker = process
        stopping = Event(self.tasks)
        asked = None if self.line is None else runners.queued(cast(SessionQueue, self.line), self.lives.look)
        mine = Claims(self.store, self.lives.look, asked)

        def here(job: Any) -> Any:
            self.told.append(f"{self.tasks.now:.3f} {process.name} runs {job.session_id}")
            return self.lives.run(job, stopping, lambda: self.die(process, job.session_id))

        runner = here if self.line is None else runners.submitting(cast(SessionQueue, self.line), "default")
        yield Scheduler(
            self.store, mine, self.load, runner, self, at_most=self.chance.plan.choice([1, 2, 4]), stopping=cast(Any, stopping),
        )  # fmt: skip
        mine.close()
        self.tasks.kill(process)


def simulate(seed: int) -> Ran:
    """Play one seed. Raises AssertionError where something does not hold."""
    simulation = Simulation(seed)
    try:
        return simulation.play()
    except Broken as e:
        raise AssertionError(str(e)) from e
