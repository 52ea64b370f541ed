"""What has to hold of a schedule in a zone: nothing missed, nothing doubled, against a calculation of its own."""

from datetime import datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from agentloop.schedule.calendar import due_times
from tests.property.wall_clocks import DAY, END, FIRST, LAST, START, Change, changes, dates, expected, offsets, shown

DAILY = {"30 2 * * *": time(2, 30), "0 0 * * *": time(0, 0), "30 23 * * *": time(23, 30)}
MONTHLY = {"0 0 L * *": time(0, 0), "59 23 L * *": time(23, 59)}
EVEN = {"0 * * * *": 3600, "0,30 * * * *": 1800}
"""Seconds between two runs."""


class Found(NamedTuple):
    """What is wrong, and how much was looked at."""

    runs: int = 0
    missed: int = 0
    doubled: int = 0
    elsewhere: int = 0
    """Runs at a time that the schedule does not name."""

    def __add__(self, other: object) -> "Found":
        assert isinstance(other, Found)
        return Found(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def wrong(self) -> int:
        """How many due times are not as they should be."""
        return self.missed + self.doubled + self.elsewhere


def once_a_date(cron: str, wall: time, zone: ZoneInfo, known: tuple[Change, ...], *, month_ends: bool = False) -> Found:
    """Every local date (or every month's last) has its one run, at the very moment that the wall clock says."""
    ahead = offsets(zone, known)
    want = [m for day in dates(month_ends) if (m := expected(day, wall, zone, ahead)) is not None]
    got = [m for m in due_times(cron, zone.key, START - 2 * DAY, END + 2 * DAY) if FIRST <= shown(m, zone).date() <= LAST]
    there, due = set(want), set(got)
    return Found(len(got), len(there - due), len(got) - len(due) + _same_date(due, zone), len(due - there))


def _same_date(due: set[datetime], zone: ZoneInfo) -> int:
    return len(due) - len({shown(m, zone).date() for m in due})


def one_a_stretch(
    cron: str, seconds: int, zone: ZoneInfo, known: tuple[Change, ...], start: datetime = START, end: datetime = END
) -> Found:
    """Each real hour (or half hour) from `start` to `end` holds one run, when the clock shows a time of the schedule or has
    just been changed."""
    got = list(due_times(cron, zone.key, start - timedelta(seconds=1), end - timedelta(seconds=1)))
    stretches = [int(m.timestamp()) // seconds for m in got]
    want = range(int(start.timestamp()) // seconds, int(end.timestamp()) // seconds)
    there = set(stretches)
    changed = {c.at for c in known}
    elsewhere = sum(shown(m, zone).minute * 60 % seconds != 0 and m not in changed for m in got)
    return Found(len(got), len(set(want) - there), len(stretches) - len(there), elsewhere + len(there - set(want)))


def whole(zone: ZoneInfo) -> Found:
    """All laws, for one zone, for all years."""
    known = changes(zone)
    found = [once_a_date(cron, wall, zone, known) for cron, wall in DAILY.items()]
    found += [once_a_date(cron, wall, zone, known, month_ends=True) for cron, wall in MONTHLY.items()]
    found += [one_a_stretch(cron, seconds, zone, known) for cron, seconds in EVEN.items()]
    return sum(found, Found())
