from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given as example
from hypothesis import strategies as st

from agentloop.core.cron import due_in_s

SUNDAY = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "seconds"),
    [
        ("*/20 * * * *", 1_200),
        ("0 * * * *", 3_600),
        ("5,35 8 * * *", 300),
        ("10-40/15 * * * *", 600),
        ("30 8 22 11 *", 1_800),
        ("30 8 * * 0", 1_800),
        ("30 8 * * 7", 1_800),
        ("30 8 1 * 0", 1_800),
        ("30 8 1 * *", None),
        ("30 8 * * 1-5", None),
        ("0 8 * * *", None),
        ("30 10 * * *", None),
        ("30 8 * 12 *", None),
        ("0 9", None),
        ("every hour", None),
        ("61 * * * *", None),
        ("30-10 * * * *", None),
        ("*/0 * * * *", None),
        ("", None),
    ],
)
def test_what_falls_due_within_the_hour(schedule: str, seconds: float | None) -> None:
    assert due_in_s(schedule, SUNDAY) == seconds


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ({"cron": "30 9 * * *", "zone": "Europe/Berlin"}, 1_800),
        ({"cron": "30 8 * * *", "zone": "Europe/Berlin"}, None),
        ({"cron": "30 8 * * *"}, 1_800),
        ({"cron": "30 8 * * *", "zone": "Erewhon"}, None),
        ({"zone": "UTC"}, None),
        (None, None),
        (7, None),
    ],
)
def test_a_schedule_with_a_zone_is_read_on_its_clock(written: object, seconds: float | None) -> None:
    assert due_in_s(written, SUNDAY) == seconds


def test_a_minute_that_has_begun_is_over() -> None:
    assert due_in_s("0 * * * *", SUNDAY + timedelta(seconds=1.5)) == 3_598.5


@example(st.text(alphabet="0123456789*/-, ", max_size=30), st.datetimes(min_value=datetime(2000, 1, 1)))
def test_nothing_that_is_written_there_fails(schedule: str, now: datetime) -> None:
    seconds = due_in_s(schedule, now.replace(tzinfo=UTC))

    assert seconds is None or 0 < seconds <= 3_600
