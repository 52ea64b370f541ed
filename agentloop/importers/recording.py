"""A session that somebody else recorded, in a form that the engine can play again."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from agentloop.errors import ImportRefused
from agentloop.importers.call_ids import CallIds
from agentloop.types import blocks
from agentloop.types.base import Json, plain_json
from agentloop.types.blocks import Block, Blocks
from agentloop.types.tools import ToolCard
from agentloop.types.usage import Usage


class Step(NamedTuple):
    """One turn of a recording: what the model was told by the user, and what it replied."""

    told: Blocks
    """What the user said, tool results left aside."""
    reply: Blocks
    at: datetime | None = None
    """When the reply was recorded, where the source says so."""


class Used(NamedTuple):
    """What one recorded reply used, by the source's own account."""

    model: str
    usage: Usage
    complete: bool = True
    """False: written down before the reply had ended, so its output is a lower bound."""


class Recording(NamedTuple):
    """One recorded session."""

    id: str
    model: str
    """The model that was recorded; empty where the source does not say."""
    system: str
    tools: tuple[Json, ...]
    steps: tuple[Step, ...]
    results: dict[str, Block]
    """The answer to each tool call, by its id."""
    left_out: tuple[str, ...] = ()
    """What of the source is not in here, in words."""
    used: tuple[Used, ...] = ()
    """What was used when it was recorded, where the source says so. Nothing is billed by it."""
    cards: tuple[ToolCard, ...] = ()
    """What its tools declared, where that is known."""


def from_messages(
    session_id: str,
    messages: Sequence[Json],
    *,
    where: str,
    system: Any = "",
    tools: Any = (),
    model: str = "",
    times: Sequence[datetime | None] = (),
    left_out: Sequence[str] = (),
) -> Recording:
    """A recording of alternating messages. Raises ImportRefused, naming the message, for what is no conversation."""
    told: list[Block] = []
    steps: list[Step] = []
    results: dict[str, Block] = {}
    dropped = list(left_out)
    too_early = 0
    ids = CallIds()
    for i, message in enumerate(messages):
        content = tuple(ids.renamed(_content(message, f"{where}: messages.{i}"), str(i)))
        if message["role"] == "user":
            results |= {str(b.get("tool_use_id")): b for b in content if b.get("type") == "tool_result"}
            told += [b for b in content if b.get("type") != "tool_result"]
        elif message["role"] == "assistant":
            reply = blocks.without_blanks(content)
            if reply and (steps or told):
                steps.append(Step(tuple(told), reply, times[i] if i < len(times) else None))
                told = []
            elif reply:
                too_early += 1
        else:
            dropped.append(f"a message of role {message['role']!r}")
    if not steps:
        raise ImportRefused(f"{where}: no user message that an assistant answers; there is nothing to play")
    if too_early:
        dropped.append(f"{too_early} replies before the first thing that the user said")
    if told:
        dropped.append("a last user message that nobody answered")
    defined = _defined(_tools(tools, where), steps)
    return Recording(session_id, model, _system(system, where), defined, tuple(steps), results, tuple(dropped))


def _content(message: Any, where: str) -> Blocks:
    if not isinstance(message, dict) or "role" not in message:
        raise ImportRefused(f"{where} is no message: expected an object with 'role' and 'content'")
    content = message.get("content")
    if isinstance(content, str):
        return (blocks.text(content),) if content.strip() else ()
    if not isinstance(content, list) or not all(isinstance(b, dict) and "type" in b for b in content):
        raise ImportRefused(f"{where}: content is neither text nor a list of blocks")
    if not all(map(_is_whole, content)):
        raise ImportRefused(
            f"{where}: expected a 'tool_use' with an 'id' and a 'name', both text, and an 'input' object, "
            "and a 'tool_result' whose content is text or blocks"
        )
    return blocks.without_blanks(tuple(plain_json(_unmarked(b)) for b in content))


def _is_whole(block: Json) -> bool:
    match block:
        case {"type": "tool_use", "id": str(), "name": str(), "input": dict()}:
            return True
        case {"type": "tool_result", "content": list(content)}:
            return all(isinstance(b, dict) and "type" in b for b in content)
        case {"type": "tool_result"}:
            return isinstance(block.get("content"), str | None)
        case _:
            return str(block["type"]) != "tool_use"


def _unmarked(block: Json) -> Json:
    """Without the cache marks and empty extras that a client put there."""
    return {k: v for k, v in block.items() if k != "cache_control" and not (k in ("citations", "caller") and v is None)}


def _system(system: Any, where: str) -> str:
    if isinstance(system, str) or system is None:
        return system or ""
    if not isinstance(system, list) or not all(isinstance(b, dict) and isinstance(b.get("text"), str) for b in system):
        raise ImportRefused(f"{where}: 'system' is neither text nor a list of text blocks")
    return "\n".join(b["text"] for b in system)


def _tools(tools: Any, where: str) -> Sequence[Json]:
    if not isinstance(tools, list | tuple) or not all(isinstance(t, dict) and isinstance(t.get("name"), str) for t in tools):
        raise ImportRefused(f"{where}: 'tools' is no list of definitions with a 'name' each")
    return tools


def _defined(tools: Sequence[Json], steps: Sequence[Step]) -> tuple[Json, ...]:
    """The recorded definitions, and a bare one for each tool that was called without being defined."""
    known = {str(t.get("name")): {k: v for k, v in t.items() if k != "cache_control"} for t in tools}
    called = {c.name for step in steps for c in blocks.calls(step.reply)}
    bare = {n: {"name": n, "description": f"{n} (definition not recorded)", "input_schema": {"type": "object"}} for n in called}
    return tuple((bare | known)[n] for n in sorted(bare | known))
