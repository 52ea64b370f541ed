"""What an agent's earlier sessions tell of the gaps between its requests."""

from agentloop.types.base import Frozen
from agentloop.types.usage import Ttl


class PastSession(Frozen):
    """How many gaps there were between a past session's requests, and how many of them an entry of the cache outlives."""

    gaps: int
    within_5m: int
    within_1h: int

    def within(self, ttl: Ttl) -> int:
        """Those that an entry of this life outlives."""
        return self.within_5m if ttl == "5m" else self.within_1h


class Prior(Frozen):
    """What was known of an agent's sessions when one more of them started."""

    sessions: tuple[PastSession, ...] = ()
    """Its last ones, newest first."""
    starts_s: tuple[float, ...] = ()
    """Seconds from the last request of a session with this very prefix to the start of the next, newest first: the first is the
    one before this start."""
    next_start_s: float | None = None
    """Seconds to the next start that the agent's schedule announces, where that is within the hour."""
