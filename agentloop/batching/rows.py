"""The rows of an input file, JSONL, CSV or one prompt a line, and the prompts that a template makes of them.

A template knows one thing: `{{field}}` is replaced by the row's field of that name. What is put in is not looked at again,
and nothing is evaluated.
"""

import csv
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

from agentloop.errors import UsageError
from agentloop.types.base import Json, compact, parsed, plain_json

InputFormat = Literal["jsonl", "csv", "text"]
FORMATS: dict[str, InputFormat] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".txt": "text"}
PROMPT = "prompt"
"""The field of a row that is one text."""
WHOLE_PROMPT = "{{prompt}}"
MOST_FIELD_CHARS = 32 * 1024 * 1024
_FIELD = re.compile(r"\{\{ *([^{}\n]*?) *\}\}")


class RowFile:
    """The rows of a file, read anew each time that somebody goes through them: they are never all in memory."""

    def __init__(self, path: Path, form: InputFormat | None = None, cleaned: Callable[[Json], Json] | None = None) -> None:
        """Read this file; `cleaned` is what each row becomes. Raises UsageError for a name that says nothing of its form."""
        kind = form or FORMATS.get(path.suffix.lower())
        if kind is None:
            raise UsageError(f"{path}: expected a name that ends in {', '.join(FORMATS)}; or say --format jsonl, csv or text")
        self._path, self._read, self._cleaned = path, _READERS[kind], cleaned or _as_it_is
        self._state: tuple[int, int] | None = None
        self.was_cleaned = False
        """Whether any row has come out changed so far."""

    def __iter__(self) -> Iterator[Json]:
        """Every row. Raises UsageError, naming the line, or where the file was changed since it was first read."""
        found = False
        try:
            with self._path.open(encoding="utf-8-sig", newline="") as file:
                self._check_same(os.fstat(file.fileno()))
                for row in self._read(file, str(self._path)):
                    found, clean = True, self._cleaned(row)
                    self.was_cleaned = self.was_cleaned or clean != row
                    yield clean
        except OSError as e:
            raise UsageError(f"{self._path} cannot be read: {e.strerror}") from e
        except UnicodeDecodeError as e:
            raise UsageError(f"{self._path}: {_not_utf8(self._path)}; save the file as UTF-8") from e
        if not found:
            raise UsageError(f"{self._path} holds no rows; expected one a line")

    def _check_same(self, now: os.stat_result) -> None:
        state = (now.st_size, now.st_mtime_ns)
        if self._state is not None and state != self._state:
            raise UsageError(f"{self._path} was changed while it was read; leave it as it is, and give the command again")
        self._state = state


def _as_it_is(row: Json) -> Json:
    return row


def _not_utf8(path: Path) -> str:
    """Where a file is not UTF-8: the reader knows it of its last piece only."""
    try:
        path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        return f"byte {e.start:,} is not UTF-8" if isinstance(e, UnicodeDecodeError) else "it is gone"
    return "it is changing"


def read(path: Path, form: InputFormat | None = None) -> list[Json]:
    """The rows of a file, all at once. Raises UsageError, naming the line."""
    return list(RowFile(path, form))


def _json_lines(file: IO[str], source: str) -> Iterator[Json]:
    for number, line in _parted(file):
        if not line.strip():
            continue
        try:
            value = parsed(line)
        except ValueError as e:
            raise UsageError(f"{source}, line {number}: not JSON: {e}; expected one object a line") from e
        if isinstance(value, str):
            value = {PROMPT: value}
        if not isinstance(value, dict):
            raise UsageError(f"{source}, line {number}: expected an object of fields, or a text, found {line[:40]!r}")
        yield plain_json(value)


def _parted(file: IO[str]) -> Iterator[tuple[int, str]]:
    """The lines of a file, which end with a line feed and nothing else."""
    number, begun = 0, ""
    for piece in file:
        begun += piece
        if piece.endswith("\n"):
            number += 1
            yield number, begun[:-1]
            begun = ""
    if begun:
        yield number + 1, begun


def _comma_separated(file: IO[str], source: str) -> Iterator[Json]:
    csv.field_size_limit(MOST_FIELD_CHARS)
    reader = csv.reader(file, strict=True)
    try:
        head = next(reader, [])
        if len(set(head)) < len(head) or not all(name.strip() for name in head):
            raise UsageError(f"{source}, line 1: expected names of columns, each once, found {', '.join(map(repr, head))}")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(head):
                raise UsageError(f"{source}, line {reader.line_num}: expected {len(head)} columns, found {len(cells)}")
            yield plain_json(dict(zip(head, cells, strict=True)))
    except csv.Error as e:
        raise UsageError(f"{source}, line {reader.line_num}: {e}") from e


def _lines(file: IO[str], source: str) -> Iterator[Json]:
    return ({PROMPT: plain_json(line.rstrip("\r"))} for _, line in _parted(file) if line.strip())


_READERS: dict[InputFormat, Callable[[IO[str], str], Iterator[Json]]] = {
    "jsonl": _json_lines,
    "csv": _comma_separated,
    "text": _lines,
}


def fields(template: str) -> tuple[str, ...]:
    """The fields that a template names, in its order."""
    return tuple(dict.fromkeys(_FIELD.findall(template)))


def rendered(template: str, row: Json) -> str:
    """The prompt of one row: a text as it is, any other value as JSON."""
    return _FIELD.sub(lambda found: _written(row[found[1]]), template)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else compact(value).decode()


def checked(template: str, rows: Iterable[Json], id_field: str | None, allow_duplicates: bool = False) -> Iterator[Json]:
    """The same rows. Raises UsageError at the first that nobody should pay for: a field is not there, an id or a prompt
    stands twice, a prompt is empty."""
    named = fields(template)
    asked = (*named, *((id_field,) if id_field is not None else ()))
    ids = _Once(f"the {id_field}", "ids name rows: make them unique")
    prompts = _Once("the prompt", "take one out, or say --allow-duplicates")
    for number, row in enumerate(rows, 1):
        if not named:
            known = ", ".join(map(str, row))
            raise UsageError(
                f"the template names no field, so every row would ask the same; name one as {{{{field}}}}: {known}"
            )
        if missing := [name for name in asked if name not in row]:
            there = ", ".join(map(str, row)) or "none"
            raise UsageError(f"row {number} has no field '{missing[0]}', which is asked for; it has {there}")
        if id_field is not None:
            ids.check(number, _written(row[id_field]))
        prompt = rendered(template, row)
        if not allow_duplicates:
            prompts.check(number, prompt)
        if not prompt.strip():
            raise UsageError(f"row {number}: its prompt is empty; take the row out")
        yield row


class _Once:
    """Values that no two rows may have in common; only their digests are kept."""

    def __init__(self, what: str, then: str) -> None:
        self._what, self._then = what, then
        self._seen: dict[bytes, int] = {}

    def check(self, number: int, value: str) -> None:
        first = self._seen.setdefault(hashlib.blake2b(value.encode(), digest_size=16).digest(), number)
        if first != number:
            raise UsageError(f"rows {first} and {number} have {self._what} {value[:60]!r} in common; {self._then}")
