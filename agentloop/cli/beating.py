"""The heartbeat of a worker, and its pages for monitors."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import sqlalchemy as sa
import structlog

from agentloop import database as databases
from agentloop import queueing
from agentloop.operation import Heart, Standing, serve, tables
from agentloop.workspace import Settings, redactor

EVERY_S = 20.0
"""Seconds between two heartbeats that are written down."""
LOOKED_AT_S = 5.0
"""A monitor that asks more often than this gets the same depth of the queue."""


@contextlib.contextmanager
def beating(workspace: Path, settings: Settings, name: str | None, listen: str | None) -> Iterator[Callable[[], None]]:
    """Yields what the worker's loop calls each time it comes round. With `listen`, monitors are answered there."""
    url = databases.url_of(workspace, settings.database_url, tables.DATABASE)
    database = databases.engine(url)
    try:
        tables.make(database)
    except sa.exc.DBAPIError as e:
        raise databases.unusable("heartbeats", url, e) from e
    known_as = " ".join(filter(None, ("worker", name or socket.gethostname()[:60], listen)))
    heart, last = Heart(known_as, every_s=EVERY_S, database=database), [datetime.now(UTC)]

    def beat() -> None:
        last[0] = now = datetime.now(UTC)
        if heart.last is None or abs((now - heart.last).total_seconds()) >= EVERY_S / 2:
            try:
                heart.beat(now)
            except sa.exc.SQLAlchemyError as e:
                structlog.get_logger("agentloop").warning("heartbeat_not_written", why=type(e).__name__)

    with contextlib.ExitStack() as stack:
        stack.callback(database.dispose)
        if listen is not None:
            queues = stack.enter_context(_Queues.of(workspace, settings))
            answering = serve(
                lambda: queues.standing(last[0]), listen, settings.listen_token, database=database, folder=workspace,
                redact=redactor(os.environ),
            )  # fmt: skip
            click.echo(f"answering on {stack.enter_context(answering)}", err=True)
        yield beat
        try:
            heart.stop()
        except sa.exc.SQLAlchemyError as e:  # it is missed as if it had died: said twice rather than never
            structlog.get_logger("agentloop").warning("farewell_not_written", why=type(e).__name__)


class _Queues:
    """What waits in the queues, looked up when somebody asks, and not more often than that is good for."""

    def __init__(self, queue: "queueing.SessionQueue") -> None:
        self._queue = queue
        self._lock = threading.Lock()
        self._depth: dict[str, int] = {}
        self._running = 0
        self._oldest: datetime | None = None
        self._looked_at: datetime | None = None

    @classmethod
    @contextlib.contextmanager
    def of(cls, workspace: Path, settings: Settings) -> "Iterator[_Queues]":
        """Those of a workspace."""
        with queueing.opened(workspace, settings) as opened:
            yield cls(opened)

    def standing(self, beat_at: datetime) -> Standing:
        """How the worker stands."""
        with self._lock:
            now = datetime.now(UTC)
            if self._looked_at is None or (now - self._looked_at).total_seconds() > LOOKED_AT_S:
                self._look(now)
            return Standing(beat_at, EVERY_S, self._running, dict(self._depth), self._oldest)

    def _look(self, now: datetime) -> None:
        states = self._queue.states()
        self._depth = {state.name: state.queued for state in states}
        self._running = sum(state.running for state in states)
        paused = {state.name for state in states if state.paused}
        waiting = [
            run.not_before or run.created_at
            for run in self._queue.runs(all_=False)
            if run.standing == "queued" and run.queue not in paused
        ]
        self._oldest = min(waiting, default=None)
        self._looked_at = now
