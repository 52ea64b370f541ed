"""What fell silent is told, once for each time it did."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, strategies

from agentloop import database as databases
from agentloop import vigil
from agentloop.operation import Heart
from agentloop.operation import tables as operation_tables
from agentloop.operation.silence import Expected, silent
from agentloop.schedule import tables
from agentloop.schedule.calendar import due_times
from agentloop.schedule.spec import Schedule
from agentloop.schedule.store import Store
from agentloop.testing import NOON
from agentloop.workspace import Settings, configuration
from tests.e2e.workplace import agentloop, workspace

DAILY = Schedule(name="daily", agent="assistant", cron="30 2 * * *")
SAID = 'import sys; open(sys.argv[1], "a").write(sys.stdin.read() + "\\n")'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return workspace(tmp_path)


def telling(folder: Path) -> Settings:
    import sys

    given_here = {"notify_command": (sys.executable, "-c", SAID, str(folder / "said")), "notify_silence_s": 3_600.0}
    return configuration(folder, environment={}).settings.model_copy(update=given_here)


def told(folder: Path) -> list[str]:
    path = folder / "said"
    return [json.loads(line)["subject"] for line in path.read_text().splitlines()] if path.exists() else []


def store_of(folder: Path) -> Store:
    return Store(databases.url_of(folder, None, tables.DATABASE))


def scheduled(folder: Path, since: datetime, *schedules: Schedule) -> Store:
    store = store_of(folder)
    for schedule in schedules:
        store.add(schedule, since)
    store.sync(schedules, since)
    return store


def ended(store: Store, name: str, due: datetime, outcome: str) -> None:
    row = {"name": name, "due": due, "session_id": f"{name}-{due:%H%M%d}", "status": "done", "outcome": outcome}
    with databases.transaction(store.database) as c:
        c.execute(sa.insert(tables.DUE_TIMES).values(**row, decided_at=due, ended_at=due + timedelta(minutes=10)))


def test_a_schedule_is_silent_when_no_run_ended_well_since_its_last_due_time(folder: Path) -> None:
    store = scheduled(folder, NOON - timedelta(days=3), DAILY)
    ended(store, "daily", NOON - timedelta(days=2), "completed")
    ended(store, "daily", NOON - timedelta(hours=9), "failed")

    (notice,) = vigil.look(folder, telling(folder), NOON, {})

    assert notice.subject == "schedule daily"
    assert "due at 2026-01-05 02:30 UTC; its last success: 2026-01-03 12:10 UTC" in notice.summary
    assert told(folder) == ["schedule daily"]


def test_a_success_ends_the_silence_and_a_new_silence_is_a_new_notice(folder: Path) -> None:
    store, settings = scheduled(folder, NOON - timedelta(days=3), DAILY), telling(folder)

    first = [len(vigil.look(folder, settings, NOON + timedelta(minutes=5 * n), {})) for n in range(3)]
    ended(store, "daily", NOON, "completed")
    quiet = vigil.look(folder, settings, NOON + timedelta(hours=1), {})
    again = [len(vigil.look(folder, settings, NOON + timedelta(days=1, minutes=n), {})) for n in range(2)]

    assert (first, quiet, again) == ([1, 1, 1], (), [1, 1])
    assert told(folder) == ["schedule daily"] * 2


@pytest.mark.parametrize(("minutes", "silent_now"), [(59, False), (61, True)])
def test_a_run_has_time_to_end(folder: Path, minutes: int, silent_now: bool) -> None:
    scheduled(folder, NOON - timedelta(hours=20), DAILY)
    due = datetime(2026, 1, 5, 2, 30, tzinfo=UTC)

    assert bool(vigil.look(folder, telling(folder), due + timedelta(minutes=minutes), {})) is silent_now


def test_a_schedule_that_somebody_paused_is_expected_of_nothing_and_one_that_failed_is_told(folder: Path) -> None:
    by_hand = Expected("a", NOON, None, paused="by hand")
    by_failing = Expected("b", NOON, None, paused="3 failures in a row", failures=3)

    (notice,) = silent([by_hand, by_failing], NOON)

    assert notice.subject == "schedule b"
    assert "agentloop cron resume b" in notice.next_step


def test_a_process_without_a_heartbeat_is_told_once_for_each_time_it_dies(folder: Path) -> None:
    settings = telling(folder)
    opened = databases.engine(databases.url_of(folder, None, operation_tables.DATABASE))
    operation_tables.make(opened)
    heart = Heart("cron-host", every_s=20, database=opened)

    heart.beat(NOON)
    alive = vigil.look(folder, settings, NOON + timedelta(seconds=50), {})
    dead = [len(vigil.look(folder, settings, NOON + timedelta(minutes=5 + n), {})) for n in range(2)]
    heart.beat(NOON + timedelta(hours=1))
    dead_again = vigil.look(folder, settings, NOON + timedelta(hours=2), {})

    assert (alive, dead, len(dead_again)) == ((), [1, 1], 1)
    assert told(folder) == ["process cron-host"] * 2


@given(
    strategies.sampled_from(["*/5 * * * *", "30 2 * * *", "0 9 * * 1", "15 4 1 * *", "0 0 29 2 *", "@hourly"]),
    strategies.integers(0, 500),
    strategies.integers(0, 60 * 24 * 500),
)
def test_the_newest_due_time_is_the_last_one_that_there_was(cron: str, age_days: int, minutes: int) -> None:
    schedule = Schedule(name="x", agent="a", cron=cron, zone="Europe/Dublin")
    until = datetime(2027, 3, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    since = until - timedelta(days=min(age_days, 30 if cron.startswith("*") else 500))

    found = vigil.newest_due(schedule, since, until)

    first = max(since, until - timedelta(days=400))
    there = list(due_times(cron, schedule.zone, first, until))
    assert found == (there[-1] if there else None)


def test_watching_looks_again_and_survives_what_goes_wrong(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    looked = threading.Semaphore(0)

    def look(*args: object) -> None:
        looked.release()
        raise RuntimeError("once more")

    monkeypatch.setattr(vigil, "look", look)
    with vigil.watching(folder, Settings(), every_s=0.01):
        seen = [looked.acquire(timeout=10) for _ in range(3)]

    assert seen == [True] * 3


def test_the_command_says_what_is_silent_with_its_own_exit_code(folder: Path) -> None:
    well = agentloop(folder, "notify", "check")
    scheduled(folder, datetime.now(UTC) - timedelta(days=3), DAILY)

    silent_now = agentloop(folder, "notify", "check", "--json", AGENTLOOP_NOTIFY_COMMAND=f"tee {folder / 'said'}")
    nowhere = agentloop(folder, "notify", "test")
    somewhere = agentloop(folder, "notify", "test", AGENTLOOP_NOTIFY_COMMAND="cat")

    assert (well.code, well.out) == (0, "")
    assert silent_now.code == 1
    assert [n["subject"] for n in json.loads(silent_now.out)] == ["schedule daily"]
    assert told(folder) == ["schedule daily"]
    assert (nowhere.code, somewhere.code) == (2, 0)
