"""Who looks after simulated schedules: a machine with a process that stays, or one that comes whenever something is due."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from agentloop.adapters.worker_locks import FileLocks
from agentloop.schedule.scheduler import LostClaims
from tests.simulator.tasks import Process, Task

if TYPE_CHECKING:
    from tests.simulator.schedules import Simulation

GRACE_S = 1.0


class Register:
    """Which process has which lock. It dies with the process."""

    def __init__(self) -> None:
        self.taker: Process | None = None
        """Whose lock is taken next."""
        self._of: dict[str, Process] = {}

    def locks(self) -> "Locks":
        """Those of one process."""
        assert self.taker is not None
        return Locks(self, self.taker)

    def take(self, name: str, process: Process) -> None:
        """It holds this name from now on."""
        self._of[name] = process

    def has(self, process: Process) -> bool:
        """Whether it holds its lock."""
        return process in self._of.values()

    def forget(self, process: Process) -> None:
        """It holds nothing any more."""
        self._of = {name: p for name, p in self._of.items() if p is not process}

    def is_free(self, name: str | None) -> bool:
        """Whether nobody holds this name."""
        return name not in self._of


class Locks(FileLocks):
    """The locks of one process, without files."""

    def __init__(self, register: Register, process: Process) -> None:
        super().__init__(Path())
        self._register, self._process = register, process

    def hold(self, name: str) -> bool:
        """Take it."""
        self._register.take(name, self._process)
        return True

    def holds(self) -> bool:
        """Whether it is still there."""
        return self._register.has(self._process)

    @contextmanager
    def of_the_dead(self, name: str) -> Iterator[bool]:
        """Whether nobody holds it."""
        yield self._register.is_free(name)

    def close(self) -> None:
        """Let it go."""
        self._register.forget(self._process)


class Host:
    """A machine."""

    def __init__(self, simulation: "Simulation", number: int, stays: bool) -> None:
        self._simulation, self._number = simulation, number
        self.stays = stays
        """With `cron serve`; or else with `cron tick`, once a minute."""
        self.processes: list[Process] = []
        """Those that live."""
        self._serving: Task | None = None
        self._stop: Callable[[], None] = lambda: None
        self._next = float("inf")
        self._born, self._retired = 0, False
        self.present: dict[str, datetime] = {}
        """Since when its process looks after each schedule without a break."""

    def boot(self) -> None:
        """The machine is there."""
        if self._serving is not None or self._retired:
            return
        if self.stays:
            self._serving = self._process(self._serve)
        else:
            self._plan_tick()

    def retire(self) -> None:
        """It comes no more."""
        self._retired = True
        self.stop()

    def wake(self) -> None:
        """Something happened."""
        if self._serving is not None:
            self._simulation.tasks.wake(self._serving)
        elif not self.stays:
            self._tick_by(self._simulation.tasks.now)

    def stop(self) -> None:
        """Its process is told to come to an end."""
        self.present.clear()
        self._stop()

    def kill(self, why: str) -> None:
        """Its newest process dies."""
        if self.processes:
            self._simulation.gone(self.processes[-1], why)

    def lose_lock(self) -> None:
        """The database lets go of its newest process's lock."""
        if self.processes:
            self._simulation.register.forget(self.processes[-1])
            self._simulation.lives.lost_locks += 1

    def lost(self, process: Process) -> None:
        """One of its processes is gone; a process that stays is started again, sooner or later."""
        if process not in self.processes:
            return
        self.processes.remove(process)
        if self._serving is not None and self._serving.process is process:
            self._serving = None
            self.present.clear()
            s = self._simulation
            downtime = s.chance.faults.choice([1, 5, 60] if s.quiet else [1, 5, 60, 1_000, 8_000, 50_000])
            s.tasks.at(s.tasks.now + downtime, self.boot)

    def has_looked(self, name: str) -> None:
        """It decided about this schedule."""
        if self._serving is not None:
            self.present.setdefault(name, self._simulation.wall())

    # a process that stays

    def _process(self, work: Callable[[Process], None]) -> Task:
        self._born += 1
        process = Process(f"{'serve' if self.stays else 'tick'} {self._number}.{self._born}")
        self.processes.append(process)
        return self._simulation.tasks.start(process, lambda: work(process))

    def _serve(self, process: Process) -> None:
        try:
            with self._simulation.scheduling(process) as scheduler:
                self._stop = scheduler.stop
                scheduler.serve(stop_within_s=GRACE_S)
            self.lost(process)
        except LostClaims:  # the command ends with an error, and is started again
            self._simulation.die(process, "the loss of its lock")

    # a process that comes now and then

    def _tick(self, process: Process) -> None:
        try:
            with self._simulation.scheduling(process) as scheduler:
                self._stop = scheduler.stop
                scheduler.tick(GRACE_S)
            self.lost(process)
        except sa.exc.OperationalError:  # the command ends with an error, and the next one goes on
            self._simulation.die(process, "a transaction")

    def _plan_tick(self) -> None:
        """The next one comes when something is due."""
        coming = self._simulation.next_start()
        if coming is not None:
            self._tick_by(self._simulation.tasks.now + max(0.0, (coming - self._simulation.wall()).total_seconds()))

    def _tick_by(self, when: float) -> None:
        """In the first minute from then on; those in between would find nothing."""
        s = self._simulation
        minute = (s.start + timedelta(seconds=when)).replace(second=0, microsecond=0) + timedelta(minutes=1)
        at = (minute - s.start).total_seconds()
        if s.tasks.now < self._next <= at:
            return
        self._next = at
        s.tasks.at(at, lambda: self._ticks(at))

    def _ticks(self, at: float) -> None:
        if at != self._next or self.stays or self._retired:
            return
        self._process(self._tick)
        self._plan_tick()
