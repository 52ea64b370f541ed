"""A log and blobs that live as long as the process: for tests, dry runs and `whatif`."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from agentloop.types.events import Body, Event


class MemoryLog:
    """A `Log` in memory."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        """Start with these events."""
        self._events = list(events)

    def events(self) -> Iterator[Event]:
        """Every event, oldest first."""
        return iter(tuple(self._events))

    def news(self) -> Callable[[], Iterable[Event]]:
        """A function that gives the events which its last call did not give yet."""
        given = 0

        def unseen() -> Iterable[Event]:
            nonlocal given
            new = self._events[given:]
            given += len(new)
            return new

        return unseen

    def append(self, body: Body, at: datetime) -> Event:
        """Keep one more event."""
        event = Event(seq=len(self._events), at=at, body=body)
        self._events.append(event)
        return event


class MemoryBlobs:
    """`Blobs` in memory."""

    def __init__(self) -> None:
        """Nothing is kept yet."""
        self._kept: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        """Keep these bytes; returns their digest."""
        digest = hashlib.sha256(data).hexdigest()
        self._kept[digest] = data
        return digest

    def find(self, handle: str) -> bytes | None:
        """The bytes whose digest starts with this handle."""
        return next((data for digest, data in self._kept.items() if len(handle) >= 8 and digest.startswith(handle)), None)

    def digests(self) -> Iterator[str]:
        """The digests of all that is kept, sorted."""
        return iter(sorted(self._kept))
