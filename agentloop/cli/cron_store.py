"""What the `cron` commands open: settings, store, sources; and how a due time is printed."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agentloop import database
from agentloop.cli.options import here
from agentloop.operation import tables as operation_tables
from agentloop.operation.health import BEATS_MISSED
from agentloop.schedule import tables
from agentloop.schedule.sources import Loaded, Sources
from agentloop.schedule.store import Row, Store
from agentloop.workspace import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

HEART = "cron serve"
"""How the heartbeats of schedulers begin."""


class Opened(NamedTuple):
    """A workspace's schedules."""

    workspace: Path
    settings: Settings
    store: Store
    sources: Sources

    def load(self) -> Loaded:
        """The schedules as they are now."""
        return self.sources.load()

    def operation(self) -> "Engine":
        """Where heartbeats are kept."""
        found = database.engine(database.url_of(self.workspace, self.settings.database_url, operation_tables.DATABASE))
        operation_tables.make(found)
        return found

    def schedulers(self, now: datetime) -> list[dict[str, Any]]:
        """Every `cron serve` that did not say that it ends."""
        with database.transaction(self.operation()) as connection:
            beats = [b for b in operation_tables.beats(connection) if b[0].startswith(HEART)]
        ages = [(name, at, (now - at).total_seconds(), every_s) for name, at, every_s in beats]
        return [
            {"name": name, "last_at": plain(at), "age_s": age, "alive": age <= BEATS_MISSED * every_s}
            for name, at, age, every_s in ages
        ]


@contextmanager
def opened(workspace: Path) -> Iterator[Opened]:
    """The schedules of a workspace. Raises ConfigError."""
    settings = here(workspace).settings
    store = Store(database.url_of(workspace, settings.database_url, tables.DATABASE))
    try:
        yield Opened(workspace, settings, store, Sources(workspace / settings.prompts, store))
    finally:
        store.database.dispose()


def plain(value: Any) -> Any:
    """A value as `--json` says it: times in UTC with Z, money as a string."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case Decimal():
            return f"{value:f}"
        case _:
            return value


def row_json(row: Row) -> dict[str, Any]:
    """One due time."""
    return {name: plain(value) for name, value in row._asdict().items() if name != "owner"}
