"""Whether an agent's schedule falls due within the next hour: how long its cached prefix is worth keeping asks no more.

When runs really start is decided in `agentloop/schedule`, on the days too when clocks are changed.
"""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

HOUR_S = 3_600


def due_in_s(written: Any, now: datetime) -> float | None:
    """Seconds until it falls due next; None where that is not within the hour, or where what is written is no schedule:
    five cron fields in UTC, or a mapping with `cron` and `zone`."""
    fields = written if isinstance(written, dict) else {"cron": written}
    try:
        here = now.astimezone(ZoneInfo(str(fields.get("zone") or "UTC")))
        coming = next(CronSim(str(fields.get("cron") or ""), here), None)
    except (CronSimError, ValueError, OSError, KeyError):
        return None
    seconds = (coming - now).total_seconds() if coming is not None else HOUR_S + 1
    return seconds if seconds <= HOUR_S else None
