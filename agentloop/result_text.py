"""How a whole result is read again: by its lines, those that hold some words, or one field of its JSON."""

import json
import re
from typing import Any

from agentloop.types.base import parsed, plain

MAX_LINES = 400
MAX_CHARS = 24_000
LONG_LINE = 2_000
"""JSON with a longer line is read by its indented form."""
_INDEX = re.compile(r"\[(\d+)\]")
_NAMES_TOLD = 20


def part(text: str, search: str | None, first_line: int | None, last_line: int | None) -> str:
    """The lines asked for, with their numbers; what did not fit is said."""
    lines = text.split("\n")
    first, last = max(1, first_line or 1), min(len(lines), last_line or len(lines))
    words = (search or "").casefold().split()
    wanted = [i for i in range(first, last + 1) if all(w in lines[i - 1].casefold() for w in words)]
    shown: list[str] = []
    size = 0
    for number in wanted:
        line = f"{number}: {lines[number - 1]}"
        size += len(line) + 1
        if len(shown) == MAX_LINES or (size > MAX_CHARS and shown):
            break
        shown.append(line if len(line) <= MAX_CHARS else f"{line[:MAX_CHARS]}[… {len(line) - MAX_CHARS} characters]")
    if not shown:
        return f"[no line of {len(lines)} matches]"
    left = len(wanted) - len(shown)
    note = f"\n[{left} more lines match; go on with first_line={wanted[len(shown)]}]" if left else ""
    return "\n".join(shown) + note


def readable(text: str) -> str:
    """The text; JSON that stands on one long line by its fields, a line each."""
    if text.lstrip()[:1] not in ("{", "[") or all(len(line) <= LONG_LINE for line in text.split("\n")):
        return text
    try:
        return _indented(_json(text))
    except ValueError:
        return text


def field_of(text: str, path: str) -> str:
    """What stands at a path in a JSON text. Raises ValueError, naming what is there instead."""
    try:
        value = _json(text)
    except ValueError as e:
        raise ValueError(f"this result is not JSON, so it has no field '{path}'; use search or lines") from e
    found = _at(value, [p for p in _INDEX.sub(r".\1", path).split(".") if p])
    return found if isinstance(found, str) else _indented(found)


def _json(text: str) -> Any:
    """The value of a JSON text; of JSON lines, the list of theirs. Raises ValueError."""
    try:
        return parsed(text)
    except ValueError:
        return [parsed(line) for line in text.split("\n") if line.strip()]


def _at(value: Any, path: list[str]) -> Any:
    """The value at a path: a number is an element of a list, a name on a list means that field of every element."""
    if not path:
        return value
    match value:
        case dict():
            for n in range(len(path), 0, -1):  # a name may have dots in it
                if (name := ".".join(path[:n])) in value:
                    return _at(value[name], path[n:])
            raise ValueError(f"no field '{path[0]}'; there are {_told(list(value))}")
        case list() if path[0].isdecimal():
            if int(path[0]) >= len(value):
                raise ValueError(f"no element {path[0]}; there are {len(value)}, counted from 0")
            return _at(value[int(path[0])], path[1:])
        case list():
            found = [_at(v, path) for v in value if isinstance(v, list) or (isinstance(v, dict) and path[0] in v)]
            if found:
                return found
            raise ValueError(f"no element of this list of {len(value)} has a field '{path[0]}'")
        case _:
            raise ValueError(f"no field '{path[0]}': here is only {str(value)[:80]!r}")


def _told(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
    return (", ".join(names[:_NAMES_TOLD]) or "none") + more


def _indented(value: Any) -> str:
    return plain(json.dumps(value, ensure_ascii=False, indent=1))
