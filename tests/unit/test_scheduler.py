"""Claims, runs and outcomes, on SQLite and on PostgreSQL alike."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from agentloop.cli.cron_running import exit_code
from agentloop.crash_points import watching
from agentloop.schedule.claims import HELD_AFTER, Ended
from agentloop.schedule.store import Store
from agentloop.types.jobs import Job
from tests.unit.scheduling import HOUR, SECOND, SIX, Died, World, ended, hourly

# what is due runs


def test_what_is_due_is_run_once_however_often_one_looks(world: World) -> None:
    for seconds in (0, 1, 30, 200):
        world.at(SIX + seconds * SECOND)

    assert world.sessions.started == {"atlas-20261122T0600Z": 1}
    assert world.statuses() == {6: "done"}


def test_nothing_due_is_nothing_done(world: World) -> None:
    assert world.at(SIX - SECOND) == []
    assert world.store.history() == []


def test_five_missed_due_times_are_one_run_and_four_reasons(world: World) -> None:
    world.at(SIX + 4.5 * HOUR)

    assert world.sessions.started == {"atlas-20261122T1000Z": 1}
    assert world.statuses() == {6: "skipped", 7: "skipped", 8: "skipped", 9: "skipped", 10: "done"}
    assert all(reason.startswith("missed: ") for reason in world.reasons()[:4])
    assert len(world.told("skipped")) == 4


def test_times_that_are_made_up_for_run_one_after_the_other(world: World) -> None:
    world.schedules = [hourly(missed="all 9")]
    running, most = [0], [0]

    def play(job: Job) -> Ended:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.01)
        running[0] -= 1
        return ended("completed")

    world.sessions.play = play
    world.at(SIX + 4.5 * HOUR)

    assert list(world.sessions.started) == [f"atlas-20261122T{h:02}00Z" for h in range(6, 11)]
    assert most == [1]


def test_as_many_runs_as_are_wanted_go_side_by_side_and_no_more(world: World) -> None:
    world.schedules = [hourly(name=f"job-{n}", agent="a") for n in range(6)]
    world.store.sync(world.schedules, SIX - HOUR)
    together = threading.Barrier(3, timeout=20)

    def play(job: Job) -> Ended:
        together.wait()
        assert process.running <= 3
        return ended("completed")

    world.sessions.play = play
    world.clock.at = SIX
    process = world.process(at_most=3)

    assert [row.outcome for row in process.tick()] == ["completed"] * 6


# J05, J07: overlap, two schedulers


def test_a_due_time_is_skipped_while_another_process_still_runs_the_one_before(world: World) -> None:
    going, over = threading.Event(), threading.Event()

    def play(job: Job) -> Ended:
        going.set()
        assert over.wait(20)
        return ended("completed")

    world.sessions.play = play
    world.clock.at = SIX
    first = threading.Thread(target=world.process().tick)
    first.start()
    assert going.wait(20)
    world.clock.at = SIX + HOUR
    rows = world.process().tick()
    over.set()
    first.join(20)

    assert [(row.due.hour, row.reason) for row in rows] == [(7, "overlap: the run before is still going (skip)")]
    assert exit_code(rows) == 75
    assert world.statuses() == {6: "done", 7: "skipped"}


def test_two_schedulers_on_one_store_make_one_run_of_each_due_time(world: World) -> None:
    world.schedules = [hourly(name=f"job-{n}", agent="a") for n in range(8)]
    world.store.sync(world.schedules, SIX - HOUR)
    world.clock.at = SIX
    threads = [threading.Thread(target=world.process().tick) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert world.sessions.started == {f"job-{n}-20261122T0600Z": 1 for n in range(8)}
    assert len(world.store.history()) == 8


def test_schedulers_that_make_the_tables_at_once_do_not_hinder_each_other(schedules_url: str) -> None:
    found: list[Store] = []
    threads = [threading.Thread(target=lambda: found.append(Store(schedules_url))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [store.history() for store in found] == [[]] * 6


# J06, P12: crashes


@pytest.mark.parametrize("point", ["schedule.claimed", "schedule.begun", "schedule.ended", "schedule.settled"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_due_time_whose_process_died_anywhere_is_run_exactly_once(world: World, point: str) -> None:
    with watching(_dying(point)), suppress(Died):
        world.at(SIX)
    world.die()
    world.at(SIX + 60 * SECOND)
    world.at(SIX + 120 * SECOND)

    assert world.sessions.completed == {"atlas-20261122T0600Z": 1}
    assert world.statuses() == {6: "done"}


def test_a_run_whose_process_lives_is_left_alone(world: World) -> None:
    world.clock.at = SIX
    alive = world.process()
    with watching(_dying("schedule.begun")), suppress(Died):
        alive.tick()

    assert world.process().tick() == []
    assert world.statuses() == {6: "running"}


def _dying(point: str) -> Callable[[str], None]:
    def die(name: str) -> None:
        if name == point:
            raise Died(name)

    return die


@pytest.mark.parametrize(("steps", "status"), [(0, "held"), (1, "running")])
def test_a_run_that_ends_its_process_again_and_again_without_a_step_forward_is_held(
    world: World, steps: int, status: str
) -> None:
    for n in range(HELD_AFTER + 1):
        world.sessions.progress["atlas-20261122T0600Z"] = n * steps
        with watching(_dying("schedule.begun")), suppress(Died):
            world.at(SIX + n * SECOND)
        world.die()

    assert world.statuses() == {6: status}
    if status == "held":
        assert "'agentloop resume atlas-20261122T0600Z'" in world.reasons()[0]
        assert world.told("held")
        assert world.at(SIX + 100 * SECOND) == []
        assert exit_code(world.store.history()) == 75


# J08: changes


def test_a_changed_schedule_is_in_force_at_once_and_leaves_no_run_of_the_old_one(world: World) -> None:
    world.schedules = [hourly(overlap="queue")]
    with watching(_dying("schedule.begun")), suppress(Died):
        world.at(SIX)
    world.clock.at = SIX + HOUR
    world.store.decide(world.schedules[0], world.clock.at)
    assert world.statuses() == {6: "running", 7: "waiting"}
    world.die()

    world.schedules = [hourly(overlap="queue", cron="30 * * * *")]
    world.at(SIX + HOUR + SECOND)
    world.at(SIX + 1.5 * HOUR)

    found = [(f"{r.due:%H:%M}", r.status, r.reason) for r in reversed(world.store.history())]
    assert found == [("06:00", "done", ""), ("07:00", "skipped", "the schedule was changed"), ("07:30", "done", "")]


def test_a_schedule_that_was_taken_out_runs_no_more_and_what_runs_comes_to_its_end(world: World) -> None:
    with watching(_dying("schedule.begun")), suppress(Died):
        world.at(SIX)
    world.die()

    world.schedules = []
    world.at(SIX + HOUR)

    assert world.statuses() == {6: "done"}
    assert world.store.standings() == {}


def test_one_file_that_cannot_be_read_takes_no_schedule_out(world: World) -> None:
    world.schedules, world.errors = [], ("prompts/atlas.md: broken",)
    world.at(SIX - SECOND)
    world.schedules, world.errors = [hourly()], ()
    world.at(SIX)

    assert world.statuses() == {6: "done"}
    assert world.told("unreadable") == ["prompts/atlas.md: broken"]


def test_a_schedule_counts_from_when_it_was_first_seen(world: World) -> None:
    world.schedules.append(hourly(name="new"))
    world.at(SIX + SECOND)

    assert [row.name for row in world.store.history()] == ["atlas"]


def test_a_schedule_entered_by_a_clock_that_was_ahead_is_run_when_the_clock_is_right(schedules_url: str) -> None:
    world = World(schedules_url)
    world.schedules = [hourly()]
    world.at(SIX + 1_000 * HOUR)

    world.at(SIX - HOUR / 2)
    world.at(SIX)

    assert world.statuses()[6] == "done"
