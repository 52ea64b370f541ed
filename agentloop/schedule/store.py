"""What was decided about schedules, durably, on SQLite or PostgreSQL alike.

Whoever decides about a schedule holds its row, so that two schedulers decide one after the other, and each due time once. A
due time is claimed before its run starts; its session's id is made of it, so a run that is started twice is carried on.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from agentloop import database
from agentloop.crash_points import reached
from agentloop.database import transaction
from agentloop.errors import ConfigError, UsageError
from agentloop.schedule import due, tables
from agentloop.schedule.due import Decision, Status
from agentloop.schedule.spec import Schedule
from agentloop.schedule.tables import DUE_TIMES, SCHEDULES

_S, _D = SCHEDULES.c, DUE_TIMES.c
_STATUS: dict[due.Verdict, Status] = {"start": "claimed", "queue": "waiting", "skip": "skipped"}
BY_HAND = "run by hand"
"""The reason of a run that somebody asked for: it begins whether or not its schedule is paused."""
SKEW = timedelta(minutes=1)
"""Clocks of machines that share a database may differ by so much."""
_OPEN = ("waiting", "claimed", "running", "submitted", "parked")


class Row(NamedTuple):
    """One due time, and what became of it."""

    name: str
    due: datetime
    session_id: str
    status: Status
    reason: str
    """Why it did not become a run, or what came of it."""
    outcome: str | None
    exit_code: int | None
    cost_usd: Decimal | None
    decided_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    not_before: datetime | None
    """When it is taken up again."""
    owner: str | None
    tries: int
    crashes: int


class Standing(NamedTuple):
    """A schedule as the database knows it."""

    name: str
    since: datetime
    paused: str
    """Why; empty where it is not."""
    failures: int
    """In a row."""


# what each look asks is built once: that takes longer than to run it
_NAME = sa.bindparam("of_name", type_=sa.String())
_EVERY = sa.select(SCHEDULES)
_ONE = sa.select(SCHEDULES).where(_S.name == _NAME).with_for_update()
_NEAR = sa.select(_D.due, _D.status).where(_D.name == _NAME, sa.or_(_D.due > sa.bindparam("start"), _D.status.in_(_OPEN)))
_LINES = sa.select(*(DUE_TIMES.c[name] for name in Row._fields))
_AT = _LINES.where(_D.name == _NAME, _D.due == sa.bindparam("due"))
_THESE = _LINES.where(_D.name == _NAME, _D.due.in_(sa.bindparam("due_times", expanding=True))).order_by(_D.due)
_RETRY = sa.select(sa.type_coerce(sa.func.min(_D.not_before), tables.Instant())).where(_D.status == "claimed")


class Store:
    """The schedules of a workspace, and their due times."""

    def __init__(self, url: str) -> None:
        """Use this database. Raises ConfigError where there is none."""
        self.url = url
        self.database = database.engine(url)
        try:
            tables.make(self.database)
        except sa.exc.OperationalError as e:
            raise ConfigError(f"the database of the schedules cannot be used: {_first_line(e)}") from e

    # the schedules

    def add(self, schedule: Schedule, now: datetime) -> None:
        """Keep a schedule that stands in no file. Raises UsageError where there is one of that name."""
        with transaction(self.database) as c:
            there = c.execute(sa.select(_S.removed).where(_S.name == schedule.name).with_for_update()).first()
            if there is not None and not there.removed:
                raise UsageError(f"there is a schedule '{schedule.name}' already; name this one with --name")
            self._enter(c, schedule, now, there is None)
            c.execute(sa.update(SCHEDULES).where(_S.name == schedule.name).values(written=schedule.model_dump_json()))

    def stored(self) -> list[Schedule]:
        """The schedules that stand in no file."""
        kept = sa.select(_S.written).where(_S.written.is_not(None), ~_S.removed).order_by(_S.name)
        with transaction(self.database) as c:
            return [Schedule.model_validate_json(written) for (written,) in c.execute(kept)]

    def remove(self, name: str) -> None:
        """Forget a schedule; its history stays."""
        with transaction(self.database) as c:
            self._drop(c, name)

    def sync(self, schedules: Sequence[Schedule], now: datetime, *, complete: bool = True) -> None:
        """Take note of the schedules that there are: new ones and changed ones count from now on, and what was planned under
        an older form is not run. `complete`: those that are not named are gone."""
        with transaction(self.database) as c:
            known = {r.name: r for r in c.execute(_EVERY).all()}
            for schedule in schedules:
                row = known.get(schedule.name)
                if row is None or row.removed or row.digest != schedule.digest:
                    self._changed(c, schedule.name, "the schedule was changed")
                    self._enter(c, schedule, now, row is None)
                elif row.since > now + SKEW:  # the clock was wrong when it was entered, or is wrong now
                    c.execute(sa.update(SCHEDULES).where(_S.name == schedule.name).values(since=now, seen_until=now))
            named = {s.name for s in schedules}
            for name in (n for n, row in known.items() if complete and n not in named and not row.removed):
                self._drop(c, name)

    def _enter(self, c: sa.Connection, schedule: Schedule, now: datetime, new: bool) -> None:
        values: dict[str, Any] = {"digest": schedule.digest, "since": now, "seen_until": now, "removed": False}
        if not new:
            c.execute(sa.update(SCHEDULES).where(_S.name == schedule.name).values(**values))
            return
        with_name = {"name": schedule.name, **values}
        if c.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert

            c.execute(insert(SCHEDULES).values(**with_name).on_conflict_do_nothing())  # another scheduler was as quick
        else:
            c.execute(sa.insert(SCHEDULES).values(**with_name))

    def _drop(self, c: sa.Connection, name: str) -> None:
        c.execute(sa.update(SCHEDULES).where(_S.name == name).values(removed=True, written=None, paused="", failures=0))
        self._changed(c, name, "the schedule was removed")

    def _changed(self, c: sa.Connection, name: str, why: str) -> None:
        unstarted = sa.and_(_D.name == name, _D.status.in_(("waiting", "claimed")), _D.tries == 0)
        c.execute(sa.update(DUE_TIMES).where(unstarted).values(status="skipped", reason=why))

    def standings(self) -> dict[str, Standing]:
        """What the database knows of each schedule that there is."""
        with transaction(self.database) as c:
            rows = c.execute(sa.select(SCHEDULES).where(~_S.removed)).all()
        return {r.name: Standing(r.name, r.since, r.paused, r.failures) for r in rows}

    def pause(self, name: str, why: str, now: datetime) -> None:
        """Start no run of it from now on."""
        with transaction(self.database) as c:
            paused(c, name, why, now)

    def unpause(self, name: str, now: datetime) -> None:
        """Go on from now on: what fell due in between is not made up for."""
        values: dict[str, Any] = {"paused": "", "paused_at": None, "failures": 0, "since": now, "seen_until": now}
        with transaction(self.database) as c:
            c.execute(sa.update(SCHEDULES).where(_S.name == name).values(**values))

    # what is decided

    def decide(self, schedule: Schedule, now: datetime) -> list[Row]:
        """Decide what is due, and write it down. The rows that are new or changed; each due time is decided once, whoever
        asks, however many do at once."""
        with transaction(self.database) as c:
            row = c.execute(_ONE, {"of_name": schedule.name}).first()
            if row is None or row.removed or row.digest != schedule.digest:
                return []  # changed since it was read: the next look knows more
            start = due.window(schedule, row.since, row.seen_until, now)
            decided = {r.due: r.status for r in c.execute(_NEAR, {"of_name": schedule.name, "start": start})}
            found = due.decide(schedule, due.History(row.since, row.seen_until, decided, row.paused), now)
            for decision in found:
                self._write(c, schedule, decision, now, decision.due in decided)
            if found or (now - row.seen_until).total_seconds() > schedule.max_age_s / 2:
                c.execute(sa.update(SCHEDULES).where(_S.name == schedule.name).values(seen_until=now))
            these = {"of_name": schedule.name, "due_times": [d.due for d in found]}
            rows = [_row(r) for r in c.execute(_THESE, these)] if found else []
        if any(d.verdict == "start" for d in found):
            reached("schedule.claimed")
        return rows

    def claim_by_hand(self, schedule: Schedule, now: datetime) -> Row:
        """A run that somebody asks for. Raises UsageError where it would overlap with another."""
        at = now.replace(microsecond=0)
        with transaction(self.database) as c:
            c.execute(sa.select(_S.name).where(_S.name == schedule.name).with_for_update())
            rows = self._rows(c, sa.and_(_D.name == schedule.name, sa.or_(_D.status.in_(tuple(due.ACTIVE)), _D.due == at)))
            if len(rows) >= schedule.side_by_side or any(r.due == at for r in rows):
                raise Overlaps(f"'{schedule.name}' is running already ({rows[0].session_id}); wait for its end")
            self._write(c, schedule, Decision(at, "start", BY_HAND), now, False, by_hand=True)
            return self._rows(c, sa.and_(_D.name == schedule.name, _D.due == at))[0]

    def _write(
        self, c: sa.Connection, schedule: Schedule, decision: Decision, now: datetime, known: bool, by_hand: bool = False
    ) -> None:
        job = schedule.job(decision.due, by_hand)
        values: dict[str, Any] = {"status": _STATUS[decision.verdict], "decided_at": now, "job": job.model_dump_json()}
        if decision.reason or not known:
            values["reason"] = decision.reason
        if known:
            same = sa.and_(_D.name == schedule.name, _D.due == decision.due)
            c.execute(sa.update(DUE_TIMES).where(same).values(**values))
        else:
            key = {"name": schedule.name, "due": decision.due, "session_id": job.session_id}
            c.execute(sa.insert(DUE_TIMES).values(**key, **values))

    # what is known

    def rows(self, statuses: Iterable[Status], now: datetime | None = None) -> list[Row]:
        """The due times that stand so, oldest first; with `now`, those only that may be taken up already."""
        query, values = _standing(tuple(statuses), now is not None), {} if now is None else {"now": now}
        with transaction(self.database) as c:
            return [_row(found) for found in c.execute(query, values)]

    def row(self, name: str, at: datetime) -> Row:
        """One due time."""
        with transaction(self.database) as c:
            return _row(c.execute(_AT, {"of_name": name, "due": at}).one())

    def history(self, name: str | None = None, limit: int = 50) -> list[Row]:
        """The last due times, newest first."""
        where = _D.name == name if name is not None else sa.true()
        with transaction(self.database) as c:
            return self._rows(c, where, newest=limit)

    def next_retry(self) -> datetime | None:
        """When the first run is to be taken up again."""
        with transaction(self.database) as c:
            return c.execute(_RETRY).scalar()

    def _rows(self, c: sa.Connection, where: Any, newest: int | None = None) -> list[Row]:
        query = _LINES.where(where)
        query = query.order_by(_D.due, _D.name) if newest is None else query.order_by(_D.due.desc(), _D.name).limit(newest)
        return [_row(found) for found in c.execute(query)]


@cache
def _standing(statuses: tuple[Status, ...], timed: bool) -> sa.Select[Any]:
    """The due times that stand so, oldest first."""
    where: sa.ColumnElement[bool] = _D.status.in_(statuses)
    if timed:
        where = sa.and_(where, sa.or_(_D.not_before.is_(None), _D.not_before <= sa.bindparam("now")))
    return _LINES.where(where).order_by(_D.due, _D.name)


class Overlaps(UsageError):
    """A run that was asked for would overlap with one that is going."""

    exit_code = 75


def paused(c: sa.Connection, name: str, why: str, now: datetime) -> None:
    """Pause a schedule; what was to begin now does not."""
    c.execute(sa.update(SCHEDULES).where(_S.name == name).values(paused=why, paused_at=now))
    unstarted = sa.and_(_D.name == name, _D.status == "claimed", _D.tries == 0, _D.reason != BY_HAND)
    c.execute(sa.update(DUE_TIMES).where(unstarted).values(status="skipped", reason=f"paused: {why}"))


def _row(found: Any) -> Row:
    values = found._asdict()
    cost = values["cost_usd"]
    return Row(**{**values, "cost_usd": None if cost is None else Decimal(cost)})


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", error)).partition("\n")[0]
