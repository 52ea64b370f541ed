"""What the Messages API refuses, written from its documentation and not from agentloop's code.

https://platform.claude.com/docs/en/api/messages/create · …/build-with-claude/prompt-caching · …/preserved-thinking
"""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

Json = dict[str, Any]

FIELDS = frozenset(
    {
        *("model", "max_tokens", "messages", "system", "tools", "tool_choice", "cache_control", "container", "diagnostics"),
        *("inference_geo", "metadata", "output_config", "service_tier", "speed", "stop_sequences", "thinking", "stream"),
    }
)
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
THINKING = ("thinking", "redacted_thinking")
MARKABLE = frozenset({"text", "image", "document", "search_result", "tool_use", "tool_result"})
LARGEST = 32_000_000


class Refused(AssertionError):
    """A request that the API would answer with status 400 or 413."""


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise Refused(message)


class Turn(NamedTuple):
    """Consecutive messages of one role."""

    role: str
    content: tuple[Json, ...]


class _Signed(NamedTuple):
    """What stood before a thinking block when it was produced."""

    before: tuple[str, ...]
    """Model, system, tools, then every block that is not thinking, with its role."""
    thought_before: str | None
    """The thinking block right before it, if there was one."""


class MessagesApi:
    """The API at the other end of one conversation: it remembers what it answered."""

    def __init__(self, model: str, largest_answer: int, checks_thinking: bool) -> None:
        self._model = model
        self._largest_answer = largest_answer
        self._checks_thinking = checks_thinking
        self._answered: set[str] = set()
        self._produced: set[str] = set()
        self._signed: dict[str, _Signed] = {}
        self._gone: set[str] = set()
        self._paused: list[list[str]] = []

    def takes_over(self, model: str, largest_answer: int, checks_thinking: bool) -> None:
        """From here on another model is asked. It reads no thinking of the one before it."""
        self._model, self._largest_answer, self._checks_thinking = model, largest_answer, checks_thinking
        self._signed.clear()

    def receive(self, body: bytes) -> None:
        """Take a request. Raises Refused."""
        _require(len(body) <= LARGEST, "request_too_large")
        request = json.loads(body.decode("utf-8"), parse_constant=_no_number)
        _check_head(request, self._model, self._largest_answer)
        turns = merged(request["messages"])
        _check_contents(request["messages"])
        _check_order(turns)
        _check_calls(turns)
        _check_marks(request)
        self._check_reference(request)
        self._check_end(turns)
        self._check_sent_back(turns)
        self._check_thinking(request, turns)

    def answer(self, body: bytes, message_id: str, content: Sequence[Json], stop_reason: str) -> None:
        """Remember the answer to a request."""
        request = json.loads(body)
        turns = merged(request["messages"])
        before = [_head(request), *(_with_role(t.role, b) for t in turns for b in t.content if not _thinks(b))]
        thoughts = [_canonical(b) for t in turns for b in t.content if _thinks(b)]
        for block in content:
            written = _canonical(block)
            self._produced.add(written)
            if _thinks(block):
                self._signed[written] = _Signed(tuple(before), thoughts[-1] if thoughts else None)
                thoughts.append(written)
            elif not _is_blank(block):  # the API takes no blank text back, so nothing can be bound to it
                before.append(_with_role("assistant", block))
        self._answered.add(message_id)
        if stop_reason == "pause_turn":
            self._paused.append(_spoken(content))

    def _check_reference(self, request: Json) -> None:
        if (diagnostics := request.get("diagnostics")) is not None:
            before = diagnostics["previous_message_id"]
            _require(before is None or before in self._answered, f"previous_message_not_found: {before}")

    def _check_end(self, turns: Sequence[Turn]) -> None:
        if turns[-1].role == "assistant":
            said = _spoken(turns[-1].content)
            continued = any(said[-len(p) :] == p for p in self._paused if p)
            _require(continued, "This model does not support assistant message prefill.")

    def _check_sent_back(self, turns: Sequence[Turn]) -> None:
        """What the assistant said is sent back as it was said."""
        for i, turn in enumerate(turns):
            for j, block in enumerate(turn.content):
                known = turn.role == "user" or _canonical(block) in self._produced
                _require(known, f"turn {i}, block {j} was never said by the assistant: {_canonical(block)[:200]}")

    def _check_thinking(self, request: Json, turns: Sequence[Turn]) -> None:
        before = [_head(request)]
        thoughts: list[str] = []
        for i, turn in enumerate(turns):
            for j, block in enumerate(turn.content):
                if not _thinks(block):
                    before.append(_with_role(turn.role, block))
                    continue
                written = _canonical(block)
                _require(written not in self._gone, f"messages.{i}.content.{j}: thinking was taken out and put back")
                if self._checks_thinking:
                    self._check_binding(written, before, thoughts, f"messages.{i}.content.{j}")
                thoughts.append(written)
        _check_latest_thinking(turns, self._signed)
        self._gone |= self._signed.keys() - set(thoughts)

    def _check_binding(self, written: str, before: list[str], thoughts: list[str], where: str) -> None:
        signed = self._signed[written]
        changed = next((i for i, (a, b) in enumerate(zip(signed.before, before, strict=False)) if a != b), None)
        same = len(before) == len(signed.before) and changed is None
        _require(same, f"{where}: Invalid `signature` in `thinking` block: block {changed} before it is not what it was")
        chained = not thoughts or thoughts[-1] == signed.thought_before
        _require(chained, f"{where}: Invalid `signature` in `thinking` block: a thinking block between others is gone")


def _check_latest_thinking(turns: Sequence[Turn], signed: dict[str, _Signed]) -> None:
    """The latest assistant message keeps its thinking as it was, or has none of it."""
    latest = next((t for t in reversed(turns) if t.role == "assistant"), None)
    thoughts = [_canonical(b) for b in latest.content if _thinks(b)] if latest else []
    for one, following in pairwise(thoughts):
        _require(signed[following].thought_before == one, "thinking in the latest assistant message cannot be modified")


def merged(messages: Sequence[Json]) -> list[Turn]:
    """Messages as the API reads them: a string is one text block, consecutive messages of one role are one turn."""
    turns: list[Turn] = []
    for message in messages:
        content = tuple(as_blocks(message["content"]))
        if turns and turns[-1].role == message["role"]:
            turns[-1] = Turn(message["role"], turns[-1].content + content)
        else:
            turns.append(Turn(message["role"], content))
    return turns


def as_blocks(content: Any) -> list[Json]:
    """Content as blocks."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def without_mark(block: Json) -> Json:
    """A block without its cache mark, which may move from request to request."""
    return {k: v for k, v in block.items() if k != "cache_control"}


def _canonical(block: Json) -> str:
    """Key order counts: the cache matches bytes."""
    return json.dumps(without_mark(block), ensure_ascii=False)


def _with_role(role: str, block: Json) -> str:
    return f"{role} {_canonical(block)}"


def _head(request: Json) -> str:
    system = [without_mark(b) for b in as_blocks(request.get("system") or [])]
    return json.dumps([request["model"], system, [without_mark(t) for t in request.get("tools") or []]])


def _thinks(block: Json) -> bool:
    return block.get("type") in THINKING


def _spoken(content: Sequence[Json]) -> list[str]:
    return [_canonical(b) for b in content if not _thinks(b) and not _is_blank(b)]


def _is_blank(block: Json) -> bool:
    return block.get("type") == "text" and not str(block["text"]).strip()


def _no_number(name: str) -> None:
    raise Refused(f"{name} is not JSON")


def _check_head(request: Json, model: str, largest_answer: int) -> None:
    for name in request:
        _require(name in FIELDS, f"{name}: Extra inputs are not permitted")
    _require(request["model"] == model, f"model: {request['model']}")
    _require(0 <= request["max_tokens"] <= largest_answer, f"max_tokens: {request['max_tokens']}")
    _require(bool(request["max_tokens"]) or not request.get("stream"), "max_tokens: 0 cannot be streamed")
    for i, block in enumerate(as_blocks(request.get("system") or [])):
        _require(not _is_blank(block), f"system.{i}: text content blocks must be non-empty")
    tools = request.get("tools") or []
    names = [t["name"] for t in tools]
    _require(len(set(names)) == len(names), "tools: Tool names must be unique.")
    for i, tool in enumerate(tools):
        _require(NAME.fullmatch(tool["name"]) is not None, f"tools.{i}.custom.name: String should match pattern")
        _require(tool["input_schema"].get("type") == "object", f"tools.{i}.custom.input_schema.type")
        extra = tool.keys() - {"name", "description", "input_schema", "cache_control", "type", "strict"}
        _require(not extra, f"tools.{i}.custom: Extra inputs are not permitted: {extra}")


def _check_contents(messages: Sequence[Json]) -> None:
    _require(0 < len(messages) <= 100_000, "messages: at least one message is required")
    for i, message in enumerate(messages):
        _require(message.keys() == {"role", "content"}, f"messages.{i}: Extra inputs are not permitted")
        _require(message["role"] in ("user", "assistant"), f"messages.{i}.role: {message['role']}")
        _require(bool(message["content"]), f"messages.{i}: all messages must have non-empty content")
        for j, block in enumerate(as_blocks(message["content"])):
            _require(not _is_blank(block), f"messages.{i}.content.{j}: text content blocks must be non-empty")
            if block["type"] == "tool_result":
                inner = as_blocks(block.get("content") or "(none)")
                _require(not any(map(_is_blank, inner)), f"messages.{i}.content.{j}.content: blank text in a result")


def _check_order(turns: Sequence[Turn]) -> None:
    _require(turns[0].role == "user", 'messages: first message must use the "user" role')
    for i, turn in enumerate(turns):
        kinds = [b["type"] for b in turn.content]
        if turn.role == "assistant":
            _require("tool_result" not in kinds, f"messages.{i}: tool_result in an assistant message")
            continue
        wrong = [k for k in kinds if k in (*THINKING, "tool_use", "server_tool_use")]
        _require(not wrong, f"messages.{i}: {wrong} in a user message")
        results = kinds.count("tool_result")
        _require(kinds[:results] == ["tool_result"] * results, f"messages.{i}: tool_result blocks must come first")


def _check_calls(turns: Sequence[Turn]) -> None:
    seen: set[str] = set()
    for i, turn in enumerate(turns):
        calls = [b["id"] for b in turn.content if b["type"] == "tool_use"]
        _require(len(calls) == len(set(calls)) and seen.isdisjoint(calls), f"messages.{i}: `tool_use` ids must be unique")
        seen |= set(calls)
        following = turns[i + 1].content if i + 1 < len(turns) else ()
        answers = [b["tool_use_id"] for b in following if b["type"] == "tool_result"]
        if turn.role == "assistant":
            missing = [c for c in calls if c not in answers]
            _require(not missing, f"messages.{i}: `tool_use` ids were found without `tool_result` blocks: {missing}")
            unexpected = [a for a in answers if a not in calls]
            _require(not unexpected, f"messages.{i + 1}: unexpected `tool_use_id` in `tool_result` blocks: {unexpected}")
            _require(len(answers) == len(set(answers)), f"messages.{i + 1}: each tool_use must have a single result")
            _check_server_calls(turn, i)
    first = [b["tool_use_id"] for b in turns[0].content if b["type"] == "tool_result"]
    _require(not first, f"messages.0: unexpected `tool_use_id` found in `tool_result` blocks: {first}")


def _check_server_calls(turn: Turn, i: int) -> None:
    """The result of a tool that the API runs itself stands in the same turn, behind its call."""
    called: set[str] = set()
    for block in turn.content:
        if block["type"] == "server_tool_use":
            called.add(block["id"])
        elif block["type"].endswith("_tool_result"):
            _require(block["tool_use_id"] in called, f"messages.{i}: {block['type']} without its server_tool_use")


def _check_marks(request: Json) -> None:
    marks = list(_marked(request))
    _require(len(marks) <= 4, f"A maximum of 4 blocks with cache_control may be provided. Found {len(marks)}.")
    lifetimes = []
    for where, block in marks:
        control = block["cache_control"]
        _require(control.get("type") == "ephemeral" and control.keys() <= {"type", "ttl"}, f"{where}: {control}")
        _require(control.get("ttl", "5m") in ("5m", "1h"), f"{where}.cache_control.ttl: {control}")
        lifetimes.append(control.get("ttl", "5m"))
        kind = block.get("type", "custom")
        _require(kind not in THINKING, f"{where}: cache_control cannot be set for thinking blocks")
        _require(kind != "text" or block["text"] != "", f"{where}: cache_control cannot be set for empty text blocks")
        markable = where.startswith("tools") or kind in MARKABLE or kind.endswith(("_tool_use", "_tool_result"))
        _require(markable, f"{where}: cache_control on a block of kind {kind}")
    _require(lifetimes == sorted(lifetimes), f"a ttl='1h' cache_control block must not come after a ttl='5m' one: {lifetimes}")


def _marked(request: Json) -> Iterator[tuple[str, Json]]:
    """Every marked block, in the order in which the API processes them: tools, system, messages."""
    places: list[tuple[str, list[Json]]] = [
        ("tools", request.get("tools") or []),
        ("system", as_blocks(request.get("system") or [])),
        *((f"messages.{i}.content", as_blocks(m["content"])) for i, m in enumerate(request["messages"])),
    ]
    for where, content in places:
        yield from ((f"{where}.{i}", block) for i, block in enumerate(content) if "cache_control" in block)
