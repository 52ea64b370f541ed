"""What `sessions prune` deletes, and what it never does."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given as for_any
from hypothesis import settings, strategies

from agentloop.adapters.jsonl_log import LOG
from agentloop.cli.sessions import sessions as command
from agentloop.crash_points import watching
from agentloop.operation.reports import run_report, write
from agentloop.operation.retention import PRUNABLE, Prunable, delete, prunable, sweep
from agentloop.origins import Origins
from agentloop.ports import SessionStore
from agentloop.sessions import Sessions
from agentloop.testing import NOON, given, started
from agentloop.types.events import SessionEnded, SessionResumed

LATER = NOON + timedelta(days=31)
OUTCOMES = frozenset(PRUNABLE)


def made(store: SessionStore, session_id: str, *outcomes: str, at: datetime = NOON, agent: str = "test") -> None:
    """A session that ended so, once for each; with None as the last it goes on."""
    with store.log(session_id) as log:
        log.append(started(session_id=session_id).model_copy(update={"agent": agent}), at)
        log.append(given("task"), at)
        for n, outcome in enumerate(outcomes):
            if n:
                log.append(SessionResumed(), at)
            if outcome != "unfinished":
                log.append(SessionEnded.model_validate({"outcome": outcome}), at)


def ids(found: list[Prunable]) -> list[str]:
    return [one.session_id for one in found]


@pytest.fixture
def store(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path / "sessions", fsync="never")


every_end = strategies.sampled_from([*sorted(PRUNABLE), "waiting_for_approval", "sleeping", "unfinished"])
a_session = strategies.tuples(strategies.lists(every_end, min_size=1, max_size=3), strategies.integers(0, 60))


@settings(max_examples=30, deadline=None)
@for_any(strategies.lists(a_session, max_size=6), strategies.sets(strategies.sampled_from(sorted(PRUNABLE))),
         strategies.integers(0, 3))  # fmt: skip
def test_only_sessions_that_are_over_and_old_and_asked_for_go(
    given_sessions: list[tuple[list[str], int]], outcomes: set[str], keep: int
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = Sessions(Path(folder) / "sessions", fsync="never")
        for n, (ends, day) in enumerate(given_sessions):
            made(store, f"s{n}", *ends, at=NOON + timedelta(days=day, seconds=n))
        limit = NOON + timedelta(days=30)

        found = prunable(store, limit, frozenset(outcomes), keep)

        newest = sorted(range(len(given_sessions)), key=lambda n: (given_sessions[n][1], n), reverse=True)[:keep]
        expected = {
            f"s{n}"
            for n, (ends, day) in enumerate(given_sessions)
            if ends[-1] in outcomes and NOON + timedelta(days=day, seconds=n) < limit and n not in newest
        }
        assert set(ids(found)) == expected
        for one in found:
            assert delete(store, one, Path(folder) / "sessions", Origins(Path(folder))) is None
        assert set(store.ids()) == {f"s{n}" for n in range(len(given_sessions))} - expected


def test_age_counts_from_the_end_of_a_session(store: Sessions) -> None:
    with store.log("long") as log:
        log.append(started(session_id="long"), NOON)
        log.append(given("task"), NOON)
        log.append(SessionEnded(outcome="completed"), NOON + timedelta(days=20))

    assert ids(prunable(store, NOON + timedelta(days=10), OUTCOMES)) == []
    assert ids(prunable(store, NOON + timedelta(days=30), OUTCOMES)) == ["long"]


def test_the_newest_of_each_agent_can_be_kept(store: Sessions) -> None:
    for n in range(3):
        made(store, f"a{n}", "completed", at=NOON + timedelta(days=n), agent="a")
    made(store, "b0", "completed", agent="b")

    assert ids(prunable(store, LATER, OUTCOMES, keep=1)) == ["a0", "a1"]


def test_a_session_that_is_held_or_goes_on_is_kept(store: Sessions) -> None:
    for name in ("held", "resumed"):
        made(store, name, "completed")
    old = prunable(store, LATER, OUTCOMES)
    with store.log("resumed") as log:
        log.append(SessionResumed(), LATER)

    with store.log("held"):
        said = [delete(store, one, store.folder, Origins(store.folder.parent)) for one in old]

    assert sorted(filter(None, said)) == ["it goes on", "it is held by another process"]
    assert list(store.ids()) == ["held", "resumed"]


def test_a_damaged_log_is_left_for_a_person(store: Sessions) -> None:
    made(store, "bad", "completed")
    path = store.path("bad") / LOG
    path.write_bytes(path.read_bytes().replace(b"task", b"tusk"))

    assert prunable(store, LATER, OUTCOMES) == []


class Killed(BaseException):
    pass


@pytest.mark.parametrize("point", ["prune.hidden", "prune.deleted"])
def test_a_crash_leaves_a_session_whole_or_gone(store: Sessions, point: str) -> None:
    def kill(name: str) -> None:
        if name == point:
            raise Killed

    made(store, "s", "completed")
    (old,) = prunable(store, LATER, OUTCOMES)
    with pytest.raises(Killed), watching(kill):
        delete(store, old, store.folder, Origins(store.folder.parent))

    assert list(store.ids()) == []
    assert prunable(store, LATER, OUTCOMES) == []
    sweep(store.folder)
    assert [p for p in store.folder.rglob("*") if p.is_file()] == []
    made(store, "s", "completed")
    (again,) = prunable(store, LATER, OUTCOMES)
    assert delete(store, again, store.folder, Origins(store.folder.parent)) is None
    assert [p for p in store.folder.rglob("*") if p.is_file()] == []


def test_on_postgresql_the_session_goes_and_so_do_its_reports(new_postgres_url: str, tmp_path: Path) -> None:
    from agentloop.stores import store_of
    from agentloop.workspace import Settings

    store = store_of(tmp_path, Settings(database_url=new_postgres_url))
    made(store, "s", "completed")
    write(run_report(store.stream("s")), tmp_path / "sessions" / "s", lambda text: text, "# page")

    (old,) = prunable(store, LATER, OUTCOMES, folder=tmp_path / "sessions")
    left = delete(store, old, tmp_path / "sessions", Origins(tmp_path))

    assert left is None
    assert list(store.ids()) == []
    assert not (tmp_path / "sessions" / "s").exists()


@pytest.fixture
def in_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sessions:
    monkeypatch.chdir(tmp_path)
    return Sessions(tmp_path / "sessions", fsync="never")


def test_the_command_says_what_it_would_delete_and_how_large_that_is(in_workspace: Sessions) -> None:
    made(in_workspace, "old", "completed")
    made(in_workspace, "failed", "failed")
    (in_workspace.path("old") / "report.md").write_text("x" * 1_000)

    dry = CliRunner().invoke(command, ["prune", "--older-than", "4w", "--dry-run", "--json"])
    done = CliRunner().invoke(command, ["prune", "--older-than", "30d"])
    rest = CliRunner().invoke(command, ["prune", "--older-than", "30", "--outcome", "any"])

    (row,) = json.loads(dry.output)
    assert (row["session_id"], row["deleted"]) == ("old", False)
    assert row["bytes"] > 1_000
    assert "deleted old (completed 2026-01-05" in done.output
    assert "deleted failed" in rest.output
    assert list(in_workspace.ids()) == []


@pytest.mark.parametrize("age", ["", "30y", "-1d", "d", "1.5d", "soon"])
def test_an_age_that_is_none_is_refused(age: str) -> None:
    ran = CliRunner().invoke(command, ["prune", "--older-than", age])

    assert ran.exit_code == 2
    assert "such as 30d" in ran.output


def test_a_session_that_was_deleted_is_not_one_of_ours_any_more(store: Sessions, tmp_path: Path) -> None:
    made(store, "s", "completed")
    origins, began = Origins(tmp_path), started(session_id="s")
    origins.mark("s", began)
    [old] = prunable(store, LATER, OUTCOMES)

    assert delete(store, old, store.folder, origins) is None

    assert not origins.has("s", began)
