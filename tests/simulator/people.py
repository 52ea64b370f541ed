"""What people do with simulated schedules: write them anew, pause them, take them out, run them by hand, answer sessions; and
what else comes from outside: clocks that are set, processes that are stopped."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from agentloop.schedule.store import Overlaps
from tests.simulator.chance import weighted
from tests.simulator.lives import Life
from tests.simulator.tasks import Process

if TYPE_CHECKING:
    from tests.simulator.schedules import Simulation

Deed = Callable[[], None]
JUMPS_S = (-40_000, -3_600, -300, -5, 2, 200, 3_700, 30_000)


class People:
    """Everybody who is no scheduler."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        self._chance = simulation.chance.people
        self._hands = 0

    def plan(self) -> None:
        """When something happens."""
        s, kinds = self._simulation, self._kinds()
        for _ in range(s.plan.visits):
            s.tasks.at(self._chance.uniform(0, s.lasts_s), weighted(self._chance, kinds))
        for _ in range(s.plan.jumps):
            s.tasks.at(self._chance.uniform(0, s.lasts_s), self._sets_the_clock)
        if s.plan.kills:
            s.tasks.at(self._chance.uniform(0, s.lasts_s), self._kills)
            s.tasks.at(self._chance.uniform(0, s.lasts_s), self._stops)

    def _kinds(self) -> list[tuple[Deed, float]]:
        kinds: list[tuple[Deed, float]] = [(self._pauses, 2), (self._resumes, 3), (self._writes, 5), (self._adjusts, 1)]
        kinds += [(self._takes_out, 1), (self._brings_back, 2), (self._runs_by_hand, 3), (self._stops, 2), (self._kills, 2)]
        return [*kinds, (self._breaks_a_file, 1), (self._mends_files, 2), (self._loses_a_lock, 1), (self._cancels, 1)]

    def leave(self) -> None:
        """The last thing that they do: nothing more is to begin."""
        s = self._simulation
        for name in s.schedules:
            self._pause(name)

    def asked(self, life: Life) -> None:
        """A session waits for an answer. It comes some time, or never."""
        s = self._simulation
        if self._chance.random() < 0.8:
            after = self._chance.choice([60, 900, 7_000] if s.often else [600, 30_000, 100_000])
            s.tasks.at(s.tasks.now + after, lambda: self._answers(life))

    def _answers(self, life: Life) -> None:
        s = self._simulation
        life.log = None
        s.told.append(f"{s.tasks.now:.3f} {life.session_id} is answered")
        if s.line is not None:
            life.answered = True
            s.line.again(life.session_id)
        s.soon()

    # schedules

    def _some(self) -> str:
        return self._chance.choice(sorted(self._simulation.books.known) or sorted(self._simulation.schedules))

    def _pauses(self) -> None:
        self._pause(self._some())

    def _pause(self, name: str) -> None:
        s = self._simulation
        s.books.look()
        s.books.changed.add(name)
        s.store.pause(name, "a holiday", s.wall())
        s.books.look()
        s.books.changed.clear()

    def _resumes(self) -> None:
        s, name = self._simulation, self._some()
        s.books.look()
        s.books.changed.add(name)
        s.store.unpause(name, s.wall())
        s.books.look()
        s.books.changed.clear()
        s.soon()

    def _writes(self) -> None:
        """Other times."""
        s, name = self._simulation, self._some()
        s.write(s.new_schedule(name))
        s.soon()

    def _adjusts(self) -> None:
        """The same times, and something else."""
        s, name = self._simulation, self._some()
        if (old := s.schedules.get(name)) is not None:
            overlap, limit = self._chance.choice(["skip", "queue", "parallel 2"]), self._chance.choice([None, 2])
            s.write(old.model_copy(update={"overlap": overlap, "pause_after": limit}))
            s.soon()

    def _takes_out(self) -> None:
        s = self._simulation
        if len(s.schedules) > 1:
            del s.schedules[self._chance.choice(sorted(s.schedules))]
            s.soon()

    def _brings_back(self) -> None:
        s = self._simulation
        for name in sorted(s.books.known.keys() - s.schedules.keys())[:1]:
            s.write(s.new_schedule(name))
            s.soon()

    def _breaks_a_file(self) -> None:
        s, name = self._simulation, self._some()
        s.errors = (name,)
        s.books.limits[name].add(None)  # nobody knows its limit where a run ends now
        for host in s.hosts:
            host.present.pop(name, None)

    def _mends_files(self) -> None:
        self._simulation.errors = ()
        self._simulation.soon()

    def _runs_by_hand(self) -> None:
        s, name = self._simulation, self._some()
        self._hands += 1
        process = Process(f"hand {self._hands}")
        if name in s.schedules:
            s.tasks.start(process, lambda: self._runs(process, name))

    def _runs(self, process: Process, name: str) -> None:
        s = self._simulation
        try:
            with s.scheduling(process) as scheduler:
                loaded, now = s.load(), s.wall()
                s.store.sync(loaded.schedules, now, complete=False)
                if (schedule := next((x for x in loaded.schedules if x.name == name), None)) is not None:
                    scheduler.run_one(s.store.claim_by_hand(schedule, now), 1.0)
        except (Overlaps, sa.exc.OperationalError):
            s.gone(process, "a refusal")

    # processes and clocks

    def _stops(self) -> None:
        self._chance.choice(self._simulation.hosts).stop()

    def _kills(self) -> None:
        self._chance.choice(self._simulation.hosts).kill("a signal")

    def _loses_a_lock(self) -> None:
        self._chance.choice(self._simulation.hosts).lose_lock()

    def _cancels(self) -> None:
        if (line := self._simulation.line) is not None:
            line.cancel(self._chance.randint(0, 9))
            self._simulation.soon()

    def _sets_the_clock(self) -> None:
        s = self._simulation
        s.ahead += timedelta(seconds=self._chance.choice(JUMPS_S)) if self._chance.random() < 0.7 else -s.ahead
        s.told.append(f"{s.tasks.now:.3f} the clock shows {s.wall()}")
        s.soon()
