"""Which workers are alive: each holds a lock that dies with its process, and nothing else counts.

Beside a SQLite queue the lock is a file's (`flock`); with PostgreSQL it is an advisory lock on a connection of the worker's
own, which the server lets go when that connection ends. A name is never used twice, so a lock that can be taken is the lock
of a worker that is gone.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agentloop import database

if TYPE_CHECKING:
    from sqlalchemy import Connection

_KEY = "SELECT hashtextextended('agentloop worker ' || :name, 0)"
_SILENT = "SELECT " + ", ".join(
    f"set_config('tcp_keepalives_{name}', '{value}', false)" for name, value in (("idle", 10), ("interval", 5), ("count", 3))
)
"""A machine that vanishes without a word is noticed by the server after 25 seconds."""


class FileLocks:
    """For workers of one machine: a locked file each."""

    def __init__(self, folder: Path) -> None:
        """Keep the locks in this folder."""
        self._folder = folder
        self._own: tuple[str, int] | None = None

    def hold(self, name: str) -> bool:
        """Take this name's lock for as long as the process lives; False where another has it."""
        for folder in (self._folder.parent, self._folder):  # mkdir gives its mode to the last folder only
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = self._locked(name)
        if handle is not None:
            self._own = (name, handle)
        return handle is not None

    def holds(self) -> bool:
        """Whether the lock is still ours: a file's is for as long as the process lives."""
        return self._own is not None

    @contextmanager
    def of_the_dead(self, name: str) -> Iterator[bool]:
        """Whether that worker is gone. While the block runs, nobody else can find that out."""
        handle = self._locked(name)
        try:
            yield handle is not None
        finally:
            if handle is not None:
                self._path(name).unlink(missing_ok=True)
                os.close(handle)

    def close(self) -> None:
        """Let our own lock go."""
        if self._own is not None:
            name, handle = self._own
            self._path(name).unlink(missing_ok=True)
            os.close(handle)
            self._own = None

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.lock"

    def _locked(self, name: str) -> int | None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(self._path(name), flags, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(self._path(name))):
                return handle
        except (BlockingIOError, FileNotFoundError):  # not there any more: whoever had it deleted it, and is done with it
            pass
        os.close(handle)
        return None


class PostgresLocks:
    """For workers of many machines: an advisory lock each, on a connection of its own."""

    def __init__(self, url: str) -> None:
        """Keep the locks in this database."""
        self._engine = database.engine(url)
        self._connection: Connection | None = None
        self._name = ""
        self._held = False

    def hold(self, name: str) -> bool:
        """Take this name's lock for as long as the connection lives; False where another has it."""
        self.close()
        self._name, self._connection = name, self._connected()
        self._held = self._taken(name)
        return self._held

    def holds(self) -> bool:
        """Whether the lock is still ours. A connection that broke has lost it: it is taken again, if nobody was faster."""
        from sqlalchemy.exc import DBAPIError

        try:
            if self._held:
                self._scalar("SELECT 1")
                return True
        except DBAPIError:
            self.close()
        try:
            return self.hold(self._name)
        except DBAPIError:  # the server is away; the next look tries again
            self.close()
            return False

    @contextmanager
    def of_the_dead(self, name: str) -> Iterator[bool]:
        """Whether that worker is gone. While the block runs, nobody else can find that out."""
        taken = self._taken(name)
        try:
            yield taken
        finally:
            if taken:
                self._scalar(f"SELECT pg_advisory_unlock(({_KEY}))", name)

    def close(self) -> None:
        """Let our own lock go."""
        if self._connection is not None:
            self._connection.invalidate()  # the connection must end, not go back to a pool with the lock
            self._connection.close()
            self._connection = None
        self._held = False

    def _connected(self) -> "Connection":
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._connection = connection
        self._scalar(_SILENT)
        return connection

    def _taken(self, name: str) -> bool:
        return bool(self._scalar(f"SELECT pg_try_advisory_lock(({_KEY}))", name))

    def _scalar(self, statement: str, name: str | None = None) -> object:
        from sqlalchemy import text

        assert self._connection is not None
        return self._connection.execute(text(statement), {} if name is None else {"name": name}).scalar()


def locks(url: str) -> FileLocks | PostgresLocks:
    """The locks of the workers whose queue is in this database."""
    if database.is_postgres(url):
        return PostgresLocks(url)
    return FileLocks(Path(url.removeprefix("sqlite:///")).parent / "workers")
