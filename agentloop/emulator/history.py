"""A conversation as one row of blocks that can be left out or replaced, each still knowing where its sender put it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from agentloop.core.cache import as_blocks
from agentloop.types.base import Json, compact
from agentloop.types.blocks import THINKING, Block


class Item(NamedTuple):
    """One block of the messages."""

    message: int
    at: int
    """Index of the block in its message."""
    role: str
    block: Block

    @property
    def path(self) -> str:
        """Such as `messages.3.content.0`, with the caller's own indices."""
        return f"messages.{self.message}.content.{self.at}"

    @property
    def kind(self) -> str:
        """The type of the block."""
        return str(self.block.get("type"))

    @property
    def is_thinking(self) -> bool:
        """Whether the model thought it."""
        return self.kind in THINKING


class Shown(NamedTuple):
    """A request as the model sees it, and where its blocks stood before that."""

    body: Json
    paths: Mapping[str, str] = {}
    """From a block's path in `body` to its path in the request; blocks that are not named stand where they stood."""


def items(messages: Iterable[Json]) -> list[Item]:
    """Every block of the messages, in order."""
    return [
        Item(i, j, m["role"], block)
        for i, m in enumerate(messages)
        for j, block in enumerate(as_blocks(m.get("content") or []))
    ]


def shown(body: Json, kept: Sequence[Item]) -> Shown:
    """The request with these blocks for its messages; a message that has none left is gone."""
    messages: list[Json] = []
    paths: dict[str, str] = {}
    for index, group in groupby(kept, key=lambda item: item.message):
        blocks = list(group)
        for j, item in enumerate(blocks):
            paths[f"messages.{len(messages)}.content.{j}"] = item.path
        messages.append(body["messages"][index] | {"content": [item.block for item in blocks]})
    return Shown(body | {"messages": messages}, paths)


def beginning(body: Json) -> bytes:
    """Digest of what stands before the messages: tools that are not deferred, and the system prompt."""
    tools = [canonical(t) for t in body.get("tools") or [] if not t.get("defer_loading")]
    system = [canonical(b) for b in as_blocks(body.get("system") or [])]
    return _digest(compact([tools, system]))


def behind(chain: bytes, role: str, block: Block) -> bytes:
    """Digest of a conversation that goes on with this block. Thinking does not count, nor do texts that are blank."""
    if block.get("type") in THINKING or (block.get("type") == "text" and not str(block.get("text", "")).strip()):
        return chain
    return _digest(chain + role.encode() + b"\0" + compact(canonical(block)))


def opened_by(beginning: bytes, block: Block) -> bytes | None:
    """Digest of a conversation that a summary opens; None where the block is none."""
    if block.get("type") != "compaction" or not block.get("content"):
        return None
    return behind(beginning, "compaction", {"type": "compaction", "content": block["content"]})


def canonical(value: Any) -> Any:
    """A block without its cache marks and without fields that say nothing; the order of a call's arguments stays."""
    if isinstance(value, list):
        return [canonical(v) for v in value]
    if not isinstance(value, dict):
        return value
    told = ((k, v) for k, v in value.items() if v is not None and k != "cache_control")
    return {k: v if k in ("input", "input_schema") else canonical(v) for k, v in sorted(told)}


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=12).digest()
