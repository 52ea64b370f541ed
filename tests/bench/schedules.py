"""Every due time of 2024 to 2031 in every zone of the installed time zone data, against an independent calculation:

python -m tests.bench.schedules [PROCESSES]
"""

import multiprocessing
import sys
import time
from zoneinfo import ZoneInfo, available_timezones

from tests.property.schedule_laws import DAILY, EVEN, MONTHLY, Found, whole


def main(processes: int = 1) -> int:
    """Two lines: how much was looked at, and what was wrong. The exit code says whether anything was."""
    zones = sorted(available_timezones())
    began = time.perf_counter()
    with multiprocessing.Pool(processes) as pool:
        found = dict(zip(zones, pool.imap(_of, zones, chunksize=4), strict=True))
    total = sum(found.values(), Found())
    taken = time.perf_counter() - began
    schedules = ", ".join(f"'{cron}'" for cron in (*DAILY, *MONTHLY, *EVEN))
    print(f"{len(zones)} zones, 2024-2031, {schedules}: {total.runs:,} due times in {taken:.0f} s on {processes} cores")
    print(f"missed {total.missed}, doubled {total.doubled}, at another time {total.elsewhere}")
    for name, one in found.items():
        if one.wrong:
            print(f"  {name}: {one}")
    return int(total.wrong > 0)


def _of(name: str) -> Found:
    return whole(ZoneInfo(name))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
