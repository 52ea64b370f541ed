"""Whether the thinking in a history may stand there: by whom it was made, for whom, and behind which conversation.

A block that its reader cannot read is left out without a word. One whose conversation has changed is refused or left
out: that depends on the model, on the age of the account, and on what the request says.
https://platform.claude.com/docs/en/build-with-claude/preserved-thinking
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from agentloop.emulator import betas, history, readable, signatures
from agentloop.emulator.answers import ApiError, invalid
from agentloop.emulator.catalogue import ModelRow
from agentloop.emulator.history import Item
from agentloop.emulator.settings import EmulatorSettings
from agentloop.emulator.signatures import Thought
from agentloop.emulator.strict import Unverified
from agentloop.types.base import Json

Behavior = Literal["error", "drop_block", "allow"]
CHECKED_SINCE = datetime(2026, 8, 31, tzinfo=UTC)
"""Accounts that were created from then on are checked by the models that check some accounts."""

_MODIFIED = (
    "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. "
    "These blocks must remain as they were in the original response."
)
_ELSEWHERE = "Invalid `signature` in `thinking` block. The block is bound to a different conversation."


class Asker(NamedTuple):
    """Who sends a history back, as far as its thinking is concerned."""

    model: ModelRow
    betas: frozenset[str]
    in_batch: bool
    settings: EmulatorSettings
    unverified: Unverified


@dataclass
class Checked:
    """A history after the check, up to its last block."""

    chains: tuple[bytes, ...]
    """Digests of the conversation as it was sent; behind a compaction, also as it was before it."""
    kept: list[Item] = field(default_factory=list)
    transformations: list[Json] = field(default_factory=list)
    before: str = ""
    """The last thinking block that still counts."""
    sent: str = ""
    """The last thinking block, whatever became of it."""


def checked(body: Json, items: Sequence[Item], asker: Asker) -> Checked:
    """The history without the thinking that the model does not get to see. Raises ApiError where it is refused."""
    beginning = history.beginning(body)
    found = Checked((beginning,))
    last_role: str | None = None
    latest = max((i.message for i in items if i.role == "assistant"), default=-1)
    for item in items:
        if last_role == item.role:  # the first kept message would be one with the last that was summarised
            found.chains = found.chains[:1]
        last_role = None
        if item.is_thinking:
            _take(found, item, item.message == latest, body, asker)
            continue
        if item.kind == "compaction":
            found.chains, last_role = _restarted(beginning, item)
            found.before = found.sent = ""
        else:
            found.chains = tuple(dict.fromkeys(history.behind(c, item.role, item.block) for c in found.chains))
        found.kept.append(item)
    return found


def unchecked(body: Json, items: Sequence[Item]) -> Checked:
    """Where a history stands that holds no thinking and no summary."""
    chain = history.beginning(body)
    for item in items:
        chain = history.behind(chain, item.role, item.block)
    return Checked((chain,))


def _restarted(beginning: bytes, item: Item) -> tuple[tuple[bytes, ...], str | None]:
    """Where the chains stand behind a compaction: as if it opened the conversation, and as if it were not there."""
    opened = history.opened_by(beginning, item.block) or beginning
    record = signatures.compaction_of(item.block)
    if record is None or record.beginning != beginning.hex():
        return (opened,), None
    last_role = record.last_role if item.block.get("signature") else None
    return (opened, *(bytes.fromhex(c) for c in record.chains)), last_role


def _take(found: Checked, item: Item, is_latest: bool, body: Json, asker: Asker) -> None:
    thought = signatures.thought_of(item.block)
    if thought is None:
        _check_foreign(item, asker)
        found.kept.append(item)
        return
    if not signatures.is_intact(item.block) or (thought.nth and thought.before != found.sent):
        _refuse_modified(item, thought, is_latest, body)
    found.sent = thought.id
    behavior = _behavior(body, asker)
    reason = _unreadable(thought, asker) or _mismatch(thought, found, asker)
    if reason is None:
        found.kept.append(item)
        found.before = thought.id
        return
    if reason != "prefix_binding_mismatch":
        found.before = thought.id
        found.transformations.append(_entry("thinking_dropped", item, reason))
    elif behavior == "drop_block":
        found.transformations.append(_entry("thinking_dropped", item, reason))
    elif behavior == "allow":
        found.kept.append(item)
        found.before = thought.id
        found.transformations.append(_entry("thinking_mismatch_allowed", item, reason))
    else:
        raise _bound_elsewhere(item, asker)


def _check_foreign(item: Item, asker: Asker) -> None:
    if not asker.settings.foreign_thinking:
        raise invalid(f"{item.path}: Invalid `signature` in `thinking` block")


def _refuse_modified(item: Item, thought: Thought, is_latest: bool, body: Json) -> None:
    """A block whose text was changed is refused everywhere; one that lost its neighbour, only within a tool loop."""
    intact = signatures.is_intact(item.block)
    if is_latest and (not intact or _in_tool_loop(body)):
        raise invalid(f"{item.path}: {_MODIFIED}")
    if not intact:
        raise invalid(f"{item.path}: Invalid `signature` in `thinking` block")


def _in_tool_loop(body: Json) -> bool:
    last = body["messages"][-1]
    return last["role"] == "user" and any(i.kind == "tool_result" for i in history.items([last]))


def _unreadable(thought: Thought, asker: Asker) -> str | None:
    model, settings = asker.model.card.id, asker.settings
    if readable.binds_account(thought.model) and thought.organization != settings.organization_id:
        return "organization_binding_mismatch"
    if readable.can_read(model, thought.model, settings.newest_reads_earlier_thinking):
        if model != thought.model and model.endswith("-5-2"):
            asker.unverified.note(52, "Fable and Mythos 5.2 read the thinking that 5.1 reads")
        return None
    return "model_binding_mismatch"


def _mismatch(thought: Thought, found: Checked, asker: Asker) -> str | None:
    if asker.model.traits.prefix_check is None or not thought.chain:
        return None
    behind_same = thought.chain in (c.hex() for c in found.chains)
    follows = not found.before or found.before == thought.before
    return None if behind_same and follows else "prefix_binding_mismatch"


def _behavior(body: Json, asker: Asker) -> Behavior:
    """What becomes of thinking behind another conversation than it was made for."""
    binding = (body.get("thinking") or {}).get("block_binding") or {}
    asked: Behavior | None = binding.get("prefix_mismatch_behavior")
    if asked is not None:
        return asked
    if asker.in_batch:
        return "drop_block"
    return "error" if _is_enforced(asker) else "allow"


def _is_enforced(asker: Asker) -> bool:
    check = asker.model.traits.prefix_check or ""
    if not check.startswith("all-accounts"):
        return asker.settings.account_created >= CHECKED_SINCE
    if "mythos-5-1" not in asker.model.card.id:
        return True
    asker.unverified.note(50, "Mythos 5.1 checks the prefix of thinking for every account")
    return asker.settings.mythos_5_1_checks_thinking


def _bound_elsewhere(item: Item, asker: Asker) -> ApiError:
    setting = 'set `thinking.block_binding.prefix_mismatch_behavior` to "drop_block"'
    if betas.THINKING_BINDING not in asker.betas:
        setting += f" (requires the `anthropic-beta: {betas.THINKING_BINDING}` header)"
    return invalid(f"{item.path}: {_ELSEWHERE} Remove the block, or {setting}.")


def _entry(kind: str, item: Item, reason: str) -> Json:
    return {"type": kind, "path": item.path, "reason": reason}
