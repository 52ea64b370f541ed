"""What the API itself takes out of a history before the model sees it: old tool results, old thinking.

https://platform.claude.com/docs/en/build-with-claude/context-editing
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from agentloop.core import tokens
from agentloop.emulator.answers import invalid
from agentloop.emulator.history import Item
from agentloop.types.base import Json
from agentloop.types.usage import ModelCard

CLEARED = "[Old tool result content cleared]"
"""What stands in the place of a result that was cleared."""
DEFAULT_TRIGGER_TOKENS = 100_000
DEFAULT_KEPT_TOOL_USES = 3

_CLEAR_TOOLS = "clear_tool_uses_20250919"
_CLEAR_THINKING = "clear_thinking_20251015"

Sized = Callable[[Sequence[Item]], int]
"""Tokens of a prompt whose messages are these."""


class Edited(NamedTuple):
    """A history after its edits, and what they took out of it."""

    items: list[Item]
    applied: list[Json]


def check(body: Json, thinks: bool) -> None:
    """Raise ApiError where the edits do not go with each other, or with the request."""
    kinds = [edit["type"] for edit in edits(body)]
    if len(set(kinds)) < len(kinds):
        raise invalid("context_management.edits: each strategy may be given only once")
    if _CLEAR_THINKING in kinds[1:]:
        raise invalid(f"context_management.edits: `{_CLEAR_THINKING}` must be the first edit")
    if _CLEAR_THINKING in kinds and not thinks:
        raise invalid(f"`{_CLEAR_THINKING}` strategy requires `thinking` to be enabled or adaptive")


def edits(body: Json) -> list[Json]:
    """The edits that a request asks for."""
    return list((body.get("context_management") or {}).get("edits") or [])


def edited(body: Json, items: list[Item], card: ModelCard, sized: Sized) -> Edited:
    """The history after the edits that find something to do."""
    applied: list[Json] = []
    for edit in edits(body):
        match edit["type"]:
            case "clear_thinking_20251015":
                items, cleared = _without_thinking(edit, items, card)
            case "clear_tool_uses_20250919":
                items, cleared = _without_tool_uses(edit, items, card, sized)
            case _:
                continue
        applied += cleared
    return Edited(items, applied)


def clears_thinking(body: Json) -> bool:
    """Whether the request says itself which of its thinking stays, whatever the model does otherwise."""
    return any(edit["type"] == _CLEAR_THINKING for edit in edits(body))


def _without_thinking(edit: Json, items: list[Item], card: ModelCard) -> tuple[list[Item], list[Json]]:
    kept_turns = _kept_turns(edit.get("keep"), None if card.keeps_earlier_thinking else 1)
    if kept_turns is None:
        return items, []
    kept, cleared_turns = _last_turns(items, kept_turns)
    if not cleared_turns:
        return items, []
    cleared = _tokens(items, card) - _tokens(kept, card)
    return kept, [{"type": _CLEAR_THINKING, "cleared_thinking_turns": cleared_turns, "cleared_input_tokens": cleared}]


def _kept_turns(keep: Any, otherwise: int | None) -> int | None:
    """How many turns keep their thinking; None: all."""
    if keep is None:
        return otherwise
    return None if keep == "all" or keep.get("type") == "all" else int(keep["value"])


def _last_turns(items: list[Item], keep: int) -> tuple[list[Item], int]:
    """The history with the thinking of its last turns, and how many turns lost theirs."""
    turns, turn = [], 0
    for item in items:
        # A turn lasts until the user says something that answers no call.
        turn += item.role == "user" and item.kind != "tool_result"
        turns.append(turn)
    thought = sorted({t for t, item in zip(turns, items, strict=True) if item.is_thinking})
    gone = set(thought[:-keep])
    return [i for t, i in zip(turns, items, strict=True) if not (i.is_thinking and t in gone)], len(gone)


def _without_tool_uses(edit: Json, items: list[Item], card: ModelCard, sized: Sized) -> tuple[list[Item], list[Json]]:
    calls = {i.block["id"]: str(i.block["name"]) for i in items if i.kind == "tool_use"}
    if not _is_due(edit.get("trigger"), len(calls), items, sized):
        return items, []
    keep = (edit.get("keep") or {}).get("value", DEFAULT_KEPT_TOOL_USES)
    excluded = set(edit.get("exclude_tools") or [])
    old = [call for call in list(calls)[: max(0, len(calls) - keep)] if calls[call] not in excluded]
    inputs = {call for call in old if _clears_input(edit.get("clear_tool_inputs"), calls[call])}
    gone = set(old)
    after = [i._replace(block=_cleared(i, gone, inputs)) for i in items]
    cleared = _tokens(items, card) - _tokens(after, card)
    least = (edit.get("clear_at_least") or {}).get("value", 1)
    if not old or cleared < least:
        return items, []
    return after, [{"type": _CLEAR_TOOLS, "cleared_tool_uses": len(old), "cleared_input_tokens": cleared}]


def _is_due(trigger: Json | None, tool_uses: int, items: Sequence[Item], sized: Sized) -> bool:
    if trigger is not None and trigger["type"] == "tool_uses":
        return tool_uses > int(trigger["value"])
    return sized(items) > (DEFAULT_TRIGGER_TOKENS if trigger is None else int(trigger["value"]))


def _clears_input(asked: Any, tool: str) -> bool:
    return tool in asked if isinstance(asked, list) else bool(asked)


def _cleared(item: Item, old: set[str], inputs: set[str]) -> Json:
    block = item.block
    if item.kind == "tool_result" and block["tool_use_id"] in old:
        return block | {"content": CLEARED}
    if item.kind == "tool_use" and block["id"] in inputs:
        return block | {"input": {}}
    return block


def _tokens(items: Sequence[Item], card: ModelCard) -> int:
    return tokens.blocks_tokens((i.block for i in items), card.tokenizer)
