"""What each request reads and writes of the cache, and what it missed: the emulator's account of its clients."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agentloop.core import cache
from agentloop.core.cache import Account, Entry, Part, Prompt
from agentloop.emulator import misses
from agentloop.emulator.cache_store import CacheStore
from agentloop.emulator.misses import Miss, Misses
from agentloop.emulator.settings import EmulatorSettings
from agentloop.emulator.siblings import Siblings
from agentloop.emulator.strict import Unverified
from agentloop.types.base import Json
from agentloop.types.usage import ModelCard

_MINIMUM_UNSURE = frozenset({"claude-fable-5-2", "claude-mythos-5-2", "claude-mythos-preview", "claude-sonnet-4-6"})


class Asked(NamedTuple):
    """A request as the model sees it."""

    body: Json
    card: ModelCard
    parts: Sequence[Part]
    prompt: Prompt
    at: float
    ready_at: float
    request_id: str
    siblings: Siblings | None = None
    paths: Mapping[str, str] = {}
    """From where a block stands in `body` to where its sender put it; what is not named stands where it was put."""


class Reading(NamedTuple):
    """What a request read and wrote."""

    account: Account
    up_to: str | None = None
    """The last block that was read from the cache, such as `messages.3.content.0`."""
    written_by: str | None = None
    """The id of the request that wrote what was read."""
    miss: Miss | None = None


class Ledger:
    """The cache of one emulator, and what its requests made of it. Not thread-safe: its caller holds a lock."""

    def __init__(self, settings: EmulatorSettings, unverified: Unverified) -> None:
        self._assumed, self._strict, self._unverified = settings.cache, settings.strict, unverified
        self._store = CacheStore()
        self._misses = Misses()

    def __len__(self) -> int:
        return len(self._store)

    def read(self, asked: Asked) -> Reading:
        """Account for a request, and keep what it writes."""
        entries = self._store.seen(asked.at, asked.siblings)
        account = cache.account(asked.prompt, entries, asked.at, asked.ready_at, self._assumed)
        self._note(asked, account, entries)
        traced = misses.trace(asked.body, asked.card, asked.parts, asked.request_id, self._assumed)
        beside = asked.siblings.own if asked.siblings is not None and not asked.siblings.may_read else {}
        miss = self._misses.look(traced, asked.parts, asked.prompt, account, entries, asked.at, beside)
        if miss is not None and miss.first_difference is not None:
            miss = miss._replace(first_difference=asked.paths.get(miss.first_difference, miss.first_difference))
        reading = Reading(account, self._path(asked, account.hit), self._store.writer(asked.prompt, account.hit), miss)
        self._store.keep(account, asked.at, asked.siblings, asked.request_id)
        return reading

    def _path(self, asked: Asked, part: int | None) -> str | None:
        if part is None:
            return None
        path = asked.parts[part].path
        return asked.paths.get(path, path)

    def _note(self, asked: Asked, account: Account, entries: Mapping[bytes, Entry]) -> None:
        """Write down which open questions about the cache this request depends on."""
        if not self._strict:
            return
        if asked.card.id in _MINIMUM_UNSURE and asked.prompt.marks:
            self._unverified.note(30, f"{asked.card.id} caches from {asked.prompt.minimum} tokens on")
        config = asked.body.get("output_config") or {}
        if config.get("format") or config.get("task_budget"):
            self._unverified.note(26, f"a change of output format or task budget costs the {self._assumed.format_costs} level")
        if asked.body.get("tools") and not asked.card.tool_system_tokens:
            self._unverified.note(42, f"nothing is added to a prompt of {asked.card.id} because there are tools")
        if asked.body.get("speed"):
            shared = "share" if self._assumed.speeds_share_tools else "do not share"
            self._unverified.note(37, f"fast and standard requests {shared} the cache of the tools")
        if account.hit is None:
            return
        before = (entries.get(key) for key in asked.prompt.chain[: account.hit])
        if any(e is not None and cache.live(e, asked.at) for e in before):
            self._unverified.note(31, f"a read renews: {self._assumed.renews}")
        hit = entries[asked.prompt.chain[account.hit]]
        if hit.ttl == "1h" and cache.Mark(account.hit, "5m") in asked.prompt.marks:
            self._unverified.note(33, f"a 5m breakpoint on an entry of an hour {self._assumed.remark} its lifetime")
        if hit.ttl == "5m" and cache.Mark(account.hit, "1h") in asked.prompt.marks:
            self._unverified.note(33, "a 1h breakpoint on an entry of five minutes keeps its lifetime")
