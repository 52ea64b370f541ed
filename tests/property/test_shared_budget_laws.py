"""Laws of budgets that sessions share: whatever is interrupted, retried or told twice, they hold, and the sums are right."""

import random
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from agentloop.budgets import BudgetLedger, SharedPurse
from agentloop.database import engine
from agentloop.testing import FixedClock, events, started
from agentloop.types.events import Event
from agentloop.types.limits import SharedLimits

SCHEDULES = 1_000
START = datetime(2026, 3, 1, 9, tzinfo=UTC)


class Nobody:
    """Sessions that have spent nothing before."""

    def ids(self) -> Iterator[str]:
        return iter(())

    def stream(self, session_id: str) -> Iterator[Event]:
        return iter(events(started(session_id=session_id)))


class Worker(NamedTuple):
    """One session: what it may spend through, and what it has in all."""

    purse: SharedPurse
    spent: list[Decimal]
    under_way: list[Decimal]
    """The most that the request under way can cost."""


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> tuple[BudgetLedger, FixedClock]:
    database = engine(f"sqlite:///{tmp_path_factory.mktemp('budgets')}/b.sqlite")
    sa.event.listen(database, "connect", _unsynced)
    clock = FixedClock(START)
    return BudgetLedger(database, Nobody(), ZoneInfo("UTC"), clock), clock


def _unsynced(connection: Any, record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


def test_no_schedule_of_parallel_sessions_spends_more_than_the_day_has(book: tuple[BudgetLedger, FixedClock]) -> None:
    """Each schedule is a job of its own. A request that is under way at midnight was set aside on the day before: that,
    and no more, may come on top of the next day."""
    ledger, clock = book
    for seed in range(SCHEDULES):
        clock.at = START + timedelta(days=10 * seed)
        _schedule(ledger, clock, f"job-{seed}", random.Random(seed))


def _schedule(ledger: BudgetLedger, clock: FixedClock, job: str, chance: random.Random) -> None:
    limits = SharedLimits(job_day=Decimal(chance.randint(5, 60)) / 10, job_total=Decimal(chance.randint(40, 150)) / 10)
    workers = [Worker(ledger.purse(f"{job}-{n}", job, limits), [Decimal(0)], []) for n in range(chance.randint(2, 6))]
    by_day: dict[str, Decimal] = defaultdict(Decimal)
    over_midnight: dict[str, Decimal] = defaultdict(Decimal)
    for _ in range(chance.randint(6, 24)):
        one = chance.choice(workers)
        match chance.choices(["ask", "settle", "crash", "midnight"], [8, 7, 2, 1])[0]:
            case "ask" if not one.under_way:
                most = Decimal(chance.randint(0, 2_000)) / 1_000
                room = one.purse.reserve(one.spent[0], most)
                assert room is not None
                if room.granted:
                    one.under_way.append(most)
            case "settle" if one.under_way:
                _settles(one, one.under_way.pop() * chance.randint(0, 100) / 100, by_day, ledger.today())
            case "crash" if one.under_way:  # it may have been billed: all of it is counted when the session is taken up
                _settles(one, one.under_way.pop(), by_day, ledger.today())
            case "midnight":
                clock.pass_(24 * 3600)
                over_midnight[ledger.today()] += sum((w for one in workers for w in one.under_way), Decimal(0))
    for day, spent in by_day.items():
        assert limits.job_day is not None
        assert spent <= limits.job_day + over_midnight[day]
    assert limits.job_total is not None
    assert sum(by_day.values()) <= limits.job_total
    known = {s.scope: s.settled_usd for s in ledger.spending(job, limits)}
    assert known[f"'{job}'"] == sum(by_day.values())
    assert known[f"'{job}' on {ledger.today()}"] == by_day[ledger.today()]


def _settles(one: Worker, cost: Decimal, by_day: dict[str, Decimal], day: str) -> None:
    one.spent[0] += cost
    one.purse.settle(one.spent[0])
    one.purse.settle(one.spent[0])
    by_day[day] += cost


def _spends(ledger: BudgetLedger, name: str, seed: int) -> Decimal:
    chance, spent = random.Random(seed), Decimal(0)
    purse = ledger.purse(name, "together", SharedLimits(job_total=Decimal(2)))
    for _ in range(12):
        most = Decimal(chance.randint(1, 300)) / 1_000
        room = purse.reserve(spent, most)
        assert room is not None
        if room.granted:
            spent += most * chance.randint(50, 100) / 100
            purse.settle(spent)
    return spent


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_threads_that_spend_at_once_share_one_ledger(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("new_postgres_url") if kind == "postgresql" else f"sqlite:///{tmp_path}/b.sqlite"
    database = engine(url)
    clock = FixedClock(START)
    with ThreadPoolExecutor(8) as pool:
        ledgers = [BudgetLedger(database, Nobody(), ZoneInfo("UTC"), clock) for _ in range(8)]
        spent = sum(pool.map(lambda n: _spends(ledgers[n], f"s{n}", n), range(8)), Decimal(0))

    known = ledgers[0].spending("together", SharedLimits(job_total=Decimal(2)))
    assert spent <= 2
    assert known[3].settled_usd == spent
    assert known[3].reserved_usd == 0
    database.dispose()
