"""When a simulated schedule falls due, calculated another way than the program does: by looking at clocks on walls."""

import calendar
import random
from datetime import date, datetime, time, timedelta
from functools import cache
from itertools import product
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tests.property.wall_clocks import DAY, MINUTE, Change, changes, expected, offsets, shown
from tests.simulator.chance import weighted

ZONES = (
    "UTC", "Europe/Dublin", "Australia/Lord_Howe", "America/Nuuk", "Africa/Casablanca", "Antarctica/Troll", "America/New_York",
    "America/Havana", "Asia/Beirut", "Africa/Cairo", "America/Santiago", "Pacific/Chatham", "Asia/Kathmandu",
)  # fmt: skip
_HOUR = timedelta(hours=1)


class Form(NamedTuple):
    """What a schedule's cron string means, in numbers."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...] | None
    """None: every hour there is."""
    days: str
    """`all`, `weekdays` or `last` (of the month)."""
    cron: str
    zone: str

    def due_times(self, start: datetime, end: datetime) -> tuple[datetime, ...]:
        """All its due times after `start`, up to `end`."""
        found = self._of_every_hour(start, end) if self.hours is None else self._of_each_day(start, end)
        return tuple(sorted(m for m in found if start < m <= end))

    def _of_each_day(self, start: datetime, end: datetime) -> set[datetime]:
        zone = ZoneInfo(self.zone)
        first = shown(start, zone).date() - DAY
        dates = (first + n * DAY for n in range((end - start).days + 4))
        walls = [time(h, m) for h, m in product(self.hours or (), self.minutes)]
        known = offsets(zone, clock_changes(self.zone))
        return {m for d in dates if self._has(d) for wall in walls if (m := expected(d, wall, zone, known)) is not None}

    def _has(self, day: date) -> bool:
        match self.days:
            case "weekdays":
                return day.weekday() < 5
            case "last":
                return day.day == calendar.monthrange(day.year, day.month)[1]
            case _:
                return True

    def _of_every_hour(self, start: datetime, end: datetime) -> set[datetime]:
        """Every minute at which the clock shows one of the minutes. Clocks differ by quarters of an hour."""
        zone, hour = ZoneInfo(self.zone), start.replace(minute=0, second=0, microsecond=0)
        real = sorted({(m + quarter) % 60 for m in self.minutes for quarter in (0, 15, 30, 45)})
        hours = range(int((end - start) / _HOUR) + 2)
        moments = (hour + n * _HOUR + m * MINUTE for n in hours for m in real)
        made_up = {c.at for c in clock_changes(self.zone) if self._swallowed(c)}
        return {m for m in moments if shown(m, zone).minute in self.minutes} | made_up

    def _swallowed(self, change: Change) -> bool:
        """Whether that part of an hour that the clock leaves out here holds one of the minutes."""
        left_out = change.after - change.before
        if left_out <= timedelta() or left_out % _HOUR == timedelta():
            return False
        wall = change.at + change.before
        return any((wall + n * MINUTE).minute in self.minutes for n in range(int(left_out / MINUTE)))


@cache
def clock_changes(zone: str) -> tuple[Change, ...]:
    """Every change of this clock in the years of the simulation."""
    return changes(ZoneInfo(zone))


def form(chance: random.Random, often: bool, near: tuple[str, datetime] | None = None) -> Form:
    """One of many an hour, or one of few a day; there are two in three of the latter at the very times of a change."""
    zone, change = near if near is not None and chance.random() < 0.7 else (chance.choice(ZONES), None)
    if often:
        hours = chance.choice(["*", "0-23", "*/1"])
        kinds = [("0", (0,)), ("30", (30,)), ("*/20", (0, 20, 40)), ("0,30", (0, 30)), ("17", (17,))]
        minutes, numbers = chance.choice(kinds)
        return Form(numbers, None, "all", f"{minutes} {hours} * * *", zone)
    days = weighted(chance, [("all", 8), ("weekdays", 2), ("last", 1)])
    hours_ = sorted(chance.sample([0, 1, 2, 3, 9, 12, 23], chance.choice([1, 1, 1, 2])))
    if change is not None and chance.random() < 0.7:
        hours_ = [(shown(change - MINUTE, ZoneInfo(zone)).hour + chance.choice([0, 0, 1])) % 24]
    minute = chance.choice([0, 15, 30, 59])
    in_cron = {"all": "* * *", "weekdays": "* * 1-5", "last": "L * *"}[days]
    return Form((minute,), tuple(hours_), days, f"{minute} {','.join(map(str, hours_))} {in_cron}", zone)
