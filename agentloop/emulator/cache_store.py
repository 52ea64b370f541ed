"""What the cache holds, from request to request. What a request reads and writes of it says `core.cache`."""

from agentloop.core import cache
from agentloop.core.cache import Account, Entry, Prompt
from agentloop.types.usage import TTL_SECONDS

SWEEP_EVERY = 256
"""Requests between two sweeps of what has expired."""


class CacheStore:
    """The entries of one emulator. Not thread-safe: its caller holds a lock."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._requests = 0

    def __len__(self) -> int:
        return len(self._entries)

    def account(self, asked: Prompt, at: float, ready_at: float) -> Account:
        """Account for a request that starts at `at`, and keep what it writes."""
        result = cache.account(asked, self._entries, at, ready_at)
        self._entries.update(result.changes)
        self._requests += 1
        if self._requests % SWEEP_EVERY == 0:
            self._sweep(at)
        return result

    def _sweep(self, at: float) -> None:
        self._entries = {k: e for k, e in self._entries.items() if at - e.used_at <= TTL_SECONDS[e.ttl]}
