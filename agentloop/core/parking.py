"""Waits that are known to be long: the session ends as `sleeping` and no process waits with it."""

from datetime import UTC, datetime
from typing import Any

from agentloop.core.state import State

SLEEP = "sleep_until"
"""The tool by which the model waits for a time."""


def asleep(state: State, now: datetime) -> datetime | None:
    """When the first open call wants to be answered, where it wants to sleep and that is still to come."""
    call = state.open_calls[0] if state.open_calls else None
    if call is None or call.name != SLEEP or call.id in state.started or all(t.name != SLEEP for t in state.tools):
        return None
    until = wake_time(call.input.get("time") if isinstance(call.input, dict) else None)
    return until if until is not None and until > now else None


def wake_time(value: Any) -> datetime | None:
    """The time that a call names, in UTC; None where it is none: the tool says so when it runs."""
    try:
        time = datetime.fromisoformat(value)
        return time.astimezone(UTC) if time.tzinfo is not None else None
    except (TypeError, ValueError, OverflowError):
        return None
