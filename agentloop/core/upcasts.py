"""Logs of older schema versions, in today's words: what each of their events is called now, and what it holds.

An event's shape only gains optional fields, so most changes need nothing here. A change of meaning raises `SCHEMA_VERSION`
and registers one function, from the version before it: it is given the data of a body, and returns that of its successor.
"""

import json
from collections.abc import Callable

from agentloop.types.base import Json
from agentloop.types.events import SCHEMA_VERSION, Event

Upcast = Callable[[Json], Json]

UPCASTS: dict[int, Upcast] = {}
"""By the version that is read, what its bodies become in the next one."""


def version_of(first_line: bytes) -> int:
    """The schema version that the first line of a log names; today's where it names none."""
    try:
        version = json.loads(first_line)["body"]["schema_version"]
    except (ValueError, KeyError, TypeError):
        return SCHEMA_VERSION
    return version if isinstance(version, int) else SCHEMA_VERSION


def readable(version: int) -> bool:
    """Whether there is a way from this version to today's."""
    return all(v in UPCASTS for v in range(version, SCHEMA_VERSION))


def event(line: bytes, version: int) -> Event:
    """The event of a line of that version. Raises ValueError where it is none."""
    if version == SCHEMA_VERSION:
        return Event.model_validate_json(line)
    data = json.loads(line)
    body = data["body"] if isinstance(data, dict) else None
    if not isinstance(body, dict):
        raise ValueError("a line without a body")
    for older in range(version, SCHEMA_VERSION):
        body = UPCASTS[older](body)
    if body.get("type") == "session_started":
        body = {**body, "schema_version": SCHEMA_VERSION}
    return Event.model_validate({**data, "body": body})
