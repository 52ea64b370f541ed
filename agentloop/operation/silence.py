"""The dead man's switch: a schedule without a success when there should have been one, a process without a heartbeat.

What is dead does not say so. So somebody else has to look: `agentloop notify check` from the machine's own cron, and every
`cron serve` and `worker` that is alive, for all others.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from agentloop.operation.health import Stale
from agentloop.operation.notices import Notice


class Expected(NamedTuple):
    """A schedule, and what it should have brought by now."""

    name: str
    due: datetime | None
    """The newest time at which it should have started, and whose run should be over by now; None: there was none yet."""
    succeeded_at: datetime | None
    """When a run of it last ended well; None: none ever did."""
    paused: str = ""
    """Why it is paused: then nothing is expected of it."""
    failures: int = 0
    """In a row."""


def silent(expected: Iterable[Expected], now: datetime) -> Iterator[Notice]:
    """A notice for each schedule whose last success is older than it should be, or that was paused because it failed again
    and again. One for each time that this comes about."""
    for one in expected:
        last = f"{one.succeeded_at:%Y-%m-%d %H:%M} UTC" if one.succeeded_at is not None else "never"
        if one.paused and one.failures:
            yield _notice(one, f"paused, last success {last}", f"schedule '{one.name}' is paused: {one.paused}", now)
        elif not one.paused and one.due is not None and (one.succeeded_at is None or one.succeeded_at < one.due):
            due = f"{one.due:%Y-%m-%d %H:%M} UTC"
            said = f"schedule '{one.name}' was due at {due}; its last success: {last}"
            yield _notice(one, f"silent since {last}", said, now)


def _notice(one: Expected, outcome: str, summary: str, now: datetime) -> Notice:
    history = f"'agentloop cron history {one.name}' says what came of each due time"
    return Notice(
        kind="silence",
        subject=f"schedule {one.name}",
        outcome=outcome,
        summary=summary,
        next_step=f"{history}; 'agentloop cron resume {one.name}' goes on." if one.paused else f"{history}.",
        at=now,
        schedule=one.name,
    )


def dead(stale: Iterable[Stale], now: datetime) -> Iterator[Notice]:
    """A notice for each process whose heartbeat stopped. One for each time it did."""
    for one in stale:
        since, quiet = f"{one.last_at:%Y-%m-%d %H:%M:%S} UTC", timedelta(seconds=round(one.age_s))
        yield Notice(
            kind="silence",
            subject=f"process {one.name}",
            outcome=f"silent since {since}",
            summary=f"process '{one.name}' has said nothing for {quiet}; expected every {one.every_s:g} s",
            next_step="Look whether it runs ('systemctl status', its log); start it again.",
            at=now,
        )
