"""When a schedule falls due: five cron fields, read on the clock of a time zone, on the days too when that clock is changed.

A schedule that names hours is about the clock on the wall: each of its times is one run on each of its local dates. A time
that the clock skips is run when the skip is over (or in the last minute before it, where the skip ends on another date); a
time that comes twice is run the first time. A schedule for every hour is about time that passes: it runs at each real hour,
whatever the clock shows.
"""

import difflib
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from agentloop.errors import ConfigError

SHORTHANDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of the month", "1-31, L for the last, LW for the last weekday"),
    ("month", "1-12 or JAN-DEC"),
    ("day of the week", "0-7 or SUN-SAT, where 0 and 7 are Sunday; 5#2 is the second Friday, 5L the last"),
)
_MOST = 200
_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_SOME_MIDNIGHT = datetime(2024, 1, 1)


class Crontab(NamedTuple):
    """The two halves of a cron expression."""

    days: str
    """The expression for midnight of each of its days."""
    minutes: tuple[int, ...]
    """The minutes of such a day, from midnight."""
    every_hour: bool


def due_times(cron: str, zone: str, after: datetime, until: datetime | None = None) -> Iterator[datetime]:
    """The due times later than `after`, up to and with `until`, in UTC. Raises ConfigError for what is no schedule."""
    table, place = crontab(cron), time_zone(zone)
    last = until.astimezone(place).date() + _DAY if until else date.max
    for day in _days(table, after.astimezone(place).date() - _DAY):
        if day > last:
            return
        for moment in _moments(day, table, place):
            if moment > after and (until is None or moment <= until):
                yield moment


@lru_cache(maxsize=1_000)
def crontab(cron: str) -> Crontab:
    """What a cron expression means. Raises ConfigError, naming the field that is wrong."""
    fields = SHORTHANDS.get(cron.strip().lower(), cron).split()
    if len(cron) > _MOST or len(fields) != 5:
        raise ConfigError(f"cron {cron[:60]!r} has {len(fields)} fields; {_expected(len(fields))}")
    for number, field in enumerate(fields):
        _check(cron, number, field)
    minutes, hours, *days = fields
    of_a_day = takewhile(lambda t: t < _SOME_MIDNIGHT + _DAY, _wall_times(f"{minutes} {hours} * * *", _SOME_MIDNIGHT))
    found = Crontab(" ".join(["0 0", *days]), tuple(t.hour * 60 + t.minute for t in of_a_day), _every_hour(hours))
    try:
        happens = next(_days(found, _SOME_MIDNIGHT.date()), None) is not None
    except CronSimError:
        happens = False
    if not happens:
        raise ConfigError(
            f"cron {cron!r}: no date in 50 years has day of the month '{days[0]}' in month '{days[1]}' "
            f"with day of the week '{days[2]}'; change one of these fields"
        )
    return found


def _expected(found: int) -> str:
    words = "expected five: minute hour day-of-month month day-of-week, or one of " + ", ".join(SHORTHANDS)
    return f"{words} (there are no seconds)" if found == 6 else words


def _check(cron: str, number: int, field: str) -> None:
    """Each field by itself, so that the message can name it."""
    name, allowed = FIELDS[number]
    alone = ["0", "0", "*", "*", "*"]
    alone[number] = field
    try:
        CronSim(" ".join(alone), _SOME_MIDNIGHT)
    except (CronSimError, ValueError) as e:
        raise ConfigError(f"cron {cron!r}: {name} {field!r} cannot be read; expected {allowed}, lists, ranges, /steps") from e


def _every_hour(hours: str) -> bool:
    """Whether a day's hours are all there, however that is written."""
    of_a_day = takewhile(lambda t: t.day == 1, _wall_times(f"0 {hours} * * *", _SOME_MIDNIGHT))
    return len({t.hour for t in of_a_day}) == 24


def _wall_times(cron: str, start: datetime) -> Iterator[datetime]:
    """Times on a clock that nobody changes, from `start` on."""
    return CronSim(cron, start - timedelta(seconds=1))


def _days(table: Crontab, first: date) -> Iterator[date]:
    """The dates from this one on, for at most 50 years without a match."""
    return (t.date() for t in _wall_times(table.days, datetime.combine(first, time())))


@lru_cache(maxsize=1_000)
def time_zone(name: str) -> ZoneInfo:
    """The rules of a zone. Raises ConfigError, naming the nearest, or what to install."""
    try:
        if not re.fullmatch(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*", name):
            raise ValueError(name)
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as e:
        known = available_timezones()
        if not known:
            raise ConfigError(f"zone {name!r}: there are no time zone data; install the package tzdata") from e
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "expected an IANA name such as Europe/Dublin"
        raise ConfigError(f"zone {name[:60]!r} is not known; {hint}") from e


# from the clock on the wall to real time


def _moments(day: date, table: Crontab, zone: ZoneInfo) -> list[datetime]:
    """The due times of one local date."""
    midnight = datetime.combine(day, time())
    offset = _offset(midnight, zone)
    if offset == _offset(midnight + _DAY, zone):
        start = (midnight - offset).replace(tzinfo=UTC)
        return [start + timedelta(minutes=m) for m in table.minutes]
    walls = [midnight + timedelta(minutes=m) for m in table.minutes]
    return sorted({*(_each_hour(walls, zone) if table.every_hour else _each_once(walls, zone))})


def _each_once(walls: list[datetime], zone: ZoneInfo) -> Iterator[datetime]:
    """Each time of the clock once: the first time that it is shown, or beside the skip that it fell into."""
    for wall in walls:
        first = _real(wall, zone, 0)
        if _shown(first, zone) == wall:
            yield first
            continue
        end = _end_of_skip(wall, zone)
        yield from [m for m in (end, end - _MINUTE) if _shown(m, zone).date() == wall.date()][:1]


def _each_hour(walls: list[datetime], zone: ZoneInfo) -> Iterator[datetime]:
    """Each time that the clock shows one of these. A skip of whole hours leaves none out, as the hands stand alike before and
    after it; after another one (half an hour on Lord Howe Island) what it swallowed is made up for."""
    for wall in walls:
        shown = [m for m in (_real(wall, zone, 0), _real(wall, zone, 1)) if _shown(m, zone) == wall]
        yield from shown
        if not shown and (_offset(wall, zone, 1) - _offset(wall, zone, 0)) % timedelta(hours=1):
            yield _end_of_skip(wall, zone)


def _end_of_skip(wall: datetime, zone: ZoneInfo) -> datetime:
    """The moment at which the clock was put forward over this time."""
    before, after = _real(wall, zone, 1), _real(wall, zone, 0)
    old = before.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        before, after = (middle, after) if middle.astimezone(zone).utcoffset() == old else (before, middle)
    return after


def _real(wall: datetime, zone: ZoneInfo, fold: int) -> datetime:
    return wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _shown(moment: datetime, zone: ZoneInfo) -> datetime:
    """What the clock on the wall shows."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(wall: datetime, zone: ZoneInfo, fold: int = 0) -> timedelta:
    found = wall.replace(tzinfo=zone, fold=fold).utcoffset()
    return found if found is not None else timedelta()
