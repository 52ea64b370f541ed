import os
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agentloop.adapters.jsonl_log import JsonlLog
from agentloop.adapters.postgres_log import PostgresLog
from agentloop.core import upcasts
from agentloop.errors import LogDamaged, LogError, LogVersion, LogWriteFailed
from agentloop.postgres import Postgres
from agentloop.postgres_sessions import PostgresSessions
from agentloop.testing import NOON, given, says, started
from agentloop.types.events import Body
from tests.unit.in_postgres import bodies, terminate
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
