"""Why a request could not read all of what the one before it left in the cache.

https://platform.claude.com/docs/en/build-with-claude/cache-diagnostics
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, NamedTuple

from agentloop.core.cache import DOCUMENTED, Assumed, Part, Prompt
from agentloop.core.parts import settings_of, speed_of
from agentloop.types.base import Json, compact
from agentloop.types.usage import ModelCard

Reason = Literal["model_changed", "tools_changed", "system_changed", "messages_changed", "unavailable"]

_NEAREST_FIRST: tuple[Reason | None, ...] = (
    None,
    "unavailable",
    "messages_changed",
    "system_changed",
    "tools_changed",
    "model_changed",
)
_PENDING: Json = {"cache_miss_reason": None}
_SAME_ID = 8
"""Sessions played by one script share message ids: so many fingerprints are kept for an id."""


class Fingerprint(NamedTuple):
    """What is remembered of a request, so that the next one can be held against it."""

    model: str
    tools: bytes
    system: bytes
    settings: bytes
    messages: tuple[int, bytes]
    """How many parts the messages have, and the digest of all of them."""
    cached: int
    """Tokens up to the last breakpoint."""
    ready_at: float
    """When the response began: until then there is nothing to compare with."""


class Asked(NamedTuple):
    """A request with the digests of every length of its messages."""

    fingerprint: Fingerprint
    chain: tuple[bytes, ...]


def asked(
    body: Json, parts: Sequence[Part], prompt: Prompt, card: ModelCard, ready_at: float, assumed: Assumed = DOCUMENTED
) -> Asked:
    """A request, ready to be compared."""
    by_level = {level: [p.bare for p in parts if p.path.startswith(f"{level}.")] for level in ("tools", "system", "messages")}
    chain = _chain(by_level["messages"])
    cached = max((prompt.ends[m.part] for m in prompt.marks), default=0)
    fingerprint = Fingerprint(
        model=f"{card.id} {speed_of(body, card)}",
        tools=_digest(by_level["tools"]),
        system=_digest(by_level["system"]),
        settings=compact([*settings_of(body, card, assumed), body.get("context_management")]),
        messages=(len(chain), chain[-1] if chain else b""),
        cached=cached if cached >= prompt.minimum else 0,
        ready_at=ready_at,
    )
    return Asked(fingerprint, chain)


def _chain(keys: Sequence[bytes]) -> tuple[bytes, ...]:
    digest, chain = b"", []
    for key in keys:
        digest = _digest([digest, key])
        chain.append(digest)
    return tuple(chain)


def _digest(keys: Sequence[bytes]) -> bytes:
    return hashlib.blake2b(b"".join(keys), digest_size=16).digest()


class Fingerprints:
    """The requests of the last replies. Not thread-safe: its caller holds a lock."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._by_id: OrderedDict[str, tuple[Fingerprint, ...]] = OrderedDict()

    def remember(self, message_id: str, fingerprint: Fingerprint) -> None:
        """Keep the request of a reply; the oldest are forgotten."""
        kept = [f for f in self._by_id.pop(message_id, ()) if f._replace(ready_at=fingerprint.ready_at) != fingerprint]
        self._by_id[message_id] = (*kept, fingerprint)[-_SAME_ID:]
        if len(self._by_id) > self._at_most:
            self._by_id.popitem(last=False)

    def diagnosis(self, previous: str | None, now: Asked, read: int, at: float) -> Json | None:
        """The response's `diagnostics` for a request that names the message before it, and read so many tokens."""
        if previous is None:
            return None
        if previous not in self._by_id:
            return {"cache_miss_reason": {"type": "previous_message_not_found"}}
        if all(before.ready_at > at for before in self._by_id[previous]):
            return _PENDING
        compared = [(_reason(before, now), before.cached) for before in self._by_id[previous]]
        reason, cached = min(compared, key=lambda c: _NEAREST_FIRST.index(c[0]))
        if reason is None:
            return None
        missed = {} if reason == "unavailable" else {"cache_missed_input_tokens": max(0, cached - read)}
        return {"cache_miss_reason": {"type": reason, **missed}}


def _reason(before: Fingerprint, now: Asked) -> Reason | None:
    """The first level, in the order of the prefix, in which a request does not extend the one before it."""
    after = now.fingerprint
    if before.model != after.model:
        return "model_changed"
    if before.tools != after.tools:
        return "tools_changed"
    if before.system != after.system:
        return "system_changed"
    length, digest = before.messages
    if length > len(now.chain) or (length and now.chain[length - 1] != digest):
        return "messages_changed"
    return None if before.settings == after.settings else "unavailable"
