"""Requests for the tests of the rules, and what is read from their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anthropic.types import Usage

from agentloop.types.base import Json
from agentloop.types.blocks import text

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

OPUS = "claude-opus-5"
"""Takes forced tool choices, and thinking that is turned off."""
LONG = "word " * 1_000
SYSTEM = "instruction " * 500
TOOL: Json = {"name": "look", "description": "Looks. " * 400, "input_schema": {"type": "object"}}
HOLLOW: Json = {"name": "see", "input_schema": {"type": "object"}}


def marked(block: str | Json, ttl: str = "5m") -> Json:
    return (text(block) if isinstance(block, str) else block) | {"cache_control": {"type": "ephemeral", "ttl": ttl}}


def user(*content: Json) -> Json:
    return {"role": "user", "content": list(content)}


def assistant(*content: Json) -> Json:
    return {"role": "assistant", "content": list(content)}


def body(**changes: Any) -> Json:
    """A request with a breakpoint at each level."""
    whole: Json = {"tools": [marked(TOOL)], "system": [marked(SYSTEM)], "messages": [user(marked(LONG))]}
    return whole | changes


def ask(bench: Bench, messages: list[Json], betas: str = "", **body: Any) -> Usage:
    """The usage of one request, sent by the SDK."""
    asked = {"model": OPUS, "max_tokens": 1_000, "messages": messages} | body
    headers = {"anthropic-beta": betas} if betas else {}
    reply = bench.sdk().messages.create(model=OPUS, max_tokens=1_000, messages=[], extra_body=asked, extra_headers=headers)
    usage: Usage = reply.usage
    return usage


def count(bench: Bench, messages: list[Json], **body: Any) -> int:
    """The tokens of a prompt, as the API counts them."""
    asked = {"model": OPUS, "messages": messages} | body
    return bench.sdk().messages.count_tokens(model=OPUS, messages=[], extra_body=asked).input_tokens


def split(usage: Usage) -> tuple[int, int, int, int]:
    """Read, written for five minutes, written for an hour, and at full price."""
    assert usage.cache_creation is not None
    created = usage.cache_creation
    assert usage.cache_creation_input_tokens == created.ephemeral_5m_input_tokens + created.ephemeral_1h_input_tokens
    read = usage.cache_read_input_tokens or 0
    return read, created.ephemeral_5m_input_tokens, created.ephemeral_1h_input_tokens, usage.input_tokens


def read(usage: Usage) -> int:
    return split(usage)[0]
