"""Request → bytes, the same bytes every time; and their digests."""

import hashlib

from agentloop.types.base import Json, compact
from agentloop.types.blocks import Block, Message
from agentloop.types.request import Breakpoint, Prefix, Request
from agentloop.types.usage import Ttl

SYSTEM = -1
"""The message index of a breakpoint behind tools and system."""


def body(request: Request) -> bytes:
    """The body of `POST /v1/messages`: streaming where an answer is wanted, with cache diagnostics asked for.

    https://platform.claude.com/docs/en/build-with-claude/cache-diagnostics
    """
    head = _head(request.prefix, _ttl_of_system(request.breakpoints))
    marked = {b.message for b in request.breakpoints}
    messages = b",".join(_marked(i, m, request.breakpoints) if i in marked else m.wire for i, m in enumerate(request.messages))
    tail: Json = {
        "max_tokens": request.max_tokens,
        "diagnostics": {"previous_message_id": request.previous_message_id},
    }
    if request.max_tokens:  # the API refuses `stream` together with `max_tokens: 0`
        tail["stream"] = True
    return head[:-1] + b',"messages":[' + messages + b"]," + compact(tail)[1:]


def _head(prefix: Prefix, ttl: Ttl | None) -> bytes:
    head: Json = {"model": prefix.model}
    if prefix.thinking:
        head["thinking"] = prefix.thinking
    if prefix.effort:
        head["output_config"] = {"effort": prefix.effort}
    tools = list(prefix.tools)
    if prefix.system:
        head["system"] = [_with_mark({"type": "text", "text": prefix.system}, ttl)]
    elif tools:  # a deferred tool stands in no prefix, so nothing can be cached up to it
        last = max((i for i, t in enumerate(tools) if not t.get("defer_loading")), default=len(tools) - 1)
        tools[last] = _with_mark(tools[last], ttl)
    if tools:
        head["tools"] = tools
    return compact(head)


def _ttl_of_system(breakpoints: tuple[Breakpoint, ...]) -> Ttl | None:
    return next((b.ttl for b in breakpoints if b.message == SYSTEM), None)


def _marked(index: int, message: Message, breakpoints: tuple[Breakpoint, ...]) -> bytes:
    here = {b.block: b.ttl for b in breakpoints if b.message == index}
    content = [_with_mark(block, here.get(i)) for i, block in enumerate(message.content)]
    return compact({"role": message.role, "content": content})


def _with_mark(block: Block, ttl: Ttl | None) -> Block:
    if ttl is None:
        return block
    control = {"type": "ephemeral"} if ttl == "5m" else {"type": "ephemeral", "ttl": ttl}
    return {**block, "cache_control": control}


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def prefix_bytes(prefix: Prefix) -> bytes:
    """The bytes of the frozen prefix, without cache marks."""
    return _head(prefix, None)


def prefix_digest(prefix: Prefix) -> str:
    """What identifies a frozen prefix."""
    return digest(prefix_bytes(prefix))
