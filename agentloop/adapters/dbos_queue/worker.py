"""A worker: takes sessions from queues, runs them, gives back what it cannot end, and takes over from workers that died."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from agentloop.adapters.dbos_queue import opening
from agentloop.adapters.dbos_queue.client import DbosQueue, attribute, crashes_of
from agentloop.errors import UsageError
from agentloop.types.jobs import Job
from agentloop.types.queues import QueueSettings, Ran, Stopped, session_of

if TYPE_CHECKING:
    from dbos import WorkflowStatus

TICK_S = 1.0
"""Seconds between two looks at what became of the own sessions and of the other workers."""
SHUTDOWN, CANCEL, TAKEN = "SIGTERM", "cancel", "another worker"
"""Who may stop a running session: it stands in its log."""
FIRST_RETRY_S, LONGEST_RETRY_S, RETRIES = 60.0, 3600.0, 12
"""Where no model answered: seconds until the next run, twice as long each time, and how many runs a session has."""


class Run(Protocol):
    """Runs a session to its outcome, and raises nothing for what it does. `alone`: in a process of its own; None where that
    process died."""

    def __call__(self, job: Job, stopped: Stopped, *, alone: bool) -> Ran | None: ...  # noqa: D102


class Locks(Protocol):
    """What dies with a worker."""

    def hold(self, name: str) -> bool: ...  # noqa: D102
    def holds(self) -> bool: ...  # noqa: D102
    def of_the_dead(self, name: str) -> AbstractContextManager[bool]: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class Worker:
    """One process that runs sessions. There is one DBOS in a process, and so one of these."""

    def __init__(
        self,
        name: str,
        queue: DbosQueue,
        settings: Mapping[str, QueueSettings],
        locks: Locks,
        run: Run,
        progress: Callable[[str], int],
        ended_since: Callable[[Job, datetime], Ran | None],
    ) -> None:
        """Take sessions from these queues. No worker had this name before; `progress` says how far a session has come,
        `ended_since` what came of one that ended since a dead worker took it."""
        self._name = name
        self._queue = queue
        self._settings = settings
        self._locks = locks
        self._run = run
        self._progress = progress
        self._ended_since = ended_since
        self._running: set[str] = set()
        self._stops: dict[str, str] = {}
        self._shutting_down = False
        self._log = structlog.get_logger("agentloop").bind(worker=name)

    def work(self, stopping: threading.Event, *, drain: bool, grace_s: float, beat: Callable[[], None]) -> None:
        """Take sessions until told to stop, or until nothing is left. `beat` is called at each look around.

        Sessions that run when it stops end as interrupted after the step they are at, and are queued again; what is not
        there after `grace_s` seconds is left to the other workers. Raises UsageError where the name is taken.
        """
        dbos = opening.library().DBOS
        if not self._locks.hold(self._name):
            raise UsageError(f"there is a worker '{self._name}' already; give this one another name")
        for name in self._settings:
            self._queue.set_up(name)
        self._queue.bring_forward()
        dbos(config=opening.config(self._queue.address, self._name))
        dbos.workflow(name=opening.WORKFLOW, max_recovery_attempts=None)(self._workflow())
        dbos.listen_queues(list(self._settings))
        dbos.launch()
        self._log.info("worker_started", queues=sorted(self._settings))
        try:
            self._look_around_until(stopping, drain, beat)
        finally:
            self._shutting_down = True
            dbos.destroy(workflow_completion_timeout_sec=max(1, round(grace_s)))
            self._locks.close()
            self._log.info("worker_stopped", left=len(self._running))

    def _look_around_until(self, stopping: threading.Event, drain: bool, beat: Callable[[], None]) -> None:
        while not stopping.wait(TICK_S * random.uniform(0.8, 1.2)):
            try:
                self._look_around()
                beat()
                if drain and not self._queue.waiting(self._settings):
                    return
            except Exception as e:  # noqa: BLE001  a database that is away for a while must not end a worker with its sessions
                self._log.warning("worker_look_failed", error=f"{type(e).__name__}: {e}")

    def _look_around(self) -> None:
        if self._locks.holds():
            self._look_after_own()
            self._take_over()
        else:
            self._log.warning("worker_lock_lost")

    # a session

    def _workflow(self) -> Callable[[str, str], dict[str, str | None]]:
        dbos = opening.library().DBOS

        def session(job: str, queue: str) -> dict[str, str | None]:
            ran = self._session(Job.model_validate_json(job), queue, str(dbos.workflow_id))
            cost = None if ran.cost_usd is None else f"{ran.cost_usd:f}"
            return {"outcome": ran.outcome, "detail": ran.detail, "cost_usd": cost}

        return session

    def _session(self, job: Job, queue: str, run: str) -> Ran:
        """A session to its outcome. What cannot be ended here is queued again before this run of it is over."""
        with self._counted(run):
            ran = self._ran(job, queue, run)
        if ran is None:
            return self._died_alone(job, queue, run)
        if ran.outcome == "interrupted" and self._stops.get(run, SHUTDOWN) != CANCEL:
            self._put_back(run, queue)
        elif (until := _tried_again(ran, run)) is not None:
            self._queue.submit(job, queue, again=True, not_before=until)
        return ran

    def _ran(self, job: Job, queue: str, run: str) -> Ran | None:
        if self._shutting_down:
            return Ran("interrupted")
        found = self._bare(workflow_ids=[run])[0]
        since = attribute(found, "taken_at")
        if since is not None and (ended := self._ended_since(job, datetime.fromtimestamp(since / 1000, UTC))) is not None:
            return ended
        alone = crashes_of(found).times + 1 >= self._held_after(queue)
        return self._run(job, lambda: SHUTDOWN if self._shutting_down else self._stops.get(run), alone=alone)

    def _died_alone(self, job: Job, queue: str, run: str) -> Ran:
        """It ended the process that it was alone in. It is tried again where it had come further than the last time."""
        client = self._queue.client
        crashes = crashes_of(self._bare(workflow_ids=[run])[0]).after(self._progress(job.session_id))
        client.update_workflow_attributes(run, {"crashes": list(crashes)}, merge=True)
        if crashes.times < self._held_after(queue):
            self._put_back(run, queue)
            return Ran("interrupted")
        often = f"its process died {crashes.times} times in a row after {crashes.progress} steps"
        why = f"{often}; 'agentloop queue release {job.session_id}' tries again"
        client.update_workflow_attributes(run, {"held": why}, merge=True)
        client.cancel_workflow(run)
        self._log.error("session_held", session=job.session_id, why=why)
        return Ran("interrupted", why)

    @contextmanager
    def _counted(self, run: str) -> Iterator[None]:
        self._stops.pop(run, None)
        self._running.add(run)
        try:
            yield
        finally:
            self._running.discard(run)

    def _held_after(self, queue: str) -> int:
        return self._settings.get(queue, QueueSettings()).held_after

    def _put_back(self, run: str, queue: str) -> None:
        """Queue a run again, where it is still ours."""
        now = self._bare(workflow_ids=[run])
        if now and now[0].status == "PENDING" and now[0].executor_id == self._name:
            self._queue.client.resume_workflow(run, queue_name=queue)

    # its own sessions, and those of the dead

    def _look_after_own(self) -> None:
        """Stop what somebody cancelled, and what another worker was given."""
        for run in self._bare(workflow_ids=sorted(self._running)) if self._running else ():
            if attribute(run, "cancelled"):
                self._queue.client.cancel_workflow(run.workflow_id)
                self._stops[run.workflow_id] = CANCEL
            elif run.status != "PENDING" or run.executor_id != self._name:
                self._stops[run.workflow_id] = TAKEN

    def _take_over(self) -> None:
        """Queue the sessions of workers again whose locks can be taken: they are gone. Nothing else is proof of that."""
        holders = {str(r.executor_id) for r in self._bare(status="PENDING")} - {self._name}
        for worker in sorted(holders):
            with self._locks.of_the_dead(worker) as dead:
                if dead:
                    self._inherit(worker)

    def _inherit(self, worker: str) -> None:
        began = time.monotonic()
        runs = self._bare(status="PENDING", executor_id=worker)  # again: what was seen before the lock may be over
        for run in runs:
            self._queue_again(run)
        self._queue.bring_forward()
        took = round(time.monotonic() - began, 3)
        self._log.warning("worker_taken_over", dead=worker, runs=[r.workflow_id for r in runs], took_s=took)

    def _queue_again(self, run: "WorkflowStatus") -> None:
        client, queue = self._queue.client, run.queue_name or str(attribute(run, "queue"))
        if attribute(run, "cancelled"):
            client.cancel_workflow(run.workflow_id)
            return
        crashes = crashes_of(run).after(self._progress(session_of(run.workflow_id)[0]))
        # A worker's death is no proof against each session that it ran: that takes one that dies alone.
        counted = crashes._replace(times=min(crashes.times, self._held_after(queue) - 1))
        taken_at = attribute(run, "taken_at") or run.dequeued_at  # by the first of them that died
        client.update_workflow_attributes(run.workflow_id, {"crashes": list(counted), "taken_at": taken_at}, merge=True)
        client.resume_workflow(run.workflow_id, queue_name=queue)

    def _bare(self, **which: Any) -> "Sequence[WorkflowStatus]":
        """Runs without what they were given and what came of them."""
        found: list[WorkflowStatus] = self._queue.client.list_workflows(
            name=opening.WORKFLOW, load_input=False, load_output=False, **which
        )
        return found


def _tried_again(ran: Ran, run: str) -> datetime | None:
    """When the session is to have another run: it sleeps until then, somebody else holds it, or no model answered."""
    part = session_of(run)[1]
    if ran.outcome != "provider_unavailable" or part >= RETRIES:
        return ran.until
    return datetime.now(UTC) + timedelta(seconds=min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** (part - 1)))
