"""The sessions of a workspace in PostgreSQL: the same on every machine that names the database."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, LiteralString

from agentloop import session_ids, session_tables
from agentloop.adapters.postgres_blobs import PostgresBlobs
from agentloop.adapters.postgres_log import PostgresLog
from agentloop.errors import UnknownSession
from agentloop.ports import Summary
from agentloop.postgres import Postgres
from agentloop.session_hold import Hold
from agentloop.types.events import Event

_PAGE = 1_000
_ONE: LiteralString = "SELECT events FROM agentloop_sessions WHERE session_id = %(id)s AND events > 0"
_ROWS: LiteralString = """
SELECT session_id, agent, model, started_at, events, outcome, bytes FROM agentloop_sessions
WHERE session_id > %(behind)s AND events > 0 ORDER BY session_id LIMIT %(rows)s
"""
_DELETION: LiteralString = """
WITH lines AS (DELETE FROM agentloop_lines WHERE session_id = %(id)s),
     backups AS (DELETE FROM agentloop_backups WHERE session_id = %(id)s),
     blobs AS (DELETE FROM agentloop_blobs WHERE session_id = %(id)s)
DELETE FROM agentloop_sessions WHERE session_id = %(id)s AND epoch = %(epoch)s
"""
"""One statement: all of it or nothing."""


class PostgresSessions:
    """A `SessionStore`."""

    def __init__(self, database: Postgres) -> None:
        """Use this database. Its tables are made when they are first needed."""
        self.database = database

    def new_id(self, agent: str, now: datetime) -> str:
        """An id that no session has: agent, time, and eight characters in case two start in one second."""
        return session_ids.new_id(agent, now)

    def location(self, session_id: str) -> str:
        """Where a session is. Raises UnknownSession for what is no id."""
        return f"{self.database.name}/{session_ids.checked(session_id)}"

    def log(self, session_id: str) -> PostgresLog:
        """The log of a session, which need not exist yet."""
        return PostgresLog(self.database, session_ids.checked(session_id))

    def blobs(self, session_id: str) -> PostgresBlobs:
        """The whole tool results of a session."""
        return PostgresBlobs(self.database, session_ids.checked(session_id))

    def exists(self, session_id: str) -> bool:
        """Whether a session has at least its first line."""
        return bool(self._rows(_ONE, id=session_ids.checked(session_id)))

    def find(self, name: str) -> str:
        """The session of this id, or the only one whose id starts with it. Raises UnknownSession with candidates."""
        return name if self.exists(name) else session_ids.meant(name, self.ids(), self.database.name)

    def events(self, session_id: str) -> list[Event]:
        """Every event of a session. Raises UnknownSession where its log is missing or empty, LogDamaged, LogVersion."""
        return list(self.stream(session_id))

    def stream(self, session_id: str) -> Iterator[Event]:
        """The same, read as they are asked for: however long the log, a page of it is held at a time."""
        if not self.exists(session_id):
            where = self.database.name
            raise UnknownSession(f"session '{session_id}' has no log in {where}; nothing can be resumed from it")
        return session_ids.begun(session_id, self.log(session_id).events())

    def ids(self) -> Iterator[str]:
        """The ids of all sessions, sorted."""
        return (summary.session_id for summary in self.summaries())

    def summaries(self) -> Iterator[Summary]:
        """A row for each session, without reading a line."""
        last = ""
        while rows := self._rows(_ROWS, behind=last, rows=_PAGE):
            yield from (Summary(*row) for row in rows)
            last = rows[-1][0]

    def delete(self, session_id: str) -> None:
        """Log and blobs are gone, all at once. Raises SessionHeld where somebody is writing it."""
        session_tables.ensure(self.database)
        hold = Hold(self.database, session_ids.checked(session_id))
        try:
            with self.database.told():
                hold.connect()
                hold.take()
                hold.changed(_DELETION, epoch=hold.epoch)
        finally:
            hold.let_go()

    def _rows(self, query: LiteralString, **values: object) -> list[tuple[Any, ...]]:
        session_tables.ensure(self.database)
        return self.database.rows(query, values)
