"""What the emulator writes into the signature of a thinking block or of a compaction, and reads out of it again.

A signature is opaque to clients. It needs no key here: it says what the block was made of, so that a block that was
changed, or that stands behind another conversation, is found out.
"""

import base64
import binascii
import hashlib
import json
from functools import lru_cache
from typing import Any, NamedTuple

from agentloop.emulator.history import canonical
from agentloop.types.base import Json, compact
from agentloop.types.blocks import Block

_FIRST = "EmuS"
"""How every signature of the emulator begins."""


class Thought(NamedTuple):
    """What stands in the signature of a thinking block."""

    model: str
    organization: str
    chain: str
    """Digest of everything before the block, thinking left out."""
    before: str
    """The thinking block before it, "" where there was none."""
    nth: int
    """How many thinking blocks of the same reply came before it."""
    hidden: Json | None
    """The block itself, where the client is not shown its text."""
    id: str = ""


class Compacted(NamedTuple):
    """What stands in the signature of a compaction."""

    chains: tuple[str, ...]
    """Digests of the conversation up to where it was summarised; more than one after a compaction of a compaction."""
    beginning: str
    """Digest of tools and system."""
    last_role: str
    """Who spoke last of what was summarised."""
    answers: int
    """How many assistant messages were summarised."""


def signed_thought(block: Block, thought: Thought, shows_text: bool) -> Block:
    """The thinking block as the client receives it."""
    hidden = None if shows_text and block["type"] == "thinking" and block["thinking"] else _without_nothing(block)
    record = thought._replace(hidden=hidden, id="")
    if block["type"] == "redacted_thinking":
        return block | {"data": _signature(record._asdict(), "")}
    said = block["thinking"] if hidden is None else ""
    return block | {"thinking": said, "signature": _signature(record._asdict(), said)}


def thought_of(block: Block) -> Thought | None:
    """What a thinking block's signature says; None where it is not the emulator's."""
    record = _read(_sealed(block))
    if record is None or not record.keys() >= set(Thought._fields):
        return None
    return Thought(**{name: record[name] for name in Thought._fields})._replace(id=id_of(block))


def id_of(block: Block) -> str:
    """What tells a signed thinking block from others."""
    return _short(_sealed(block))


def is_intact(block: Block) -> bool:
    """Whether a thinking block has the text that its signature was made for."""
    return block["type"] == "redacted_thinking" or _fits(str(block["signature"]), block["thinking"])


def signed_compaction(text: str | None, tool_changes: list[Json], record: Compacted) -> Block:
    """The compaction block that answers a compaction request; empty where no text came of it."""
    if text is None:
        return {"type": "compaction", "content": None}
    signature = _signature(record._asdict() | {"tools": _short(canonical(tool_changes))}, text)
    return {"type": "compaction", "content": text, "signature": signature, "tool_changes": tool_changes}


def passing_compaction(text: str | None, record: Compacted) -> Block:
    """The compaction block that opens a reply."""
    return {"type": "compaction", "content": text, "encrypted_content": _signature(record._asdict(), text or "")}


def compaction_of(block: Block) -> Compacted | None:
    """What a compaction's signature says; None where it is not the emulator's."""
    record = _read(str(block.get("signature") or block.get("encrypted_content") or ""))
    if record is None or not record.keys() >= set(Compacted._fields):
        return None
    fields = {name: record[name] for name in Compacted._fields}
    return Compacted(**fields | {"chains": tuple(record["chains"])})


def has_its_text(block: Block) -> bool:
    """Whether a compaction has the text that it was signed with."""
    return _fits(str(block["signature"]), str(block["content"]))


def has_its_tools(block: Block) -> bool:
    """Whether a compaction has the tool changes that it was signed with."""
    record = _read(str(block["signature"])) or {}
    return record.get("tools") == _short(canonical(block.get("tool_changes")))


def _sealed(block: Block) -> str:
    return str(block.get("data" if block["type"] == "redacted_thinking" else "signature") or "")


def _without_nothing(block: Block) -> Block:
    return {k: v for k, v in block.items() if v is not None}


def _signature(record: Json, text: str) -> str:
    told = record | {"text": _short(text)}
    return _FIRST + base64.b64encode(compact(told | {"seal": _short(told)})).decode()


@lru_cache(maxsize=1024)
def _read(sealed: str) -> Json | None:
    """What a signature says. A history is sent again and again, and looked at more than once each time."""
    if not sealed.startswith(_FIRST):
        return None
    try:
        record = json.loads(base64.b64decode(sealed.removeprefix(_FIRST), validate=True))
    except (binascii.Error, ValueError):
        return None
    seal = record.pop("seal", None) if isinstance(record, dict) else None
    return record if seal is not None and seal == _short(record) else None


def _fits(sealed: str, text: str) -> bool:
    record = _read(sealed)
    return record is not None and record["text"] == _short(text)


def _short(value: Any) -> str:
    return hashlib.blake2b(compact(value), digest_size=9).hexdigest()
