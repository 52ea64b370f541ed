"""Whether a request's breakpoints may stand where they stand.

https://platform.claude.com/docs/en/build-with-claude/prompt-caching
"""

from collections.abc import Iterator
from typing import NamedTuple

from agentloop.core.cache import MAX_BREAKPOINTS
from agentloop.emulator.answers import invalid
from agentloop.emulator.layout import Place, places
from agentloop.emulator.strict import Unverified
from agentloop.types.base import Json
from agentloop.types.blocks import THINKING


class _Mark(NamedTuple):
    path: str
    ttl: str


def check(body: Json, unverified: Unverified) -> None:
    """Raise ApiError for the first rule of `cache_control` that the request breaks."""
    prompt = list(places(body))
    marked = [p for place in prompt for p in (place, *_inside(place)) if p.block.get("cache_control")]
    for place in marked:
        if _is_empty_text(place):
            raise invalid(f"{place.path}.text: cache_control cannot be set for empty text blocks")
    if any(".content." in p.path.partition(".content.")[2] for p in marked):
        unverified.note(18, "a cache_control inside the content of a tool result is one of the four")
    marks = [_Mark(f"{p.path}.cache_control", _ttl(p.block)) for p in marked] + _automatic(body, prompt)
    _check_count(marks)
    _check_order(marks)


def _inside(place: Place) -> Iterator[Place]:
    """The blocks in the content of a tool result."""
    content = place.block.get("content")
    if place.block.get("type") == "tool_result" and isinstance(content, list):
        for k, block in enumerate(content):
            yield Place(place.level, f"{place.path}.content.{k}", block)


def _automatic(body: Json, prompt: list[Place]) -> list[_Mark]:
    """The mark that automatic caching adds: on the last block that can be marked, unless it is marked already."""
    if not body.get("cache_control"):
        return []
    ttl = _ttl(body)
    target = next((p for p in reversed(prompt) if p.block.get("type") not in THINKING and not _is_empty_text(p)), None)
    if target is None:
        return []
    if not target.block.get("cache_control"):
        return [_Mark("cache_control", ttl)]
    if (there := _ttl(target.block)) != ttl:
        raise invalid(
            f"Top-level cache_control has ttl='{ttl}' but the target block already has cache_control with ttl='{there}'"
        )
    return []


def _check_count(marks: list[_Mark]) -> None:
    if len(marks) > MAX_BREAKPOINTS:
        raise invalid(f"A maximum of {MAX_BREAKPOINTS} blocks with cache_control may be provided. Found {len(marks)}.")


def _check_order(marks: list[_Mark]) -> None:
    short = False
    for mark in marks:
        if short and mark.ttl == "1h":
            raise invalid(
                f"{mark.path}.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. "
                "Note that blocks are processed in the following order: `tools`, `system`, `messages`."
            )
        short = short or mark.ttl == "5m"


def _ttl(holder: Json) -> str:
    return holder["cache_control"].get("ttl") or "5m"


def _is_empty_text(place: Place) -> bool:
    return place.block.get("type") == "text" and not place.block["text"]
