"""A PostgreSQL database that several machines share: how it is connected to, and what is said when it does not answer."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, LiteralString

from agentloop.errors import ConfigError, LogError, StoreUnavailable

if TYPE_CHECKING:
    from psycopg import Connection, Error

CONNECT_S = 10
"""Seconds within which a server has to take a connection."""
_ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}
"""A server that is gone is noticed within 25 seconds."""
_SESSION: LiteralString = """
SELECT set_config(name, value, false)
FROM (VALUES ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'),
             ('synchronous_commit', 'on')) AS wanted (name, value)
WHERE name <> 'synchronous_commit' OR current_setting('synchronous_commit') = 'off'
"""
"""The server notices in as many seconds when we are gone (and lets go of our locks); what it calls written is on its disk,
whatever the role or the database is set to."""


class Postgres:
    """One database, and a connection to it that every thread uses for statements that stand for themselves."""

    def __init__(self, url: str) -> None:
        """Use the database at this URL. Nothing is connected yet. Raises ConfigError."""
        self._url = "postgresql:" + url.partition(":")[2]
        self.name = shown(self._url)
        """Where it is, as a person may see it: without user and password."""
        self.prepared: set[str] = set()
        """The sets of tables that are known to be there, in the form that this version knows."""
        self._lock = threading.RLock()
        self._shared: Connection[Any] | None = None

    def connect(self) -> "Connection[Any]":
        """A connection of one's own, each statement a transaction of its own. Raises StoreUnavailable."""
        psycopg = _driver()
        parameters: dict[str, Any] = {**_ALIVE, "connect_timeout": CONNECT_S, "application_name": "agentloop"}
        try:
            connection: Connection[Any] = psycopg.connect(self._url, autocommit=True, **parameters)
            connection.execute(_SESSION)
        except psycopg.Error as e:
            raise StoreUnavailable(f"{self.name} cannot be reached: {self.reason(e)}; check the server and database_url") from e
        return connection

    def rows(self, statement: LiteralString, values: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """The rows of one statement that does no harm when it runs twice: where the connection was lost, it does. Raises
        StoreUnavailable, LogError."""
        psycopg = _driver()
        with self._lock, self.told():
            try:
                return self._rows(statement, values)
            except psycopg.OperationalError:
                if self._shared is not None and not self._shared.closed:
                    raise
            return self._rows(statement, values)

    @contextlib.contextmanager
    def transaction(self) -> "Iterator[Connection[Any]]":
        """All of it or nothing, on a connection of its own. Raises StoreUnavailable, LogError."""
        with self.told(), self.connect() as connection, connection.transaction():
            yield connection

    def _rows(self, statement: LiteralString, values: Mapping[str, object] | None) -> list[tuple[Any, ...]]:
        if self._shared is None or self._shared.closed:
            self._shared = self.connect()
        cursor = self._shared.execute(statement, values, binary=True)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """Let the shared connection go; the next statement makes another."""
        with self._lock:
            if self._shared is not None:
                self._shared.close()
            self._shared = None

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Errors of the driver become ours."""
        psycopg = _driver()
        try:
            yield
        except psycopg.Error as e:
            if _is_away(e):
                raise StoreUnavailable(f"{self.name} does not answer: {self.reason(e)}; try again when it does") from e
            raise LogError(f"{self.name} refused: {self.reason(e)}") from e

    def reason(self, error: "Error") -> str:
        """What the server said, in a line, whatever it repeats of the URL."""
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return lines[0].replace(self._url, self.name)


def _is_away(error: "Error") -> bool:
    """Whether the server, not the statement, is the matter: it said nothing, or that the connection (class 08) or it itself
    (57P) is closing (postgresql.org/docs/15/errcodes-appendix.html)."""
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


@lru_cache(maxsize=64)
def shared(url: str) -> Postgres:
    """The database at this URL: one connection for all of a process's reading. Raises ConfigError."""
    return Postgres(url)


def shown(url: str) -> str:
    """A URL as a person may see it: host, port and database. Raises ConfigError where it is none."""
    psycopg = _driver()
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error as e:
        raise ConfigError("database_url is no PostgreSQL URL: expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE") from e
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"postgresql://{parts.get('host') or 'localhost'}{port}/{parts.get('dbname') or parts.get('user') or ''}"


def _driver() -> Any:
    try:
        import psycopg  # only where a database is named: everything else does without
    except ImportError as e:
        raise ConfigError("PostgreSQL needs its driver: pip install 'agentloop[postgres]'") from e
    return psycopg
