"""The API's own search for deferred tools, played: what a script's search finds among the tools of its request.

https://platform.claude.com/docs/en/agents-and-tools/tool-use/tool-search-tool
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from agentloop.core.cache import as_blocks
from agentloop.emulator.script import ScriptedReply
from agentloop.full_text import FullText, Passage
from agentloop.types.base import Json
from agentloop.types.blocks import Block

NAMES = "tool_search_tool_"
"""How the names of both searches begin."""
RESULTS = 5
MAX_PATTERN, MAX_QUERY = 200, 500
"""Characters of a regex, and of a question in words."""


def answered(said: ScriptedReply, body: Json) -> ScriptedReply:
    """The reply with a result behind each search that has none. One that is paused keeps its last search open; the reply
    that goes on begins with that result."""
    calls = _open(said.content)
    left = _open(as_blocks(body["messages"][-1]["content"])) if body["messages"][-1]["role"] == "assistant" else []
    answered_by_script = {b.get("tool_use_id") for b in said.content}
    first = [_result(c, body) for c in left if c["id"] not in answered_by_script]
    if not calls and not first:
        return said
    waits = calls[-1:] if said.stop_reason == "pause_turn" else []
    behind = (x for b in said.content for x in ([b, _result(b, body)] if b in calls and b not in waits else [b]))
    return said._replace(content=(*first, *behind))


def _open(content: Sequence[Block]) -> list[Block]:
    """The searches in a message that have no result in it."""
    results = {b.get("tool_use_id") for b in content}
    searches = (b for b in content if b.get("type") == "server_tool_use" and str(b.get("name")).startswith(NAMES))
    return [b for b in searches if b["id"] not in results]


def _result(call: Block, body: Json) -> Block:
    names = found(call["name"], call.get("input") or {}, body.get("tools") or [])
    if names is None:
        content: Json = {"type": "tool_search_tool_result_error", "error_code": "invalid_tool_input"}
    else:
        references = [{"type": "tool_reference", "tool_name": name} for name in names]
        content = {"type": "tool_search_tool_search_result", "tool_references": references}
    return {"type": "tool_search_tool_result", "tool_use_id": call["id"], "content": content}


def found(search: str, asked: Json, tools: Sequence[Json]) -> list[str] | None:
    """The names of the deferred tools that fit; None where the search cannot be made."""
    deferred = [t for t in tools if t.get("defer_loading")]
    if search.endswith("regex"):
        return _by_regex(str(asked.get("pattern", asked.get("query", ""))), deferred)
    query = str(asked.get("query", ""))
    if not query or len(query) > MAX_QUERY:
        return None
    return _by_words(query, deferred)


def _by_regex(pattern: str, tools: Sequence[Json]) -> list[str] | None:
    if not pattern or len(pattern) > MAX_PATTERN:
        return None
    try:
        wanted = re.compile(pattern)
    except re.error:
        return None
    return [str(t["name"]) for t in tools if wanted.search(_text(t))][:RESULTS]


def _by_words(query: str, tools: Sequence[Json]) -> list[str] | None:
    texts = FullText()
    texts.add(Passage(str(t["name"]), 1, _text(t)) for t in reversed(tools))
    try:
        return [m.passage.source for m in texts.search(query, RESULTS)]
    except ValueError:
        return []


def _text(tool: Json) -> str:
    """What is searched of a tool: its name, its description, names and descriptions of its parameters."""
    return "\n".join([str(tool["name"]), str(tool.get("description", "")), *_parameters(tool.get("input_schema"))])


def _parameters(schema: Any) -> Iterator[str]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    for name, one in properties.items() if isinstance(properties, dict) else ():
        yield f"{name} {one.get('description', '') if isinstance(one, dict) else ''}"
