"""What came of a run, as its caller gets it."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from agentloop.core.state import State
from agentloop.types.events import Outcome
from agentloop.types.usage import Usage


@dataclass(frozen=True)
class Result:
    """What came of a run."""

    session_id: str
    outcome: Outcome
    text: str
    """The last reply's text."""
    cost: Decimal
    """USD: recorded usage times prices."""
    usage: Usage
    turns: int
    detail: str
    log: Path | str
    """The session's file, or where in which database."""
    until: datetime | None = None
    """When a sleeping session is to be taken up again."""


def result_of(session_id: str, state: State, log: Path | str) -> Result:
    """What a session came to."""
    return Result(
        session_id=session_id,
        outcome=state.outcome or "failed",
        text=state.text,
        cost=state.spent_usd,
        usage=state.usage,
        turns=state.asked,
        detail=state.detail,
        until=state.sleeps_until,
        log=log,
    )
