"""Who may write a session in PostgreSQL, whatever happens to the server, the connection, the process."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from agentloop import session_tables
from agentloop.adapters.postgres_log import PostgresLog
from agentloop.errors import LogWriteFailed, SessionHeld, SessionLost, StoreUnavailable
from agentloop.postgres import Postgres
from agentloop.postgres_sessions import PostgresSessions
from agentloop.session_hold import Hold
from agentloop.testing import NOON, given, started
from tests.postgres import Postgres as Server
from tests.unit.in_postgres import bodies, cut


@pytest.fixture
def database(new_postgres_url: str) -> Iterator[Postgres]:
    made = Postgres(new_postgres_url)
    yield made
    made.close()


# what the server does


def test_a_server_that_was_started_again_between_two_events_is_no_matter(postgres_server: Server) -> None:
    database = Postgres(postgres_server.new_database())
    with PostgresLog(database, "s") as log:
        log.append(started(), NOON)
        for at_once in (False, True):
            postgres_server.stop(at_once=at_once)
            postgres_server.start()
            log.append(given("behind it"), NOON)

        with pytest.raises(SessionHeld, match=f"process {os.getpid()} on"), PostgresLog(database, "s"):
            pass

    assert bodies(database) == [started(), given("behind it"), given("behind it")]


def test_an_event_that_the_server_never_saw_did_not_happen_and_the_session_is_resumed(postgres_server: Server) -> None:
    database = Postgres(postgres_server.new_database())
    with PostgresLog(database, "s", back_within_s=0.1) as log:
        log.append(started(), NOON)
        postgres_server.stop(at_once=True)
        with pytest.raises(StoreUnavailable, match=r"/s: .*\nwhen the database takes lines again, resume"):
            log.append(given("lost"), NOON)
        postgres_server.start()

        with pytest.raises(LogWriteFailed, match="is not open for writing"):
            log.append(given("too late"), NOON)

    with PostgresLog(database, "s") as log:
        assert log.append(given("again"), NOON).seq == 1
    assert bodies(database) == [started(), given("again")]


def test_a_server_that_is_away_for_a_while_is_waited_for(postgres_server: Server) -> None:
    database = Postgres(postgres_server.new_database())
    with PostgresLog(database, "s") as log:
        log.append(started(), NOON)
        postgres_server.stop(at_once=True)
        back = threading.Timer(0.5, postgres_server.start)
        back.start()

        event = log.append(given("behind it"), NOON)
        back.join()

    assert event.seq == 1
    assert bodies(database) == [started(), given("behind it")]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_that_is_lost_around_the_write_writes_the_line_once(
    when: str, database: Postgres, new_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = PostgresLog._insert

    def broken(log: PostgresLog, line: Any) -> bool:
        monkeypatch.setattr(PostgresLog, "_insert", insert)
        if when == "after":
            assert insert(log, line)
        cut(log, new_postgres_url)
        return insert(log, line)

    with PostgresLog(database, "s") as log:
        log.append(started(), NOON)
        monkeypatch.setattr(PostgresLog, "_insert", broken)
        log.append(given("once"), NOON)
        log.append(given("next"), NOON)

    assert bodies(database) == [started(), given("once"), given("next")]


def test_a_line_under_an_older_epoch_is_refused_by_the_database(database: Postgres) -> None:
    with PostgresLog(database, "s") as log:
        log.append(started(), NOON)
        database.rows("UPDATE agentloop_sessions SET epoch = epoch + 1")

        with pytest.raises(SessionLost, match=r"session 's' was taken over by process \d+ on .+ since 20"):
            log.append(given("late"), NOON)

    assert bodies(database) == [started()]


def test_who_raises_the_epoch_waits_for_the_line_that_is_being_written(database: Postgres, new_postgres_url: str) -> None:
    """Either the line is there when the next holder reads the log, or it is never written."""
    with PostgresLog(database, "s") as log, psycopg.connect(new_postgres_url) as other:
        log.append(started(), NOON)
        other.execute("UPDATE agentloop_sessions SET epoch = epoch + 1")  # not committed yet
        refused: list[Exception] = []

        def append() -> None:
            try:
                log.append(given("late"), NOON)
            except SessionLost as e:
                refused.append(e)

        thread = threading.Thread(target=append)
        thread.start()
        thread.join(0.3)
        waited = thread.is_alive()
        other.commit()
        thread.join()

    assert waited
    assert len(refused) == 1
    assert bodies(database) == [started()]


def test_what_the_server_refuses_did_not_happen(database: Postgres) -> None:
    with PostgresLog(database, "s") as log:
        log.append(started(), NOON)
        database.rows("ALTER TABLE agentloop_lines ADD CONSTRAINT full_disk CHECK (octet_length(line) < 10) NOT VALID")

        with pytest.raises(LogWriteFailed, match="full_disk"):
            log.append(given("lost"), NOON)

    assert bodies(database) == [started()]
    assert [s.events for s in PostgresSessions(database).summaries()] == [1]


def test_what_is_written_is_on_the_servers_disk_whatever_the_role_is_set_to(new_postgres_url: str) -> None:
    with psycopg.connect(new_postgres_url, autocommit=True) as connection:
        connection.execute("ALTER ROLE current_user SET synchronous_commit = off")
        try:
            with PostgresLog(Postgres(new_postgres_url), "s") as log:
                setting = log._hold.one("SHOW synchronous_commit")
        finally:
            connection.execute("ALTER ROLE current_user RESET synchronous_commit")

    assert setting == "on"


def test_a_server_that_cannot_be_reached_is_told_without_the_password() -> None:
    store = PostgresSessions(Postgres("postgresql://ann:hunter2@127.0.0.1:1/shop"))

    with pytest.raises(StoreUnavailable, match=r"postgresql://127\.0\.0\.1:1/shop cannot be reached") as error:
        store.log("s").__enter__()

    assert "hunter2" not in str(error.value)
    assert error.value.exit_code == 75
    assert len(str(error.value).splitlines()) <= 3


def test_a_wrong_password_is_told_without_any(new_postgres_url: str) -> None:
    if "@" not in new_postgres_url:
        pytest.skip("this server asks for no password")
    scheme, rest = new_postgres_url.split("://")
    user = rest.split(":")[0]
    store = PostgresSessions(Postgres(f"{scheme}://{user}:hunter2@{rest.split('@')[1]}"))

    with pytest.raises(StoreUnavailable, match="password authentication failed") as error:
        list(store.ids())

    assert "hunter2" not in str(error.value)


# holding


def test_the_session_of_a_killed_process_is_held_by_nobody(database: Postgres, new_postgres_url: str) -> None:
    program = (
        "import os, sys\n"
        "from agentloop.postgres import Postgres\n"
        "from agentloop.postgres_sessions import PostgresSessions\n"
        "from agentloop.testing import NOON, started\n"
        "log = PostgresSessions(Postgres(sys.argv[1])).log('s').__enter__()\n"
        "log.append(started(), NOON)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, new_postgres_url], check=False)

    with PostgresLog(database, "s") as log:
        event = log.append(given("taken over"), NOON)

    assert (killed.returncode, event.seq) == (-9, 1)


def test_the_session_of_a_paused_process_can_be_taken_over_when_the_server_gives_it_up(
    database: Postgres, new_postgres_url: str
) -> None:
    with PostgresLog(database, "s") as paused:
        paused.append(started(), NOON)
        cut(paused, new_postgres_url)
        with PostgresLog(database, "s") as log:
            log.append(given("of the next holder"), NOON)
        # the next holder has let the session go: nobody has the lock, and yet

        with pytest.raises(SessionLost):
            paused.append(given("of the one that woke up"), NOON)

    assert bodies(database) == [started(), given("of the next holder")]


def test_a_session_that_is_let_go_can_be_held_at_once(database: Postgres) -> None:
    for n in range(50):
        with PostgresLog(database, "s") as log:
            assert log.append(given("x"), NOON).seq == n


def test_the_lock_is_given_back_before_the_server_notices_that_the_connection_is_closed(
    database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_open: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Connection, "close", lambda connection: left_open.append(connection))
        with PostgresLog(database, "s") as log:
            log.append(started(), NOON)

    with PostgresLog(database, "s") as log:
        assert log.append(given("at once"), NOON).seq == 1
    for connection in left_open:
        connection.close()


def test_the_server_is_given_a_moment_to_notice_that_a_process_of_this_machine_is_dead(database: Postgres) -> None:
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    session_tables.ensure(database)
    hold = Hold(database, "s")
    hold.connect()
    hold.take()
    written = {**hold._me, "pid": dead.pid, "backend": hold._connection.info.backend_pid if hold._connection else 0}
    hold.changed("UPDATE agentloop_sessions SET holder = %(holder)s", holder=json.dumps(written))
    noticing = threading.Timer(0.4, hold.let_go)
    noticing.start()

    with PostgresLog(database, "s") as log:
        assert log.append(started(), NOON).seq == 0
    noticing.join()


# interrupts


def test_an_interrupt_behind_the_write_leaves_a_log_that_goes_on(database: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = Hold.changed

    def interrupted(hold: Hold, statement: Any, **values: object) -> int:
        changed(hold, statement, **values)
        monkeypatch.setattr(Hold, "changed", changed)
        raise KeyboardInterrupt

    with PostgresLog(database, "s") as log:
        log.append(started(), NOON)
        monkeypatch.setattr(Hold, "changed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            log.append(given("written"), NOON)

        assert log.append(given("next"), NOON).seq == 2

    assert bodies(database) == [started(), given("written"), given("next")]


def test_an_interrupt_in_the_middle_of_a_write_leaves_a_log_that_goes_on(database: Postgres, new_postgres_url: str) -> None:
    with PostgresLog(database, "s") as log, psycopg.connect(new_postgres_url) as other:
        log.append(started(), NOON)
        other.execute("SELECT 1 FROM agentloop_sessions FOR UPDATE")
        waiting = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
        waiting.start()
        with pytest.raises(KeyboardInterrupt):
            log.append(given("not written"), NOON)
        waiting.join()
        other.rollback()

        assert log.append(given("next"), NOON).seq == 1

    assert bodies(database) == [started(), given("next")]
