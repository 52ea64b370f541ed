from datetime import timedelta

import pytest

from agentloop.errors import UsageError
from agentloop.importers.recording import Recording, Step
from agentloop.recorded import FIRST_DAY, RecordedClock
from agentloop.testing import NOON
from agentloop.types.blocks import text
from agentloop.whatif.schedule import Schedule, schedule


def recording(*times: int | None) -> Recording:
    steps = tuple(Step((), (text("on"),), NOON + timedelta(seconds=t) if t is not None else None) for t in times)
    return Recording("r", "", "", (), steps, {})


@pytest.mark.parametrize(
    ("said", "gaps"),
    [
        ("recorded", None),
        ("10s", (10.0,)),
        ("7m", (420.0,)),
        ("1h30m", (5_400.0,)),
        ("0.5s", (0.5,)),
        ("2*10s+58m30s", (10.0, 10.0, 3_510.0)),
    ],
)
def test_a_schedule_is_read_from_what_a_person_writes(said: str, gaps: tuple[float, ...] | None) -> None:
    assert schedule(said) == Schedule(said, gaps)


@pytest.mark.parametrize(
    "said", ["", "10", "ten", "10s,7m", "-5s", "3*", "x*10s", "10s+", "0*5s", "999999999*1s", "9" * 5_000 + "*1s"]
)
def test_what_is_no_gap_is_refused_with_an_example(said: str) -> None:
    with pytest.raises(UsageError, match=r"'9\*10s\+58m30s'"):
        schedule(said)


def test_gaps_are_gone_through_over_and_over() -> None:
    clock = RecordedClock(recording(None, None, None, None), (10.0, 300.0))

    assert clock.gaps_s == (10.0, 300.0, 10.0)
    clock.turn = 2
    assert clock.now() == FIRST_DAY + timedelta(seconds=310)


def test_recorded_times_count_where_every_turn_has_one() -> None:
    assert RecordedClock(recording(0, 7, 90), None).gaps_s == (7.0, 83.0)
    assert RecordedClock(recording(0, None, 90), None).gaps_s == (10.0, 10.0)
    assert RecordedClock(recording(0, 7, 90), 60.0).gaps_s == (60.0, 60.0)


def test_behind_the_last_turn_the_clock_stands_still() -> None:
    clock = RecordedClock(recording(0, 7), None)
    clock.turn = 5

    assert clock.now() == NOON + timedelta(seconds=7)
