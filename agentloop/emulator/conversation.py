"""Whether messages make a conversation: who speaks when, what may be empty, and which result answers which call.

Consecutive messages of one role are one turn; errors name the caller's own indices all the same.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise, takewhile
from typing import Any, NamedTuple

from agentloop.core.cache import as_blocks
from agentloop.emulator.answers import invalid
from agentloop.emulator.strict import Unverified
from agentloop.types.base import Json
from agentloop.types.blocks import Block
from agentloop.types.usage import ModelTraits

MAX_MESSAGES = 100_000


class _Placed(NamedTuple):
    message: int
    at: int
    """Index of the block in it."""
    block: Block

    @property
    def path(self) -> str:
        return f"messages.{self.message}.content.{self.at}"


class _Turn(NamedTuple):
    role: str
    first: int
    """Index of its first message."""
    blocks: tuple[_Placed, ...]


def check(messages: Sequence[Json], traits: ModelTraits, user_first: bool, unverified: Unverified) -> None:
    """Raise ApiError for the first rule that the messages break."""
    if not messages:
        raise invalid("messages: at least one message is required")
    if len(messages) > MAX_MESSAGES:
        raise invalid(f"messages: List should have at most {MAX_MESSAGES} items after validation, not {len(messages)}")
    _check_contents(messages)
    turns = [_turn(group) for _, group in groupby(enumerate(messages), key=lambda m: m[1]["role"])]
    _check_first(turns[0], user_first, unverified)
    _check_system(turns, traits)
    _check_blocks(turns)
    _check_pairs(turns)
    _check_server_calls(turns)
    _check_prefill(turns[-1], traits)


def check_prompt(system: Any) -> None:
    """Raise ApiError where a system prompt has a text without a word."""
    if isinstance(system, list) and any(not block["text"] for block in system):
        raise invalid("system: text content blocks must be non-empty")


def _turn(group: Iterator[tuple[int, Json]]) -> _Turn:
    members = list(group)
    first, message = members[0]
    blocks = tuple(_Placed(i, j, b) for i, m in members for j, b in enumerate(as_blocks(m["content"])))
    return _Turn(message["role"], first, blocks)


def _check_contents(messages: Sequence[Json]) -> None:
    last = len(messages) - 1
    for i, message in enumerate(messages):
        if not message["content"] and not _may_be_empty(message, i == last):
            raise invalid(
                f"messages.{i}: all messages must have non-empty content except for the optional final assistant message"
            )
        for block in as_blocks(message["content"]) if message["content"] else []:
            if block["type"] == "text":
                _check_text(block["text"])


def _may_be_empty(message: Json, is_last: bool) -> bool:
    """An assistant message at the end is a prefill; a system message may only set the effort."""
    return (is_last and message["role"] == "assistant") or bool(message.get("output_config"))


def _check_text(text: str) -> None:
    if not text:
        raise invalid("messages: text content blocks must be non-empty")
    if not text.strip():
        raise invalid("messages: text content blocks must contain non-whitespace text")


def _check_first(first: _Turn, user_first: bool, unverified: Unverified) -> None:
    """The user opens a conversation, or else the block that a compaction left of an earlier one."""
    if first.role == "system":
        raise invalid('messages.0: a message with the "system" role must follow a user message')
    if first.role == "user" or (first.blocks and first.blocks[0].block["type"] == "compaction"):
        return
    unverified.note(11, "whether the assistant may open a conversation")
    if user_first:
        raise invalid('messages: first message must use the "user" role')


def _check_system(turns: Sequence[_Turn], traits: ModelTraits) -> None:
    """System messages inside a conversation: after the user, and last or before the assistant."""
    for i, turn in enumerate(turns):
        if turn.role != "system":
            continue
        if not traits.system_messages:
            raise invalid(
                'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, '
                'not "system" as an input message role.'
            )
        before = turns[i - 1]
        if before.role == "assistant" and not _ends_with_server_result(before):
            raise invalid(f'messages.{turn.first}: a message with the "system" role must follow a user message')
        if i + 1 < len(turns) and turns[i + 1].role != "assistant":
            raise invalid(
                f'messages.{turn.first}: a message with the "system" role must be last or precede an assistant message'
            )


def _ends_with_server_result(turn: _Turn) -> bool:
    return bool(turn.blocks) and _is_server_block(turn.blocks[-1].block)


def _is_server_block(block: Block) -> bool:
    """Calls that the API runs itself, and their results."""
    kind = str(block["type"])
    return kind == "server_tool_use" or (kind.endswith("_tool_result") and kind != "tool_result")


def _check_blocks(turns: Sequence[_Turn]) -> None:
    """Calls are the assistant's, results are the user's, and no two calls share an id."""
    seen: set[str] = set()
    for turn in turns:
        for placed in turn.blocks:
            kind = placed.block["type"]
            if kind == "tool_use" and turn.role != "assistant":
                raise invalid(f"messages.{placed.message}: `tool_use` blocks can only be in `assistant` messages")
            if kind == "tool_result" and turn.role != "user":
                raise invalid(f"messages.{placed.message}: `tool_result` blocks can only be in `user` messages")
            if kind == "tool_use" and placed.block["id"] in seen:
                raise invalid(f"{placed.path}: `tool_use` ids must be unique")
            if kind == "tool_use":
                seen.add(placed.block["id"])


def _check_pairs(turns: Sequence[_Turn]) -> None:
    nothing = _Turn("user", 0, ())
    for before, turn in pairwise([nothing, *turns, nothing]):
        _check_answered(before, turn)
        _check_expected(before, turn)


def _check_answered(asked: _Turn, answer: _Turn) -> None:
    """Every call has its result in the next message, before any text."""
    leading = takewhile(lambda p: p.block["type"] == "tool_result", answer.blocks)
    answered = {p.block["tool_use_id"] for p in leading}
    missing = [p for p in asked.blocks if p.block["type"] == "tool_use" and p.block["id"] not in answered]
    if missing:
        raise invalid(
            f"messages.{missing[0].message}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(p.block['id'] for p in missing)}. "
            "Each `tool_use` block must have a corresponding `tool_result` block in the next message."
        )


def _check_expected(asked: _Turn, answer: _Turn) -> None:
    """Every result has its call in the message before, and is the only one."""
    open_ids = {p.block["id"] for p in asked.blocks if p.block["type"] == "tool_use"}
    seen: set[str] = set()
    for placed in answer.blocks:
        if placed.block["type"] != "tool_result":
            continue
        call_id = placed.block["tool_use_id"]
        if call_id not in open_ids:
            raise invalid(
                f"{placed.path}: unexpected `tool_use_id` found in `tool_result` blocks: {call_id}. "
                "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        if call_id in seen:
            raise invalid(
                f"{placed.path}: each tool_use must have a single result. "
                f"Found multiple `tool_result` blocks with id: {call_id}"
            )
        seen.add(call_id)


def _check_server_calls(turns: Sequence[_Turn]) -> None:
    """A call that the API runs itself has its result behind it, unless the turn is still to be gone on with."""
    results = {str(p.block["tool_use_id"]) for turn in turns for p in turn.blocks if _is_server_result(p.block)}
    for i, turn in enumerate(turns):
        if turn.role != "assistant" or _is_still_open(turns[i:]):
            continue
        for placed in turn.blocks:
            block = placed.block
            if block["type"] == "server_tool_use" and block["id"] not in results:
                name = block["name"]
                raise invalid(
                    f"{placed.path}: `{name}` tool use with id `{block['id']}` was found without a corresponding "
                    f"`{_result_type(name)}` block"
                )


def _is_server_result(block: Block) -> bool:
    return _is_server_block(block) and "tool_use_id" in block


def _is_still_open(turns: Sequence[_Turn]) -> bool:
    """Whether the model has yet to go on with the first of these turns: it was paused, or waits for results of the user."""
    paused = len(turns) == 1
    answered = len(turns) == 2 and any(p.block["type"] == "tool_result" for p in turns[1].blocks)
    return paused or answered


def _result_type(name: str) -> str:
    return "tool_search_tool_result" if name.startswith("tool_search_tool") else f"{name}_tool_result"


def _check_prefill(last: _Turn, traits: ModelTraits) -> None:
    # A turn that the API paused, in its own tools or behind a summary, is sent back as it is, and ends with the assistant.
    paused = any(_is_server_block(p.block) or p.block["type"] == "compaction" for p in last.blocks)
    if last.role != "assistant" or paused:
        return
    if not traits.assistant_prefill:
        raise invalid("This model does not support assistant message prefill. The conversation must end with a user message.")
    if last.blocks and str(last.blocks[-1].block.get("text", "")).endswith((" ", "\n", "\t")):
        raise invalid("messages: final assistant content cannot end with trailing whitespace")
