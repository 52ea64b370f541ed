"""Due times against an independent calculation, in every zone of the installed time zone data. The whole of it, each hour of
each zone, is `python -m tests.bench.schedules`; here stand for all zones whose clock is changed at the same moments one of
them, and for the hourly schedules the days around each change."""

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.schedule.calendar import due_times
from tests.property.schedule_laws import DAILY, EVEN, MONTHLY, Found, once_a_date, one_a_stretch
from tests.property.wall_clocks import DAY, START, Change, changes, expected, offset, offsets, shown

ZONES = sorted(available_timezones())


@cache
def kinds() -> dict[tuple[timedelta, tuple[Change, ...]], list[str]]:
    """The zones, by how their clocks go."""
    found: dict[tuple[timedelta, tuple[Change, ...]], list[str]] = {}
    for name in ZONES:
        zone = ZoneInfo(name)
        known = changes(zone)
        found.setdefault((offset(START, zone), known), []).append(name)
    return found


def test_there_are_zones_of_every_kind() -> None:
    steps = {c.after - c.before for _, known in kinds() for c in known}

    assert len(ZONES) > 400
    assert timedelta(minutes=30) in steps
    assert timedelta(hours=2) in steps
    assert any(shown(c.at, ZoneInfo(names[0])).time().hour == 0 for (_, known), names in kinds().items() for c in known)


def test_a_daily_schedule_runs_once_on_each_local_date_of_each_zone() -> None:
    wall = DAILY["30 2 * * *"]
    found = {names[0]: once_a_date("30 2 * * *", wall, ZoneInfo(names[0]), known) for (_, known), names in kinds().items()}

    assert {name: f for name, f in found.items() if f.wrong} == {}
    assert all(f.runs >= 2_922 for f in found.values())


@pytest.mark.parametrize("cron", ["0 0 * * *", "30 23 * * *"])
def test_a_daily_schedule_near_midnight_stays_on_its_date_where_the_clock_is_changed_then(cron: str) -> None:
    found: dict[str, Found] = {}
    for (_, known), names in kinds().items():
        zone = ZoneInfo(names[0])
        if any(shown(c.at, zone).hour in (22, 23, 0, 1) for c in known):
            found[names[0]] = once_a_date(cron, DAILY[cron], zone, known)

    assert {name: f for name, f in found.items() if f.wrong} == {}
    assert len(found) >= 5


@pytest.mark.parametrize("cron", MONTHLY)
def test_a_schedule_for_the_ends_of_months_runs_once_in_each_month_of_each_zone(cron: str) -> None:
    found = {
        names[0]: once_a_date(cron, MONTHLY[cron], ZoneInfo(names[0]), known, month_ends=True)
        for (_, known), names in kinds().items()
    }

    assert {name: f for name, f in found.items() if f.wrong} == {}
    assert all(f.runs == 96 for f in found.values())


@pytest.mark.parametrize("cron", EVEN)
def test_an_hourly_and_a_half_hourly_schedule_run_once_in_each_real_stretch_around_every_change(cron: str) -> None:
    found: dict[str, Found] = {}
    for (_, known), names in kinds().items():
        around = [START, *(c.at.replace(hour=0, minute=0) for c in known)]
        every = (one_a_stretch(cron, EVEN[cron], ZoneInfo(names[0]), known, a - DAY, a + 2 * DAY) for a in around)
        found[names[0]] = sum(every, Found())

    assert {name: f for name, f in found.items() if f.wrong} == {}
    assert sum(f.runs for f in found.values()) > 10_000


@given(
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=3),
    hours=st.sets(st.integers(0, 23), min_size=1, max_size=4),
    zone=st.sampled_from(["Europe/Dublin", "Australia/Lord_Howe", "America/Nuuk", "Africa/Casablanca", "Antarctica/Troll"]),
    pick=st.integers(0, 15),
)
def test_times_of_a_day_are_each_run_once_on_the_days_of_a_change(
    minutes: set[int], hours: set[int], zone: str, pick: int
) -> None:
    place = ZoneInfo(zone)
    known = changes(place)
    day = shown(known[pick % len(known)].at, place).date()
    cron = f"{','.join(map(str, minutes))} {','.join(map(str, hours))} * * *"
    walls = [datetime(2024, 1, 1, h, m).time() for h in hours for m in minutes]

    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    got = {m for m in due_times(cron, zone, noon - 3 * DAY, noon + 3 * DAY) if abs((shown(m, place).date() - day).days) <= 1}

    ahead = offsets(place, known)
    wanted = {expected(day + n * DAY, wall, place, ahead) for wall in walls for n in (-1, 0, 1)}
    assert got == wanted - {None}


@given(
    cron=st.sampled_from(["30 2 * * *", "0 * * * *", "*/7 */5 * * *", "0 0 29 2 *", "15 3 * * 1-5", "0 0 LW * *"]),
    zone=st.sampled_from(["UTC", "Europe/Dublin", "Australia/Lord_Howe", "America/Nuuk", "Pacific/Apia"]),
    start=st.datetimes(datetime(2010, 1, 1), datetime(2031, 1, 1)),
    cuts=st.lists(st.integers(0, 90 * 86_400), max_size=5),
)
def test_no_due_time_is_lost_or_doubled_between_two_looks(cron: str, zone: str, start: datetime, cuts: list[int]) -> None:
    """However a stretch of time is parted into looks, each due time is in exactly one of them, in order."""
    begin = start.replace(tzinfo=UTC)
    ends = [begin, *(begin + timedelta(seconds=s) for s in sorted({*cuts, 90 * 86_400}))]

    parts = [list(due_times(cron, zone, a, b)) for a, b in pairwise(ends)]

    whole = list(due_times(cron, zone, ends[0], ends[-1]))
    assert [m for part in parts for m in part] == whole
    assert whole == sorted(set(whole))


def test_a_date_that_a_zone_leaves_out_has_no_run() -> None:
    """Samoa went from the 29th to the 31st of December 2011."""
    got = due_times("0 12 * * *", "Pacific/Apia", datetime(2011, 12, 28, tzinfo=UTC), datetime(2011, 12, 31, tzinfo=UTC))

    assert [shown(m, ZoneInfo("Pacific/Apia")).day for m in got] == [28, 29, 31]
