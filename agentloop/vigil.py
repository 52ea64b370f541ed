"""Looks, now and then, for what has fallen silent: schedules without a success, processes without a heartbeat."""

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
import structlog

from agentloop import database
from agentloop.database import transaction
from agentloop.operation import aftermath
from agentloop.operation import tables as operation_tables
from agentloop.operation.health import stale_hearts
from agentloop.operation.notices import Notice
from agentloop.operation.silence import Expected, dead, silent
from agentloop.schedule import tables
from agentloop.schedule.calendar import due_times
from agentloop.schedule.sources import Sources
from agentloop.schedule.spec import Schedule
from agentloop.schedule.store import Store
from agentloop.workspace import Settings

EVERY_S = 300.0
_LOOKED_BACK = tuple(timedelta(days=days) for days in (1, 8, 64, 400))
"""How far back the newest due time is looked for: near first, as most are."""


def look(workspace: Path, settings: Settings, now: datetime, environment: Mapping[str, str] = os.environ) -> tuple[Notice, ...]:
    """What is silent now. The operator is told what is new, and whatever could not be told before. Raises ConfigError."""
    notifier = aftermath.notifier(workspace, settings, environment)
    found = (*_schedules(workspace, settings, now), *_processes(workspace, settings, now))
    for notice in found:
        notifier.tell(notice, now)
    notifier.give_waiting(now)
    return found


@contextmanager
def watching(workspace: Path, settings: Settings, every_s: float = EVERY_S) -> Iterator[None]:
    """Look again and again, beside what the block does: for `cron serve` and `worker`."""
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.wait(every_s):
            _look_once(workspace, settings)

    thread = threading.Thread(target=watch, name="vigil", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()


def _look_once(workspace: Path, settings: Settings) -> None:
    try:
        look(workspace, settings, datetime.now(UTC))
    except Exception as e:  # noqa: BLE001  whatever it was this time: it is looked again
        structlog.get_logger("agentloop.vigil").error("not_looked", why=type(e).__name__)


def _schedules(workspace: Path, settings: Settings, now: datetime) -> Iterator[Notice]:
    store = Store(database.url_of(workspace, settings.database_url, tables.DATABASE))
    try:
        schedules = Sources(workspace / settings.prompts, store).load().schedules
        yield from silent(_expected(store, schedules, now - timedelta(seconds=settings.notify_silence_s)), now)
    finally:
        store.database.dispose()


def _expected(store: Store, schedules: Iterable[Schedule], by: datetime) -> Iterator[Expected]:
    known, succeeded = store.standings(), _succeeded(store)
    for schedule in schedules:
        standing = known.get(schedule.name)
        if standing is None:
            continue  # nobody has looked at it yet: `cron serve` or `cron tick` brings it into force
        due = newest_due(schedule, standing.since, by - timedelta(seconds=schedule.jitter_s))
        yield Expected(schedule.name, due, succeeded.get(schedule.name), standing.paused, standing.failures)


def newest_due(schedule: Schedule, since: datetime, until: datetime) -> datetime | None:
    """The newest due time after `since` and up to `until`; None where there is none."""
    for back in _LOOKED_BACK:
        start = max(since, until - back)
        newest = deque(due_times(schedule.cron, schedule.zone, start, until), maxlen=1) if start < until else ()
        if newest or start == since:
            return newest[0] if newest else None
    return None


def _succeeded(store: Store) -> dict[str, datetime]:
    rows = tables.DUE_TIMES.c
    last = sa.type_coerce(sa.func.max(rows.ended_at), tables.Instant())
    with transaction(store.database) as c:
        found = c.execute(sa.select(rows.name, last).where(rows.outcome == "completed").group_by(rows.name)).all()
    return {name: at for name, at in found if at is not None}


def _processes(workspace: Path, settings: Settings, now: datetime) -> Iterator[Notice]:
    opened = aftermath.opener(workspace, settings)()
    try:
        operation_tables.make(opened)
        yield from dead(stale_hearts(opened, now), now)
    finally:
        opened.dispose()
