"""Who holds a session: what the holder writes down about itself, and how the next one is told."""

import os
import socket
from datetime import UTC, datetime
from typing import Any


def me() -> dict[str, object]:
    """This process, and since when it holds what it has just taken."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(timespec="seconds")}


def told(holder: Any) -> str:
    """A holder, in words; whatever somebody else wrote there, it is no error."""
    try:
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (KeyError, TypeError):
        return "another process"
