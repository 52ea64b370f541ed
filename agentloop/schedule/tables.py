"""What the database keeps of schedules: each of them, and each of their due times. The key (schedule, due) is the claim."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from sqlalchemy import Engine

DATABASE = "schedules"
"""The name of the file, where there is no shared database."""


class Instant(sa.types.TypeDecorator[datetime]):
    """A time as text that sorts as the time does, the same on every database."""

    impl = sa.String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> str | None:
        """Write it in UTC."""
        return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: str | None, dialect: Any) -> datetime | None:
        """Read it, aware."""
        return None if value is None else datetime.fromisoformat(value)


_ALL = sa.MetaData()
SCHEDULES = sa.Table(
    "agentloop_schedules",
    _ALL,
    sa.Column("name", sa.String(60), primary_key=True),
    sa.Column("written", sa.Text),  # the whole schedule, of those that stand here and in no file
    sa.Column("digest", sa.String(16), nullable=False),
    sa.Column("since", Instant, nullable=False),
    sa.Column("seen_until", Instant, nullable=False),
    sa.Column("paused_at", Instant),
    sa.Column("paused", sa.Text, nullable=False, server_default=""),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("removed", sa.Boolean, nullable=False, server_default=sa.false()),
)
DUE_TIMES = sa.Table(
    "agentloop_due_times",
    _ALL,
    sa.Column("name", sa.String(60), primary_key=True),
    sa.Column("due", Instant, primary_key=True),
    sa.Column("session_id", sa.String(100), nullable=False),
    sa.Column("status", sa.String(12), nullable=False),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("outcome", sa.String(40)),
    sa.Column("exit_code", sa.Integer),
    sa.Column("cost_usd", sa.String(40)),
    sa.Column("job", sa.Text),
    sa.Column("decided_at", Instant, nullable=False),
    sa.Column("started_at", Instant),
    sa.Column("ended_at", Instant),
    sa.Column("not_before", Instant),
    sa.Column("owner", sa.String(100)),  # the process that runs it: it holds the lock of that name
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("crashes", sa.Integer, nullable=False, server_default="0"),
    sa.Column("progress", sa.Integer, nullable=False, server_default="0"),
    sa.Index("agentloop_due_times_open", "status"),
)
_MAKING = 0x61_6C_73_63_68
"""The advisory lock under which the tables are made."""


def make(database: "Engine") -> None:
    """Make the tables that are not there yet. Two processes may do so at once."""
    with database.begin() as connection:
        if database.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MAKING)))
        _ALL.create_all(connection)
