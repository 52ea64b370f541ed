"""Simulated workspaces with schedules in which nothing may go wrong, and proof that it would be seen."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from agentloop.schedule import calendar, claims, due, scheduler, store
from agentloop.schedule.claims import Claims
from agentloop.schedule.spec import Schedule
from agentloop.schedule.tables import SCHEDULES
from tests.simulator.__main__ import Failed, chunk_of_schedules, tried_schedules
from tests.simulator.schedules import simulate

Fault = Callable[[pytest.MonkeyPatch], None]
SEEDS = 1_200
PARTS = 20
ENOUGH = 400
"""Seeds within which a fault that was put in on purpose has to be found."""


@pytest.mark.parametrize("part", range(PARTS))
def test_each_due_time_is_decided_once_as_the_policy_says_whatever_happens(part: int) -> None:
    """More of them, and as many as one likes: `python -m tests.simulator --schedules 20000`."""
    size = SEEDS // PARTS

    failed = [r for r in chunk_of_schedules(range(part * size, (part + 1) * size)) if isinstance(r, Failed)]

    assert not failed, "\n".join(map(str, failed[:3]))


@pytest.mark.parametrize("seed", [2, 9, 26, 55])
def test_a_seed_is_the_same_run_byte_for_byte(seed: int) -> None:
    """Invariant 30."""
    assert simulate(seed) == simulate(seed)


def test_a_seed_that_fails_prints_the_command_that_plays_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _runs_a_time_that_comes_twice_both_times(monkeypatch)
    failed = next(r for r in map(tried_schedules, range(ENOUGH)) if isinstance(r, Failed))

    assert str(failed).splitlines()[-1].endswith(f"python -m tests.simulator --schedule {failed.seed}")


def _runs_a_time_that_comes_twice_both_times(patch: pytest.MonkeyPatch) -> None:
    """J02: a daily job runs twice on the day on which its time comes twice."""
    whole = calendar._each_once

    def careless(walls: list[datetime], zone: ZoneInfo) -> Iterator[datetime]:
        yield from whole(walls, zone)
        yield from (m for w in walls if calendar._shown(m := calendar._real(w, zone, 1), zone) == w)

    patch.setattr(calendar, "_each_once", careless)


def _leaves_out_a_time_that_is_skipped(patch: pytest.MonkeyPatch) -> None:
    """J01: a daily job does not run on the day on which its time does not come."""

    def careless(walls: list[datetime], zone: ZoneInfo) -> Iterator[datetime]:
        yield from (m for w in walls if calendar._shown(m := calendar._real(w, zone, 0), zone) == w)

    patch.setattr(calendar, "_each_once", careless)


def _is_never_too_late(patch: pytest.MonkeyPatch) -> None:
    """J04: the newest of the missed times runs, whatever the policy."""
    patch.setattr(due, "_on_time", lambda schedule, pending, now: pending[-1] if pending else None)


def _wakes_an_hour_late(patch: pytest.MonkeyPatch) -> None:
    """A scheduler that is there does not notice what is due."""
    whole = due.next_start

    def careless(schedule: Schedule, now: datetime) -> datetime | None:
        found = whole(schedule, now)
        return found and found + timedelta(hours=1)

    patch.setattr(scheduler, "next_start", careless)


def _takes_runs_from_the_living(patch: pytest.MonkeyPatch) -> None:
    """J07: a run that another process has is begun once more."""
    patch.setattr(Claims, "_gone", lambda self, owner: True)


def _runs_an_answered_session_beside_a_later_one(patch: pytest.MonkeyPatch) -> None:
    """Invariant 22: what a person answered goes on at once."""
    patch.setattr(claims, "_no_room", lambda *of: False)


def _settles_what_another_settled(patch: pytest.MonkeyPatch) -> None:
    """A process that lost its run writes down what came of it all the same."""
    patch.setattr(Claims, "_mine", sa.true())


def _counts_each_failure_twice(patch: pytest.MonkeyPatch) -> None:
    """J11: a schedule is paused too early."""
    whole = claims._counted

    def careless(*of: Any) -> str:
        return whole(*of) or whole(*of)

    patch.setattr(claims, "_counted", careless)


def _begins_what_was_claimed_before_a_pause(patch: pytest.MonkeyPatch) -> None:
    """Nothing runs while paused."""

    def careless(c: sa.Connection, name: str, why: str, now: datetime) -> None:
        c.execute(sa.update(SCHEDULES).where(SCHEDULES.c.name == name).values(paused=why, paused_at=now))

    patch.setattr(store, "paused", careless)
    patch.setattr(claims, "paused", careless)


def _begins_what_an_older_form_planned(patch: pytest.MonkeyPatch) -> None:
    """J08: a ghost run."""
    patch.setattr(store.Store, "_changed", lambda self, c, name, why: None)


def _tries_what_ends_its_process_for_ever(patch: pytest.MonkeyPatch) -> None:
    """P12: a session that never gets any further is run again and again."""
    patch.setattr(claims, "HELD_AFTER", 1_000)


FAULTS = [
    _runs_a_time_that_comes_twice_both_times,
    _leaves_out_a_time_that_is_skipped,
    _is_never_too_late,
    _wakes_an_hour_late,
    _takes_runs_from_the_living,
    _runs_an_answered_session_beside_a_later_one,
    _settles_what_another_settled,
    _counts_each_failure_twice,
    _begins_what_was_claimed_before_a_pause,
    _begins_what_an_older_form_planned,
    _tries_what_ends_its_process_for_ever,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__.strip("_"))
def test_a_fault_that_is_put_in_on_purpose_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)

    assert any(isinstance(tried_schedules(seed), Failed) for seed in range(ENOUGH))
