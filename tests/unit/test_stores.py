"""What holds for every store, and which one a workspace has."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from agentloop.adapters.jsonl_log import LOCK
from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.postgres_log import PostgresLog
from agentloop.errors import ConfigError, SessionLost
from agentloop.ports import SessionLog, SessionStore
from agentloop.postgres import Postgres
from agentloop.postgres_sessions import PostgresSessions
from agentloop.sessions import Sessions
from agentloop.stores import store_of
from agentloop.testing import NOON, blobs_conformance, given, log_conformance, started, store_conformance
from agentloop.workspace import Settings
from tests.unit.in_postgres import cut


def lose_the_lock_file(log: SessionLog) -> None:
    (Path(log.location).parent / LOCK).unlink()


def give_up(url: str) -> Callable[[SessionLog], None]:
    """The server closes the connection that holds a session: it thought the holder dead."""

    def given_up(log: SessionLog) -> None:
        assert isinstance(log, PostgresLog)
        cut(log, url)

    return given_up


def test_files_keep_the_laws_of_a_store(tmp_path: Path) -> None:
    store_conformance(lambda: Sessions(tmp_path / "sessions", fsync="never"), lose_the_lock_file)


def test_postgresql_keeps_the_laws_of_a_store(new_postgres_url: str) -> None:
    store_conformance(lambda: PostgresSessions(Postgres(new_postgres_url)), give_up(new_postgres_url))


def test_memory_keeps_the_laws_of_a_log_and_of_blobs() -> None:
    log, blobs = MemoryLog(), MemoryBlobs()

    log_conformance(lambda: nullcontext(log))
    blobs_conformance(lambda: blobs)


def test_a_workspace_without_a_database_keeps_its_sessions_in_files(tmp_path: Path) -> None:
    store = store_of(tmp_path, Settings())

    assert store.location("s") == tmp_path / "sessions" / "s"


@pytest.mark.parametrize("url", [None, "sqlite:////tmp/queue.sqlite"])
def test_a_database_that_other_machines_cannot_share_holds_no_sessions(tmp_path: Path, url: str | None) -> None:
    assert isinstance(store_of(tmp_path, Settings(database_url=url)), Sessions)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_workspace_with_a_postgresql_url_keeps_its_sessions_there(tmp_path: Path, scheme: str) -> None:
    store = store_of(tmp_path, Settings(database_url=f"{scheme}://ann:hunter2@db.example:5433/shop"))

    assert store.location("s") == "postgresql://db.example:5433/shop/s"


def test_a_url_that_is_none_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="database_url is no PostgreSQL URL") as error:
        store_of(tmp_path, Settings(database_url="postgresql://ann:hunter2@db/shop?no_such_option=1"))

    assert "hunter2" not in str(error.value)


@pytest.fixture(params=["files", "postgresql"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], SessionStore]:
    if request.param == "files":
        return lambda: Sessions(tmp_path / "sessions", fsync="never")
    url = request.getfixturevalue("new_postgres_url")
    return lambda: PostgresSessions(Postgres(url))


def test_a_session_that_is_deleted_while_it_is_held_elsewhere_is_lost(stores: Callable[[], SessionStore]) -> None:
    with stores().log("s") as log:
        log.append(started(), NOON)
        _delete_behind_its_back(log)

        with pytest.raises(SessionLost, match=r"session 's' was (deleted|taken away)"):
            log.append(given("into the void"), NOON)

    assert not stores().exists("s")


def test_a_log_that_was_lost_takes_nothing_more(stores: Callable[[], SessionStore]) -> None:
    from agentloop.errors import LogWriteFailed

    with stores().log("s") as log:
        log.append(started(), NOON)
        _delete_behind_its_back(log)
        with pytest.raises(SessionLost):
            log.append(given("lost"), NOON)

        with pytest.raises(LogWriteFailed, match="is not open for writing"):
            log.append(given("too late"), NOON)


def _delete_behind_its_back(log: SessionLog) -> None:
    if isinstance(log, PostgresLog):
        log._hold.changed("DELETE FROM agentloop_sessions WHERE session_id = %(id)s")
        log._hold.changed("DELETE FROM agentloop_lines WHERE session_id = %(id)s")
    else:
        folder = Path(log.location).parent
        folder.rename(folder.with_name(f".deleted-{os.getpid()}"))


def test_sessions_do_not_go_to_files_in_silence_where_the_database_is_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must start with sqlite:/// or postgresql://, found 'mysql:'"):
        store_of(tmp_path, Settings(database_url="mysql://host/shop"))
