"""What the cache holds, from request to request. What a request reads and writes of it says `core.cache`."""

from collections.abc import Mapping

from agentloop.core import cache
from agentloop.core.cache import Account, Entry, Prompt
from agentloop.emulator.siblings import Siblings

SWEEP_EVERY = 256
"""Requests between two sweeps of what has expired."""


class CacheStore:
    """The entries of one emulator. Not thread-safe: its caller holds a lock."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._writers: dict[bytes, str] = {}
        self._requests = 0

    def __len__(self) -> int:
        return len(self._entries)

    def seen(self, at: float, siblings: Siblings | None = None) -> Mapping[bytes, Entry]:
        """The cache as a request that starts at `at` finds it."""
        return self._entries if siblings is None else siblings.seen(self._entries, at)

    def keep(self, account: Account, at: float, siblings: Siblings | None = None, request_id: str = "") -> None:
        """Keep what a request wrote and renewed."""
        changes = account.changes
        for key, entry in changes.items():
            before = self._entries.get(key)
            if before is None or not cache.live(before, entry.used_at):
                self._writers[key] = request_id
        self._entries.update(changes if siblings is None else siblings.left(self._entries, changes))
        self._requests += 1
        if self._requests % SWEEP_EVERY == 0:
            self._sweep(at)

    def writer(self, asked: Prompt, part: int | None) -> str | None:
        """The id of the request that wrote the entry behind a part."""
        return None if part is None else self._writers.get(asked.chain[part])

    def _sweep(self, at: float) -> None:
        self._entries = {k: e for k, e in self._entries.items() if not cache.expired(e, at)}
        self._writers = {k: w for k, w in self._writers.items() if k in self._entries}
