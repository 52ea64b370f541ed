"""A question put to an SQLite file that nothing can change: not the question, and not a file put in its place.

The file is opened read-only; an authorizer lets pass what reads and refuses everything else; time, rows and sizes are
limited.
"""

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from agentloop.rooted import rooted

SECONDS = 5.0
MOST_VALUE_BYTES = 1_000_000
MOST_CELL_CHARS = 2_000
MOST_CHARS = 500_000
STEPS_BETWEEN_LOOKS = 1_000

_READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
_NOT_CALLED = frozenset({"load_extension", "fts3_tokenizer"})
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: MOST_VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 50_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 200,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


class Rows(NamedTuple):
    """What a question brought."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    more: bool
    """Whether there are rows that are not shown."""


def query(root: Path, path: str, sql: str, limit: int, seconds: float = SECONDS) -> Rows:
    """The rows that one SELECT brings. Raises ValueError, FileNotFoundError."""
    with _opened(root, path, seconds) as db:
        db.set_authorizer(_authorized)
        cursor = db.execute(sql)
        if cursor.description is None:
            raise ValueError("that is no question; write one SELECT")
        rows: list[tuple[str, ...]] = []
        chars = 0
        for row in cursor:
            if len(rows) == limit or chars > MOST_CHARS:
                return Rows(_names(cursor), tuple(rows), more=True)
            rows.append(tuple(map(_cell, row)))
            chars += sum(map(len, rows[-1]))
        return Rows(_names(cursor), tuple(rows), more=False)


def schema(root: Path, path: str) -> tuple[str, ...]:
    """The statements that made the tables, views and indexes of a database. Raises ValueError, FileNotFoundError."""
    with _opened(root, path, SECONDS) as db:
        found = db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC, name")
        return tuple(_cell(sql) for (sql,) in found)


@contextmanager
def _opened(root: Path, path: str, seconds: float) -> Iterator[sqlite3.Connection]:
    place = rooted(path, root)
    before = _identity(place, path)
    try:
        with closing(sqlite3.connect(f"file:{quote(str(place))}?mode=ro", uri=True, timeout=seconds)) as db:
            if _identity(place, path) != before or rooted(path, root) != place:
                raise ValueError(f"'{path}' became another file while it was opened")
            for what, most in _LIMITS.items():
                db.setlimit(what, most)
            db.execute("PRAGMA query_only = ON")
            db.execute("PRAGMA trusted_schema = OFF")
            until = time.monotonic() + seconds
            db.set_progress_handler(lambda: time.monotonic() > until, STEPS_BETWEEN_LOOKS)
            db.text_factory = lambda data: data.decode("utf-8", "replace")
            yield db
    except (sqlite3.Error, sqlite3.Warning) as e:
        why = f"it took longer than {seconds:g} seconds" if str(e) == "interrupted" else str(e)
        raise ValueError(f"'{path}': {why}") from e


def _identity(place: Path, path: str) -> tuple[int, int]:
    """Which file stands there, which has to be a plain one; so have those that SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        try:
            seen = os.lstat(f"{place}{suffix}")
        except FileNotFoundError:
            if not suffix:
                raise FileNotFoundError(f"there is no '{path}'") from None
            continue
        if not stat.S_ISREG(seen.st_mode):
            raise ValueError(f"'{path}{suffix}' is not a regular file")
        if not suffix:
            file = (seen.st_dev, seen.st_ino)
    return file


def _authorized(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
    refused = action not in _READING or (action == sqlite3.SQLITE_FUNCTION and str(second).lower() in _NOT_CALLED)
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK


def _names(cursor: sqlite3.Cursor) -> tuple[str, ...]:
    return tuple(str(column[0]) for column in cursor.description)


def _cell(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case bytes():
            return f"<{len(value):,} bytes>"
        case _:
            text = str(value)
            return text if len(text) <= MOST_CELL_CHARS else f"{text[:MOST_CELL_CHARS]}… ({len(text):,} characters)"
