"""Who may write a session in PostgreSQL: a lock that dies with its connection, and an epoch that only ever rises.

The lock keeps a second process away. The epoch is the fence for one that lost its connection, or was thought dead: a line
under an older epoch is refused by the statement that would write it.
"""

import contextlib
import json
import os
import socket
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, LiteralString

from agentloop import holding
from agentloop.errors import SessionHeld, SessionLost
from agentloop.postgres import Postgres
from agentloop.types.base import compact

if TYPE_CHECKING:
    from psycopg import Connection

DEAD_HOLDER_S = 5.0
"""Seconds within which a server has noticed that a process of this machine is dead."""
EVERY_S = 0.05
_KEY: LiteralString = "hashtextextended('agentloop session ' || %(id)s, 0)"


class Hold:
    """One process's hold on one session, over a connection that is for nothing else."""

    def __init__(self, database: Postgres, session_id: str) -> None:
        """Nothing is held yet."""
        self._database = database
        self._session_id = session_id
        self._connection: Connection[Any] | None = None
        self._me: dict[str, object] = {}
        self.epoch = 0

    @property
    def connected(self) -> bool:
        """Whether the connection is there, as far as this side knows."""
        return self._connection is not None and not self._connection.closed

    def connect(self) -> None:
        """A new connection. Raises StoreUnavailable."""
        self._connection = self._database.connect()

    def take(self) -> None:
        """Hold the session; nobody else does from now on. Raises SessionHeld."""
        self.changed("INSERT INTO agentloop_sessions (session_id) VALUES (%(id)s) ON CONFLICT DO NOTHING")
        self._lock()
        self._me = holding.me()
        raised = "UPDATE agentloop_sessions SET epoch = epoch + 1, holder = %(me)s WHERE session_id = %(id)s RETURNING epoch"
        self.epoch = int(self.one(raised, me=self._written_down()))

    def taken_again(self) -> bool:
        """Whether a new connection has the lock: then whatever an older one of ours was doing is done or undone."""
        if not self._locked():
            return False
        statement: LiteralString = (
            "UPDATE agentloop_sessions SET holder = %(me)s WHERE session_id = %(id)s AND epoch = %(epoch)s"
        )
        self.changed(statement, me=self._written_down(), epoch=self.epoch)
        return True

    def is_ours(self) -> bool:
        """Whether nobody has opened the session for writing since we did."""
        return bool(self.one("SELECT epoch FROM agentloop_sessions WHERE session_id = %(id)s") == self.epoch)

    def lost(self) -> SessionLost:
        """The error for a session that is not ours any more."""
        written = self.one("SELECT holder FROM agentloop_sessions WHERE session_id = %(id)s")
        what = "was deleted" if written is None else f"was taken over by {holding.told(json.loads(written))}"
        return SessionLost(
            f"session '{self._session_id}' {what}\nnothing more was written here; 'agentloop sessions show' says how far it is"
        )

    def one(self, query: LiteralString, **values: object) -> Any:
        """The first value of the first row; None where there is none."""
        assert self._connection is not None
        row = self._connection.execute(query, {"id": self._session_id, **values}).fetchone()
        return row[0] if row else None

    def changed(self, statement: LiteralString, **values: object) -> int:
        """How many rows a statement has written."""
        assert self._connection is not None
        return self._connection.execute(statement, {"id": self._session_id, **values}).rowcount

    def transaction(self) -> "AbstractContextManager[object]":
        """All that is done in it is done, or nothing."""
        assert self._connection is not None
        return self._connection.transaction()

    def let_go(self) -> None:
        """The lock is given back before the connection is closed: a server takes a moment to notice that it was."""
        import psycopg  # it is there, or there were no connection

        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):  # a connection that is lost has no lock to give back
                connection.execute("SELECT pg_advisory_unlock_all()")
            connection.close()

    def _lock(self) -> None:
        """The server may need a moment to notice that a process was killed: it is given one. Raises SessionHeld."""
        deadline = time.monotonic() + DEAD_HOLDER_S
        while not self._locked():
            holder = self._holder()
            if not _is_dead(holder) or time.monotonic() > deadline:
                who = holding.told(holder)
                raise SessionHeld(f"session '{self._session_id}' is held by {who}; wait for it, or stop it")
            time.sleep(EVERY_S)

    def _locked(self) -> bool:
        return bool(self.one(f"SELECT pg_try_advisory_lock({_KEY})"))

    def _written_down(self) -> str:
        assert self._connection is not None
        return compact({**self._me, "backend": self._connection.info.backend_pid}).decode()

    def _holder(self) -> Any:
        """What the process that has the lock wrote down about itself; None where it has not done that yet."""
        holder = json.loads(self.one("SELECT holder FROM agentloop_sessions WHERE session_id = %(id)s") or "null")
        backend = holder.get("backend") if isinstance(holder, dict) else None
        holds: LiteralString = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = %(backend)s"
        return holder if backend is not None and self.one(holds, backend=backend) else None


def _is_dead(holder: Any) -> bool:
    """Whether it is a process of this machine that is no more."""
    if not isinstance(holder, dict) or holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int):
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
