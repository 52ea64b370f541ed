"""What operation keeps in the database: who is alive, and which notices were given. What sessions did stands in their logs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

DATABASE = "operation"
"""The name of the file, where there is no shared database."""

_ALL = sa.MetaData()
HEARTBEATS = sa.Table(
    "agentloop_heartbeats",
    _ALL,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("every_s", sa.Float, nullable=False),
)
NOTICES = sa.Table(
    "agentloop_notices",
    _ALL,
    sa.Column("subject", sa.String(200), primary_key=True),
    sa.Column("event", sa.String(200), primary_key=True),
    sa.Column("notice", sa.Text, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("at", sa.String(40), nullable=False),
)
CLAIM = timedelta(minutes=10)
"""A notice that somebody took and said nothing more about for so long is free again: they died over it."""


class Kept(NamedTuple):
    """A notice that is to be given."""

    subject: str
    event: str
    notice: str


def make(database: "Engine") -> None:
    """Make the tables that are not there yet. Two processes may do so at once."""
    try:
        _ALL.create_all(database)
    except sa.exc.DBAPIError:
        _ALL.create_all(database)  # the other one was faster between our look and our making


def beaten(connection: "Connection", name: str, now: datetime, every_s: float) -> None:
    """A process is alive."""
    row = {"at": _written(now), "every_s": every_s}
    changed = connection.execute(sa.update(HEARTBEATS).where(HEARTBEATS.c.name == name).values(**row))
    if changed.rowcount == 0:
        connection.execute(sa.insert(HEARTBEATS).values(name=name, **row))


def stopped(connection: "Connection", name: str) -> None:
    """A process has ended as it should."""
    connection.execute(sa.delete(HEARTBEATS).where(HEARTBEATS.c.name == name))


def beats(connection: "Connection") -> list[tuple[str, datetime, float]]:
    """Every process that said it lives: its name, when it last said so, how often it says so."""
    rows = connection.execute(sa.select(HEARTBEATS).order_by(HEARTBEATS.c.name))
    return [(row.name, datetime.fromisoformat(row.at), row.every_s) for row in rows]


def keep(connection: "Connection", kept: Kept, now: datetime) -> bool:
    """Keep a notice until it is given. False where there has been one of this subject and event before."""
    same = sa.select(NOTICES.c.state).where(NOTICES.c.subject == kept.subject, NOTICES.c.event == kept.event)
    if connection.execute(same).first() is not None:
        return False
    row = {**kept._asdict(), "state": "waiting", "tries": 0, "at": _written(now)}
    connection.execute(sa.insert(NOTICES).values(**row))
    return True


def taken(connection: "Connection", now: datetime, most_tries: int) -> Iterator[Kept]:
    """Notices that are to be given: they are this caller's for a while."""
    free = sa.or_(
        NOTICES.c.state == "waiting",
        sa.and_(NOTICES.c.state == "taken", NOTICES.c.at < _written(now - CLAIM)),
    )
    for row in connection.execute(sa.select(NOTICES).where(free, NOTICES.c.tries < most_tries)).all():
        mine = connection.execute(
            sa.update(NOTICES)
            .where(_is(row.subject, row.event), NOTICES.c.state == row.state, NOTICES.c.at == row.at)
            .values(state="taken", tries=row.tries + 1, at=_written(now))
        )
        if mine.rowcount == 1:
            yield Kept(row.subject, row.event, row.notice)


def settled(connection: "Connection", kept: Kept, given: bool, now: datetime) -> None:
    """A notice was given, or could not be: then it waits for the next try."""
    state = "given" if given else "waiting"
    connection.execute(sa.update(NOTICES).where(_is(kept.subject, kept.event)).values(state=state, at=_written(now)))


def _is(subject: str, event: str) -> "sa.ColumnElement[bool]":
    return sa.and_(NOTICES.c.subject == subject, NOTICES.c.event == event)


def _written(at: datetime) -> str:
    """A time whose text sorts as the time does."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
