"""Whole tool results in PostgreSQL, by session and digest: written once, never changed."""

import hashlib
import re
from collections.abc import Iterator

from agentloop import session_tables
from agentloop.errors import LogError, LogWriteFailed, StoreUnavailable
from agentloop.postgres import Postgres

_HANDLE = re.compile(r"[0-9a-f]{8,64}")


class PostgresBlobs:
    """`Blobs` of one session."""

    def __init__(self, database: Postgres, session_id: str) -> None:
        """Use what this session has in this database."""
        self._database = database
        self._session_id = session_id

    def put(self, data: bytes) -> str:
        """Keep these bytes; returns their digest. Raises StoreUnavailable, LogWriteFailed; it may be repeated."""
        session_tables.ensure(self._database)
        digest = hashlib.sha256(data).hexdigest()
        try:
            self._database.rows(
                "INSERT INTO agentloop_blobs VALUES (%(id)s, %(digest)s, %(data)b) ON CONFLICT DO NOTHING",
                {"id": self._session_id, "digest": digest, "data": data},
            )
        except StoreUnavailable:
            raise
        except LogError as e:
            raise LogWriteFailed(f"cannot keep a tool result: {e}; then resume") from e
        return digest

    def find(self, handle: str) -> bytes | None:
        """The bytes whose digest starts with this handle; None where there are none, or more than one."""
        if not _HANDLE.fullmatch(handle):
            return None
        session_tables.ensure(self._database)
        found = self._database.rows(
            "SELECT data FROM agentloop_blobs WHERE session_id = %(id)s AND digest >= %(low)s AND digest <= %(high)s LIMIT 2",
            {"id": self._session_id, "low": handle, "high": handle + "g"},
        )
        return bytes(found[0][0]) if len(found) == 1 else None

    def digests(self) -> Iterator[str]:
        """The digests of all that is kept, sorted."""
        session_tables.ensure(self._database)
        rows = self._database.rows(
            "SELECT digest FROM agentloop_blobs WHERE session_id = %(id)s ORDER BY digest", {"id": self._session_id}
        )
        return (str(digest) for (digest,) in rows)
