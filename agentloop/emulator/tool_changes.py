"""Whether the tools that come and go in the middle of a conversation are known where they do.

https://platform.claude.com/docs/en/agents-and-tools/tool-use/tool-search-tool
"""

from collections.abc import Iterator

from agentloop.core.cache import as_blocks
from agentloop.emulator.answers import ApiError
from agentloop.emulator.strict import Unverified
from agentloop.types.base import Json
from agentloop.types.blocks import Block


def check(body: Json, most: int, unverified: Unverified) -> None:
    """Raise ApiError for the first change that cannot be made. `most`: tools that may be available at a time."""
    changes = list(_changes(body))
    if not changes:
        return
    known: dict[str, str] = {}
    for tool in body.get("tools") or []:
        known[_name(tool)] = _kind(tool)
    available = {_name(tool): _kind(tool) for tool in body.get("tools") or [] if not tool.get("defer_loading")}
    for path, change, is_recorded in changes:
        tool = change["tool"].get("definition") or change["tool"]
        name = _name(tool)
        if change["tool"]["type"] == "tool_definition":
            known[name] = _kind(tool)
        elif is_recorded:
            known.setdefault(name, _kind({}))
        if name not in known:
            raise _refused("tool_reference_unresolved", f"{path}: no tool '{name}' is defined at this point")
        if change["type"] == "tool_removal":
            available.pop(name, None)
            continue
        if available.get(name, known[name]) != known[name]:
            raise _refused("tool_name_conflict", f"{path}: an available tool of another kind is named '{name}'")
        available[name] = known[name]
        if len(available) > most:
            unverified.note(61, f"at most {most} tools are available at a time")
            raise _refused("available_tools_limit_exceeded", f"{path}: more than {most} tools are available")


def _changes(body: Json) -> Iterator[tuple[str, Block, bool]]:
    """Every change, with its path, and whether it is one that a summary recorded: of a tool that was known then."""
    for i, message in enumerate(body["messages"]):
        for j, block in enumerate(as_blocks(message["content"])):
            path = f"messages.{i}.content.{j}"
            if block["type"] in ("tool_addition", "tool_removal"):
                yield path, block, False
            elif block["type"] == "compaction":
                yield from ((path, change, True) for change in block.get("tool_changes") or [])


def _name(tool: Json) -> str:
    """What a tool is called: those of an MCP server by the server's name too."""
    server = tool.get("server_name") or tool.get("mcp_server_name")
    return str(tool.get("name")) if server is None else str(server)


def _kind(tool: Json) -> str:
    return str(tool.get("type") or "custom")


def _refused(code: str, message: str) -> ApiError:
    return ApiError(400, "invalid_request_error", message, code)
