"""What the items of one batch see of each other's cache entries: all of it, or nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agentloop.core.cache import Entry, live
from agentloop.types.usage import TTL_SECONDS


@dataclass
class Siblings:
    """The entries that the items of a batch have written so far, and whether the next item may read them.

    An item that may reads them as if the items before it were done; one that may not runs beside them, and pays for
    its own write. Entries from outside the batch are the same to both.
    """

    may_read: bool = False
    finds_any: bool = True
    """Whether the next item finds anything in the cache at all: on a machine that holds none of it, it does not."""
    own: dict[bytes, Entry] = field(default_factory=dict)
    """What the batch's items wrote, as they left it."""

    def seen(self, entries: Mapping[bytes, Entry], at: float) -> Mapping[bytes, Entry]:
        """The cache as the next item, which starts at `at`, finds it."""
        return _Seen(entries, self, at) if self.finds_any else {}

    def left(self, entries: Mapping[bytes, Entry], changes: Mapping[bytes, Entry]) -> dict[bytes, Entry]:
        """What the cache holds after an item's changes."""
        kept = {key: _as_ready(self.own.get(key), entry) for key, entry in changes.items()}
        if not self.finds_any:
            kept = {key: _beside(entries.get(key), entry) for key, entry in kept.items()}
        self.own.update({k: e for k, e in kept.items() if k in self.own or not _stood(entries.get(k), e.used_at)})
        return kept


def _as_ready(before: Entry | None, entry: Entry) -> Entry:
    """The entry, readable from outside since the item that wrote it first was answered."""
    if before is None or entry.used_at - before.used_at > TTL_SECONDS[before.ttl]:
        return entry
    return entry._replace(ready_at=before.ready_at)


def _beside(before: Entry | None, entry: Entry) -> Entry:
    """The entry, where an item wrote what it did not find: what it did not find is there for the others."""
    if before is None or not live(before, entry.used_at) or before.ttl != entry.ttl:
        return entry
    return entry._replace(ready_at=min(before.ready_at, entry.ready_at))


def _stood(before: Entry | None, at: float) -> bool:
    return before is not None and live(before, at)


class _Seen(Mapping[bytes, Entry]):
    def __init__(self, entries: Mapping[bytes, Entry], siblings: Siblings, at: float) -> None:
        self._entries, self._siblings, self._at = entries, siblings, at

    def __getitem__(self, key: bytes) -> Entry:
        entry = self._entries[key]
        if key not in self._siblings.own:
            return entry
        if not self._siblings.may_read:
            raise KeyError(key)
        return entry._replace(ready_at=min(entry.ready_at, self._at))

    def __iter__(self) -> Iterator[bytes]:
        return (key for key in self._entries if self._siblings.may_read or key not in self._siblings.own)

    def __len__(self) -> int:
        return sum(1 for _ in self)
