"""Where schedules, budgets and queues are kept: a SQLite file beside the workspace, or the PostgreSQL that all machines share.

The same SQL runs on both (SQLAlchemy Core). What is kept here is never the only copy of what a session did: that is its log.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentloop.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

FOLDER = ".agentloop"
BUSY_S = 30
"""Seconds that a writer waits for another one."""


def url_of(workspace: Path, database_url: str | None, name: str) -> str:
    """The database that was named, or else a file of this name in the workspace's own folder."""
    return database_url or f"sqlite:///{workspace.resolve() / FOLDER / name}.sqlite"


def is_postgres(url: str) -> bool:
    """Whether several machines can share it."""
    return url.startswith(("postgresql:", "postgres:", "postgresql+psycopg:"))


def checked(url: str) -> str:
    """The same URL. Raises ConfigError for one of another kind of database."""
    if not is_postgres(url) and not url.startswith("sqlite:///"):
        raise ConfigError(f"database_url must start with sqlite:/// or postgresql://, found '{url.partition(':')[0]}:'")
    return url


def unusable(what: str, url: str, error: Exception) -> ConfigError:
    """What is said where a database does not do what every database does: what it said itself, and where to look."""
    reason = str(getattr(error, "orig", error)).strip().partition("\n")[0]
    file = url.removeprefix("sqlite:///")
    look = "check AGENTLOOP_DATABASE_URL" if is_postgres(url) else f"put a copy of {file} back; without one, move it away"
    return ConfigError(f"the database of the {what} does not answer: {reason}\n{look}")


def engine(url: str) -> "Engine":
    """A database, opened when it is first used. Raises ConfigError where the URL is none, or its driver is missing."""
    import sqlalchemy as sa  # only where a database is used: `run` does without

    if is_postgres(checked(url)):
        address = sa.make_url(f"postgresql+psycopg:{url.partition(':')[2]}")
        try:
            return sa.create_engine(address, pool_pre_ping=True, pool_size=4, max_overflow=12)
        except ImportError as e:
            raise ConfigError("PostgreSQL needs its driver: pip install 'agentloop[postgres]'") from e
    path = Path(url.removeprefix("sqlite:///"))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    made = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_S})
    sa.event.listen(made, "connect", _durable)
    sa.event.listen(made, "begin", _write_at_once)
    return made


@contextmanager
def transaction(database: "Engine") -> "Iterator[Connection]":
    """All of it or nothing. On SQLite one writer at a time, from the first statement on; on PostgreSQL rows are locked
    as they are written: what must be alone says so (`SELECT … FOR UPDATE`, a unique key)."""
    with database.begin() as connection:
        yield connection


def _durable(connection: Any, record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's `begin` event starts transactions: the driver's own rules hide some
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={BUSY_S * 1000}", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    _write_ahead(cursor)
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """Readers and a writer side by side. Of several that open a new file at once, SQLite refuses all but one without waiting
    (https://sqlite.org/c3ref/busy_handler.html: where waiting could be for ever): those ask again."""
    until = time.monotonic() + BUSY_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as e:
            if "locked" not in str(e) or time.monotonic() >= until:
                raise
            time.sleep(0.01)
        else:
            return


def _write_at_once(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
