"""The tables that hold sessions in PostgreSQL: made when they are first used, by one process of however many start at once."""

from typing import LiteralString

from agentloop.errors import LogVersion
from agentloop.postgres import Postgres

NAME = "sessions"
VERSION = 1
_LOCK: LiteralString = "SELECT pg_advisory_xact_lock(hashtextextended('agentloop tables', 0))"
_VERSIONS: LiteralString = "CREATE TABLE IF NOT EXISTS agentloop_tables (name text PRIMARY KEY, version integer NOT NULL)"
_STEPS: tuple[tuple[LiteralString, ...], ...] = (
    (
        # One row a session. `epoch` counts who opened it for writing: the fence. `events` and `bytes` are those of its
        # lines, and what stands in `agent` to `outcome` is said by its first and last line: so that a list reads no lines.
        # A row without events is a session that was opened and never begun. Room is left in the pages: the row is written
        # with each line, and stays in place.
        """
        CREATE TABLE agentloop_sessions (
            session_id text COLLATE "C" PRIMARY KEY,
            epoch bigint NOT NULL DEFAULT 0,
            holder text NOT NULL DEFAULT 'null',
            events bigint NOT NULL DEFAULT 0,
            bytes bigint NOT NULL DEFAULT 0,
            agent text NOT NULL DEFAULT '?',
            model text NOT NULL DEFAULT '?',
            started_at text NOT NULL DEFAULT '?',
            outcome text NOT NULL DEFAULT 'unfinished'
        ) WITH (fillfactor = 50)
        """,
        # `line` is, byte for byte, what a file would hold: sealed, with its line end. No foreign key: a line is only ever
        # written by the statement that counts it in the session's row.
        """
        CREATE TABLE agentloop_lines (
            session_id text COLLATE "C" NOT NULL,
            seq bigint NOT NULL,
            line bytea NOT NULL,
            PRIMARY KEY (session_id, seq)
        )
        """,
        # Lines of an older schema version, as they were before their log was written anew.
        """
        CREATE TABLE agentloop_backups (
            session_id text COLLATE "C" NOT NULL,
            version integer NOT NULL,
            seq bigint NOT NULL,
            line bytea NOT NULL,
            PRIMARY KEY (session_id, version, seq)
        )
        """,
        """
        CREATE TABLE agentloop_blobs (
            session_id text COLLATE "C" NOT NULL,
            digest text COLLATE "C" NOT NULL,
            data bytea NOT NULL,
            PRIMARY KEY (session_id, digest)
        )
        """,
    ),
)
"""What leads from each version to the next one, from nothing on."""


def ensure(database: Postgres) -> None:
    """The tables are there, in the form that this version knows. Raises LogVersion, StoreUnavailable, LogError."""
    if NAME in database.prepared:
        return
    if _version(database) != VERSION:
        _make(database)
    database.prepared.add(NAME)


def _version(database: Postgres) -> int:
    """0 where there are none."""
    there = database.rows("SELECT to_regclass('agentloop_tables') IS NOT NULL")
    if not there[0][0]:
        return 0
    found = database.rows("SELECT version FROM agentloop_tables WHERE name = %(name)s", {"name": NAME})
    return int(found[0][0]) if found else 0


def _make(database: Postgres) -> None:
    with database.transaction() as connection:
        connection.execute(_LOCK)
        connection.execute(_VERSIONS)
        row = connection.execute("SELECT version FROM agentloop_tables WHERE name = %s", [NAME]).fetchone()
        version = int(row[0]) if row else 0
        if version > VERSION:
            raise LogVersion(f"{database.name} has tables of version {version}, this agentloop knows {VERSION}: upgrade it")
        for step in _STEPS[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(
            "INSERT INTO agentloop_tables VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET version = excluded.version",
            [NAME, VERSION],
        )
