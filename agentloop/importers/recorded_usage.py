"""What the replies of a transcript used, by their own account."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agentloop.importers.recording import Used
from agentloop.types.base import Json
from agentloop.types.usage import Usage

_TOO_MANY = 10**12
"""Tokens that no request holds."""


def used(replies: Sequence[Sequence[Json]]) -> Iterator[Used]:
    """What each reply used, of the messages of its lines: every line of it says so, and the last ones count the most output."""
    for parts in replies:
        if told := [p["usage"] for p in parts if isinstance(p.get("usage"), dict)]:
            usage = _usage(max(told, key=_count("output_tokens")))
            yield Used(str(parts[0].get("model") or ""), usage, complete=any(p.get("stop_reason") for p in parts))


def _usage(told: Json) -> Usage:
    split = told.get("cache_creation")
    hour = _count("ephemeral_1h_input_tokens")(split) if isinstance(split, dict) else 0
    return Usage(
        input_tokens=_count("input_tokens")(told),
        cache_read_input_tokens=_count("cache_read_input_tokens")(told),
        ephemeral_5m_input_tokens=max(_count("cache_creation_input_tokens")(told) - hour, 0),
        ephemeral_1h_input_tokens=hour,
        output_tokens=_count("output_tokens")(told),
    )


def _count(name: str) -> Callable[[Any], int]:
    """How to read a count; what cannot be one is not believed."""
    return lambda told: found if type(found := told.get(name)) is int and 0 <= found < _TOO_MANY else 0
