"""What can be asked about in calls, results and words: named fields, arguments, items of a task list."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from agentloop.types.base import parsed
from agentloop.types.blocks import Blocks, calls, text_of

_LINE = re.compile(r"^[ \t>*-]*([A-Za-z][\w .-]{0,39}?)[ \t]*[:=][ \t]*(\S[^\n]{0,79}?)[ \t]*$", re.M)
_BOX = re.compile(r"^[ \t]*(?:[-*+]|\d+[.)])[ \t]+\[([ xX])\][ \t]+(\S[^\n]{0,199}?)[ \t]*$", re.M)
_IDS = ("id", "key", "name", "sku", "number", "path", "email", "title")
_TASKS = ("content", "task", "title", "text", "description", "subject")
_STATUSES = ("status", "state", "done", "completed")
_ARGUMENT_CHARS, _MOST_ARGUMENTS = 60, 4
_MOST_FIELDS, _MOST_WORDS = 2_000, 6


class Field(NamedTuple):
    """A named value in a result, and the entry that it belongs to, where there are several."""

    name: str
    value: str
    key: str = ""
    owner: str = ""


class Item(NamedTuple):
    """A task in a list, as it was last written."""

    text: str
    status: str


def arguments(given: Any) -> tuple[tuple[str, str], ...]:
    """The arguments of a call that are one short value each."""
    if not isinstance(given, dict):
        return ()
    short = ((str(k), _scalar(v)) for k, v in given.items())
    return tuple(islice(((k, v) for k, v in short if v and len(v) <= _ARGUMENT_CHARS and "\n" not in v), _MOST_ARGUMENTS))


def fields(text: str) -> list[Field]:
    """The named values of a result: of JSON its fields, of other texts its `name: value` lines."""
    try:
        value = parsed(text) if text.lstrip()[:1] in ("{", "[") else None
    except ValueError:
        value = None
    found = _of_json(value, "") if value is not None else _of_lines(text)
    return list(islice(found, _MOST_FIELDS))


def items(reply: Blocks) -> Iterator[Item]:
    """The tasks in a reply: in lists of its calls, and boxes (`- [ ] ...`) in its words and in what it writes."""
    for call in calls(reply):
        yield from _listed(call.input)
    for text in (text_of(reply), *(t for c in calls(reply) for t in _strings(c.input))):
        for box in _BOX.finditer(text):
            yield Item(box[2], "open" if box[1] == " " else "done")


def _of_lines(text: str) -> Iterator[Field]:
    for line in _LINE.finditer(text):
        value = line[2].rstrip(",;")
        value = value[1:-1] if len(value) > 2 and value[0] == value[-1] and value[0] in "\"'" else value
        if len(value.split()) <= _MOST_WORDS:
            yield Field(line[1], value)


def _of_json(value: Any, path: str, key: str = "", owner: str = "") -> Iterator[Field]:
    match value:
        case dict():
            for name, inner in value.items():
                yield from _of_json(inner, f"{path}.{name}" if path else str(name), key, owner)
        case list():
            for inner in value:
                named = _named(inner)
                if named is not None:
                    rest = {k: v for k, v in inner.items() if k != named[0]}
                    yield from _of_json(rest, "", *named)
        case _:
            if path and (text := _scalar(value)) and "\n" not in text:
                yield Field(path, text, key, owner)


def _named(value: Any) -> tuple[str, str] | None:
    """The field that tells an entry of a list from the others, and its value."""
    if not isinstance(value, dict):
        return None
    names = [k for k in value if any(str(k).casefold() == i or str(k).casefold().endswith(f"_{i}") for i in _IDS)]
    return next(((k, text) for k in names if (text := _scalar(value[k])) and len(text) <= _ARGUMENT_CHARS), None)


def _listed(value: Any) -> Iterator[Item]:
    match value:
        case dict():
            task = next((v for k in _TASKS if isinstance(v := value.get(k), str)), None)
            status = next((_status(v) for k in _STATUSES if (v := value.get(k)) is not None), None)
            if task and status and "\n" not in task and len(task) <= 200:
                yield Item(task, status)
            else:
                for inner in value.values():
                    yield from _listed(inner)
        case list():
            for inner in value:
                yield from _listed(inner)


def _status(value: Any) -> str:
    if isinstance(value, bool):
        return "done" if value else "open"
    return _scalar(value)


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from _strings(inner)
        case list():
            for inner in value:
                yield from _strings(inner)


def _scalar(value: Any) -> str:
    match value:
        case bool() | None | dict() | list():
            return ""
        case _:
            return str(value).strip()
