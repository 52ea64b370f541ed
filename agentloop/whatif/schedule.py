"""When the requests of a session start: as they were recorded, evenly, or in bursts as a day's cron makes them."""

import re
from typing import NamedTuple

from agentloop.errors import UsageError

RECORDED = "recorded"
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_MOST_GAPS = 100_000
_LONGEST_S = 30 * 86400.0
"""So that the longest session ends before time does."""


class Schedule(NamedTuple):
    """Gaps between the starts of requests, by the name that they were asked for."""

    name: str
    gaps_s: tuple[float, ...] | None
    """Seconds, over and over; None: as recorded, or 10 seconds where nothing was."""


def schedule(text: str) -> Schedule:
    """`recorded`, one gap (`10s`, `7m`, `1h30m`), or gaps that are gone through over and over: `9*10s+58m30s` is a burst of
    ten requests an hour. Raises UsageError."""
    if text == RECORDED:
        return Schedule(text, None)
    gaps: list[float] = []
    for piece in text.split("+"):
        times, _, length = piece.rpartition("*")
        if times and (not times.isdecimal() or len(times) > len(str(_MOST_GAPS)) or int(times) > _MOST_GAPS):
            raise _unknown(text)
        gaps += [_seconds(length, text)] * int(times or 1)
    if not gaps:
        raise _unknown(text)
    return Schedule(text, tuple(gaps))


def _seconds(length: str, text: str) -> float:
    found = _LENGTH.findall(length)
    if not found or "".join(map("".join, found)) != length:
        raise _unknown(text)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in found)
    if seconds > _LONGEST_S:
        raise UsageError(f"gap '{text}' is too long: expected 30d at most")
    return seconds


def _unknown(text: str) -> UsageError:
    return UsageError(
        f"gap '{text}' is none that is known: expected 'recorded', '10s', '7m', '1h', or gaps like '9*10s+58m30s'"
    )
