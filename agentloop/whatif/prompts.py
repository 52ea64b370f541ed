"""Requests as the cache sees them, each built from what it shares with the one before: work in proportion to what is new."""

import json
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from agentloop.core import cache, parts, wire
from agentloop.core.cache import Mark, Part, Prompt
from agentloop.core.wire import SYSTEM
from agentloop.types.blocks import THINKING, Block, Message
from agentloop.types.request import Prefix, Request
from agentloop.types.usage import ModelCard

_NOT_PLAIN = THINKING | {"image", "document", "search_result", "tool_reference", "tool_search_tool_result"}


class Prompts:
    """The prompts of one session, one after another. They are what `cache.parts_of` makes of each request's body."""

    def __init__(self, prefix: Prefix, card: ModelCard) -> None:
        """Tools and system stay as they are."""
        system = [{"type": "text", "text": prefix.system}] if prefix.system else []
        self._head = cache.parts_of({"tools": list(prefix.tools), "system": system}, card)[0]
        self._card = card
        self._messages: tuple[Message, ...] = ()
        self._starts = [len(self._head)]
        """For each message, its first part; then the number of parts in all."""
        self._scope = parts.scope_of({}, card)
        self._prompt = cache.prompt(self._head, [], card, self._scope)
        self._plain = True
        """Whether no message so far changes how the messages before it are read."""
        self._texts: dict[str, list[Part]] = {}

    def of(self, request: Request) -> Prompt:
        """The prompt of the next request."""
        self._plain = self._plain and all(map(_plain, request.messages[len(self._messages) :] or request.messages))
        return self._longer(request) if self._plain else cache.prompt_of(json.loads(wire.body(request)), self._card)[0]

    def _longer(self, request: Request) -> Prompt:
        same = _same(self._messages, request.messages)
        fresh = [self._parts(message, first=same + i == 0) for i, message in enumerate(request.messages[same:])]
        self._prompt = self._extended(same, [part for one in fresh for part in one])
        self._starts = [*self._starts[:same], *accumulate(map(len, fresh), initial=self._starts[same])]
        self._messages = request.messages
        return self._prompt._replace(marks=tuple(sorted(self._marks(request))))

    def _parts(self, message: Message, first: bool) -> list[Part]:
        if first and not self._head:
            body = {"messages": [{"role": message.role, "content": list(message.content)}]}
            return cache.parts_of(body, self._card)[0]
        if not first:
            return parts.message_parts(message.role, message.content, self._card)
        return [part for block in message.content for part in self._opening(message.role, block)]

    def _opening(self, role: str, block: Block) -> list[Part]:
        """A block of the first message. Each segment of the session state is in every request from then on."""
        text = block["text"] if block.keys() == {"type", "text"} else None
        if text is None:
            return parts.message_parts(role, [block], self._card)
        if text not in self._texts:
            self._texts[text] = parts.message_parts(role, [block], self._card)
        return self._texts[text]

    def _extended(self, same: int, new: Sequence[Part]) -> Prompt:
        known = self._starts[same]
        if not known:
            return cache.prompt(new, [], self._card, self._scope)
        kept = self._prompt._replace(
            chain=self._prompt.chain[:known], ends=self._prompt.ends[:known], runs=self._prompt.runs[:known]
        )
        return cache.extended(kept, new, [])

    def _marks(self, request: Request) -> list[Mark]:
        return [
            Mark(len(self._head) - 1 if b.message == SYSTEM else self._starts[b.message] + b.block, b.ttl)
            for b in request.breakpoints
        ]


def _plain(message: Message) -> bool:
    """Without thinking, images and documents: those count at the front of all messages."""
    return not _kinds(message.content) & _NOT_PLAIN


def _kinds(content: Any) -> set[str]:
    found = {str(b.get("type")) for b in content if isinstance(b, dict)}
    return found.union(*(_kinds(b["content"]) for b in content if isinstance(b, dict) and isinstance(b.get("content"), list)))


def _same(before: Sequence[Message], after: Sequence[Message]) -> int:
    """How many messages at the front are the same. Most are the very same objects, so this costs next to nothing."""
    pairs = enumerate(zip(before, after, strict=False))
    return next((i for i, (a, b) in pairs if a is not b and a != b), min(len(before), len(after)))
