"""The rows of an input file, JSONL, CSV or one prompt a line, and the prompts that a template makes of them.

A template knows one thing: `{{field}}` is replaced by the row's field of that name. What is put in is not looked at again,
and nothing is evaluated.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from agentloop.errors import UsageError
from agentloop.types.base import Json, compact, parsed, plain_json

InputFormat = Literal["jsonl", "csv", "text"]
FORMATS: dict[str, InputFormat] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".txt": "text"}
PROMPT = "prompt"
"""The field of a row that is one text."""
WHOLE_PROMPT = "{{prompt}}"
MOST_FIELD_CHARS = 32 * 1024 * 1024
_FIELD = re.compile(r"\{\{ *([^{}\n]*?) *\}\}")


def read(path: Path, form: InputFormat | None = None) -> list[Json]:
    """The rows of a file. Raises UsageError, naming the line."""
    kind = form or FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{path}: expected a name that ends in {', '.join(FORMATS)}; or say --format jsonl, csv or text")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as e:
        raise UsageError(f"{path} cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise UsageError(f"{path}: byte {e.start:,} is not UTF-8; save the file as UTF-8") from e
    rows = list(_READERS[kind](text, str(path)))
    if not rows:
        raise UsageError(f"{path} holds no rows; expected one a line")
    return rows


def _json_lines(text: str, source: str) -> Iterator[Json]:
    for number, line in enumerate(text.split("\n"), 1):
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


def _comma_separated(text: str, source: str) -> Iterator[Json]:
    csv.field_size_limit(MOST_FIELD_CHARS)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
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


def _lines(text: str, source: str) -> Iterator[Json]:
    return ({PROMPT: plain_json(line.rstrip("\r"))} for line in text.split("\n") if line.strip())


_READERS: dict[InputFormat, Callable[[str, str], Iterable[Json]]] = {
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


def check(template: str, rows: Sequence[Json], id_field: str | None, allow_duplicates: bool = False) -> None:
    """Raise UsageError for what nobody should pay for: fields that are not there, ids or prompts that stand twice."""
    named = fields(template)
    if not named:
        known = ", ".join(map(str, rows[0]))
        raise UsageError(f"the template names no field, so every row would ask the same; name one as {{{{field}}}}: {known}")
    for number, row in enumerate(rows, 1):
        if missing := [name for name in (*named, *((id_field,) if id_field else ())) if name not in row]:
            there = ", ".join(map(str, row)) or "none"
            raise UsageError(f"row {number} has no field '{missing[0]}', which is asked for; it has {there}")
    if id_field is not None:
        _once((_written(row[id_field]) for row in rows), f"the {id_field}", "ids name rows: make them unique")
    if not allow_duplicates:
        _once((rendered(template, row) for row in rows), "the prompt", "take one out, or say --allow-duplicates")
    if empty := next((n for n, row in enumerate(rows, 1) if not rendered(template, row).strip()), None):
        raise UsageError(f"row {empty}: its prompt is empty; take the row out")


def _once(values: Iterable[str], what: str, then: str) -> None:
    seen: dict[str, int] = {}
    for number, value in enumerate(values, 1):
        if value in seen:
            raise UsageError(f"rows {seen[value]} and {number} have {what} {value[:60]!r} in common; {then}")
        seen[value] = number
