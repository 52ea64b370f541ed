import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agentloop import session_tables
from agentloop.adapters.jsonl_log import JsonlLog
from agentloop.adapters.postgres_log import PostgresLog
from agentloop.core import upcasts
from agentloop.errors import LogDamaged, LogError, LogVersion, LogWriteFailed, SessionHeld, SessionLost, StoreUnavailable
from agentloop.postgres import Postgres
from agentloop.postgres_sessions import PostgresSessions
from agentloop.session_hold import Hold
from agentloop.testing import NOON, given, says, started
from agentloop.types.events import Body
from tests.postgres import Postgres as Server
from tests.unit.lines import answered, asked

BODIES: list[Body] = [started(), given("hello é世 😀"), asked(), answered(says("Done."))]


@pytest.fixture
def database(new_postgres_url: str) -> Iterator[Postgres]:
    made = Postgres(new_postgres_url)
    yield made
    made.close()


def written(database: Postgres) -> PostgresLog:
    """The log of a session 's', with four events."""
    with PostgresLog(database, "s") as log:
        for n, body in enumerate(BODIES):
            log.append(body, NOON + timedelta(seconds=n))
    return PostgresLog(database, "s")


def bodies(database: Postgres) -> list[Body]:
    return [event.body for event in PostgresLog(database, "s").events()]


def test_the_lines_are_byte_for_byte_those_of_a_file(database: Postgres, tmp_path: Path) -> None:
    log = written(database)
    with JsonlLog(tmp_path / "s") as file:
        for n, body in enumerate(BODIES):
            file.append(body, NOON + timedelta(seconds=n))

    end, damage = log.whole_lines()

    assert damage is None
    assert b"".join(log.pieces(end)) == (tmp_path / "s" / "log.jsonl").read_bytes()


def test_two_processes_that_start_at_once_make_the_tables_once(new_postgres_url: str) -> None:
    def use(number: int) -> int:
        store = PostgresSessions(Postgres(new_postgres_url))
        with store.log(f"s{number}") as log:
            log.append(started(), NOON)
        return len(list(store.ids()))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))

    assert len(list(PostgresSessions(Postgres(new_postgres_url)).ids())) == 8


def test_who_makes_the_tables_waits_for_whoever_is_at_it(new_postgres_url: str) -> None:
    made: list[bool] = []
    with psycopg.connect(new_postgres_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('agentloop tables', 0))")
        thread = threading.Thread(target=lambda: made.append(PostgresSessions(Postgres(new_postgres_url)).exists("s")))
        thread.start()
        thread.join(0.3)
        waited = thread.is_alive()
        other.rollback()
    thread.join()

    assert (waited, made) == (True, [False])


def test_tables_of_a_newer_version_are_refused_with_both_versions(database: Postgres, new_postgres_url: str) -> None:
    written(database)
    database.rows("UPDATE agentloop_tables SET version = 9")

    with pytest.raises(LogVersion, match="has tables of version 9, this agentloop knows 1: upgrade it"):
        PostgresSessions(Postgres(new_postgres_url)).exists("s")


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
        with pytest.raises(LogWriteFailed, match=r"/s: .*\nwhen the database takes lines again, resume"):
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
        patch.setattr(psycopg.Connection, "close", left_open.append)
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


# damage


def test_a_damaged_line_is_found_with_its_number_and_the_way_out(database: Postgres) -> None:
    log = written(database)
    database.rows("UPDATE agentloop_lines SET line = set_byte(line, 30, 7) WHERE seq = 2")

    with pytest.raises(LogDamaged, match="line 3 is damaged: its checksum does not hold") as error:
        list(log.events())
    end, damage = log.whole_lines()

    assert "sessions export s FOLDER --whole-lines" in str(error.value)
    assert isinstance(damage, LogDamaged)
    assert b"".join(log.pieces(end)).count(b"\n") == 2


@pytest.mark.parametrize("seq", [0, 1, 3])
def test_a_missing_line_is_found_even_at_the_end(seq: int, database: Postgres) -> None:
    written(database)
    database.rows("DELETE FROM agentloop_lines WHERE seq = %(seq)s", {"seq": seq})

    with pytest.raises(LogDamaged, match=f"line {seq + 1} is damaged"):
        bodies(database)


def test_a_damaged_log_cannot_be_opened_to_append(database: Postgres) -> None:
    written(database)
    database.rows("UPDATE agentloop_lines SET line = line || '\\x20' WHERE seq = 1")

    with pytest.raises(LogDamaged), PostgresLog(database, "s"):
        pass

    assert database.rows("SELECT count(*) FROM agentloop_lines") == [(4,)]


def test_a_log_that_could_not_be_opened_is_held_by_nobody(database: Postgres) -> None:
    written(database)
    database.rows("UPDATE agentloop_lines SET line = line || '\\x20' WHERE seq = 1")

    for _ in range(2):
        with pytest.raises(LogDamaged), PostgresLog(database, "s"):
            pass


# older logs


def test_an_older_log_is_written_anew_when_it_is_opened_to_append_and_kept_as_it_was(
    database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = older_log(database, monkeypatch)

    with PostgresLog(database, "s") as log:
        log.append(given("today"), NOON)

    assert bodies(database) == [started(), given("HELLO"), given("today")]
    assert [line for (line,) in database.rows("SELECT line FROM agentloop_backups ORDER BY seq")] == older
    end, damage = PostgresLog(database, "s").whole_lines()
    assert damage is None
    assert [s.bytes for s in PostgresSessions(database).summaries()] == [end]


def test_an_older_log_that_could_not_be_written_anew_is_what_it_was(
    database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = older_log(database, monkeypatch)
    database.rows("CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE disk_full; END $$")
    database.rows(
        "CREATE TRIGGER fill BEFORE UPDATE ON agentloop_lines FOR EACH ROW WHEN (OLD.seq = 1) EXECUTE FUNCTION full_disk()"
    )

    with pytest.raises(LogError), PostgresLog(database, "s"):
        pass

    assert [line for (line,) in database.rows("SELECT line FROM agentloop_lines ORDER BY seq")] == older
    assert database.rows("SELECT count(*) FROM agentloop_backups") == [(0,)]


def older_log(database: Postgres, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """A log of a schema version in which words were written small; its lines."""
    with PostgresLog(database, "s") as log:
        log.append(started().model_copy(update={"schema_version": 0}), NOON)
        log.append(given("hello"), NOON)

    def louder(body: Any) -> Any:
        if body["type"] == "input_given":
            return {**body, "content": [{"type": "text", "text": body["content"][0]["text"].upper()}]}
        return body

    monkeypatch.setitem(upcasts.UPCASTS, 0, louder)
    return [bytes(line) for (line,) in database.rows("SELECT line FROM agentloop_lines ORDER BY seq")]


# size


def test_a_line_that_nobody_could_read_back_is_not_written(database: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentloop.adapters.postgres_log.LONGEST_LINE", 10_000)
    with PostgresLog(database, "s") as log:
        log.append(started(), NOON)
        with pytest.raises(LogWriteFailed, match=r"an event of 10,\d+ bytes; at most 10,000 can be written"):
            log.append(given("x" * 10_000), NOON)

        assert log.append(given("shorter"), NOON).seq == 1


def test_a_long_log_is_read_a_few_megabytes_at_a_time(database: Postgres) -> None:
    with PostgresLog(database, "s") as log:
        for _ in range(64):
            log.append(given(os.urandom(500_000).hex()), NOON)

    tracemalloc.start()
    count = sum(1 for _ in PostgresLog(database, "s").events())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 64
    assert peak < 30_000_000


def test_a_list_of_sessions_reads_no_lines(database: Postgres) -> None:
    written(database)
    database.rows("DROP TABLE agentloop_lines")

    assert [(s.session_id, s.events, s.outcome) for s in PostgresSessions(database).summaries()] == [("s", 4, "unfinished")]


def test_nothing_is_left_of_a_session_that_was_deleted(database: Postgres) -> None:
    written(database)
    store = PostgresSessions(database)
    store.blobs("s").put(b"a result")

    store.delete("s")

    for table in ("sessions", "lines", "blobs", "backups"):
        assert database.rows(f"SELECT count(*) FROM agentloop_{table}") == [(0,)]


def test_a_lost_connection_of_a_reader_is_made_again(database: Postgres, new_postgres_url: str) -> None:
    written(database)
    assert database._shared is not None
    terminate(database._shared.info.backend_pid, new_postgres_url)

    assert bodies(database) == BODIES


def test_an_error_of_the_server_is_ours(database: Postgres) -> None:
    with pytest.raises(LogError, match=r"refused: .*no_such_table"):
        database.rows("SELECT * FROM no_such_table")


def backend(log: PostgresLog) -> int:
    connection = log._hold._connection
    assert connection is not None
    return connection.info.backend_pid


def cut(log: PostgresLog, url: str) -> None:
    terminate(backend(log), url)


def terminate(pid: int, url: str) -> None:
    """The server closes a connection, as it does to one whose other end it thinks dead."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        deadline = time.monotonic() + 5
        while connection.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone():
            assert time.monotonic() < deadline
