"""Which block stands where in a request, in the order in which the API reads them: tools, system, messages."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from agentloop.core.cache import as_blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block

Level = Literal["tools", "system", "messages"]


class Place(NamedTuple):
    """One block of a prompt: one part of it, as `core.cache.parts_of` counts them."""

    level: Level
    path: str
    """Such as `messages.3.content.0`, with the caller's own indices."""
    block: Block


def places(body: Json) -> Iterator[Place]:
    """Every block of a prompt."""
    for i, tool in enumerate(body.get("tools") or []):
        yield Place("tools", f"tools.{i}", tool)
    for i, block in enumerate(as_blocks(body.get("system") or [])):
        yield Place("system", f"system.{i}", block)
    for i, message in enumerate(body.get("messages") or []):
        for j, block in enumerate(as_blocks(message["content"])):
            yield Place("messages", f"messages.{i}.content.{j}", block)
