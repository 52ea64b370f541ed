"""What one line of a Claude Code transcript holds."""

from typing import Any

from agentloop.types.base import Json


def message(event: Json) -> Json:
    """The message of a line; empty where there is none."""
    said = event.get("message")
    return said if isinstance(said, dict) else {}


def reply(event: Json) -> str:
    """`message.id`, which all lines of one reply share."""
    return str(message(event).get("id") or "")


def blocks_of(event: Json) -> list[Json]:
    """The blocks of a line's message; a text is one of them."""
    content = message(event).get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    return typed(content) if isinstance(content, list) else []


def typed(content: list[Any]) -> list[Json]:
    """What of a list is a block."""
    return [b for b in content if isinstance(b, dict) and isinstance(b.get("type"), str)]
