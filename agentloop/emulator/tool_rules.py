"""Which lists of tools the API takes: their names, which of them are deferred, and those that only some models have.

https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview
"""

from collections.abc import Iterator

from agentloop.core.cache import as_blocks
from agentloop.emulator.answers import invalid
from agentloop.emulator.strict import Unverified
from agentloop.types.base import Json
from agentloop.types.blocks import Block
from agentloop.types.usage import ModelCard

DOCUMENTED_NAME = 64
"""Characters of a tool's name that are certain to be taken."""

_NOT_ON: dict[str, dict[str, str]] = {"claude-opus-5-5": {"computer_20251124": "computer_toolset_20260801"}}
"""By model, the tool types it does not have and what it has instead: as far as the API's documentation names them."""


def check(body: Json, card: ModelCard, max_name: int, unverified: Unverified) -> None:
    """Raise ApiError for the first rule that the tools break."""
    tools: list[Json] = body.get("tools") or []
    _check_lengths(tools, max_name, unverified)
    _check_types(tools, card, unverified)
    names = [tool["name"] for tool in tools if "name" in tool]
    if len(set(names)) < len(names):
        raise invalid("tools: Tool names must be unique.")
    if tools and all(tool.get("defer_loading") for tool in tools):
        raise invalid("At least one tool must have defer_loading=false. All tools cannot be deferred.")
    _check_references(body, set(names))


def _check_lengths(tools: list[Json], most: int, unverified: Unverified) -> None:
    for i, tool in enumerate(tools):
        length = len(str(tool.get("name", "")))
        if length > DOCUMENTED_NAME:
            unverified.note(15, f"a tool's name may have {most} characters")
        if length > most:
            raise invalid(f"tools.{i}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,{most}}}$'")


def _check_types(tools: list[Json], card: ModelCard, unverified: Unverified) -> None:
    missing = _NOT_ON.get(card.id, {})
    refused = [str(t["type"]) for t in tools if t.get("type") in missing]
    if refused:
        unverified.note(17, "which of Anthropic's tool types a model does not have: only the documented example is refused")
        instead = ", ".join(missing[t] for t in refused)
        raise invalid(f"'{card.id}' does not support tool types: {', '.join(refused)}. Did you mean one of {instead}?")


def _check_references(body: Json, names: set[str]) -> None:
    """Every tool that a result refers to must be known: from the list, from an addition, or from an MCP server."""
    if any(tool.get("type") == "mcp_toolset" for tool in body.get("tools") or []):
        return
    known = set(names)
    for block in _blocks(body):
        if block["type"] == "tool_addition" and block["tool"]["type"] == "tool_definition":
            known.add(str(block["tool"]["definition"].get("name")))
        if block["type"] == "tool_reference" and block["tool_name"] not in known:
            raise invalid(f"Tool reference '{block['tool_name']}' not found in available tools")


def _blocks(body: Json) -> Iterator[Block]:
    """The blocks of the messages, and those that stand in results."""
    for message in body["messages"]:
        for block in as_blocks(message["content"]):
            yield block
            content = block.get("content")
            if block["type"] == "tool_result" and isinstance(content, list):
                yield from content
            elif block["type"] == "tool_search_tool_result" and isinstance(content, dict):
                yield from content.get("tool_references") or []
