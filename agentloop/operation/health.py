"""Whether a resident process does its work: its heartbeat, its database, its disk, its queue."""

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agentloop.database import transaction
from agentloop.operation import tables
from agentloop.operation.standing import Standing

if TYPE_CHECKING:
    from sqlalchemy import Engine

BEATS_MISSED = 3
"""So many heartbeats have to be missing before a loop counts as dead: one may be late."""
FORGOTTEN_S = 7 * 86_400.0
"""A process that was missed for so long is not coming back: its machine is gone, or has another name."""
LEAST_FREE_BYTES = 64 * 1024 * 1024
"""Below this, a session may not be able to write down what it has paid for."""
DATABASE_S = 5.0
"""Seconds that a database may take to answer."""


class Heart:
    """Says, where other machines can read it, that a process is alive."""

    def __init__(self, name: str, *, every_s: float = 20.0, database: "Engine | None" = None) -> None:
        """`name` is the same each time this process starts; `every_s` is how often `beat` will be called."""
        self.name = name
        self.every_s = every_s
        self._database = database
        self.last: datetime | None = None

    def beat(self, now: datetime) -> None:
        """The loop came round. Raises what the database raises: a loop that cannot write it is not well."""
        self.last = now
        if self._database is not None:
            with transaction(self._database) as connection:
                tables.beaten(connection, self.name, now, self.every_s)

    def stop(self) -> None:
        """The process ends as it should: nobody need miss it."""
        if self._database is not None:
            with transaction(self._database) as connection:
                tables.stopped(connection, self.name)


class Stale(NamedTuple):
    """A process that said it would say something, and did not."""

    name: str
    last_at: datetime
    age_s: float
    every_s: float


def stale_hearts(database: "Engine", now: datetime) -> list[Stale]:
    """The processes whose heartbeat stopped without their saying that they end. After a week they are forgotten."""
    with transaction(database) as connection:
        beats = tables.beats(connection)
    ages = ((name, at, (now - at).total_seconds(), every_s) for name, at, every_s in beats)
    return [Stale(name, at, age, every_s) for name, at, age, every_s in ages if BEATS_MISSED * every_s < age < FORGOTTEN_S]


def reasons(standing: Standing, now: datetime, database: "Engine | None", folder: Path | None) -> Iterator[str]:
    """What is wrong, a sentence each; nothing where all is well."""
    age = (now - standing.heartbeat_at).total_seconds()
    if age > BEATS_MISSED * standing.every_s:
        yield f"the loop has not come round for {age:.0f} s; expected every {standing.every_s:g} s"
    if standing.oldest_queued_at is not None:
        waits = now - standing.oldest_queued_at
        if waits > timedelta(seconds=standing.queue_limit_s):
            yield f"a session has waited for {waits.total_seconds():.0f} s; the limit is {standing.queue_limit_s:g} s"
    if database is not None and (wrong := _database(database)) is not None:
        yield wrong
    if folder is not None and (wrong := _disk(folder)) is not None:
        yield wrong


def _database(database: "Engine") -> str | None:
    """Ask the database something, in a thread of its own: one that does not answer must not hold up the answer."""
    import sqlalchemy as sa

    answers: list[str | None] = []

    def ask() -> None:
        try:
            with database.connect() as connection:
                connection.execute(sa.select(1))
            answers.append(None)
        except sa.exc.SQLAlchemyError as e:
            answers.append(f"the database cannot be reached: {type(e).__name__}")  # its text may hold the address

    thread = threading.Thread(target=ask, name="health-database", daemon=True)
    thread.start()
    thread.join(DATABASE_S)
    return answers[0] if answers else f"the database has not answered within {DATABASE_S:g} s"


def _disk(folder: Path) -> str | None:
    """Whether something can be written there, and whether there is room."""
    try:
        handle, name = tempfile.mkstemp(prefix=".health-", dir=folder)
        try:
            os.write(handle, b"ok")
            os.fsync(handle)
        finally:
            os.close(handle)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        free = shutil.disk_usage(folder).free
    except OSError as e:
        return f"the disk cannot be written: {e.strerror}"
    return f"the disk is nearly full: {free / 1e6:.0f} MB are free" if free < LEAST_FREE_BYTES else None
