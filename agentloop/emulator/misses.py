"""Why a request read less than an earlier one had left for it in the cache, and where the two differ first."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from agentloop.core.cache import Account, Assumed, Entry, Part, Prompt, expired, live
from agentloop.core.parts import Levels, settings_of, speed_of
from agentloop.types.base import Json
from agentloop.types.usage import ModelCard

Reason = Literal[
    "nothing_before",
    "nothing_written",
    "no_breakpoint",
    "below_minimum",
    "model_changed",
    "workspace_changed",
    "speed_changed",
    "tools_changed",
    "system_changed",
    "messages_changed",
    "settings_changed",
    "expired",
    "not_ready",
    "out_of_reach",
]

REMEMBERED = 64
"""Requests that a miss is compared with."""
REMEMBERED_BYTES = 16_000_000
"""What is kept of them in all."""

NOBODY: Mapping[bytes, Entry] = {}

_WIDTH = 16
"""Bytes of a part's digest."""


class Home(NamedTuple):
    """Who never shares a cache with others."""

    model: str
    workspace: str
    speed: str


class Trace(NamedTuple):
    """What is kept of a request, so that later ones can be held against it."""

    request_id: str
    home: Home
    keys: bytes
    """The digests of its parts, one behind the other."""
    bare: bytes
    """The same without its settings."""
    widths: tuple[int, int]
    """How many parts are tools, and how many are tools or system."""
    settings: Levels
    cached: int = 0
    """How many parts it left in the cache."""
    cached_tokens: int = 0


class Miss(NamedTuple):
    """What a request did not read, though an earlier one was like it."""

    reason: Reason
    tokens: int = 0
    """Tokens that the earlier one had in the cache and this one did not read."""
    compared_with: str | None = None
    """The earlier request, by its id: of those that are remembered, the one that has most in common with this one."""
    first_difference: str | None = None
    """The first block that differs, such as `messages.3.content.0`."""
    detail: str = ""


def trace(body: Json, card: ModelCard, parts: Sequence[Part], request_id: str, assumed: Assumed) -> Trace:
    """What is kept of a request."""
    tools = sum(p.path.startswith("tools.") for p in parts)
    return Trace(
        request_id,
        Home(card.id, str(body.get("workspace_id") or ""), speed_of(body, card)),
        b"".join(p.key for p in parts),
        b"".join(p.bare for p in parts),
        (tools, tools + sum(p.path.startswith("system.") for p in parts)),
        settings_of(body, card, assumed),
    )


class Misses:
    """The requests of late. Not thread-safe: its caller holds a lock."""

    def __init__(self) -> None:
        self._traces: deque[Trace] = deque(maxlen=REMEMBERED)
        self._bytes = 0

    def look(
        self,
        now: Trace,
        parts: Sequence[Part],
        asked: Prompt,
        account: Account,
        entries: Mapping[bytes, Entry],
        at: float,
        beside: Mapping[bytes, Entry] = NOBODY,
    ) -> Miss | None:
        """What this request missed, by the cache as it was before it; and the request is remembered. `beside`: what it
        could not see, because those who wrote it ran beside it."""
        found = self._miss(now, parts, asked, account, entries, at, beside)
        self._remember(now, asked, account)
        return found

    def _remember(self, now: Trace, asked: Prompt, account: Account) -> None:
        marked = max((m.part for m in asked.marks), default=-1)
        last = marked if account.written_5m or account.written_1h else account.hit
        if last is not None:
            now = now._replace(cached=last + 1, cached_tokens=asked.ends[last])
        if len(self._traces) == REMEMBERED:
            self._forget()
        self._traces.append(now)
        self._bytes += len(now.keys) + len(now.bare)
        while self._bytes > REMEMBERED_BYTES:
            self._forget()

    def _forget(self) -> None:
        gone = self._traces.popleft()
        self._bytes -= len(gone.keys) + len(gone.bare)

    def _miss(
        self,
        now: Trace,
        parts: Sequence[Part],
        asked: Prompt,
        account: Account,
        entries: Mapping[bytes, Entry],
        at: float,
        beside: Mapping[bytes, Entry],
    ) -> Miss | None:
        before = self._most_alike(now)
        if before is None:
            return Miss("nothing_before")
        lost = before.cached_tokens - account.read
        if lost <= 0 and (before.cached or _reads_all_it_marks(asked, account)):
            return None
        miss = Miss("nothing_written", max(0, lost), before.request_id)
        if not asked.marks:
            return miss._replace(reason="no_breakpoint")
        if asked.ends[asked.marks[-1].part] < asked.minimum:
            return miss._replace(reason="below_minimum", detail=f"{asked.minimum} tokens are the least that is cached")
        if not before.cached:
            return miss
        if (changed := _changed(miss, before, now, parts)) is not None:
            return changed
        key = asked.chain[before.cached - 1]
        if (hidden := beside.get(key)) is not None and not expired(hidden, at):
            return miss._replace(reason="not_ready", detail="it ran beside the item of its batch that wrote it")
        return _gone(miss, entries.get(key), at)

    def _most_alike(self, now: Trace) -> Trace | None:
        """The newest request that this one goes on from; else the one with most in common, the newer of two. One of
        another model, workspace or speed only where there is none of the same."""
        best: Trace | None = None
        at_home, most = False, 0
        for before in reversed(self._traces):
            same = before.home == now.home
            if same and now.keys.startswith(before.keys) and (before.cached or now.keys == before.keys):
                return before
            if at_home and not same:
                continue
            least = (most + 1 if at_home == same else 1) * _WIDTH
            if len(before.keys) >= least and now.keys.startswith(before.keys[:least]):
                best, at_home, most = before, same, _common(before.keys, now.keys)
        return best or self._akin(now)

    def _akin(self, now: Trace) -> Trace | None:
        """The newest request that has any block in common with this one, wherever it stands."""
        blocks = _digests(now.bare)
        return next((t for t in reversed(self._traces) if not blocks.isdisjoint(_digests(t.bare))), None)


def _reads_all_it_marks(asked: Prompt, account: Account) -> bool:
    return account.hit is not None and account.hit == asked.marks[-1].part


def _digests(row: bytes) -> set[bytes]:
    return {row[i : i + _WIDTH] for i in range(0, len(row), _WIDTH)}


def _common(one: bytes, other: bytes) -> int:
    """How many parts two requests have in common from the start on."""
    least, most = 0, min(len(one), len(other)) // _WIDTH
    while least < most:
        middle = (least + most + 1) // 2
        if one[least * _WIDTH : middle * _WIDTH] == other[least * _WIDTH : middle * _WIDTH]:
            least = middle
        else:
            most = middle - 1
    return least


def _changed(miss: Miss, before: Trace, now: Trace, parts: Sequence[Part]) -> Miss | None:
    """Where a request stops being what the one before it was, as far as that one was cached."""
    old, new = before.home, now.home
    if old.model != new.model:
        return miss._replace(reason="model_changed", first_difference="model", detail=f"{old.model}, now {new.model}")
    if old.workspace != new.workspace:
        return miss._replace(reason="workspace_changed", first_difference="workspace_id")
    if old.speed != new.speed:
        return miss._replace(reason="speed_changed", first_difference="speed", detail=f"{old.speed}, now {new.speed}")
    at = _common(before.keys, now.keys)
    if at >= before.cached:
        return None
    if at == len(parts):
        end = f"the request ends behind it, {before.request_id} went on"
        return miss._replace(reason="messages_changed", first_difference=parts[-1].path, detail=end)
    if before.bare[at * _WIDTH : (at + 1) * _WIDTH] == parts[at].bare:
        return miss._replace(
            reason="settings_changed",
            first_difference=parts[at].path,
            detail=", ".join(_differing(before.settings, now.settings)),
        )
    return miss._replace(reason=_level(at, before, now), first_difference=parts[at].path)


def _level(at: int, before: Trace, now: Trace) -> Reason:
    if at < max(before.widths[0], now.widths[0]):
        return "tools_changed"
    return "system_changed" if at < max(before.widths[1], now.widths[1]) else "messages_changed"


def _differing(before: Levels, now: Levels) -> list[str]:
    old, new = before.system | before.messages, now.system | now.messages
    return [name for name in old | new if old.get(name) != new.get(name)]


def _gone(miss: Miss, entry: Entry | None, at: float) -> Miss:
    """Why what is still the same could not be read."""
    if entry is None:
        return miss._replace(reason="expired")
    if live(entry, at):
        return miss._replace(reason="out_of_reach", detail="no breakpoint stands on it or less than 20 positions behind it")
    if expired(entry, at):
        return miss._replace(reason="expired", detail=f"used {at - entry.used_at:g} s before, kept for {entry.ttl}")
    return miss._replace(reason="not_ready", detail=f"its response begins in {entry.ready_at - at:g} s")
