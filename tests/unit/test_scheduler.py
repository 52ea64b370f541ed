"""Claims, runs and outcomes, on SQLite and on PostgreSQL alike."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from agentloop.cli.cron_running import exit_code
from agentloop.crash_points import watching
from agentloop.errors import PrefixUnstable, SessionHeld, UsageError
from agentloop.schedule import scheduler
from agentloop.schedule.claims import HELD_AFTER, TRIES, Ended
from agentloop.schedule.scheduler import Scheduler
from agentloop.schedule.store import Overlaps, Store
from agentloop.types.jobs import Job
from tests.unit.scheduling import HOUR, SECOND, SIX, Died, World, ended, hourly


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/schedules.sqlite"
    return str(request.getfixturevalue("new_postgres_url"))


@pytest.fixture
def world(url: str) -> Iterator[World]:
    world = World(url, hourly())
    yield world
    world.die()
    world.store.database.dispose()


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


def test_schedulers_that_make_the_tables_at_once_do_not_hinder_each_other(url: str) -> None:
    found: list[Store] = []
    threads = [threading.Thread(target=lambda: found.append(Store(url))) for _ in range(6)]
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


def test_a_schedule_entered_by_a_clock_that_was_ahead_is_run_when_the_clock_is_right(url: str) -> None:
    world = World(url)
    world.schedules = [hourly()]
    world.at(SIX + 1_000 * HOUR)

    world.at(SIX - HOUR / 2)
    world.at(SIX)

    assert world.statuses()[6] == "done"


# J11: failures in a row


def test_a_schedule_that_fails_again_and_again_is_paused_and_says_how_to_go_on(world: World) -> None:
    world.sessions.play = lambda job: ended("failed", "the tool is gone")
    for n in range(5):
        world.at(SIX + n * HOUR)

    assert list(world.statuses().values()) == ["done", "done", "done", "skipped", "skipped"]
    paused = world.store.standings()["atlas"].paused
    assert "3 runs in a row did not complete" in paused
    assert "failed: the tool is gone" in paused
    assert "'agentloop cron resume atlas'" in paused
    assert world.told("paused") == [f"schedule 'atlas' is paused: {paused}"]

    world.sessions.play = lambda job: ended("completed")
    world.store.unpause("atlas", SIX + 4.5 * HOUR)
    world.at(SIX + 5 * HOUR)

    assert world.statuses()[11] == "done"
    assert world.store.standings()["atlas"].failures == 0


def test_a_run_that_completes_ends_the_row_of_failures(world: World) -> None:
    outcomes = iter(["failed", "refused", "completed", "failed", "budget_exceeded", "completed"])
    world.sessions.play = lambda job: ended(next(outcomes))
    for n in range(6):
        world.at(SIX + n * HOUR)

    assert world.store.standings()["atlas"].paused == ""


@pytest.mark.parametrize("outcome", ["spend_limit", "unauthorized"])
def test_what_every_later_run_would_meet_too_pauses_at_once(world: World, outcome: str) -> None:
    world.sessions.play = lambda job: ended(outcome)
    world.at(SIX)

    assert outcome in world.store.standings()["atlas"].paused


# runs that are not over


@pytest.mark.parametrize(
    ("outcome", "after"),
    [("provider_unavailable", 300 * SECOND), ("interrupted", 30 * SECOND), ("sleeping", 2_000 * SECOND)],
)
def test_a_run_that_can_go_on_later_is_carried_on_then_and_not_before(world: World, outcome: str, after: timedelta) -> None:
    world.sessions.play = lambda job: ended(outcome, until=SIX + after if outcome == "sleeping" else None)
    rows = world.at(SIX)
    world.sessions.play = lambda job: ended("completed")
    world.at(SIX + after - SECOND)
    assert world.sessions.started.total() == 1
    world.at(SIX + after)

    assert exit_code(rows) == 75
    assert world.sessions.started == {"atlas-20261122T0600Z": 2}
    assert world.statuses() == {6: "done"}


def test_a_provider_that_stays_away_is_given_up_and_counted_once(world: World) -> None:
    world.sessions.play = lambda job: ended("provider_unavailable")
    for n in range(TRIES + 3):
        world.at(SIX + n * HOUR)

    first = world.store.history()[-1]
    assert (first.status, first.outcome, first.tries) == ("done", "provider_unavailable", TRIES)
    assert world.store.standings()["atlas"].failures == 1


def test_a_session_that_waits_for_a_person_is_carried_on_when_it_was_answered(world: World) -> None:
    waiting = ended("waiting_for_approval")
    world.sessions.play = lambda job: waiting
    world.sessions.ended["atlas-20261122T0600Z"] = waiting
    rows = world.at(SIX)
    world.at(SIX + SECOND)
    assert world.sessions.started.total() == 1

    del world.sessions.ended["atlas-20261122T0600Z"]
    world.sessions.play = lambda job: ended("completed")
    world.at(SIX + 2 * SECOND)

    assert exit_code(rows) == 4
    assert world.statuses() == {6: "done"}


def test_a_session_that_somebody_else_holds_is_tried_again_and_counts_as_no_failure(world: World) -> None:
    def held(job: Job) -> Ended:
        raise SessionHeld("a person resumes it")

    world.sessions.play = held
    rows = world.at(SIX)
    world.sessions.play = lambda job: ended("completed")
    world.at(SIX + 30 * SECOND)

    assert exit_code(rows) == 75
    assert world.statuses() == {6: "done"}
    assert world.store.standings()["atlas"].failures == 0


@pytest.mark.parametrize(
    ("error", "outcome", "code"),
    [
        (UsageError("no key"), "error", 2),
        (PrefixUnstable("moved"), "prefix_unstable", 5),
        (ZeroDivisionError("a bug"), "internal_error", 1),
    ],
)
def test_what_a_run_raises_is_written_down_with_its_due_time(world: World, error: Exception, outcome: str, code: int) -> None:
    def broken(job: Job) -> Ended:
        raise error

    world.sessions.play = broken
    rows = world.at(SIX)

    assert [(r.outcome, r.exit_code, str(error) in r.reason) for r in rows] == [(outcome, code, True)]
    assert exit_code(rows) == code


# the queue


def test_a_run_that_is_the_queues_is_followed_in_its_log(world: World) -> None:
    world.sessions.play = lambda job: None
    world.at(SIX)
    world.at(SIX + HOUR)
    assert world.statuses() == {6: "submitted", 7: "skipped"}

    world.sessions.ended["atlas-20261122T0600Z"] = ended("sleeping")
    world.at(SIX + HOUR + SECOND)
    assert world.statuses()[6] == "submitted"
    world.sessions.ended["atlas-20261122T0600Z"] = ended("completed")
    world.at(SIX + HOUR + 2 * SECOND)

    assert world.statuses() == {6: "done", 7: "skipped"}
    assert world.sessions.started.total() == 1


# by hand


def test_a_run_by_hand_is_one_more_and_is_refused_where_it_would_overlap(world: World) -> None:
    row = world.store.claim_by_hand(world.schedules[0], SIX - 60 * SECOND)
    with pytest.raises(Overlaps):
        world.store.claim_by_hand(world.schedules[0], SIX - 30 * SECOND)

    done = world.process().run_one(row)

    assert (done.session_id, done.outcome, done.reason) == ("atlas-20261122T055900Z", "completed", "run by hand")


# serve


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "LOOK_S", 0.05)


def _until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("quick")
def test_serve_runs_what_falls_due_and_takes_note_of_schedules_that_change(world: World) -> None:
    process = world.process()
    beats: list[object] = []
    thread = threading.Thread(target=process.serve, args=(beats.append,))
    thread.start()
    world.clock.at = SIX
    _until(lambda: world.statuses() == {6: "done"})
    world.schedules = [hourly(cron="30 * * * *")]
    _until(lambda: world.store.standings()["atlas"].since == SIX)
    world.clock.at = SIX + HOUR / 2
    _until(lambda: len(world.store.history()) == 2 and world.store.history()[0].status == "done")
    process.stop()
    thread.join(30)

    assert not thread.is_alive()
    assert [f"{r.due:%H:%M}" for r in world.store.history()] == ["06:30", "06:00"]
    assert len(beats) > 3


@pytest.mark.usefixtures("quick")
def test_serve_that_is_stopped_gives_its_runs_back_and_another_carries_them_on(world: World) -> None:
    over = threading.Event()

    def play(job: Job) -> Ended:
        over.wait(30)
        return ended("completed")

    world.sessions.play = play
    world.clock.at = SIX
    process = world.process()
    thread = threading.Thread(target=process.serve, kwargs={"stop_within_s": -1})
    thread.start()
    _until(lambda: world.sessions.started)
    process.stop()
    thread.join(30)

    assert world.statuses() == {6: "claimed"}
    assert world.store.history()[0].crashes == 0
    over.set()
    world.die()
    world.at(SIX + SECOND)
    assert world.statuses() == {6: "done"}


@pytest.mark.usefixtures("quick")
def test_serve_goes_on_when_the_database_is_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlalchemy as sa

    process: Scheduler = world.process()
    broken = threading.Event()
    broken.set()
    real = process._store.sync

    def sync(*arguments: object, **options: object) -> None:
        if broken.is_set():
            raise sa.exc.OperationalError("select", {}, Exception("the disk is gone"))
        real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(process._store, "sync", sync)
    world.clock.at = SIX
    thread = threading.Thread(target=process.serve)
    thread.start()
    _until(lambda: world.told("database"))
    broken.clear()
    _until(lambda: world.statuses() == {6: "done"})
    process.stop()
    thread.join(30)

    assert world.told("database")[0] == "the database cannot be used: the disk is gone"
