"""The machine's clock."""

import time
from datetime import UTC, datetime


class SystemClock:
    """What time it is here."""

    def now(self) -> datetime:
        """The wall clock."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some moment, never running backwards."""
        return time.monotonic()
