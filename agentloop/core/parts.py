"""The blocks of a request as the cache reads them: in which order, how many tokens, and what each must be equal in.

A prompt is read tools first, then system, then messages. What a request sets besides its blocks counts at the level whose
cache it costs. https://platform.claude.com/docs/en/build-with-claude/prompt-caching, "What invalidates the cache"
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from agentloop.core import tokens
from agentloop.types.base import Json, compact
from agentloop.types.blocks import THINKING, Block
from agentloop.types.usage import ModelCard, Ttl

_RUNS = frozenset({"tool_use", "tool_result"})
_WEB = ("web_search_", "web_fetch_")
_DEFINED = {
    "bash_": (325, 244),
    "text_editor_": (974, 745),
    "computer_toolset": (4_500, 4_500),
    "browser_toolset": (6_600, 6_600),
}
"""Tokens of the tools that the API itself defines: with the tokenizer since Opus 4.7, and with the one before it."""

_OLDER_TOKENIZERS = ("claude-3-to-4.6", "ctok-3")


class Part(NamedTuple):
    """One block of a prompt as the cache sees it."""

    key: bytes
    """Digest of its content, and of whatever else must be equal for it to be the same (role, settings of its level)."""
    tokens: int
    run: str = ""
    """Consecutive parts of one run (`tool_use`, `tool_result`) are one position of the look-back."""
    path: str = ""
    """Where it stands in the request, such as `messages.3.content.0`."""
    bare: bytes = b""
    """The digest without the request's settings."""


class Mark(NamedTuple):
    """A breakpoint: behind which part, for how long."""

    part: int
    ttl: Ttl


class Assumed(NamedTuple):
    """What the documentation leaves open about the cache. The defaults are what it comes closest to saying."""

    renews: Literal["hit", "marks", "chain"] = "marks"
    """Which entries a read renews. Unverified: the one it hit; also those at the request's own breakpoints before it; or
    every entry before it."""
    remark: Literal["keeps", "shortens"] = "keeps"
    """What a 5m breakpoint does to an entry of an hour that it reads. Unverified."""
    format_costs: Literal["system", "messages"] = "system"
    """From which level on a change of `output_config.format` or `task_budget` costs the cache. Unverified."""
    speeds_share_tools: bool = False
    """Whether fast and standard requests read each other's tools. Unverified: one page says so, another that they share
    nothing."""


DOCUMENTED = Assumed()


def as_blocks(content: Any) -> list[Block]:
    """Content as blocks: a string equals one text block."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def speed_of(body: Json, card: ModelCard) -> str:
    """The speed at which a request runs: a model without fast mode runs at its own."""
    return "fast" if body.get("speed") == "fast" and card.fast_prices else "standard"


def scope_of(body: Json, card: ModelCard, assumed: Assumed = DOCUMENTED) -> bytes:
    """What never shares a cache, besides the model: another workspace, another speed."""
    speed = "" if assumed.speeds_share_tools else speed_of(body, card)
    return f"{body.get('workspace_id') or ''}\0{speed}".encode()


def parts_of(body: Json, card: ModelCard, assumed: Assumed = DOCUMENTED) -> tuple[list[Part], list[Mark]]:
    """The parts and breakpoints of a request's body (Messages API JSON)."""
    tools = _Tools.of(body, card)
    messages = body.get("messages") or []
    from_here = _thinking_kept_from(messages, card)
    levels = _levels(body, card, assumed, from_here)
    row = _Row()
    row.start(tokens.weights(card.tokenizer).frame + tools.added, {"tools": True} if tools.come_later else {})
    for i, tool in tools.defined:
        row.add(tool, "tools", _tool_tokens(tool, card), f"tools.{i}")
    row.start(0, levels.system)
    for i, tool in tools.web:
        row.add(tool, "tools", _tool_tokens(tool, card), f"tools.{i}")
    for i, block in enumerate(as_blocks(body.get("system") or [])):
        row.add(block, "system", tokens.block_tokens(block, card.tokenizer), f"system.{i}")
    row.start(tools.forced, levels.messages)
    for i, message in enumerate(messages):
        _add_message(row, i, message, card, tools.deferred, strip=i < from_here)
    row.mark_last(body.get("cache_control"))
    return row.parts, row.marks


def message_parts(role: str, content: Sequence[Block], card: ModelCard) -> list[Part]:
    """The parts of a message that does not open its prompt, of a request without deferred tools, on a model that keeps
    earlier thinking: the message that opens it carries what the request sets besides its blocks."""
    row = _Row()
    _add_message(row, 0, {"role": role, "content": content}, card, {}, strip=False)
    return row.parts


def _add_message(row: "_Row", index: int, message: Json, card: ModelCard, deferred: dict[str, Json], strip: bool) -> None:
    for j, block in enumerate(as_blocks(message["content"])):
        kind = str(block.get("type"))
        if strip and kind in THINKING:
            continue
        size, loaded = tokens.block_tokens(block, card.tokenizer), []
        for name in references(block) if deferred else ():
            if (tool := deferred.pop(name, None)) is not None:
                loaded.append(_content(tool))
                size += _tool_tokens(tool, card)
        run = kind if kind in _RUNS else ""
        row.add(block, message["role"], size, f"messages.{index}.content.{j}", run, loaded)


class _Tools(NamedTuple):
    """The tools of a request, by where their definitions stand in the prompt."""

    defined: list[tuple[int, Json]]
    """At its front, each with its index."""
    web: list[tuple[int, Json]]
    """Web search and web fetch: turning them on or off costs the system prompt, not the tools."""
    deferred: dict[str, Json]
    """Nowhere, until a block refers to them: there."""
    come_later: bool
    """There are none at the front, but messages bring some."""
    added: int
    """Tokens that the API adds because there are tools."""
    forced: int
    """Tokens that it adds because one of them has to be called."""

    @classmethod
    def of(cls, body: Json, card: ModelCard) -> "_Tools":
        given = list(enumerate(body.get("tools") or []))
        deferred = {str(t.get("name")): t for _, t in given if t.get("defer_loading")}
        hot = [(i, t) for i, t in given if not t.get("defer_loading")]
        web = [(i, t) for i, t in hot if str(t.get("type")).startswith(_WEB)]
        come_later = not hot and _brings_tools(body.get("messages") or [])
        if not hot and not come_later:
            return cls([], [], deferred, False, 0, 0)
        choice = (body.get("tool_choice") or {}).get("type")
        forced = card.forced_tool_system_tokens if choice in ("any", "tool") else None
        added = card.tool_system_tokens
        defined = [(i, t) for i, t in hot if not str(t.get("type")).startswith(_WEB)] if web else hot
        return cls(defined, web, deferred, come_later, added, 0 if forced is None else forced - added)


class _Row:
    """The parts while they are lined up."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.marks: list[Mark] = []
        self._markable: int | None = None
        self._extra = 0
        self._settings: list[Json] = []

    def start(self, extra: int, settings: Json) -> None:
        """A level begins: its first part carries these tokens and settings. Where it has none, the next level's does."""
        self._extra += extra
        if settings:
            self._settings.append(settings)

    def add(self, block: Block, level: str, size: int, path: str, run: str = "", loaded: Sequence[Json] = ()) -> None:
        """One more part. `loaded` are the definitions that the block brings into the prompt."""
        content = [_content(block), *loaded] if loaded else _content(block)
        bare = key = _digest(level, content)
        if self._settings:
            key = _digest(level, [bare.hex(), self._settings])
        self.parts.append(Part(key, size + self._extra, run, path, bare))
        self._extra, self._settings = 0, []
        if block.get("type") not in THINKING and block.get("text") != "":
            self._markable = len(self.parts) - 1
        if control := block.get("cache_control"):
            self.marks.append(Mark(len(self.parts) - 1, control.get("ttl") or "5m"))

    def mark_last(self, control: Json | None) -> None:
        """The breakpoint of automatic caching: on the last block that can carry one."""
        if control and self._markable is not None:
            mark = Mark(self._markable, control.get("ttl") or "5m")
            if mark not in self.marks:
                self.marks.append(mark)


class Levels(NamedTuple):
    """What a request sets besides its blocks, by the level from which on a change costs the cache. What is set to its
    default is not listed: to say it is the same as to leave it out."""

    system: Json
    messages: Json


def settings_of(body: Json, card: ModelCard, assumed: Assumed = DOCUMENTED) -> Levels:
    """The settings of a request that count for the cache."""
    return _levels(body, card, assumed, _thinking_kept_from(body.get("messages") or [], card))


def _levels(body: Json, card: ModelCard, assumed: Assumed, kept_from: int) -> Levels:
    messages = body.get("messages") or []
    pictured, cited = _media(messages)
    stripped = sum(b.get("type") in THINKING for m in messages[:kept_from] for b in as_blocks(m["content"]))
    config = body.get("output_config") or {}
    shaped = {k: config[k] for k in ("format", "task_budget") if config.get(k)}
    system = {"speed": "fast" if speed_of(body, card) == "fast" else None, "citations": cited}
    behind = {
        "tool_choice": _chosen(body.get("tool_choice") or {}),
        "thinking": _thinking(body.get("thinking") or {}, card),
        "effort": e if (e := config.get("effort")) != card.default_effort else None,
        "images": pictured,
        "stripped_thinking": stripped,
    }
    if assumed.format_costs == "system":
        system |= shaped
    else:
        behind |= shaped
    return Levels({k: v for k, v in system.items() if v}, {k: v for k, v in behind.items() if v})


def _media(messages: Sequence[Json]) -> tuple[bool, bool]:
    """Whether there are images anywhere, and whether citations are on anywhere."""
    pictured = cited = False
    for message in messages:
        content = message["content"]
        for block in () if isinstance(content, str) else _with_results(content):
            kind = block.get("type")
            if kind == "image":
                pictured = True
            elif kind != "text" and (asked := block.get("citations")):
                cited = cited or (isinstance(asked, Mapping) and bool(asked.get("enabled")))
    return pictured, cited


def _with_results(content: Sequence[Block]) -> Iterator[Block]:
    for block in content:
        yield block
        if isinstance(inner := block.get("content"), list):
            yield from (part for part in inner if isinstance(part, dict))


def _chosen(choice: Json) -> Json:
    """A tool choice without what is the default."""
    named = {k: v for k, v in choice.items() if v not in (None, False)}
    return named if named != {"type": "auto"} else {}


def _thinking(asked: Json, card: ModelCard) -> Json:
    """Thinking parameters without what is the default, or only display."""
    named = {k: v for k, v in asked.items() if k in ("type", "budget_tokens")}
    return {} if named == {"type": "adaptive" if card.thinks_by_default else "disabled"} else named


def _thinking_kept_from(messages: Sequence[Json], card: ModelCard) -> int:
    """The message before which no thinking is left: on models that strip it, the last one that gives more than results."""
    if card.keeps_earlier_thinking:
        return 0
    for i in range(len(messages) - 1, -1, -1):
        if messages[i]["role"] == "user" and any(b.get("type") != "tool_result" for b in as_blocks(messages[i]["content"])):
            return i
    return 0


def _brings_tools(messages: Sequence[Json]) -> bool:
    """Whether a message adds a tool to the conversation."""
    lists = (m["content"] for m in messages if m["role"] == "system" and not isinstance(m["content"], str))
    return any(b.get("type") == "tool_addition" for content in lists for b in content)


def references(value: Any) -> Iterator[str]:
    """The names of the tools that a block brings into the prompt."""
    if isinstance(value, list):
        for one in value:
            yield from references(one)
    elif isinstance(value, dict) and value.get("type") == "tool_reference":
        yield str(value.get("tool_name") or value.get("name"))
    elif isinstance(value, dict) and value.get("type") != "tool_use":
        for one in value.values():
            if isinstance(one, dict | list):
                yield from references(one)


def _tool_tokens(tool: Json, card: ModelCard) -> int:
    kind = str(tool.get("type") or "")
    for start, (newer, older) in _DEFINED.items():
        if kind.startswith(start):
            return older if card.tokenizer in _OLDER_TOKENIZERS else newer
    return tokens.tool_tokens(tool, card.tokenizer)


def _content(block: Block) -> Json:
    """A block's canonical form: without cache marks and unset fields; keys keep their order only inside the fields."""
    content = {k: block[k] for k in sorted(block) if k != "cache_control" and block[k] is not None}
    if content.get("type") == "tool_result" and isinstance(inner := content.get("content"), list):
        content["content"] = [_content(part) if isinstance(part, dict) else part for part in inner]
    return content


def _digest(level: str, content: Any) -> bytes:
    return hashlib.blake2b(level.encode() + b"\0" + compact(content), digest_size=16).digest()
