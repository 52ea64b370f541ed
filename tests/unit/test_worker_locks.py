"""Nobody is taken for dead who is not, and whoever is dead is found."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentloop.adapters.worker_locks import FileLocks, PostgresLocks, locks
from tests.postgres import Postgres as Server

Make = Callable[[], FileLocks | PostgresLocks]
_HOLDS = """
import sys
from agentloop.adapters.worker_locks import locks
made = locks(sys.argv[1])
print(made.hold(sys.argv[2]), flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["files", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "files":
        return f"sqlite:///{tmp_path}/queue.sqlite"
    given: str = request.getfixturevalue("new_postgres_url")
    return given


def test_the_lock_of_a_living_worker_is_taken_by_nobody(url: str) -> None:
    mine, theirs = locks(url), locks(url)
    assert mine.hold("me")
    assert theirs.hold("them")

    with theirs.of_the_dead("me") as dead:
        assert not dead
    assert not theirs.hold("me")
    assert mine.holds()


def test_a_worker_that_was_killed_is_dead_to_one_other_at_a_time(url: str) -> None:
    one, other = locks(url), locks(url)
    assert one.hold("one")
    assert other.hold("other")
    with _another_process(url, "victim") as victim:
        with one.of_the_dead("victim") as dead:
            assert not dead
        victim.send_signal(signal.SIGKILL)
        victim.wait()

    assert _soon(lambda: _is_dead(one, "victim"))
    with one.of_the_dead("victim") as first, other.of_the_dead("victim") as second:
        assert first
        assert not second


def test_a_lock_that_was_let_go_is_free(url: str) -> None:
    mine, theirs = locks(url), locks(url)
    assert theirs.hold("them")
    assert mine.hold("me")

    mine.close()

    assert _soon(lambda: _is_dead(theirs, "me"))


def test_a_connection_that_broke_takes_its_lock_again(new_postgres_url: str) -> None:
    mine, theirs = PostgresLocks(new_postgres_url), PostgresLocks(new_postgres_url)
    assert mine.hold("me")
    assert theirs.hold("them")
    _end_all_connections(new_postgres_url)

    assert mine.holds()

    assert theirs.holds()
    with theirs.of_the_dead("me") as dead:
        assert not dead


def test_one_that_was_taken_for_dead_meanwhile_does_not_hold_its_lock(new_postgres_url: str) -> None:
    mine, theirs = PostgresLocks(new_postgres_url), PostgresLocks(new_postgres_url)
    assert mine.hold("me")
    _end_all_connections(new_postgres_url)
    assert theirs.hold("them")

    with theirs.of_the_dead("me") as dead:
        assert dead
        assert not mine.holds()

    assert mine.holds()


def test_a_server_that_was_away_for_several_looks_gives_the_lock_again(postgres_server: Server) -> None:
    mine = PostgresLocks(postgres_server.new_database())
    assert mine.hold("me")
    postgres_server.stop()
    try:
        assert not mine.holds()
        assert not mine.holds()
    finally:
        postgres_server.start()

    assert mine.holds()


def test_whoever_was_refused_the_lock_once_does_not_hold_it_at_the_next_look_either(new_postgres_url: str) -> None:
    mine, theirs = PostgresLocks(new_postgres_url), PostgresLocks(new_postgres_url)
    assert mine.hold("me")
    _end_all_connections(new_postgres_url)
    assert theirs.hold("them")

    with theirs.of_the_dead("me"):
        assert not mine.holds()
        assert not mine.holds()


def test_a_lock_whose_file_was_deleted_meanwhile_is_not_taken_for_that_of_a_dead_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = FileLocks(tmp_path)
    assert mine.hold("me")
    lock = fcntl.flock

    def slow(handle: int, how: int) -> None:
        (tmp_path / "them.lock").unlink()
        (tmp_path / "them.lock").touch()
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", slow)

    assert not _is_dead(mine, "them")


def _another_process(url: str, name: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, url, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"True\n"
    return process


def _is_dead(made: FileLocks | PostgresLocks, name: str) -> bool:
    with made.of_the_dead(name) as dead:
        return dead


def _soon(found: Callable[[], bool], seconds: float = 5.0) -> bool:
    import time

    deadline = time.monotonic() + seconds
    while not (done := found()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return done


def _end_all_connections(url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
