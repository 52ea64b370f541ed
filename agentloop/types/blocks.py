"""Content blocks and messages, as the Messages API speaks of them.

A block is the JSON object that was received. It is kept as it is and sent back byte for byte; unknown kinds too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from agentloop.types.base import Json, compact

Block = Json
Blocks = tuple[Block, ...]
Role = Literal["user", "assistant"]

RECALL = "recall"
"""The tool by which the model asks for more of what it was shown as facts."""
THINKING = frozenset({"thinking", "redacted_thinking"})


class Call(NamedTuple):
    """One tool call of a reply."""

    id: str
    name: str
    input: Any


@dataclass(frozen=True, eq=False)
class Message:
    """One message of a request. Its bytes are made once and reused by every request that carries it."""

    role: Role
    content: Blocks

    @cached_property
    def wire(self) -> bytes:
        """The message as the API receives it, without cache marks."""
        return compact({"role": self.role, "content": list(self.content)})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and (self.role, self.content) == (other.role, other.content)

    __hash__ = object.__hash__


def user(*blocks: Block) -> Message:
    """A user message."""
    return Message("user", blocks)


def assistant(*blocks: Block) -> Message:
    """An assistant message."""
    return Message("assistant", blocks)


def text(value: str) -> Block:
    """A text block."""
    return {"type": "text", "text": value}


def tool_use(call_id: str, name: str, arguments: Json) -> Block:
    """A tool call."""
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def tool_result(call_id: str, content: str | list[Block], is_error: bool = False) -> Block:
    """The answer to a tool call."""
    block: Block = {"type": "tool_result", "tool_use_id": call_id, "content": content}
    return {**block, "is_error": True} if is_error else block


def calls(content: Iterable[Block]) -> tuple[Call, ...]:
    """The tool calls of a reply, in the order in which they were made."""
    return tuple(Call(b["id"], b["name"], b["input"]) for b in content if b.get("type") == "tool_use")


def without_thinking(content: Blocks) -> Blocks:
    """The blocks of a reply that are not thinking."""
    return tuple(b for b in content if b.get("type") not in THINKING)


def only_thinking(content: Blocks) -> Blocks:
    """The blocks of a reply that are thinking."""
    return tuple(b for b in content if b.get("type") in THINKING)


def is_server_result(block: Block) -> bool:
    """Whether a block of a reply is what one of the API's own tools answered: the model did not write it."""
    return str(block.get("type")).endswith("_tool_result")


def unmet_results(content: Blocks) -> bool:
    """Whether a reply begins with what the API's own tools answered to calls of the reply before it."""
    called = {b.get("id") for b in content if b.get("type") in ("server_tool_use", "mcp_tool_use")}
    return any(b.get("tool_use_id") not in called for b in content if is_server_result(b))


def says_something(content: Blocks) -> bool:
    """Whether a reply holds anything besides thinking and white space."""
    return any(b.get("type") != "text" or str(b.get("text", "")).strip() for b in without_thinking(content))


def without_blanks(content: Blocks) -> Blocks:
    """The blocks of a reply that can be sent back: the API refuses text blocks that hold nothing but white space."""
    return tuple(b for b in content if b.get("type") != "text" or str(b.get("text", "")).strip())


def text_of(content: Iterable[Block]) -> str:
    """The text blocks of a message, joined by line ends."""
    return "\n".join(str(b["text"]) for b in content if b.get("type") == "text")


def result_text(content: str | list[Block]) -> str:
    """What a tool result says in words."""
    return content if isinstance(content, str) else text_of(content)


class Same:
    """Blocks as a key: the very same tuple is the same key, without comparing what is in it."""

    def __init__(self, content: Blocks) -> None:
        self.content = content

    def __hash__(self) -> int:
        return id(self.content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.content is other.content
