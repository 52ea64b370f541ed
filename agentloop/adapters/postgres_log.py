"""A session's log in PostgreSQL: one row an event, holding exactly the line that a file would hold.

Each append is one statement, all of it or nothing: it checks that this process still holds the session, counts the line,
and writes it. Whoever opens the session for writing takes a lock that dies with its connection and raises the session's
epoch; a line under an older epoch is refused. A connection that is lost is made again: the session goes on where nobody
else has opened it in between.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import LiteralString, Self

from agentloop import session_tables
from agentloop.core import sealed
from agentloop.core.sealed import LONGEST_LINE, Line, Place, Sealed
from agentloop.crash_points import reached
from agentloop.errors import LogError, LogWriteFailed, SessionLost, StoreUnavailable
from agentloop.postgres import Postgres
from agentloop.session_hold import EVERY_S, Hold
from agentloop.types.events import SCHEMA_VERSION, Body, Event, SessionEnded, SessionStarted

BACK_WITHIN_S = 20.0
"""Seconds for which a lost connection is tried again, before the event did not happen."""
_PAGE_ROWS, _PAGE_BYTES = 500, 4 * 1024 * 1024
_PAGE: LiteralString = """
WITH page AS (
    SELECT seq, line FROM agentloop_lines WHERE session_id = %(id)s AND seq >= %(seq)s ORDER BY seq LIMIT %(rows)s
), sized AS (
    SELECT seq, line, sum(octet_length(line)) OVER (ORDER BY seq) - octet_length(line) AS before FROM page
)
SELECT seq, line FROM sized WHERE before < %(bytes)s ORDER BY seq
"""
"""A page of lines: so many rows, and no more than so many bytes, but at least one line."""
_APPEND: LiteralString = """
WITH session AS (
    UPDATE agentloop_sessions SET
        events = events + 1, bytes = bytes + octet_length(%(line)b::bytea), outcome = %(outcome)s,
        agent = coalesce(%(agent)s, agent), model = coalesce(%(model)s, model),
        started_at = coalesce(%(started_at)s, started_at)
    WHERE session_id = %(id)s AND epoch = %(epoch)s AND events = %(seq)s
    RETURNING session_id
)
INSERT INTO agentloop_lines (session_id, seq, line) SELECT session_id, %(seq)s, %(line)b FROM session
"""
_BACKUP: LiteralString = """
INSERT INTO agentloop_backups SELECT session_id, %(version)s, seq, line FROM agentloop_lines WHERE session_id = %(id)s
ON CONFLICT DO NOTHING
"""
_REWRITE: LiteralString = "UPDATE agentloop_lines SET line = %(line)b WHERE session_id = %(id)s AND seq = %(seq)s"


class PostgresLog:
    """A `SessionLog`. Reading needs no lock; use it as a context manager to append."""

    def __init__(self, database: Postgres, session_id: str, *, back_within_s: float = BACK_WITHIN_S) -> None:
        """Use the log of this session in this database."""
        self._database = database
        self._session_id = session_id
        self._place = Place(session_id, f"{database.name}/{session_id}")
        self._back_within_s = back_within_s
        self._hold = Hold(database, session_id)
        self._open = False
        self._seq = 0
        self._digest = b""
        self._interrupted = False
        """Something broke into the last append: what the server has has to be looked at first."""

    @property
    def location(self) -> str:
        """Where it is: server, database and session, without user and password."""
        return self._place.where

    # reading

    def events(self) -> Iterator[Event]:
        """Every event, oldest first. Raises LogDamaged, LogVersion, StoreUnavailable."""
        return (line.event for line in self._lines())

    def whole_lines(self) -> tuple[int, LogError | None]:
        """How many bytes of the log are whole lines, and the damage that comes after them, if any."""
        end = 0
        try:
            for line in self._lines():
                end = line.end
        except StoreUnavailable:
            raise
        except LogError as e:
            return end, e
        return end, None

    def news(self) -> Callable[[], Iterable[Event]]:
        """A function that gives the events which its last call did not give yet; there may be no log yet."""
        last: Line | None = None

        def unseen() -> Iterable[Event]:
            nonlocal last
            new = list(self._lines(last, growing=True))
            last = new[-1] if new else last
            return [line.event for line in new]

        return unseen

    def pieces(self, end: int) -> Iterator[bytes]:
        """The bytes of the log up to this end, line by line."""
        for _, data in self._stored(0):
            if end < len(data):
                return
            end -= len(data)
            yield data

    def _lines(self, behind: Line | None = None, growing: bool = False) -> Iterator[Line]:
        last, seq = behind, 0 if behind is None else behind.event.seq + 1
        counted = 0 if growing else self._counted()
        for found, data in self._stored(seq):
            if found != seq:
                raise sealed.damaged(self._place, seq + 1, f"the next one has seq {found}")
            if not data.endswith(b"\n"):
                raise sealed.damaged(self._place, seq + 1, "it has no line end")
            last = sealed.read(data.removesuffix(b"\n"), last, self._place)
            seq += 1
            yield last
        if seq < counted and self._counted():  # a session that was deleted meanwhile is not damaged
            raise sealed.damaged(self._place, seq + 1, f"it is missing; {counted:,} lines were written")

    def _stored(self, seq: int) -> Iterator[tuple[int, bytes]]:
        """The rows from this one on, a page at a time: however long the log, a few megabytes are held."""
        session_tables.ensure(self._database)
        values: dict[str, object] = {"id": self._session_id, "rows": _PAGE_ROWS, "bytes": _PAGE_BYTES}
        while page := self._database.rows(_PAGE, {**values, "seq": seq}):
            yield from page
            seq = page[-1][0] + 1

    def _counted(self) -> int:
        session_tables.ensure(self._database)
        values = {"id": self._session_id}
        rows = self._database.rows("SELECT events FROM agentloop_sessions WHERE session_id = %(id)s", values)
        return int(rows[0][0]) if rows else 0

    # holding

    def __enter__(self) -> Self:
        """Hold the session, and find its end. Raises SessionHeld, LogDamaged, LogVersion, StoreUnavailable."""
        session_tables.ensure(self._database)
        try:
            with self._database.told():
                self._hold.connect()
                self._hold.take()
            reached("log.locked")
            version = self._find_end()
            if version != SCHEMA_VERSION:
                self._migrate(version)
            reached("log.ready")
        except BaseException:
            self._close()
            raise
        self._open = True
        return self

    def __exit__(self, *exc: object) -> None:
        """Let the session go."""
        self._close()

    def _find_end(self) -> int:
        """Get ready to append behind the last line; returns the schema version of the log."""
        newest = deque(self._lines(), maxlen=1)
        last = newest[0] if newest else None
        self._seq, self._digest = (last.event.seq + 1, last.digest) if last is not None else (0, b"")
        self._interrupted = False
        return last.version if last is not None else SCHEMA_VERSION

    def _migrate(self, version: int) -> None:
        """Write an older log anew in today's words. Its lines are kept as they were; a crash leaves the one or the other."""
        digest, size = b"", 0
        with self._database.told(), self._hold.transaction():
            self._hold.changed(_BACKUP, version=version)
            reached("log.backed_up")
            for line in self._lines():
                made = sealed.sealed(line.event.seq, line.event.at, line.event.body, digest)
                digest, size = made.digest, size + len(made.data)
                self._hold.changed(_REWRITE, seq=line.event.seq, line=made.data)
            self._hold.changed("UPDATE agentloop_sessions SET bytes = %(size)s WHERE session_id = %(id)s", size=size)
        reached("log.migrated")
        self._find_end()

    # writing

    def append(self, body: Body, at: datetime) -> Event:
        """Write one more event, whole. Raises LogWriteFailed, StoreUnavailable, SessionLost; then nothing more is written."""
        if not self._open:
            raise LogWriteFailed(f"{self.location} is not open for writing")
        if self._interrupted:
            self._find_end()
        self._interrupted = True  # until everything is done: Ctrl-C may come between any two of these lines
        line = sealed.sealed(self._seq, at, body, self._digest)
        if len(line.data) > LONGEST_LINE:
            raise LogWriteFailed(
                f"{self.location}: an event of {len(line.data):,} bytes; at most {LONGEST_LINE:,} can be written"
            )
        reached("log.before_write")
        self._write(line)
        reached("log.durable")
        self._seq, self._digest = self._seq + 1, line.digest
        self._interrupted = False
        return line.event

    def _write(self, line: Sealed) -> None:
        try:
            with self._database.told():
                if not self._written(line):
                    raise self._hold.lost()
        except SessionLost:
            self._close()
            raise
        except LogError as e:
            self._close()
            kind = StoreUnavailable if isinstance(e, StoreUnavailable) else LogWriteFailed
            raise kind(f"cannot write {self.location}: {e}\nwhen the database takes lines again, resume") from e

    def _written(self, line: Sealed) -> bool:
        """Whether the line is there; False: the session is not ours any more."""
        import psycopg  # here and below: it is there, or there were no database

        try:
            return self._insert(line)
        except psycopg.OperationalError:
            if self._hold.connected:
                raise
        return self._written_again(line)

    def _written_again(self, line: Sealed) -> bool:
        """The same on a new connection. What the old one was about to do is done or undone once the server has given up its
        lock; if the line stands there then, it was done."""
        import psycopg

        deadline = time.monotonic() + self._back_within_s
        while True:
            try:
                self._hold.connect()
                if not self._hold.is_ours():
                    return False
                if self._hold.taken_again():
                    return self._insert(line) or (self._hold.is_ours() and self._stands(line))
                problem: Exception = StoreUnavailable("the server still holds the lock of the connection that was lost")
            except (psycopg.OperationalError, StoreUnavailable) as e:
                problem = e
            if time.monotonic() > deadline:
                raise problem
            self._hold.let_go()
            time.sleep(EVERY_S)

    def _insert(self, line: Sealed) -> bool:
        values = {"epoch": self._hold.epoch, "seq": line.event.seq, "line": line.data, **_told(line)}
        return self._hold.changed(_APPEND, **values) == 1

    def _stands(self, line: Sealed) -> bool:
        query: LiteralString = "SELECT line FROM agentloop_lines WHERE session_id = %(id)s AND seq = %(seq)s"
        found = self._hold.one(query, seq=line.event.seq)
        return found is not None and bytes(found) == line.data

    def _close(self) -> None:
        self._open = False
        self._hold.let_go()


def _told(line: Sealed) -> dict[str, str | None]:
    """What a list of sessions says, as far as this line tells it."""
    body = line.event.body
    told: dict[str, str | None] = {"agent": None, "model": None, "started_at": None, "outcome": "unfinished"}
    if isinstance(body, SessionStarted):
        started_at = json.loads(line.data)["at"]
        return told | {"agent": _shown(body.agent), "model": _shown(body.prefix.model), "started_at": started_at}
    return told | ({"outcome": body.outcome} if isinstance(body, SessionEnded) else {})


def _shown(name: str) -> str:
    """A name as a column takes it: the log itself holds it as it is."""
    return name.replace("\x00", "\ufffd")
