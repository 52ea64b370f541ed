"""Whether a schedule falls due within the next hour. Schedules are cron expressions of five fields, read in UTC:
minute, hour, day of the month, month, day of the week. https://pubs.opengroup.org/onlinepubs/9799919799/utilities/crontab.html
"""

import re
from datetime import datetime, timedelta

HOUR_S = 3_600
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_PIECE = re.compile(r"(?:\*|(?P<first>\d{1,2})(?:-(?P<last>\d{1,2}))?)(?:/(?P<step>[1-9]\d?))?", re.ASCII)


def due_in_s(schedule: str, now: datetime) -> float | None:
    """Seconds until it falls due next; None where that is not within the hour, or where the text is no such expression."""
    pieces = schedule.split()
    if len(pieces) != len(_BOUNDS):
        return None
    fields = [_values(piece, *bounds) for piece, bounds in zip(pieces, _BOUNDS, strict=True)]
    minute = now.replace(second=0, microsecond=0)
    for ahead in range(1, HOUR_S // 60 + 1):
        at = minute + timedelta(minutes=ahead)
        if _falls_on(at, fields, pieces):
            return (at - now).total_seconds()
    return None


def _falls_on(at: datetime, fields: list[frozenset[int]], pieces: list[str]) -> bool:
    minutes, hours, days, months, weekdays = fields
    day, weekday = at.day in days, at.isoweekday() in weekdays or (at.isoweekday() == 7 and 0 in weekdays)
    either = pieces[2] != "*" and pieces[4] != "*"  # where both are limited, one of them is enough
    return at.minute in minutes and at.hour in hours and at.month in months and (day or weekday if either else day and weekday)


def _values(field: str, least: int, most: int) -> frozenset[int]:
    """The numbers that a field stands for; none where it is not understood."""
    found: set[int] = set()
    for piece in field.split(","):
        read = _PIECE.fullmatch(piece)
        if read is None:
            return frozenset()
        step = int(read["step"] or 1)
        first = int(read["first"]) if read["first"] else least
        last = int(read["last"]) if read["last"] else first if read["first"] and not read["step"] else most
        if not least <= first <= last <= most:
            return frozenset()
        found.update(range(first, last + 1, step))
    return frozenset(found)
