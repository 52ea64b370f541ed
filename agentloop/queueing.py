"""The queue of a workspace: sessions that any worker takes, on this machine or on others, and the worker itself.

Without a `database_url` it is a SQLite file in the workspace's `.agentloop`; with one, all machines that name it share it.
Nothing here holds what a session did: a session in the queue is its id, its agent and its task, and its log is the truth.
"""

import importlib.util
import os
import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from agentloop import database, queue_run
from agentloop.adapters import worker_locks
from agentloop.core.crashes import progress
from agentloop.errors import UsageError
from agentloop.stores import store_of
from agentloop.types.jobs import Job
from agentloop.types.queues import DEFAULT, Queued, QueueSettings, QueueState, Submitted
from agentloop.waves import outcome
from agentloop.workspace import Settings

_MACHINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")


class SessionQueue(Protocol):
    """What can be asked of the queue."""

    def submit(self, job: Job, queue: str = DEFAULT, *, again: bool = False, not_before: datetime | None = None) -> Submitted:
        """Queue a session. Its id is the claim: wished for twice it is there once, whatever became of it. `again` is for one
        that ended, parked or was interrupted; wished for twice it waits once. Raises UsageError for an unknown queue."""
        ...

    def again(self, session_id: str, *, not_before: datetime | None = None) -> Submitted | None:
        """Queue a session that parked, or was stopped, for another run, at once or from a time on; None where it never came
        through the queue."""
        ...

    def cancel(self, session_id: str) -> bool:
        """Take a session out; one that runs ends as interrupted, and can be resumed. False where it is not in the queue."""
        ...

    def release(self, session_id: str) -> bool:
        """Try a session that is held once more. False where it is not held."""
        ...

    def pause(self, name: str) -> None:
        """Start nothing more from this queue, on no machine; what runs goes on. Raises UsageError."""
        ...

    def resume(self, name: str) -> None:
        """Start what waits in this queue again. Raises UsageError."""
        ...

    def runs(self, *, all_: bool = True, limit: int | None = None) -> list[Queued]:
        """What is in the queue and, with `all_`, what was; the newest first."""
        ...

    def states(self) -> list[QueueState]:
        """Every queue, its limits, and how much is in it."""
        ...


@contextmanager
def opened(workspace: Path, settings: Settings) -> Iterator[SessionQueue]:
    """The queue of a workspace. Raises ConfigError where its engine or its database is missing."""
    from agentloop.adapters.dbos_queue.client import DbosQueue  # takes half a second to import

    queue = DbosQueue(url_of(workspace, settings), queues_of(settings))
    try:
        yield queue
    finally:
        queue.close()


def taken_up_again(workspace: Path, settings: Settings, session_id: str) -> Submitted | None:
    """Queue a session that parked, now that what it waited for is there; None where it never came through a queue. Raises
    ConfigError where the database does not answer."""
    if not is_there(workspace, settings):
        return None
    with opened(workspace, settings) as queue:
        return queue.again(session_id)


def is_there(workspace: Path, settings: Settings) -> bool:
    """Whether anything may ever have been queued, and can be looked at."""
    url = url_of(workspace, settings)
    there = database.is_postgres(url) or Path(url.removeprefix("sqlite:///")).exists()
    return there and importlib.util.find_spec("dbos") is not None


def url_of(workspace: Path, settings: Settings) -> str:
    """Where the queue is."""
    return database.url_of(workspace, settings.database_url, "queue")


def queues_of(settings: Settings) -> Mapping[str, QueueSettings]:
    """Every queue that is set up, `default` among them."""
    return {DEFAULT: QueueSettings(), **settings.queues}


def worker_name(machine: str | None = None) -> str:
    """A name that no worker had before: `machine.pid.four-characters`. Raises UsageError for a machine that cannot be part of
    a file's name."""
    if machine is not None and not _MACHINE.fullmatch(machine):
        raise UsageError(f"'{machine[:60]}' is no name for a worker: letters, digits, '-', '_' and '.', at most 60")
    called = machine or re.sub(r"[^A-Za-z0-9_.-]+", "-", socket.gethostname())[:60]
    return f"{called}.{os.getpid()}.{secrets.token_hex(2)}"


def work(
    workspace: Path,
    settings: Settings,
    stopping: threading.Event,
    *,
    name: str,
    queues: tuple[str, ...] = (),
    per_worker: int | None = None,
    drain: bool = False,
    grace_s: float = 30.0,
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Be a worker, until told to stop or, with `drain`, until nothing is left. `per_worker` is written down for the queues, and
    so for all their workers. `beat` is called about once a second. Raises ConfigError, UsageError."""
    from agentloop.adapters.dbos_queue.client import DbosQueue
    from agentloop.adapters.dbos_queue.worker import Worker

    known = queues_of(settings)
    if unknown := sorted(set(queues) - known.keys()):
        raise UsageError(f"there is no queue '{unknown[0]}'; there is {', '.join(sorted(known))}")
    taken = {n: q if per_worker is None else q.model_copy(update={"per_worker": per_worker}) for n, q in known.items()}
    taken = {n: q for n, q in taken.items() if n in queues or not queues}
    queue = DbosQueue(url_of(workspace, settings), {**known, **taken})
    try:
        locks = worker_locks.locks(url_of(workspace, settings))
        run, progress = queue_run.runner(workspace, settings), _progress(workspace, settings)
        worker = Worker(
            name, queue, taken, locks, run, progress, lambda j, since: queue_run.ended_since(j, workspace, settings, since)
        )
        worker.work(stopping, drain=drain, grace_s=grace_s, beat=beat)
    finally:
        queue.close()


def _progress(workspace: Path, settings: Settings) -> Callable[[str], int]:
    store = store_of(workspace, settings)

    def steps(session_id: str) -> int:
        if store.exists(session_id):
            return progress(store.stream(session_id))
        return outcome.standing(store, session_id, lambda: None).progress  # of a wave's sessions, where it is one

    return steps
