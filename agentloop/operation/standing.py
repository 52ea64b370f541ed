"""What a resident process says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Standing:
    """How a resident process says it stands, at the moment it is asked."""

    heartbeat_at: datetime
    """When the loop that does the work last came round, UTC."""
    every_s: float = 20.0
    """Seconds after which it comes round again."""
    running: int = 0
    """Sessions under way: in this process, or in all that share its queue."""
    queued: Mapping[str, int] = field(default_factory=dict)
    """Sessions that wait, by queue."""
    oldest_queued_at: datetime | None = None
    """When the one that waits longest was put there."""
    queue_limit_s: float = 3_600.0
    """Seconds that a session may wait before that is a fault."""
