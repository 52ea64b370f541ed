"""Whether a request has the shape of a Messages request: its fields, their types, nothing else.

https://platform.claude.com/docs/en/api/messages/create
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from agentloop.core.cache import as_blocks
from agentloop.emulator.answers import invalid
from agentloop.emulator.shapes import Checker, Shape, shapes
from agentloop.types.base import Json

SAMPLING = ("temperature", "top_p", "top_k")
NO_BETAS: frozenset[str] = frozenset()

_COUNTED_TOO = {"user_profile_id": "str", "workspace_id": "str"}
_CREATED_TOO = {"stream": "bool", "temperature": "float", "top_p": "float", "top_k": "int"}


@lru_cache(maxsize=2)
def _request(counting: bool) -> Shape:
    """A whole request. What only other versions of the API take, and what the SDK has outside its types, is added."""
    shape = shapes()["Count" if counting else "Create"]
    return shape._replace(optional=shape.optional | _COUNTED_TOO | ({} if counting else _CREATED_TOO))


def check(body: Json, counting: bool = False, betas: frozenset[str] = NO_BETAS) -> None:
    """Raise ApiError for the first thing that has no place in a request, or is missing from it."""
    Checker(betas).fields(body, "", "Request", _request(counting))
    for path, message in _messages(body):
        _check_content(path, message)
        for j, block in enumerate(as_blocks(message.get("content") or [])):
            _check_thinking(f"{path}.content.{j}", block)


def _messages(body: Json) -> Iterator[tuple[str, Json]]:
    for i, message in enumerate(body["messages"]):
        yield f"messages.{i}", message


def _check_content(path: str, message: Json) -> None:
    """Only a system message that sets the effort may go without content."""
    if "content" not in message and not message.get("output_config"):
        raise invalid(f"{path}.content: Field required")


def _check_thinking(path: str, block: Any) -> None:
    if block["type"] == "thinking" and not block["thinking"] and not block["signature"]:
        raise invalid(f"{path}.thinking: each thinking block must contain thinking")
