"""A queue with a worker, as simulated schedules see it: it takes up what sleeps by itself, and holds what crashes on and on."""

import random
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

from agentloop.engine import Interrupted
from agentloop.errors import AgentLoopError, SessionHeld
from agentloop.schedule.claims import Ended
from agentloop.types.jobs import Job
from agentloop.types.queues import DEFAULT, Queued, Submitted, run_id
from tests.simulator.lives import Lives
from tests.simulator.tasks import Event, Process, Tasks

RETRY_S = 300
HELD_AFTER = 3


class _Crashed(Exception):
    """The worker's process is gone; another one has its runs."""


class Line:
    """What was submitted, the newest first."""

    def __init__(self, tasks: Tasks, lives: Lives, wall: Callable[[], datetime], changed: Callable[[], None]) -> None:
        self._tasks, self._lives, self._wall, self._changed = tasks, lives, wall, changed
        self._worker = Process("worker")
        self._runs: list[Queued] = []
        self._jobs: dict[str, Job] = {}

    def submit(self, job: Job, queue: str = DEFAULT, *, again: bool = False, not_before: datetime | None = None) -> Submitted:
        """What is there already is not queued twice, unless it is wished for."""
        part = 1 + sum(run.session_id == job.session_id for run in self._runs)
        if part > 1 and not again:
            return Submitted(job.session_id, job.session_id, False)
        self._jobs[job.session_id] = job
        name, at = run_id(job.session_id, part), self._wall()
        self._runs.insert(
            0, Queued(job.session_id, name, queue, job.agent, "queued", 0, at, None, None, None, 0, None, None, "")
        )
        self._tasks.start(self._worker, lambda: self._work(name, job))
        return Submitted(job.session_id, name, True)

    def again(self, session_id: str) -> None:
        """A person answered: at once, whatever else runs."""
        if session_id in self._jobs:
            self.submit(self._jobs[session_id], again=True)

    def cancel(self, index: int) -> None:
        """Take one of those out that nobody has begun."""
        waiting = [run for run in self._runs if run.standing == "queued"]
        if waiting:
            self._now(waiting[index % len(waiting)].run, standing="cancelled")

    def runs(self, *, all_: bool = True, limit: int | None = None) -> list[Queued]:
        """What is in the queue, and what was."""
        return self._runs[:limit]

    def _work(self, name: str, job: Job) -> None:
        self._tasks.wait(random.Random(name).choice([0.5, 20, 900]))
        crashes, delay = 0, 0.0
        while self._run(name).standing in ("queued", "running"):
            self._tasks.wait(delay)
            self._now(name, standing="running")
            try:
                ended = self._lives.run(job, Event(self._tasks), _crash)
            except _Crashed:
                crashes += 1
                ended = Ended("held" if crashes >= HELD_AFTER else "crashed", 75, f"its process died {crashes} times")
            except (SessionHeld, Interrupted):
                ended = Ended("crashed", 75)
            except AgentLoopError as e:
                ended = Ended("failed", 1, str(e))
            crashes = crashes if ended.outcome == "crashed" else 0
            delay = self._after(name, ended)
        self._changed()

    def _after(self, name: str, ended: Ended) -> float:
        """Seconds until it is taken up again, where it is not over."""
        match ended.outcome:
            case "held":
                self._now(name, standing="held", detail=ended.detail)
            case "crashed" | "provider_unavailable":
                return RETRY_S
            case "sleeping" if ended.until is not None:
                return max(0.0, (ended.until - self._wall()).total_seconds()) + 1
            case _:
                self._now(name, standing="done", outcome=ended.outcome, detail=ended.detail)
        return 0

    def _run(self, name: str) -> Queued:
        return next(run for run in self._runs if run.run == name)

    def _now(self, name: str, **values: Any) -> None:
        self._runs = [run._replace(**values) if run.run == name else run for run in self._runs]


def _crash() -> NoReturn:
    raise _Crashed
