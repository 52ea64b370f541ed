"""When schedules should have run, calculated another way: by looking at the clock on the wall at real moments, one by one.

Nothing here knows of cron, of folds or of skips: a zone is only asked what its clock shows at a moment.
"""

import calendar
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

FIRST, LAST = date(2024, 1, 1), date(2031, 12, 31)
START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2032, 1, 1, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


class Change(NamedTuple):
    """The clock is put from one offset to another."""

    at: datetime
    before: timedelta
    after: timedelta


def shown(moment: datetime, zone: ZoneInfo) -> datetime:
    """What the clock on the wall shows."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def changes(zone: ZoneInfo, step: timedelta = DAY) -> tuple[Change, ...]:
    """Every change of the clock, to the minute: found by looking at it every day."""
    found = []
    moments = (START - 2 * DAY + n * step for n in range(int((END - START + 4 * DAY) / step)))
    for (earlier, before), (later, after) in pairwise((m, offset(m, zone)) for m in moments):
        if before != after:
            found.append(Change(next(m for m in every_minute(earlier, later) if offset(m, zone) != before), before, after))
    return tuple(found)


def offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    """How far the clock is ahead of UTC."""
    return moment.astimezone(zone).utcoffset() or timedelta()


def every_minute(start: datetime, end: datetime) -> Iterator[datetime]:
    """The minutes after `start`, up to `end`."""
    return (start + n * MINUTE for n in range(1, int((end - start) / MINUTE) + 1))


def offsets(zone: ZoneInfo, known: Iterable[Change]) -> frozenset[timedelta]:
    """Every offset that the zone has in these years."""
    return frozenset({offset(START, zone)}.union(*({c.before, c.after} for c in known)))


def expected(day: date, wall: time, zone: ZoneInfo, known: frozenset[timedelta]) -> datetime | None:
    """The one run of a local date: when the clock first shows this time; or else when it has just jumped over it; or, if it
    jumped into the next date, the minute before that. None for a date that never was."""
    aim = datetime.combine(day, wall)
    candidates = sorted((aim - ahead).replace(tzinfo=UTC) for ahead in known)
    showing = [m for m in candidates if shown(m, zone) == aim]
    if showing:
        return showing[0]
    jumped = next(m for m in every_minute(candidates[0] - 2 * MINUTE, candidates[-1] + MINUTE) if shown(m, zone) > aim)
    return next((m for m in (jumped, jumped - MINUTE) if shown(m, zone).date() == day), None)


def dates(only_month_ends: bool = False) -> Iterator[date]:
    """The dates of these years."""
    for n in range((LAST - FIRST).days + 1):
        day = FIRST + n * DAY
        if not only_month_ends or day.day == calendar.monthrange(day.year, day.month)[1]:
            yield day
