"""What the tests of sessions in PostgreSQL share."""

import time

import psycopg

from agentloop.adapters.postgres_log import PostgresLog
from agentloop.postgres import Postgres
from agentloop.types.events import Body


def bodies(database: Postgres) -> list[Body]:
    """What the log of session 's' holds."""
    return [event.body for event in PostgresLog(database, "s").events()]


def backend(log: PostgresLog) -> int:
    """The server's process behind the connection that holds a session."""
    connection = log._hold._connection
    assert connection is not None
    return connection.info.backend_pid


def cut(log: PostgresLog, url: str) -> None:
    """The server gives a holder up."""
    terminate(backend(log), url)


def terminate(pid: int, url: str) -> None:
    """The server closes a connection, as it does to one whose other end it thinks dead."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        deadline = time.monotonic() + 5
        while connection.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone():
            assert time.monotonic() < deadline
