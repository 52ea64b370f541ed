"""What is asked of the queue: put a session in, take it out, hold a queue up, look."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agentloop.adapters.dbos_queue import opening
from agentloop.core.crashes import Crashes
from agentloop.errors import UsageError
from agentloop.types.jobs import Job
from agentloop.types.queues import DEFAULT, Queued, QueueSettings, QueueState, Standing, Submitted, run_id, session_of

if TYPE_CHECKING:
    from dbos import Queue, WorkflowStatus

_STANDING: dict[str, Standing] = {"ENQUEUED": "queued", "DELAYED": "delayed", "PENDING": "running", "CANCELLED": "cancelled"}
_WAITING = ("ENQUEUED", "DELAYED")
_OPEN = (*_WAITING, "PENDING")
_MINUTE_S = 60.0


class DbosQueue:
    """The queues of one database. Everything it does is one call of DBOS's public interface, or two that may come apart."""

    def __init__(self, url: str, queues: Mapping[str, QueueSettings]) -> None:
        """Use this database and these settings. Raises ConfigError where the engine or the database is missing."""
        self.address = opening.prepared(url)
        self.client = opening.client(self.address)
        self._settings = queues

    def close(self) -> None:
        """Let the database go."""
        self.client.destroy()

    # sessions

    def submit(self, job: Job, queue: str = DEFAULT, *, again: bool = False, not_before: datetime | None = None) -> Submitted:
        """Queue a session. Its id is the claim: a second wish for the same session finds the first, whatever became of it.

        `again` is for one that ended, parked or was interrupted: another run of the same session, unless one is waiting
        already. A run that is going on is no hindrance: it may not have seen what this one is wanted for.
        Raises UsageError for a queue that is not set up.
        """
        self._registered(queue)
        if not again:
            return self._enqueued(job, queue, 1, not_before)
        runs = self._runs(job.session_id)
        waiting = next((r for r in runs if r.status in _WAITING), None)
        if waiting is None:
            return self._enqueued(job, queue, max((_part(r) for r in runs), default=0) + 1, not_before)
        if waiting.status == "DELAYED" and (not_before is None or _millis(not_before) < (waiting.delay_until_epoch_ms or 0)):
            self.client.set_workflow_delay(waiting.workflow_id, delay_until_epoch_ms=_millis(not_before or datetime.now(UTC)))
        return Submitted(job.session_id, waiting.workflow_id, new=False)

    def again(self, session_id: str, *, not_before: datetime | None = None) -> Submitted | None:
        """Queue another run of a session that came here before, in the same queue; None where it never did."""
        last = max(self._runs(session_id), key=_part, default=None)
        if last is None:
            return None
        [whole] = self.client.list_workflows(workflow_ids=[last.workflow_id], load_output=False)
        assert whole.input is not None
        job, queue = whole.input["args"]
        return self.submit(Job.model_validate_json(job), queue, again=True, not_before=not_before)

    def cancel(self, session_id: str) -> bool:
        """Take a session out of the queue; one that runs is interrupted, and can be resumed. False where there was none."""
        runs = [r for r in self._runs(session_id) if r.status in _OPEN]
        for run in runs:
            # Said first: a worker that takes the session over in this moment would put it back.
            self.client.update_workflow_attributes(run.workflow_id, {"cancelled": True}, merge=True)
            self.client.cancel_workflow(run.workflow_id)
        return bool(runs)

    def release(self, session_id: str) -> bool:
        """Try a session that is held once more. False where it is not held."""
        held = [r for r in self._runs(session_id) if attribute(r, "held") and r.status == "CANCELLED"]
        for run in held:
            queue = str(attribute(run, "queue") or DEFAULT)
            self._registered(queue)
            self.client.update_workflow_attributes(
                run.workflow_id, {"held": None, "crashes": None, "taken_at": None}, merge=True
            )
            self.client.resume_workflow(run.workflow_id, queue_name=queue)
        return bool(held)

    def runs(self, *, all_: bool = True, limit: int | None = None) -> list[Queued]:
        """What is in the queue, and what was; the newest first."""
        found = self.client.list_workflows(
            name=opening.WORKFLOW, status=None if all_ else list(_OPEN), sort_desc=True, limit=limit
        )
        return [_queued(r) for r in found]

    def waiting(self, queues: Iterable[str]) -> bool:
        """Whether anything is queued or running in these queues; what waits for its time does not count."""
        active = [q for q in queues if not self._paused(q)]
        open_ = ["ENQUEUED", "PENDING"]
        return bool(active) and bool(
            self.client.list_workflows(
                name=opening.WORKFLOW, status=open_, queue_name=active, limit=1, load_input=False, load_output=False
            )
        )

    def bring_forward(self) -> list[str]:
        """Queue what an older agentloop queued, and its workers did not take, under this version: theirs may be gone. Done
        twice it is done once: the new run's name follows from the old one's."""
        waiting = self.client.list_workflows(name=opening.WORKFLOW, status=list(_WAITING), load_output=False)
        older = [r for r in waiting if opening.older(r.app_version) and r.input is not None]
        for run in older:
            job, queue = run.input["args"] if run.input is not None else ()
            not_before = _time(run.delay_until_epoch_ms) if run.status == "DELAYED" else None
            self._enqueued(Job.model_validate_json(job), queue, _part(run) + 1, not_before)
            self.client.cancel_workflow(run.workflow_id)
        return [r.workflow_id for r in older]

    # queues

    def set_up(self, name: str) -> None:
        """Write down what the settings say of a queue, for all workers. One that is paused stays paused. Raises UsageError."""
        self._known(name)
        limits = _limits(self._settings[name])
        if self._paused(name):
            limits["worker_concurrency"] = 0
        self.client.register_queue(name, **limits)

    def pause(self, name: str) -> None:
        """Start nothing more from this queue, on no machine; what runs goes on. Raises UsageError."""
        self._registered(name).set_worker_concurrency(0)

    def resume(self, name: str) -> None:
        """Start what waits in this queue again. Raises UsageError."""
        self._registered(name).set_worker_concurrency(_limits(self._settings[name])["worker_concurrency"])

    def states(self) -> list[QueueState]:
        """Every queue that the settings name or that was used, and how much is in it."""
        for name in self._settings:
            self._registered(name)
        return [self._state(q) for q in self.client.list_queues(application_name=opening.APPLICATION)]

    def _state(self, queue: "Queue") -> QueueState:
        open_ = self.client.list_workflows(
            name=opening.WORKFLOW, queue_name=queue.name, status=list(_OPEN), load_input=False, load_output=False
        )
        limiter, agent_limiter = queue.limiter, queue.partition_limiter
        return QueueState(
            name=queue.name,
            paused=queue.worker_concurrency == 0,
            concurrency=queue.global_concurrency,
            per_worker=queue.worker_concurrency,
            per_agent=queue.partition_concurrency,
            starts_per_minute=limiter["limit"] if limiter else None,
            agent_starts_per_minute=agent_limiter["limit"] if agent_limiter else None,
            queued=sum(r.status in _WAITING for r in open_),
            running=sum(r.status == "PENDING" for r in open_),
        )

    def _paused(self, name: str) -> bool:
        queue = self.client.retrieve_queue(name)
        return queue is not None and queue.worker_concurrency == 0

    def _known(self, name: str) -> None:
        if name not in self._settings:
            known = ", ".join(sorted(self._settings))
            raise UsageError(f"there is no queue '{name}'; there is {known}\nset it up in agentloop.toml: [queues.{name}]")

    def _registered(self, name: str) -> "Queue":
        self._known(name)
        queue = self.client.retrieve_queue(name)
        if queue is None:
            queue = self.client.register_queue(name, **_limits(self._settings[name]), on_conflict="never_update")
        return queue

    # runs

    def _enqueued(self, job: Job, queue: str, part: int, not_before: datetime | None) -> Submitted:
        from dbos import EnqueueOptions, error

        run = run_id(job.session_id, part)
        options: EnqueueOptions = {
            "workflow_name": opening.WORKFLOW,
            "queue_name": queue,
            "workflow_id": run,
            "workflow_id_reuse_policy": "reject",
            "app_version": opening.VERSION,
            "queue_partition_key": job.agent,
            "attributes": {"queue": queue},
        }
        if job.priority:
            options["priority"] = job.priority
        if not_before is not None:
            options["delay_seconds"] = max(0.0, (not_before - datetime.now(UTC)).total_seconds())
        try:
            self.client.enqueue(options, job.model_dump_json(), queue)
        except error.DBOSWorkflowIDInUseError:
            return Submitted(job.session_id, run, new=False)
        return Submitted(job.session_id, run, new=True)

    def _runs(self, session_id: str) -> "list[WorkflowStatus]":
        """Every run of a session, without what it was given and what came of it."""
        bare: dict[str, Any] = {"name": opening.WORKFLOW, "load_input": False, "load_output": False}
        first = self.client.list_workflows(workflow_ids=[session_id], **bare)
        later = self.client.list_workflows(workflow_id_prefix=f"{session_id}#", **bare)
        return [r for r in (*first, *later) if session_of(r.workflow_id)[0] == session_id]


def crashes_of(run: "WorkflowStatus") -> Crashes:
    """What is written down of a run's deaths."""
    found = attribute(run, "crashes")
    return Crashes(*found) if isinstance(found, list) and len(found) == 2 else Crashes()


def _limits(settings: QueueSettings) -> dict[str, Any]:
    """The settings in DBOS's words. An agent is a partition; a limit within a wider one is no wider than that."""
    most = settings.concurrency
    per_worker = settings.per_worker if most is None else min(settings.per_worker, most)
    per_agent = settings.per_agent if most is None or settings.per_agent is None else min(settings.per_agent, most)
    return {
        "worker_concurrency": per_worker,
        "global_concurrency": most,
        "partition_concurrency": per_agent,
        "limiter": _per_minute(settings.starts_per_minute),
        "partition_limiter": _per_minute(settings.agent_starts_per_minute),
        "polling_interval_sec": settings.poll_s,
    }


def _per_minute(starts: int | None) -> dict[str, float] | None:
    return None if starts is None else {"limit": starts, "period": _MINUTE_S}


def _queued(run: "WorkflowStatus") -> Queued:
    output: dict[str, Any] = run.output if isinstance(run.output, dict) else {}
    session_id, _ = session_of(run.workflow_id)
    held = attribute(run, "held")
    standing: Standing = "held" if held and run.status == "CANCELLED" else _STANDING.get(run.status, "done")
    return Queued(
        session_id=session_id,
        run=run.workflow_id,
        queue=run.queue_name or attribute(run, "queue"),
        agent=run.queue_partition_key or "?",
        standing=standing,
        priority=run.priority or 0,
        created_at=_time(run.created_at) or datetime.fromtimestamp(0, UTC),
        not_before=_time(run.delay_until_epoch_ms),
        worker=run.executor_id,
        started_at=_time(run.dequeued_at),
        crashes=crashes_of(run).times,
        outcome=output.get("outcome"),
        cost_usd=Decimal(output["cost_usd"]) if output.get("cost_usd") else None,
        detail=str(held or output.get("detail") or ""),
    )


def attribute(run: "WorkflowStatus", name: str) -> Any:
    """Something that is written on a run."""
    return (run.attributes or {}).get(name)


def _part(run: "WorkflowStatus") -> int:
    return session_of(run.workflow_id)[1]


def _millis(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def _time(millis: int | None) -> datetime | None:
    return None if millis is None else datetime.fromtimestamp(millis / 1000, UTC)
