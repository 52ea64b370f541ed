"""Schedules when two do something at once, or somebody comes late: faults that simulated workspaces found first."""

from datetime import timedelta

import pytest

from agentloop.schedule.claims import Claims
from agentloop.schedule.due import History, decide
from agentloop.schedule.store import BY_HAND, Row
from tests.unit.scheduling import HOUR, SECOND, SIX, World, ended, hourly


def begun(world: World, claims: Claims, at_hour: int = 6) -> Row:
    """A run that this process has."""
    world.clock.at = SIX + (at_hour - 6) * HOUR
    [row] = world.store.decide(world.schedules[0], world.clock.at)
    assert claims.begin(row, world.schedules[0], world.clock.at) is not None
    return world.store.row(row.name, row.due)


def test_an_answered_session_waits_for_the_later_run_that_goes_on_meanwhile(world: World) -> None:
    claims = Claims(world.store, world.sessions.look)
    first = begun(world, claims)
    claims.settle(first, ended("waiting_for_approval"), world.schedules[0], SIX)
    second = begun(world, claims, 7)

    answered = claims.follow(world.store.row("atlas", SIX), world.schedules[0], SIX + HOUR)
    too_early = claims.begin(answered, world.schedules[0], SIX + HOUR)
    claims.settle(second, ended("completed"), world.schedules[0], SIX + HOUR)
    then = claims.begin(answered, world.schedules[0], SIX + HOUR)
    claims.close()

    assert (answered.status, too_early) == ("claimed", None)
    assert then is not None


def test_a_failure_that_two_schedulers_see_at_once_is_one_failure(world: World) -> None:
    one, other = (Claims(world.store, world.sessions.look) for _ in range(2))
    one.submitted(begun(world, one))
    seen = world.store.row("atlas", SIX)
    world.sessions.ended[seen.session_id] = ended("failed", "the tool is gone")

    for claims in (one, other):
        claims.follow(seen, world.schedules[0], SIX + SECOND)
        claims.close()

    assert world.store.standings()["atlas"].failures == 1


def test_an_answer_that_two_schedulers_see_at_once_starts_the_session_once(world: World) -> None:
    one, other = (Claims(world.store, world.sessions.look) for _ in range(2))
    one.settle(begun(world, one), ended("waiting_for_approval"), world.schedules[0], SIX)
    seen = world.store.row("atlas", SIX)

    assert one.begin(one.follow(seen, world.schedules[0], SIX), world.schedules[0], SIX) is not None
    after = other.follow(seen, world.schedules[0], SIX)
    one.close()
    other.close()

    assert (after.status, after.owner) == ("running", one.me)


@pytest.mark.parametrize("late", ["settle", "let_go", "submitted"])
def test_a_process_that_lost_its_run_writes_nothing_about_it(world: World, late: str) -> None:
    one, other = (Claims(world.store, world.sessions.look) for _ in range(2))
    row = begun(world, one)
    one.close()  # as where the database let go of its lock
    assert other.begin(row, world.schedules[0], SIX + SECOND) is not None
    other.settle(row, ended("completed"), world.schedules[0], SIX + SECOND)

    match late:
        case "settle":
            one.settle(row, ended("failed"), world.schedules[0], SIX + SECOND)
        case "let_go":
            one.let_go(row, "stopped")
        case _:
            one.submitted(row)
    other.close()

    after = world.store.row("atlas", SIX)
    assert (after.status, after.outcome, world.store.standings()["atlas"].failures) == ("done", "completed", 0)


def test_what_was_claimed_and_not_begun_when_its_schedule_is_paused_does_not_run(world: World) -> None:
    world.clock.at = SIX
    world.store.decide(world.schedules[0], SIX)
    world.store.pause("atlas", "holidays", SIX)
    by_hand = world.store.claim_by_hand(world.schedules[0], SIX + SECOND)

    world.at(SIX + 2 * SECOND)

    assert world.store.row("atlas", SIX)[3:5] == ("skipped", "paused: holidays")
    assert (by_hand.reason, list(world.sessions.started)) == (BY_HAND, [by_hand.session_id])


def test_a_tick_that_lasts_makes_up_for_nothing_that_fell_due_before_a_change(world: World) -> None:
    """It decides as of its beginning, and reads the schedules anew each time round."""
    half_past = hourly(cron="30 * * * *", missed="all 9")

    def play(job: object) -> object:
        world.clock.at = SIX + 1.75 * HOUR
        world.schedules = [half_past]
        world.store.sync(world.schedules, world.clock.at)
        return ended("completed")

    world.sessions.play = play  # type: ignore[assignment]
    world.at(SIX)
    world.at(SIX + 1.8 * HOUR)

    assert world.statuses() == {6: "done"}
    assert world.store.standings()["atlas"].since == SIX + 1.75 * HOUR


def test_a_due_time_that_its_delay_puts_off_is_not_forgotten_by_who_comes_late() -> None:
    schedule = hourly(jitter_s=7_200, max_age_s=3_600, missed="all 9")
    seen = SIX + 60 * SECOND
    for now in (SIX + timedelta(minutes=n) for n in range(60, 600, 7)):
        decided = {d.due for d in decide(schedule, History(SIX - HOUR / 2, seen, {}), now)}

        fallen = (SIX + n * HOUR for n in range(10))
        assert decided == {due for due in fallen if schedule.start_at(due) <= now}


def test_a_clock_that_was_set_back_leaves_no_due_time_undecided(world: World) -> None:
    world.at(SIX + 12 * HOUR)
    world.at(SIX - 6.5 * HOUR)  # a schedule that is there since later counts from now on
    world.at(SIX + 48 * HOUR)

    since = world.store.standings()["atlas"].since
    assert since == SIX - 6.5 * HOUR
    assert {row.due for row in world.store.history(limit=100)} >= {SIX + n * HOUR for n in range(-6, 49)}
