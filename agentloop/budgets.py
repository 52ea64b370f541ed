"""Budgets that sessions share: of a job and of the workspace, for a day and in all.

One ledger, in the workspace's database, holds what each session has spent on each day and what it has set aside for the
request that is under way. A session says what it has spent in all, as its log folds it; so a crash, a retry or a second
telling changes nothing, and a lost ledger is made anew from the logs. Amounts are whole 10⁻¹² USD, rounded up.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import ROUND_CEILING, Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError

from agentloop.core.folding import begin, evolve, most_usd
from agentloop.core.state import State
from agentloop.crash_points import reached
from agentloop.database import transaction
from agentloop.errors import AgentLoopError, BudgetUnknown, LogError
from agentloop.ports import ZERO, Clock, Room
from agentloop.types.events import Event, SessionStarted
from agentloop.types.limits import SharedLimits

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

UNIT = Decimal(10) ** 12
"""What an amount in the ledger is of one USD."""
_LOCK = 5_870_231
"""The PostgreSQL advisory lock under which the ledger is read and written."""

_TABLES = sa.MetaData()
_SPENDING = sa.Table(
    "agentloop_spending",
    _TABLES,
    sa.Column("session_id", sa.Text, primary_key=True),
    sa.Column("day", sa.Text, primary_key=True),
    sa.Column("job", sa.Text, nullable=False, index=True),
    sa.Column("settled", sa.BigInteger, nullable=False),
    sa.Column("reserved", sa.BigInteger, nullable=False),
    sa.Index("agentloop_spending_by_day", "day"),
)
_MADE = sa.Table("agentloop_spending_made", _TABLES, sa.Column("from_logs_at", sa.Text, primary_key=True))


class Spending(NamedTuple):
    """What was spent of one budget, and what is set aside."""

    scope: str
    limit_usd: Decimal | None
    settled_usd: Decimal
    reserved_usd: Decimal

    @property
    def left_usd(self) -> Decimal | None:
        """What neither is spent nor set aside; None where there is no limit."""
        return None if self.limit_usd is None else max(Decimal(0), self.limit_usd - self.settled_usd - self.reserved_usd)


class Logs(Protocol):
    """The sessions of a workspace, as far as the ledger needs them."""

    def ids(self) -> Iterator[str]: ...  # noqa: D102

    def stream(self, session_id: str) -> Iterator[Event]: ...  # noqa: D102


class Others(Protocol):
    """Whoever spends besides sessions, and has a log of its own to say so: batch runs, evals."""

    def ids(self) -> Iterable[str]:
        """Under which ids they spend."""
        ...

    def owns(self, id: str) -> bool:
        """Whether it is one of theirs; no session has such an id."""
        ...

    def job(self, id: str) -> str:
        """For which job."""
        ...

    def charges(self, id: str) -> Iterable[tuple[datetime, Decimal]]:
        """What one was charged, and when (USD)."""
        ...

    def under_way_usd(self, id: str) -> Decimal:
        """The most that what is under way for it can cost."""
        ...


class BudgetLedger:
    """Who spent what, and who is about to."""

    def __init__(self, database: "Engine", logs: Logs, zone: ZoneInfo, clock: Clock, others: Sequence[Others] = ()) -> None:
        """Use this database; days are those of this zone."""
        self._database, self._logs, self._zone, self._clock = database, logs, zone, clock
        self._others = others
        self._there = False

    def is_made(self) -> bool:
        """Whether anybody has asked it for anything yet. Raises BudgetUnknown."""
        with _understood():
            return sa.inspect(self._database).has_table(_MADE.name)

    def purse(self, session_id: str, job: str, limits: SharedLimits) -> "SharedPurse":
        """The purse of one session."""
        return SharedPurse(self, session_id, job, limits)

    def spending(self, job: str | None, limits: SharedLimits) -> list[Spending]:
        """What was spent today and in all, by the workspace and by one of its jobs. Raises BudgetUnknown."""
        with self.changing() as connection:
            found = []
            for scope in scopes(job, limits, self.today()):
                settled, reserved = _sums(connection, scope)
                found.append(Spending(scope.name, scope.limit, _usd(settled), _usd(reserved)))
            return found

    def rebuild(self) -> int:
        """Make the ledger anew from the sessions' logs. Returns how many sessions have spent. Raises BudgetUnknown."""
        with self.changing() as connection:
            return self._from_logs(connection)

    def today(self) -> str:
        """The day that it is in the budgets' zone."""
        return self.day(self._clock.now().astimezone(self._zone).date())

    @staticmethod
    def day(value: date) -> str:
        """A day, as the ledger names it."""
        return value.isoformat()

    @contextmanager
    def changing(self) -> "Iterator[Connection]":
        """The ledger for oneself. Raises BudgetUnknown where it is damaged or out of reach."""
        with _understood(), transaction(self._database) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            if not self._there:
                self._make(connection)
            yield connection
        self._there = True

    def register(self, connection: "Connection", session_id: str, job: str) -> None:
        """What a session spent before the ledger knew it, on the days on which it did."""
        known = sa.select(sa.func.count()).where(_SPENDING.c.session_id == session_id).select_from(_SPENDING)
        if connection.scalar(known):
            return
        for day, usd in self._spent(session_id).items():
            write(connection, session_id, day, job, _units(usd), 0)

    def _spent(self, id: str) -> dict[str, Decimal]:
        """What a session was charged, or one of the others, by day."""
        for others in self._others:
            if others.owns(id):
                return self._charged(others.charges(id))
        return self._by_day(self._logs.stream(id))[0]

    def _charged(self, charges: Iterable[tuple[datetime, Decimal]]) -> dict[str, Decimal]:
        found: dict[str, Decimal] = {}
        for at, usd in charges:
            day = self.day(at.astimezone(self._zone).date())
            found[day] = found.get(day, Decimal(0)) + usd
        return found

    def _make(self, connection: "Connection") -> None:
        _TABLES.create_all(connection)
        if not connection.scalar(sa.select(sa.func.count()).select_from(_MADE)):
            self._from_logs(connection)

    def _from_logs(self, connection: "Connection") -> int:
        connection.execute(sa.delete(_SPENDING))
        connection.execute(sa.delete(_MADE))
        found = 0
        for session_id in self._logs.ids():
            try:
                found += self._entered(connection, session_id)
            except AgentLoopError as e:  # a log that cannot be read at all must not stop the others from being counted
                structlog.get_logger("agentloop").warning("spending_not_counted", session=session_id, error=str(e))
            reached("budget.half_rebuilt")
        for others in self._others:
            for id in others.ids():
                try:
                    found += self._entered_other(connection, others, id)
                except AgentLoopError as e:
                    structlog.get_logger("agentloop").warning("spending_not_counted", account=id, error=str(e))
        connection.execute(sa.insert(_MADE).values(from_logs_at=self._clock.now().isoformat()))
        return found

    def _entered_other(self, connection: "Connection", others: Others, id: str) -> bool:
        """The same of one of the others: what it has under way is set aside today."""
        days, job, under_way = self._charged(others.charges(id)), others.job(id), others.under_way_usd(id)
        for day, usd in days.items():
            write(connection, id, day, job, _units(usd), 0)
        if under_way:
            write(connection, id, self.today(), job, _units(days.get(self.today(), Decimal(0))), _units(under_way))
        return bool(days)

    def _entered(self, connection: "Connection", session_id: str) -> bool:
        """Whether a session has spent; what its log says of that is in the ledger now. Raises UnknownSession."""
        events = self._logs.stream(session_id)
        start = next(events)
        assert isinstance(start.body, SessionStarted)
        job = start.body.job or start.body.agent
        days, state = self._by_day(_readable(session_id, chain([start], events)))
        for day, usd in days.items():
            write(connection, session_id, day, job, _units(usd), 0)
        if state is not None and state.pending is not None:  # it may be under way now, and be billed
            at = self.day((state.pending_at or state.started_at).astimezone(self._zone).date())
            write(connection, session_id, at, job, _units(days.get(at, Decimal(0))), _units(most_usd(state, state.pending)))
        return bool(days)

    def _by_day(self, events: Iterable[Event]) -> tuple[dict[str, Decimal], State | None]:
        """What a session was charged, by day; and how it stands."""
        found: dict[str, Decimal] = {}
        state: State | None = None
        for event in events:
            if state is None:
                assert isinstance(event.body, SessionStarted)
                state = begin(event.body, event.at)
                continue
            after = evolve(state, event)
            if more := after.own_usd - state.own_usd:
                day = self.day(event.at.astimezone(self._zone).date())
                found[day] = found.get(day, Decimal(0)) + more
            state = after
        return found, state


@contextmanager
def _understood() -> Iterator[None]:
    """What goes wrong with the database, in our words. Raises BudgetUnknown."""
    try:
        yield
    except SQLAlchemyError as e:
        cause = str(getattr(e, "orig", None) or e).strip().partition("\n")[0]
        raise BudgetUnknown(
            f"what the shared budgets have left cannot be read: {cause}\n"
            "nothing is spent until that is known: 'agentloop budget rebuild' makes the ledger anew from the logs"
        ) from e


def _readable(session_id: str, events: Iterable[Event]) -> Iterator[Event]:
    """The events up to the first that is damaged."""
    try:
        yield from events
    except LogError as e:
        structlog.get_logger("agentloop").warning("spending_not_counted", session=session_id, error=str(e))


class SharedPurse:
    """A `Purse` over the ledger, for one session."""

    def __init__(self, ledger: BudgetLedger, session_id: str, job: str, limits: SharedLimits) -> None:
        """Spend for this session, within these limits."""
        self._ledger, self._session_id, self._job, self._limits = ledger, session_id, job, limits

    def reserve(self, spent_usd: Decimal, most_usd: Decimal, sent_usd: Decimal = ZERO) -> Room | None:
        """Set aside the most that the next request can cost; where that is refused, what is under way. Raises BudgetUnknown."""
        with self._ledger.changing() as connection:
            day = self._settle(connection, spent_usd)
            rooms = [_room(connection, s, most_usd) for s in scopes(self._job, self._limits, day) if s.limit is not None]
            refused = [r for r in rooms if not r.granted]
            _set_aside(connection, self._session_id, day, _units(sent_usd if refused else most_usd))
        if refused:
            return min(refused, key=lambda r: r.left_usd)
        return min(rooms, key=lambda r: r.left_usd / r.limit_usd if r.limit_usd else Decimal(0), default=None)

    def settle(self, spent_usd: Decimal) -> None:
        """The session has spent so much in all, and has no request under way. Raises BudgetUnknown."""
        with self._ledger.changing() as connection:
            self._settle(connection, spent_usd)
        reached("budget.settled")

    def _settle(self, connection: "Connection", spent_usd: Decimal) -> str:
        """What of it falls on today: all but what other days have. Nothing is set aside any more."""
        day = self._ledger.today()
        self._ledger.register(connection, self._session_id, self._job)
        mine = _SPENDING.c.session_id == self._session_id
        connection.execute(sa.update(_SPENDING).where(mine).values(reserved=0))
        before = connection.scalar(_sum(_SPENDING.c.settled).where(mine, _SPENDING.c.day != day)) or 0
        write(connection, self._session_id, day, self._job, max(0, _units(spent_usd) - int(before)), 0)
        return day


class Scope(NamedTuple):
    """One budget: whose, of when, and how much."""

    name: str
    limit: Decimal | None
    job: str | None
    day: str | None
    run: str | None = None
    """What begins the ids of the sessions that count; None: all do."""


def scopes(job: str | None, limits: SharedLimits, day: str) -> list[Scope]:
    """The budgets of the workspace, and of a job where one is named."""
    found = [
        Scope(f"the workspace on {day}", limits.workspace_day, None, day),
        Scope("the workspace", limits.workspace_total, None, None),
    ]
    if job is not None:
        found += [Scope(f"'{job}' on {day}", limits.job_day, job, day), Scope(f"'{job}'", limits.job_total, job, None)]
    if limits.run_total is not None:
        found.append(Scope(f"wave '{limits.run}'", limits.run_total, None, None, limits.run))
    return found


def _room(connection: "Connection", scope: Scope, most_usd: Decimal) -> Room:
    assert scope.limit is not None
    left = scope.limit - _usd(sum(_sums(connection, scope)))
    return Room(scope.name, scope.limit, max(left, Decimal(0)), most_usd <= left)


def _sums(connection: "Connection", scope: Scope) -> tuple[int, int]:
    """What is settled and what is set aside."""
    where = [_SPENDING.c.day == scope.day] if scope.day is not None else []
    where += [_SPENDING.c.job == scope.job] if scope.job is not None else []
    where += [_SPENDING.c.session_id.startswith(f"{scope.run}-", autoescape=True)] if scope.run is not None else []
    settled, reserved = (_sum(c).where(*where) for c in (_SPENDING.c.settled, _SPENDING.c.reserved))
    return int(connection.scalar(settled) or 0), int(connection.scalar(reserved) or 0)


def _sum(column: Any) -> Any:
    return sa.select(sa.func.sum(column))


def write(connection: "Connection", session_id: str, day: str, job: str, settled: int, reserved: int) -> None:
    """One session's row of a day."""
    this = (_SPENDING.c.session_id == session_id) & (_SPENDING.c.day == day)
    changed = connection.execute(sa.update(_SPENDING).where(this).values(job=job, settled=settled, reserved=reserved))
    if not changed.rowcount:
        row = {"session_id": session_id, "day": day, "job": job, "settled": settled, "reserved": reserved}
        connection.execute(sa.insert(_SPENDING).values(row))


def _set_aside(connection: "Connection", session_id: str, day: str, amount: int) -> None:
    this = (_SPENDING.c.session_id == session_id) & (_SPENDING.c.day == day)
    connection.execute(sa.update(_SPENDING).where(this).values(reserved=amount))


def _units(usd: Decimal) -> int:
    return int((usd * UNIT).to_integral_value(rounding=ROUND_CEILING))


def _usd(units: int) -> Decimal:
    return (Decimal(units) / UNIT).normalize() + Decimal(0)
