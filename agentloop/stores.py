"""Which store a workspace has: files, or the PostgreSQL that `database_url` names."""

from collections.abc import Callable
from pathlib import Path

from agentloop.adapters.jsonl_log import Dropped
from agentloop.database import checked, is_postgres
from agentloop.ports import SessionStore
from agentloop.sessions import Sessions
from agentloop.workspace import Settings


def store_of(workspace: Path, settings: Settings, on_dropped: Callable[[Dropped], None] = lambda dropped: None) -> SessionStore:
    """The sessions of a workspace. Nothing is opened yet. Raises ConfigError."""
    if settings.database_url is not None and is_postgres(checked(settings.database_url)):
        from agentloop import postgres  # only where it is named
        from agentloop.postgres_sessions import PostgresSessions

        return PostgresSessions(postgres.shared(settings.database_url))
    return Sessions(workspace / settings.sessions, fsync=settings.fsync, on_dropped=on_dropped)
