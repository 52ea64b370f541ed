"""Which sessions were started here. What a session file from elsewhere asks for is not done until somebody says so.

A log tells what is still to be run and what may be spent. One that was started in this workspace has a mark beside the
workspace's databases, out of reach of what a session's folder brings along; one that came from elsewhere has none. In a
database that machines share, only workers of ours write.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from agentloop.core import wire
from agentloop.database import FOLDER, is_postgres
from agentloop.errors import UsageError
from agentloop.types.blocks import Call
from agentloop.types.events import SessionStarted


class Origins:
    """The marks of the sessions that were started in a workspace."""

    def __init__(self, workspace: Path, database_url: str | None = None) -> None:
        """Nothing is read or made yet."""
        self._folder = workspace / FOLDER / "started"
        self._shared = database_url is not None and is_postgres(database_url)

    def mark(self, session_id: str, started: SessionStarted) -> None:
        """A session starts here, or is trusted as if it had. Its store says which it is: what its log says may be made up."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            for folder in (self._folder.parent, self._folder):  # mkdir gives its mode to the last folder only
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(self._folder / session_id, flags, 0o600), "w", encoding="ascii") as file:
                file.write(wire.prefix_digest(started.prefix))
        except OSError as e:  # the session goes on; when it is taken up again, somebody is asked
            structlog.get_logger("agentloop").warning("origin_not_marked", session=session_id, error=str(e))

    def has(self, session_id: str, started: SessionStarted) -> bool:
        """Whether a session was started here, with this prefix."""
        try:
            return (self._folder / session_id).read_text(encoding="ascii") == wire.prefix_digest(started.prefix)
        except (OSError, ValueError):
            return False

    def forget(self, session_id: str) -> None:
        """The session was deleted: another of its name, put there later, is none of ours. Raises OSError."""
        (self._folder / session_id).unlink(missing_ok=True)

    def checked(self, session_id: str, started: SessionStarted, open_calls: Sequence[Call], trust: bool) -> bool:
        """Whether a session was started here, or is trusted now; False where only its file is known. Raises UsageError where
        such a one holds calls that would run."""
        if trust:
            self.mark(session_id, started)
        if trust or self._shared or self.has(session_id, started):
            return True
        if open_calls:
            raise UsageError(
                f"session '{session_id}' was not started in this workspace, and its calls would run now: {_named(open_calls)}\n"
                f"read it with 'agentloop sessions show {session_id}'; 'agentloop resume {session_id} --trust' runs them"
            )
        return False


def _named(calls: Sequence[Call]) -> str:
    names = list(dict.fromkeys(c.name[:64] for c in calls))
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
