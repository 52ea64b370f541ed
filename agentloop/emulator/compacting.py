"""Summaries that the API itself writes of a conversation: when they may be asked for, and where their blocks may stand.

On demand: https://platform.claude.com/docs/en/build-with-claude/compaction-on-demand
By a threshold: https://platform.claude.com/docs/en/build-with-claude/compaction
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from agentloop.emulator import betas, editing, history, script, signatures
from agentloop.emulator.answers import ApiError, invalid
from agentloop.emulator.bindings import Checked
from agentloop.emulator.history import Item
from agentloop.emulator.script import ScriptedReply
from agentloop.emulator.settings import EmulatorSettings
from agentloop.emulator.signatures import Compacted
from agentloop.emulator.strict import Unverified
from agentloop.types.base import Json
from agentloop.types.blocks import Block, text_of
from agentloop.types.usage import ModelTraits

DEFAULT_TRIGGER_TOKENS = 150_000
MIN_TRIGGER_TOKENS = 50_000
_BY_THRESHOLD = "compact_20260112"


@runtime_checkable
class Compactor(Protocol):
    """A script that writes its own summaries; for one that does not, they are made of what was said and called."""

    def compaction(self, request: Json) -> ScriptedReply:
        """The summary of a request's messages as a text, or a reply that stopped before there was one. May raise
        ApiError, as with `unavailable`."""
        ...


class Threshold(NamedTuple):
    """When a history is compacted by itself, and whether the reply comes only when asked again."""

    tokens: int
    pauses: bool


def unavailable() -> ApiError:
    """What the API answers while it cannot compact."""
    message = "The compaction could not be completed. Retry the request."
    return ApiError(529, "overloaded_error", message, "compaction_unavailable")


def check(
    body: Json,
    asked: frozenset[str],
    traits: ModelTraits,
    settings: EmulatorSettings,
    unverified: Unverified,
    *,
    counting: bool = False,
) -> None:
    """Raise ApiError where a summary may not be asked for, or stands where it may not. Whoever only counts asks for none."""
    items = history.items(body["messages"])
    if items and not visible(items):
        raise invalid("messages: at least one message is required")
    _check_blocks(body, items, asked)
    _check_threshold(body)
    if body.get("compaction") and not counting:
        _check_combination(body)
        _check_model(traits, settings, unverified)
        _check_conversation(body, items, settings, unverified)


def conversation(body: Json) -> list[Json]:
    """The messages that a request's model speaks to: where the assistant spoke last, a summary is asked for by the API."""
    messages: list[Json] = body["messages"]
    if not body.get("compaction") or not messages or messages[-1]["role"] != "assistant":
        return messages
    return [*messages, {"role": "user", "content": [{"type": "text", "text": "Summarize."}]}]


def threshold(body: Json) -> Threshold | None:
    """The threshold that a request sets."""
    for edit in editing.edits(body):
        if edit["type"] == _BY_THRESHOLD:
            trigger = edit.get("trigger")
            tokens = DEFAULT_TRIGGER_TOKENS if trigger is None else int(trigger["value"])
            return Threshold(tokens, bool(edit.get("pause_after_compaction")))
    return None


def visible(items: Sequence[Item]) -> list[Item]:
    """What is left of a history whose newest summary stands for everything before it; empty summaries say nothing."""
    summaries = [n for n, item in enumerate(items) if item.kind == "compaction" and item.block.get("content")]
    first = summaries[-1] if summaries else 0
    return [item for item in items[first:] if item.kind != "compaction" or item.block.get("content")]


def as_read(block: Block) -> Block:
    """A summary as the model reads it: without what only the API understands."""
    return {k: v for k, v in block.items() if k in ("type", "content", "cache_control")}


def summary(written_by: script.Script, body: Json) -> ScriptedReply:
    """The summary of a request's messages, by its script."""
    if isinstance(written_by, Compactor):
        return written_by.compaction(body)
    asked = body | {"messages": [*body["messages"], {"role": "user", "content": []}]}
    return script.summary(str(getattr(written_by, "name", "script")), asked)


def text(reply: ScriptedReply) -> str | None:
    """The text of a summary; None where the model stopped before it had one."""
    return (text_of(reply.content) or None) if reply.stop_reason in ("end_turn", "compaction") else None


def record(body: Json, traits: ModelTraits, checked: Checked, items: Sequence[Item]) -> Compacted:
    """What a summary's signature says of the history it stands for. Only a model that binds thinking to the conversation
    writes down where it stood, so that what is kept behind the summary can be checked."""
    told = [item for item in items if item.kind != "compaction"]
    earlier = [r for i in items if i.kind == "compaction" and (r := signatures.compaction_of(i.block)) is not None]
    return Compacted(
        chains=tuple(c.hex() for c in checked.chains) if traits.prefix_check is not None else (),
        beginning=history.beginning(body).hex(),
        last_role=told[-1].role if told else "",
        answers=len({i.message for i in told if i.role == "assistant"}) + sum(r.answers for r in earlier),
    )


def tool_changes(items: Sequence[Item]) -> list[Json]:
    """What takes a request's tools to those at the end of its messages."""
    changes: dict[str, Json] = {}
    for item in items:
        if item.kind == "compaction":
            changes |= {_tool_name(change): change for change in item.block.get("tool_changes") or []}
        elif item.kind in ("tool_addition", "tool_removal"):
            name = _tool_name(item.block)
            tool = item.block["tool"]
            if tool["type"] == "tool_definition":
                tool = {"type": "tool_reference", "name": name}
            changes.pop(name, None)
            changes[name] = {"type": item.kind, "tool": tool}
    return list(changes.values())


def _tool_name(change: Json) -> str:
    tool = change["tool"]
    return str(tool.get("name") or (tool.get("definition") or {}).get("name") or tool.get("server_name"))


def _check_blocks(body: Json, items: Sequence[Item], asked: frozenset[str]) -> None:
    summaries = [(n, i) for n, i in enumerate(items) if i.kind == "compaction" and i.block.get("content") is not None]
    for _, item in summaries:
        if not item.block["content"]:
            raise invalid(f"{item.path}.compaction.content: String should have at least 1 character")
    on_demand = [(n, i) for n, i in summaries if _is_on_demand(i.block, asked)]
    if betas.COMPACT not in asked or not on_demand:
        return
    if len(summaries) > 1:
        raise _refused("compaction_block_ambiguous", "messages: more than one `compaction` block with content")
    [(position, item)] = on_demand
    if position or item.role == "system":
        raise _refused("compaction_block_misplaced", f"{item.path}: the `compaction` block must be first in `messages`")
    if signatures.compaction_of(item.block) is None:
        raise _refused("compaction_signature_invalid", f"{item.path}: Invalid `signature` in `compaction` block")
    if not signatures.has_its_text(item.block):
        raise _refused("compaction_content_mismatch", f"{item.path}: `content` differs from what was signed")
    if not signatures.has_its_tools(item.block):
        raise _refused("compaction_tool_changes_mismatch", f"{item.path}: `tool_changes` differ from what was returned")


def _is_on_demand(block: Block, asked: frozenset[str]) -> bool:
    """Whether a summary is to be read as one that was asked for: it is signed, or no other kind can have been meant."""
    if block.get("signature"):
        return True
    return not block.get("encrypted_content") and betas.COMPACT_BY_THRESHOLD not in asked


def _check_threshold(body: Json) -> None:
    for i, edit in enumerate(editing.edits(body)):
        trigger = edit.get("trigger") or {}
        if edit["type"] == _BY_THRESHOLD and trigger.get("value", MIN_TRIGGER_TOKENS) < MIN_TRIGGER_TOKENS:
            path = f"context_management.edits.{i}.trigger.value"
            raise invalid(f"{path}: Input should be greater than or equal to {MIN_TRIGGER_TOKENS}")


def _check_combination(body: Json) -> None:
    config = body.get("output_config") or {}
    clashes = {
        "context_management": body.get("context_management"),
        "stop_sequences": body.get("stop_sequences"),
        "output_config.format": config.get("format"),
        "tool_choice": (body.get("tool_choice") or {}).get("type") in ("any", "tool"),
        "output_config.task_budget.remaining": (config.get("task_budget") or {}).get("remaining") is not None,
    }
    for name, found in clashes.items():
        if found:
            raise invalid(f"compaction: cannot be combined with `{name}`")


def _check_model(traits: ModelTraits, settings: EmulatorSettings, unverified: Unverified) -> None:
    able = traits.compacts_on_demand
    if able is None:
        unverified.note(59, "Fable and Mythos 5.2 compact on demand")
        able = settings.compacts_on_demand
    if not able:
        raise invalid("compaction: not supported on this model")


def _check_conversation(body: Json, items: Sequence[Item], settings: EmulatorSettings, unverified: Unverified) -> None:
    if not any(i.role != "system" and i.kind != "compaction" for i in items):
        raise _refused("compaction_nothing_to_summarize", "messages: there is nothing to summarize")
    last = body["messages"][-1]
    if last["role"] == "assistant" and any(i.kind == "tool_use" for i in history.items([last])):
        message = f"messages.{len(body['messages']) - 1}: the last `assistant` turn has a tool call without a result"
        raise _refused("compaction_incomplete_turn", message)
    if len(tool_changes(items)) > settings.compaction_tool_references:
        unverified.note(59, f"a compaction records at most {settings.compaction_tool_references} tools")
        raise _refused("compaction_too_many_tool_references", "messages: more tools are referred to than can be recorded")


def _refused(code: str, message: str) -> ApiError:
    return ApiError(400, "invalid_request_error", message, code)
