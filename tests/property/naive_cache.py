"""A second account of the prompt cache, as slow and as plain as the documentation's own words (CLAUDE_API.md, 1.1 to 1.7).

It shares no code with `agentloop.core.cache`: a prompt is a list of JSON texts, the cache is a list of all that was ever
written, and two prefixes are the same where the lists are equal. Only the sizes of blocks come from the estimator.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from agentloop.core import tokens
from agentloop.types.usage import ModelCard

SECONDS = {"5m": 300, "1h": 3600}


@dataclass
class Options:
    """What the documentation leaves open."""

    renews: str = "marks"
    remark: str = "keeps"
    format_costs: str = "system"
    speeds_share_tools: bool = False


@dataclass
class Written:
    """Something that a request wrote to the cache."""

    owner: tuple[str, str, str]
    prefix: list[str]
    ttl: str
    used: float
    ready: float

    def readable(self, owner: tuple[str, str, str], prefix: list[str], at: float) -> bool:
        return self.ready <= at <= self.used + SECONDS[self.ttl] and self.owner == owner and self.prefix == prefix


@dataclass
class Walk:
    """A prompt, block by block."""

    texts: list[str] = field(default_factory=list)
    """Every block as JSON, and between them what the request sets at each level."""
    ends: list[int] = field(default_factory=list)
    """Behind which text each block ends."""
    sizes: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    marks: list[tuple[int, str]] = field(default_factory=list)
    markable: list[int] = field(default_factory=list)
    pending: int = 0

    def setting(self, name: str, value: Any) -> None:
        if value:
            self.texts.append(f"{name} {json.dumps(value, sort_keys=True)}")

    def block(self, where: str, block: Any, size: int, brought: list[Any]) -> None:
        self.texts.append(json.dumps([where, plain(block), [plain(b) for b in brought]]))
        self.ends.append(len(self.texts))
        self.sizes.append(size + self.pending)
        self.pending = 0
        self.kinds.append(str(block.get("type")))
        if "thinking" not in str(block.get("type")) and block.get("text") != "":
            self.markable.append(len(self.sizes) - 1)
        if block.get("cache_control"):
            self.marks.append((len(self.sizes) - 1, block["cache_control"].get("ttl") or "5m"))


def plain(block: Any) -> Any:
    """A block without its cache marks and unset fields; only inside of them the order of keys counts."""
    fields = {k: v for k, v in sorted(block.items()) if k != "cache_control" and v is not None}
    if fields.get("type") == "tool_result" and isinstance(fields["content"], list):
        fields["content"] = [plain(part) for part in fields["content"]]
    return fields


def walk(body: Any, card: ModelCard, options: Options) -> Walk:
    seen = Walk()
    tools = [t for t in body.get("tools", []) if not t.get("defer_loading")]
    waiting = [t for t in body.get("tools", []) if t.get("defer_loading")]
    seen.pending = tokens.weights(card.tokenizer).frame + (card.tool_system_tokens if tools else 0)
    for tool in tools:
        if not is_web(tool):
            seen.block("tools", tool, tokens.tool_tokens(tool, card.tokenizer), [])
    set_behind_tools(seen, body, card, options)
    for tool in tools:
        if is_web(tool):
            seen.block("tools", tool, tokens.tool_tokens(tool, card.tokenizer), [])
    for block in blocks_of(body.get("system", [])):
        seen.block("system", block, tokens.block_tokens(block, card.tokenizer), [])
    keep_from = first_message_whose_thinking_stays(body["messages"], card)
    set_behind_system(seen, body, card, options, keep_from)
    if tools and body.get("tool_choice", {}).get("type") in ("any", "tool") and card.forced_tool_system_tokens:
        seen.pending += card.forced_tool_system_tokens - card.tool_system_tokens
    for number, message in enumerate(body["messages"]):
        for block in blocks_of(message["content"]):
            if number < keep_from and block["type"] in ("thinking", "redacted_thinking"):
                continue
            brought = [t for t in waiting if refers_to(block, t["name"])]
            waiting = [t for t in waiting if t not in brought]
            size = tokens.block_tokens(block, card.tokenizer)
            size += sum(tokens.tool_tokens(t, card.tokenizer) for t in brought)
            seen.block(message["role"], block, size, brought)
    if body.get("cache_control") and seen.markable:
        automatic = (seen.markable[-1], body["cache_control"].get("ttl") or "5m")
        if automatic not in seen.marks:
            seen.marks.append(automatic)
    seen.marks.sort()
    return seen


def blocks_of(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def is_web(tool: Any) -> bool:
    return str(tool.get("type", "")).startswith(("web_search", "web_fetch"))


def refers_to(block: Any, name: str) -> bool:
    references = {"type": "tool_reference", "tool_name": name}
    return block["type"] == "tool_search_tool_result" and references in block["content"]["tool_references"]


def first_message_whose_thinking_stays(messages: list[Any], card: ModelCard) -> int:
    latest = 0
    for number, message in enumerate(messages):
        if message["role"] == "user" and [b for b in blocks_of(message["content"]) if b["type"] != "tool_result"]:
            latest = number
    return 0 if card.keeps_earlier_thinking else latest


def set_behind_tools(seen: Walk, body: Any, card: ModelCard, options: Options) -> None:
    seen.setting("fast", body.get("speed") == "fast" and len(card.fast_prices) > 0)
    seen.setting("citations", any(b.get("citations", {}).get("enabled") for b in everything(body)))
    if options.format_costs == "system":
        set_format(seen, body)


def set_behind_system(seen: Walk, body: Any, card: ModelCard, options: Options, keep_from: int) -> None:
    choice = {k: v for k, v in body.get("tool_choice", {}).items() if v}
    seen.setting("choice", None if choice == {"type": "auto"} else choice)
    seen.setting("images", any(b["type"] == "image" for b in everything(body)))
    thinking = {k: v for k, v in body.get("thinking", {}).items() if k != "display"}
    usual = {"type": "adaptive"} if card.thinks_by_default else {"type": "disabled"}
    seen.setting("thinking", None if thinking == usual else thinking)
    effort = body.get("output_config", {}).get("effort")
    seen.setting("effort", None if effort == card.default_effort else effort)
    stripped = [b for m in body["messages"][:keep_from] for b in blocks_of(m["content"]) if "thinking" in b["type"]]
    seen.setting("stripped", len(stripped))
    if options.format_costs == "messages":
        set_format(seen, body)


def set_format(seen: Walk, body: Any) -> None:
    for name in ("format", "task_budget"):
        seen.setting(name, body.get("output_config", {}).get(name))


def everything(body: Any) -> list[Any]:
    """Every block of the messages, and every part of a tool result."""
    top = [b for m in body["messages"] for b in blocks_of(m["content"])]
    return top + [part for b in top if b["type"] == "tool_result" and isinstance(b["content"], list) for part in b["content"]]


class NaiveCache:
    """All that was ever written."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.written: list[Written] = []

    def ask(self, body: Any, card: ModelCard, at: float, ready: float) -> tuple[int, int, int, int]:
        """Tokens read, written for five minutes, written for an hour, and at full price."""
        seen = walk(body, card, self.options)
        speed = "fast" if body.get("speed") == "fast" and card.fast_prices else "standard"
        owner = (card.id, body.get("workspace_id", ""), "any" if self.options.speeds_share_tools else speed)
        length = [sum(seen.sizes[: n + 1]) for n in range(len(seen.sizes))]
        found = self.find(seen, owner, at)
        point_a = length[found] if found is not None else 0
        point_b = point_c = point_a
        new = []
        for block, ttl in seen.marks:
            if (found is None or block > found) and length[block] >= card.min_cacheable_tokens:
                new.append(Written(owner, seen.texts[: seen.ends[block]], ttl, at, ready))
                point_c = length[block]
                point_b = length[block] if ttl == "1h" else point_b
        if found is not None:
            self.renew(seen, owner, found, at)
        self.written = [w for w in self.written if at <= w.used + SECONDS[w.ttl]] + new
        return point_a, point_c - point_b, point_b - point_a, length[-1] - point_c

    def find(self, seen: Walk, owner: tuple[str, str, str], at: float) -> int | None:
        for block, _ in reversed(seen.marks):
            positions = 1
            while positions <= 20:
                if self.at_block(seen, owner, block, at):
                    return block
                if block == 0:
                    break
                same_run = seen.kinds[block] == seen.kinds[block - 1] and seen.kinds[block] in ("tool_use", "tool_result")
                positions += 0 if same_run else 1
                block -= 1
        return None

    def at_block(self, seen: Walk, owner: tuple[str, str, str], block: int, at: float) -> list[Written]:
        prefix = seen.texts[: seen.ends[block]]
        return [w for w in self.written if w.readable(owner, prefix, at)]

    def renew(self, seen: Walk, owner: tuple[str, str, str], found: int, at: float) -> None:
        marked = [block for block, _ in seen.marks if block <= found]
        also = {"hit": [], "marks": marked, "chain": list(range(found))}[self.options.renews]
        for block in {found, *also}:
            read = self.at_block(seen, owner, block, at)
            for entry in read:
                entry.used = at
            if read and self.options.remark == "shortens" and (block, "5m") in seen.marks:
                for entry in self.written:
                    if entry.owner == owner and entry.prefix == read[0].prefix:
                        entry.ttl = "5m"
