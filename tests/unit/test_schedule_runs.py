"""What comes of runs, and the process that stays, on SQLite and on PostgreSQL alike."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from agentloop.cli.cron_running import exit_code
from agentloop.errors import PrefixUnstable, SessionHeld, UsageError
from agentloop.queueing import SessionQueue
from agentloop.schedule import scheduler
from agentloop.schedule.claims import TRIES, Claims, Ended
from agentloop.schedule.runners import queued
from agentloop.schedule.scheduler import Scheduler
from agentloop.schedule.store import Overlaps
from agentloop.types.jobs import Job
from agentloop.types.queues import Queued, Standing
from tests.unit.scheduling import HOUR, SECOND, SIX, World, ended, hourly

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


def test_a_secret_in_what_a_run_raises_is_kept_nowhere(world: World) -> None:
    def broken(job: Job) -> Ended:
        raise UsageError("the key sk-ant-canary is refused")

    world.sessions.play = broken
    world.clock.at = SIX
    world.process(redact=lambda text: text.replace("sk-ant-canary", "[redacted]")).tick()

    assert world.reasons() == ["the key [redacted] is refused"]
    assert "sk-ant-canary" not in "".join(n.text for n in world.news)


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


@pytest.mark.parametrize(
    ("standing", "outcome", "found"),
    [
        ("queued", None, ("submitted", None)),
        ("running", None, ("submitted", None)),
        ("done", "completed", ("done", "completed")),
        ("done", None, ("done", "error")),
        ("cancelled", None, ("done", "cancelled")),
        ("held", None, ("held", "held")),
    ],
)
def test_a_run_that_ended_in_the_queue_is_over_even_where_no_log_says_so(
    world: World, standing: Standing, outcome: str | None, found: tuple[str, str | None]
) -> None:
    run = Queued("atlas-20261122T0600Z", "r", "default", "a", standing, 0, SIX, None, None, None, 0, outcome, None, "")
    queue = cast(SessionQueue, SimpleNamespace(runs=lambda: [run]))
    world.sessions.play = lambda job: None
    world.at(SIX)

    claims = Claims(world.store, world.sessions.look, queued(queue, world.sessions.look))
    row = claims.follow(world.store.history()[0], world.schedules[0], SIX + SECOND)
    claims.close()

    assert (row.status, row.outcome) == found


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
