"""The table as a file: `routing.toml` of a workspace, or one of those that come with agentloop.

A row is written in its place, and the rest of the file, comments too, stays byte for byte.
"""

import json
import os
import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agentloop.crash_points import reached
from agentloop.errors import ConfigError
from agentloop.routing.table import Evidence, Row, Table

FILE = "routing.toml"
CURRENT = Path(__file__).with_name("current.toml")
OLDER = Path(__file__).with_name("older.toml")
_HEADER = re.compile(r"\s*\[")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


def path_of(workspace: Path) -> Path:
    """The file that holds a workspace's table: its own, or else the one that comes with agentloop."""
    own = workspace / FILE
    return own if own.is_file() else CURRENT


def load(path: Path) -> Table:
    """The table in a file. Raises ConfigError, naming file, row and field."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"routing table {path} cannot be read: {e}") from e
    return _parsed(text, path)


def checked_kind(kind: str) -> str:
    """A name that a kind of step may have. Raises ConfigError."""
    if not _PLAIN_KEY.fullmatch(kind):
        raise ConfigError(f"kind of step {kind!r} is expected to be 1 to 64 letters, digits, '-' or '_'")
    return kind


def put(workspace: Path, kind: str, row: Row) -> Path:
    """Write one row into the workspace's table; where it has none yet, it is made from the one that holds now. Raises
    ConfigError."""
    checked_kind(kind)
    target, source = workspace / FILE, path_of(workspace)
    text = source.read_bytes().decode("utf-8-sig")
    wanted = {**_parsed(text, source).steps, kind: row}
    changed = with_row(text, kind, row)
    if _parsed(changed, target).steps != wanted:
        raise ConfigError(
            f"{target}: the row '{kind}' cannot be written in its place without changing others\n"
            f"write it as a table [steps.{kind}] of its own, with [steps.{kind}.evidence] right behind it"
        )
    try:
        _replace(target, changed.encode())
    except OSError as e:
        raise ConfigError(
            f"{target} cannot be written: {e.strerror}; what was answered is kept: run it again, nothing is paid twice"
        ) from e
    return target


def _replace(target: Path, data: bytes) -> None:
    temporary = target.with_name(f".{FILE}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        reached("route.before_table")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def with_row(text: str, kind: str, row: Row) -> str:
    """The text of a table with this row in the place of the one of that kind, or at its end."""
    lines = _LINE.findall(text)  # of TOML: other characters that end a line may stand in its strings
    own = [i for i, line in enumerate(lines) if _is_head_of(line, kind)]
    if not own:
        gap = "" if not text or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
        return text + gap + written(kind, row)
    end = next((i for i in range(own[-1] + 1, len(lines)) if _HEADER.match(lines[i])), len(lines))
    while end > own[-1] + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1  # what stands before the next head belongs to that one
    return "".join([*lines[: own[0]], written(kind, row), *lines[end:]])


def written(kind: str, row: Row) -> str:
    """One row as TOML."""
    fields = row.model_dump(exclude_none=True, exclude={"evidence"})
    parts = [f"[steps.{kind}]\n{_fields(fields)}"]
    if row.evidence is not None:
        parts.append(f"[steps.{kind}.evidence]\n{_fields(_of_evidence(row.evidence))}")
    return "\n".join(parts)


def _of_evidence(evidence: Evidence) -> dict[str, Any]:
    return evidence.model_dump(exclude_none=True)


def _fields(fields: dict[str, Any]) -> str:
    return "".join(f"{name} = {_value(value)}\n" for name, value in fields.items() if value != ())


def _value(value: Any) -> str:
    match value:
        case str():
            return _string(value)
        case Decimal():
            return f'"{value:f}"'  # money is text, as everywhere: a float of TOML would not keep its digits
        case tuple() | list():
            return f"[{', '.join(map(_value, value))}]"
        case int() | float():
            return repr(value)
        case _:
            return str(value.isoformat())


def _string(value: str) -> str:
    """A basic string of TOML: JSON's escapes are among its own, but DEL has to be escaped too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _is_head_of(line: str, kind: str) -> bool:
    name = re.escape(kind)
    return re.match(rf"""\s*\[\s*steps\s*\.\s*["']?{name}["']?\s*(\.\s*["']?evidence["']?\s*)?\]""", line) is not None


def _parsed(text: str, path: Path) -> Table:
    try:
        return Table.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"routing table {path}: {e}") from e
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        found = f", found {first['input']!r}" if first["type"] != "missing" else ""
        raise ConfigError(f"routing table {path}: {where}: {first['msg']}{found[:120]}") from e
