"""The database beside the workspace: opened by many at once."""

import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from agentloop import database


def test_many_that_open_a_new_file_at_once_all_write_to_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    gate = threading.Barrier(16)
    failed: list[Exception] = []

    def write() -> None:
        gate.wait()
        try:
            with database.transaction(database.engine(url)) as connection:
                connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS seen (n INTEGER)")
                connection.exec_driver_sql("INSERT INTO seen VALUES (1)")
        except sa.exc.SQLAlchemyError as e:
            failed.append(e)

    threads = [threading.Thread(target=write) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failed
    with database.engine(url).connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM seen")) == 16


class Cursor:
    """One that is refused so often, in these words."""

    def __init__(self, times: int, said: str) -> None:
        self.times, self.said, self.asked = times, said, 0

    def execute(self, statement: str) -> None:
        self.asked += 1
        if self.asked <= self.times:
            raise sqlite3.OperationalError(self.said)


def test_who_is_refused_because_others_open_the_file_too_asks_again() -> None:
    cursor = Cursor(3, "database is locked")

    database._write_ahead(cursor)

    assert cursor.asked == 4


def test_what_is_no_matter_of_waiting_is_told_at_once() -> None:
    cursor = Cursor(1, "disk I/O error")

    with pytest.raises(sqlite3.OperationalError, match="disk I/O"):
        database._write_ahead(cursor)

    assert cursor.asked == 1
