"""Questions to SQLite databases, which must not be changed by them, nor the machine."""

import os
import sqlite3
import time
from contextlib import closing
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from agentloop import querying
from agentloop.adapters.plugins import load_tools
from agentloop.tooling import CurrentCall, Registry, answering

TOOLS = Registry(load_tools(Path(__file__).parents[2] / "tools")).tools


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (tmp_path / "shop-of-another").mkdir()
    for place in (folder / "shop.db", tmp_path / "shop-of-another" / "secret.db"):
        with closing(sqlite3.connect(place)) as db:
            db.executescript(
                "CREATE TABLE orders (id INTEGER, country TEXT, total REAL, photo BLOB);"
                "INSERT INTO orders VALUES (1, 'SE', 10.5, x'00ff'), (2, 'FI', 20, NULL), (3, 'SE', 1, NULL);"
            )
    return folder


def run(root: Path, name: str, **arguments: Any) -> str:
    def call() -> str:
        answering(CurrentCall("session", "call", "key", root))
        return str(TOOLS[name].sdk.call(arguments))

    return copy_context().run(call)


def ask(root: Path, sql: str, path: str = "shop.db", **options: Any) -> str:
    return run(root, "query_database", path=path, sql=sql, **options)


def test_a_question_is_answered_with_columns_and_rows(root: Path) -> None:
    answer = ask(root, "SELECT country, sum(total) AS total FROM orders GROUP BY country ORDER BY 1")

    assert answer == "country | total\nFI | 20.0\nSE | 11.5\n[2 rows]"


def test_no_more_rows_than_the_limit_are_shown_and_it_says_so(root: Path) -> None:
    assert ask(root, "SELECT id, photo FROM orders", limit=2) == (
        "id | photo\n1 | <2 bytes>\n2 | NULL\n[the first 2 rows; there are more]"
    )


def test_a_common_table_expression_may_ask_too(root: Path) -> None:
    sql = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 3) SELECT group_concat(x) AS all_of FROM n"

    assert ask(root, sql) == "all_of\n1,2,3\n[1 rows]"


def test_the_schema_is_shown(root: Path) -> None:
    assert run(root, "database_schema", path="shop.db") == (
        "CREATE TABLE orders (id INTEGER, country TEXT, total REAL, photo BLOB)"
    )


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM orders",
        "UPDATE orders SET total = 0",
        "INSERT INTO orders (id) VALUES (4)",
        "DROP TABLE orders",
        "CREATE TABLE mine (x)",
        "CREATE TEMP TABLE mine (x)",
        "ALTER TABLE orders RENAME TO mine",
        "ATTACH 'other.db' AS other",
        "ATTACH 'file:other.db?mode=rwc' AS other",
        "DETACH main",
        "PRAGMA query_only = OFF",
        "PRAGMA journal_mode = WAL",
        "PRAGMA writable_schema = ON",
        "SELECT * FROM pragma_database_list",
        "VACUUM",
        "VACUUM INTO 'copy.db'",
        "REINDEX",
        "ANALYZE",
        "BEGIN IMMEDIATE",
        "SAVEPOINT s",
        "SELECT load_extension('mine.so')",
        "SELECT writefile('mine', 'x')",
        "SELECT readfile('/etc/hostname')",
        "SELECT 1; DROP TABLE orders",
        "EXPLAIN DELETE FROM orders",
        "not sql",
        "",
        "-- nothing",
    ],
)
def test_what_is_no_question_is_refused_and_changes_nothing(root: Path, sql: str) -> None:
    before = (root / "shop.db").read_bytes()

    with pytest.raises(ValueError, match=r".+"):
        ask(root, sql)

    assert os.listdir(root) == ["shop.db"]
    assert (root / "shop.db").read_bytes() == before


def test_a_question_without_end_is_given_up(root: Path) -> None:
    began = time.monotonic()

    with pytest.raises(ValueError, match=r"took longer than 0\.1 seconds"):
        querying.query(
            root, "shop.db", "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n", 10, 0.1
        )

    assert time.monotonic() - began < 1


@pytest.mark.parametrize("sql", ["SELECT zeroblob(1000000000)", "SELECT hex(zeroblob(900000))"])
def test_a_value_that_is_too_large_is_not_made(root: Path, sql: str) -> None:
    with pytest.raises(ValueError, match="too big"):
        ask(root, sql)


def test_many_long_values_are_cut(root: Path) -> None:
    sql = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 900) SELECT printf('%.*c', 9000, 'x') FROM n"

    answer = ask(root, sql, limit=1_000)

    assert "… (9,000 characters)" in answer
    assert answer.endswith("there are more]")
    assert len(answer) < querying.MOST_CHARS * 1.1


def test_text_that_is_not_utf_8_is_replaced(root: Path) -> None:
    assert ask(root, "SELECT CAST(x'636166e9' AS TEXT) AS word") == "word\ncaf\ufffd\n[1 rows]"


# SEC09, SEC10, SEC11, SEC12


@pytest.mark.parametrize(
    "path", ["../shop-of-another/secret.db", "/etc/hostname", "link.db", "out/secret.db", ".hidden.db", "x?mode=rwc"]
)
def test_a_database_outside_is_refused(root: Path, path: str) -> None:
    (root / "link.db").symlink_to(root.parent / "shop-of-another" / "secret.db")
    (root / "out").symlink_to(root.parent / "shop-of-another")

    for name, arguments in (("query_database", {"sql": "SELECT 1"}), ("database_schema", {})):
        with pytest.raises((ValueError, FileNotFoundError), match=r".+"):
            run(root, name, path=path, **arguments)


@pytest.mark.parametrize("name", ["fifo", "folder", "shop.db-wal"])
def test_what_is_no_file_is_refused_without_a_hang(root: Path, name: str) -> None:
    if name == "folder":
        (root / name).mkdir()
    else:
        os.mkfifo(root / name)

    with pytest.raises(ValueError, match="not a regular file"):
        ask(root, "SELECT 1", path="shop.db" if name == "shop.db-wal" else name)


def test_a_file_that_is_no_database_is_an_error(root: Path) -> None:
    (root / "notes.md").write_text("# Notes\n" * 200)

    with pytest.raises(ValueError, match="not a database"):
        ask(root, "SELECT 1 FROM sqlite_master", path="notes.md")


def test_a_link_that_is_put_in_place_after_the_check_is_noticed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def late(*arguments: Any, **options: Any) -> sqlite3.Connection:
        (root / "shop.db").unlink()
        (root / "shop.db").symlink_to(root.parent / "shop-of-another" / "secret.db")
        opened: sqlite3.Connection = connect(*arguments, **options)
        return opened

    monkeypatch.setattr(sqlite3, "connect", late)

    with pytest.raises(ValueError, match=r"not a regular file|another file"):
        ask(root, "SELECT * FROM orders")


def test_a_database_in_use_is_read(root: Path) -> None:
    with closing(sqlite3.connect(root / "shop.db")) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("INSERT INTO orders (id) VALUES (4)")
        writer.commit()

        assert ask(root, "SELECT count(*) AS n FROM orders") == "n\n4\n[1 rows]"
