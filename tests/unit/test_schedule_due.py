"""What becomes of due times: the pure part."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.schedule.due import ACTIVE, MOST_RECORDED, Decision, History, Status, decide, next_start
from agentloop.schedule.spec import Schedule

SIX = datetime(2026, 11, 22, 6, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


def hourly(**settings: Any) -> Schedule:
    return Schedule.model_validate({"name": "atlas", "agent": "atlas", "cron": "0 * * * *", **settings})


def history(since: datetime = SIX - 48 * HOUR, paused: str = "", **statuses: Status) -> History:
    """Due times by the hour of the day: `h5="done"`."""
    decided = {SIX.replace(hour=int(h[1:])): status for h, status in statuses.items()}
    return History(since, since, decided, paused)


def by_verdict(found: tuple[Decision, ...]) -> dict[str, list[int]]:
    return {v: [d.due.hour for d in found if d.verdict == v] for v in ("start", "queue", "skip")}


def test_what_is_due_starts() -> None:
    assert decide(hourly(), history(SIX - HOUR), SIX + SECOND) == (Decision(SIX, "start"),)


def test_what_was_decided_is_not_decided_again() -> None:
    assert decide(hourly(), history(SIX - HOUR, h6="done"), SIX + SECOND) == ()


def test_nothing_is_due_before_its_time_nor_before_the_schedule_was_there() -> None:
    assert decide(hourly(), history(SIX - HOUR / 2), SIX - SECOND) == ()
    assert decide(hourly(), history(SIX), SIX + HOUR / 2) == ()


def test_a_delay_is_waited_for() -> None:
    schedule = hourly(jitter_s=1_800)
    start = schedule.start_at(SIX)

    assert start > SIX
    assert decide(schedule, history(SIX - timedelta(minutes=1)), start - SECOND) == ()
    assert decide(schedule, history(SIX - timedelta(minutes=1)), start) == (Decision(SIX, "start"),)


# J04: downtime over five due times, 06:00 to 10:00


@pytest.mark.parametrize("noticed", [SIX + 4.5 * HOUR, SIX + 5 * HOUR])
@pytest.mark.parametrize(
    ("missed", "runs_late", "runs_with_one_on_time"),
    [
        ("skip", [], [11]),
        ("once", [10], [11]),
        ("all 3", [8, 9, 10], [8, 9, 10, 11]),
        ("all 9", [6, 7, 8, 9, 10], [6, 7, 8, 9, 10, 11]),
    ],
)
def test_after_a_downtime_over_five_due_times_exactly_the_policys_runs_come(
    missed: str, runs_late: list[int], runs_with_one_on_time: list[int], noticed: datetime
) -> None:
    found = decide(hourly(missed=missed), history(SIX - HOUR / 2), noticed)

    on_time = noticed == SIX + 5 * HOUR
    runs = runs_with_one_on_time if on_time else runs_late
    named = by_verdict(found)
    assert sorted(named["start"] + named["queue"]) == runs
    assert len(named["start"]) <= 1  # never all at once
    assert sorted(named["skip"] + runs) == [*range(6, 12 if on_time else 11)]
    assert all(d.reason.startswith("missed: ") for d in found if d.verdict == "skip")


def test_a_missed_time_names_the_run_that_stands_for_it() -> None:
    first, *_ = decide(hourly(), history(SIX - HOUR / 2), SIX + 4.5 * HOUR)

    assert first.reason == "missed: nobody was there (once); the run of 2026-11-22 10:00 UTC stands for it"


def test_a_missed_time_that_is_too_old_is_recorded_and_not_made_up_for() -> None:
    found = decide(hourly(missed="all 99", max_age_s=7_200), history(SIX - HOUR / 2), SIX + 4.5 * HOUR)

    assert by_verdict(found) == {"start": [9], "queue": [10], "skip": [6, 7, 8]}
    assert found[0].reason == "missed: noticed more than 7200 s late"


def test_a_schedule_that_nobody_looked_at_for_a_year_is_decided_in_a_bounded_number_of_lines() -> None:
    found = decide(hourly(cron="* * * * *"), history(SIX), SIX + timedelta(days=365, minutes=30))

    assert len(found) == MOST_RECORDED
    assert [d.verdict for d in found].count("start") == 1


# J05: the run before is still going


def test_without_overlap_a_due_time_is_skipped_while_a_run_goes_on() -> None:
    active: tuple[Status, ...] = ("claimed", "running", "submitted")
    for status in active:
        found = decide(hourly(), history(SIX - 2 * HOUR, h5=status), SIX + SECOND)

        assert found == (Decision(SIX, "skip", "overlap: the run before is still going (skip)"),)


def test_a_queued_due_time_waits_and_starts_when_the_run_before_is_over() -> None:
    schedule = hourly(overlap="queue")

    assert by_verdict(decide(schedule, history(SIX - 2 * HOUR, h5="running"), SIX))["queue"] == [6]
    assert decide(schedule, history(SIX - 2 * HOUR, h5="running", h6="waiting"), SIX + HOUR / 2) == ()
    assert by_verdict(decide(schedule, history(SIX - 2 * HOUR, h5="done", h6="waiting"), SIX + HOUR / 2))["start"] == [6]


def test_what_waits_starts_in_order_and_before_what_is_new() -> None:
    found = decide(hourly(overlap="queue"), history(SIX - 3 * HOUR, h4="done", h5="waiting"), SIX)

    assert by_verdict(found) == {"start": [5], "queue": [6], "skip": []}


def test_what_waited_too_long_is_dropped() -> None:
    schedule = hourly(overlap="queue", max_age_s=3_600)
    found = decide(schedule, history(SIX - 3 * HOUR, h4="waiting", h5="done"), SIX + SECOND)

    assert found == (Decision(SIX - 2 * HOUR, "skip", "waited for more than 3600 s"), Decision(SIX, "start"))


def test_as_many_runs_as_are_allowed_go_side_by_side() -> None:
    schedule = hourly(overlap="parallel 2")

    assert by_verdict(decide(schedule, history(SIX - 2 * HOUR, h5="running"), SIX))["start"] == [6]
    found = decide(schedule, history(SIX - 3 * HOUR, h4="running", h5="running"), SIX)
    assert found == (Decision(SIX, "skip", "overlap: 2 runs are still going (parallel 2)"),)


def test_a_session_that_waits_for_a_person_holds_up_nothing() -> None:
    assert by_verdict(decide(hourly(), history(SIX - 2 * HOUR, h5="parked"), SIX))["start"] == [6]


def test_a_paused_schedule_records_its_due_times_with_the_reason() -> None:
    found = decide(hourly(), history(SIX - 2 * HOUR, paused="holidays", h5="waiting"), SIX)

    assert found == (Decision(SIX, "skip", "paused: holidays"),)


# C01, C02: clocks


def test_a_clock_that_jumps_back_starts_nothing_twice() -> None:
    before = history(SIX - 2 * HOUR, h5="done", h6="done")

    assert decide(hourly(), before, SIX - HOUR + SECOND) == ()
    assert decide(hourly(), before, SIX + SECOND) == ()


def test_a_clock_that_jumps_back_starts_nothing_before_its_time() -> None:
    waiting = history(SIX - 2 * HOUR, h5="done", h6="waiting")

    assert decide(hourly(overlap="queue"), waiting, SIX - SECOND) == ()
    assert decide(hourly(overlap="queue"), waiting, SIX) == (Decision(SIX, "start"),)


def test_after_a_clock_was_wrong_by_a_year_the_due_times_of_the_right_one_are_run() -> None:
    """It had been seen until next year; what was due in truth is not."""
    wrong = History(SIX - 48 * HOUR, SIX + timedelta(days=365), {SIX - n * HOUR: "done" for n in range(1, 30)})

    assert decide(hourly(), wrong, SIX + SECOND) == (Decision(SIX, "start"),)


def test_a_suspend_of_eight_hours_over_a_due_time_is_one_late_run() -> None:
    daily = hourly(cron="0 2 * * *")
    found = decide(daily, history(SIX - 10 * HOUR), SIX)

    assert [(d.due.hour, d.verdict, d.reason) for d in found] == [(2, "start", "made up for a missed time")]


@given(
    missed=st.sampled_from(["skip", "once", "all 2"]),
    overlap=st.sampled_from(["skip", "queue", "parallel 2"]),
    steps=st.lists(st.tuples(st.integers(-7_200, 30_000), st.booleans()), min_size=1, max_size=40),
    jitter_s=st.sampled_from([0, 1_000]),
)
def test_however_the_clock_goes_each_due_time_is_decided_once_and_never_too_many_run(
    missed: str, overlap: str, steps: list[tuple[int, bool]], jitter_s: int
) -> None:
    schedule = hourly(missed=missed, overlap=overlap, jitter_s=jitter_s)
    now, furthest = SIX, SIX
    statuses: dict[datetime, Status] = {}
    for seconds, ends in steps:
        now += timedelta(seconds=seconds)
        furthest = max(furthest, now)
        found = decide(schedule, History(SIX, max(SIX, now), statuses), now)

        assert len({d.due for d in found}) == len(found)
        for due, verdict, reason in found:
            assert statuses.get(due, "waiting") == "waiting"
            assert schedule.start_at(due) <= now
            assert verdict == "start" or reason
            statuses[due] = {"start": "running", "queue": "waiting", "skip": "skipped"}[verdict]  # type: ignore[assignment]
        assert sum(s in ACTIVE for s in statuses.values()) <= schedule.side_by_side
        if ends:
            statuses |= {due: "done" for due, s in statuses.items() if s == "running"}
    assert all(d.minute == d.second == 0 and SIX < d <= furthest for d in statuses)


# when it is next


@given(jitter_s=st.integers(0, 7_200), offset_s=st.integers(0, 86_400))
def test_the_next_start_is_the_first_that_any_due_time_has(jitter_s: int, offset_s: int) -> None:
    schedule = hourly(jitter_s=jitter_s)
    now = SIX + timedelta(seconds=offset_s)

    starts = [schedule.start_at(SIX + n * HOUR) for n in range(-4, 32)]
    assert next_start(schedule, now) == min(s for s in starts if s > now)


def test_the_next_start_of_a_rare_schedule_may_be_in_another_year() -> None:
    assert next_start(hourly(cron="0 0 1 1 *"), SIX) == datetime(2027, 1, 1, tzinfo=UTC)
