"""Who holds a session, or another log: the lock, what the holder writes down about itself, and how the next one is told."""

import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentloop.errors import SessionHeld
from agentloop.types.base import compact


def me() -> dict[str, object]:
    """This process, and since when it holds what it has just taken."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(timespec="seconds")}


def told(holder: Any) -> str:
    """A holder, in words; whatever somebody else wrote there, it is no error."""
    try:
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (KeyError, TypeError):
        return "another process"


def taken(path: Path, what: str) -> int:
    """Take the lock in this file, which dies with the process, and say in it who has it: the handle, to be closed. Raises
    SessionHeld, naming `what` is held and by whom; OSError."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, compact(me()), 0)
    except BlockingIOError as e:
        os.close(handle)
        raise SessionHeld(f"{what} is held by {holder(path)}; wait for it, or stop it") from e
    except BaseException:
        os.close(handle)
        raise
    return handle


def holder(path: Path) -> str:
    """Who has the lock in this file, in words."""
    try:
        return told(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return told(None)
