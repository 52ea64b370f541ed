"""When what happens to a batch: its items start in waves, it may be canceled, it expires, its results go."""

import math
from datetime import UTC, datetime
from typing import overload

from agentloop.emulator.settings import BatchSettings


class Timeline:
    """The times of one batch, in seconds."""

    def __init__(self, created_at: float, items: int, settings: BatchSettings) -> None:
        self._settings = settings
        self.created_at = created_at
        self.expires_at = created_at + settings.expires_s
        self.archived_at = created_at + settings.kept_s
        self.canceled_at: float | None = None
        self.running = items
        """Items that start, if the time suffices."""

    def starts(self, item: int) -> float:
        """When an item starts."""
        return self.created_at + self._settings.start_s + item // self._settings.at_once * self._settings.item_s

    def done(self, item: int) -> float:
        """When an item is done."""
        return self.starts(item) + self._settings.item_s

    def next_wave(self, item: int) -> int:
        """The first item that starts after the wave of this one."""
        return min(self.running, (item // self._settings.at_once + 1) * self._settings.at_once)

    def cancel(self, at: float, started: int) -> None:
        """Let only those items be done that have started."""
        self.canceled_at = at
        self.running = started

    def ended_at(self, waits_for_expiry: bool) -> float:
        """When the last item is done; where some never are, when the batch expires."""
        done = self.done(self.running - 1) if self.running else self.created_at
        if self.canceled_at is not None:
            return min(self.expires_at, max(done, self.canceled_at + self._settings.cancel_s))
        return self.expires_at if waits_for_expiry else min(self.expires_at, done)


@overload
def written(at: float) -> str: ...
@overload
def written(at: None) -> None: ...
def written(at: float | None) -> str | None:
    """A time as the API writes it, to the second; a moment between two seconds counts as the later."""
    return None if at is None else datetime.fromtimestamp(math.ceil(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
