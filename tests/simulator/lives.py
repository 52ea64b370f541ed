"""The sessions of a simulated schedule: how long each runs, how it ends, what its log says; each counted as it really ran."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple, NoReturn

from agentloop.engine import Interrupted
from agentloop.errors import EXIT_CODES, ConfigError, SessionHeld
from agentloop.schedule.claims import HELD_AFTER, Ended, Seen
from agentloop.types.jobs import Job
from tests.simulator.books import require
from tests.simulator.chance import weighted
from tests.simulator.tasks import Event, Process, Task, Tasks

FINAL = [("failed", 5.0), ("refused", 1), ("budget_exceeded", 2), ("truncated", 1), ("raises", 2), ("spend_limit", 0.7)]
FINAL += [("unauthorized", 0.5), ("time_limit", 1)]
ON_THE_WAY = [("provider_unavailable", 3.0), ("sleeping", 2), ("waiting_for_approval", 2), ("crash", 1), ("stuck", 0.3)]


class Step(NamedTuple):
    """What a session does when it is run once more."""

    seconds: float
    outcome: str
    """Its own; `crash`: it ends its process; `stuck`: it does so each time, and gets no further; `raises`: it cannot start."""
    later_s: float
    """After which a sleeping one wants to go on."""


class Life:
    """One session, as the world outside knows it."""

    def __init__(self, session_id: str, name: str, steps: list[Step]) -> None:
        self.session_id, self.name, self.steps = session_id, name, steps
        self.log: Ended | None = None
        """What its log ends with."""
        self.progress = self.starts = self.starts_in_vain = 0
        self.holder: Task | None = None
        self.answered = False
        """The queue took it up as soon as a person answered, whatever else ran."""

    @property
    def held(self) -> bool:
        """Whether a thread that lives runs it."""
        return self.holder is not None and self.holder.process.alive and not self.holder.over


class Lives:
    """All of them."""

    def __init__(self, seed: int, tasks: Tasks, wall: Callable[[], datetime], failing: float, often: bool) -> None:
        self._seed, self._tasks, self._wall, self._failing, self._often = seed, tasks, wall, failing, often
        self.of: dict[str, Life] = {}
        self.room: Callable[[str], int] = lambda name: 1
        """How many of a schedule may go at once."""
        self.owns: Callable[[Process], bool] = lambda process: True
        """Whether what a process runs is still its own. One that lost its lock ends soon: until then its sessions have no other
        writer, but their schedules may have another run."""
        self.lost_locks = 0
        self.waits: Callable[[Life], None] = lambda life: None
        """Told of a session that waits for a person."""

    def look(self, session_id: str) -> Seen:
        """What its log says."""
        life = self.of.get(session_id)
        return Seen() if life is None else Seen(life.progress, life.log)

    def run(self, job: Job, stopping: Event, crash: Callable[[], NoReturn]) -> Ended:
        """Run it once more, in the thread whose turn it is. Raises SessionHeld, Interrupted, ConfigError."""
        life = self.of.setdefault(job.session_id, self._life(job))
        if life.held:
            raise SessionHeld(f"session '{life.session_id}' is held")
        if self._stays(life):
            assert life.log is not None
            return life.log
        self._begins(life)
        step = life.steps.pop(0) if life.steps else Step(1, "completed", 0)
        if stopping.wait(step.seconds):
            life.steps.insert(0, step)
            life.holder, life.starts_in_vain = None, 0
            raise Interrupted("SIGTERM")
        return self._end(life, step, crash)

    def _stays(self, life: Life) -> bool:
        """A log that says that it is over, or not yet time, is left as it is."""
        if life.log is None:
            return False
        asleep = life.log.until is not None and self._wall() < life.log.until
        return asleep or life.log.outcome in ("completed", "waiting_for_approval")

    def _begins(self, life: Life) -> None:
        others = [of for of in self.of.values() if of.name == life.name and of.held and not of.answered]
        going = [of for of in others if of.holder is not None and self.owns(of.holder.process)]
        require(len(going) < self.room(life.name) or life.answered, f"{life.session_id} starts beside {len(going)} others")
        life.starts, life.starts_in_vain = life.starts + 1, life.starts_in_vain + 1
        life.log, life.holder = None, self._tasks.current

    def _end(self, life: Life, step: Step, crash: Callable[[], NoReturn]) -> Ended:
        life.holder = None
        if step.outcome in ("crash", "stuck"):
            require(
                life.starts_in_vain <= HELD_AFTER + self.lost_locks,
                f"{life.session_id} ended its process {life.starts_in_vain} times in vain",
            )
            if step.outcome == "stuck":
                life.steps.insert(0, step)
            else:
                life.progress, life.starts_in_vain = life.progress + 1, 0
            crash()
        life.starts_in_vain = 0
        if step.outcome == "raises":
            raise ConfigError("the agent's file cannot be read")
        life.progress += 1
        until = self._wall() + timedelta(seconds=step.later_s) if step.outcome == "sleeping" else None
        life.log = Ended(step.outcome, EXIT_CODES[step.outcome], step.outcome.replace("completed", ""), None, until)
        if step.outcome == "waiting_for_approval":
            self.waits(life)
        return life.log

    def _life(self, job: Job) -> Life:
        chance = random.Random(f"{self._seed}/{job.session_id}")
        steps: list[Step] = []
        while chance.random() < self._failing and len(steps) < 8:
            steps.append(self._step(chance, weighted(chance, ON_THE_WAY)))
        final = weighted(chance, FINAL) if chance.random() < self._failing else "completed"
        return Life(job.session_id, job.name, [*steps, self._step(chance, final)])

    def _step(self, chance: random.Random, outcome: str) -> Step:
        often = [(5, 4), (60, 3), (700, 3), (2_500, 2), (9_000, 0.5)]
        seldom = [(60, 4), (2_000, 3), (20_000, 1.5), (100_000, 0.7)]
        later = chance.choice([30, 900, 7_000] if self._often else [600, 30_000, 100_000])
        return Step(weighted(chance, often if self._often else seldom) * chance.uniform(0.8, 1.2), outcome, later)
