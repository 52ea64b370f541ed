"""What a wave has come to, as if it were one session: from the results of its sessions, or from their logs."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from agentloop.core.crashes import progress
from agentloop.errors import BatchStopped, SessionHeld
from agentloop.ports import SessionStore
from agentloop.result import Result
from agentloop.types.events import Outcome, SessionEnded
from agentloop.types.usage import Usage

GOES_ON: tuple[Outcome, ...] = ("interrupted", "provider_unavailable", "sleeping", "waiting_for_approval")
"""Outcomes of a session for which its wave is not over, what decides first first."""
WORST_FIRST: tuple[Outcome, ...] = (
    *GOES_ON,
    "unauthorized",
    "spend_limit",
    "failed",
    "prefix_unstable",
    "refused",
    "truncated",
    "budget_exceeded",
    "max_turns",
    "time_limit",
    "completed",
)
"""A wave comes to what the first of these is that one of its sessions came to."""


class Whole(NamedTuple):
    """Many outcomes as one."""

    outcome: Outcome
    detail: str
    """How often there is which, where they are not all the same."""
    until: datetime | None = None
    """When the first that sleeps is to go on."""


def whole(outcomes: Mapping[Outcome, int], until: datetime | None = None) -> Whole:
    """The worst of these. There has to be one."""
    found = [o for o in WORST_FIRST if outcomes.get(o)]
    detail = ", ".join(f"{outcomes[o]:,} {o}" for o in reversed(found)) if found != ["completed"] else ""
    return Whole(found[0], detail, until if found[0] == "sleeping" else None)


def result(wave_id: str, results: Mapping[str, Result], failed: Mapping[str, Exception], log: str) -> Result:
    """What came of a run of it. A session that somebody else holds, or for which the API does not answer, is asked for again
    later; another that could not run has failed."""
    outcomes = Counter(r.outcome for r in results.values())
    for error in failed.values():
        outcomes[_without_result(error)] += 1
    found = whole(outcomes, min((r.until for r in results.values() if r.until is not None), default=None))
    first = next((f"; {session_id}: {error}" for session_id, error in failed.items()), "")
    return Result(
        session_id=wave_id,
        outcome=found.outcome,
        text="",
        cost=sum((r.cost for r in results.values()), Decimal(0)),
        usage=sum((r.usage for r in results.values()), Usage()),
        turns=sum(r.turns for r in results.values()),
        detail=found.detail + first,
        log=log,
        until=found.until,
    )


def _without_result(error: Exception) -> Outcome:
    if isinstance(error, SessionHeld):
        return "interrupted"
    return "provider_unavailable" if isinstance(error, BatchStopped) else "failed"


class Standing(NamedTuple):
    """How far a wave has come, as its sessions' logs say."""

    progress: int
    """Steps behind all of them, see `agentloop.core.crashes`."""
    whole: Whole | None
    """Once every one of them has an outcome."""


def standing(sessions: SessionStore, wave_id: str, expected: Callable[[], int | None]) -> Standing:
    """Look at the sessions that there are; `expected`: how many there will be, where anybody knows."""
    steps, outcomes, untils = 0, Counter[Outcome](), []
    there = list(_members(sessions, wave_id))
    for session_id in there:
        events = sessions.events(session_id)
        steps += progress(events)
        if isinstance(last := events[-1].body, SessionEnded):
            outcomes[last.outcome] += 1
            untils += [last.until] if last.until is not None else []
    is_over = bool(there) and outcomes.total() == len(there) == expected()
    return Standing(steps, whole(outcomes, min(untils, default=None)) if is_over else None)


def _members(sessions: SessionStore, wave_id: str) -> Iterator[str]:
    named = re.compile(re.escape(wave_id) + r"-\d{5,}")
    return (session_id for session_id in sessions.ids() if named.fullmatch(session_id))
