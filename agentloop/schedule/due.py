"""What is to happen with a schedule now: from its settings, what was decided before, and the time. No clock, no store.

Each due time is decided once: started, queued, or skipped with a reason. The times that nobody was there for come together;
then only the newest may be on time, and `missed` says what becomes of the others.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from agentloop.schedule.calendar import due_times
from agentloop.schedule.spec import Schedule

Verdict = Literal["start", "queue", "skip"]
Status = Literal["waiting", "claimed", "running", "submitted", "parked", "done", "skipped", "held"]
"""Of a due time. `waiting`: queued behind another run; `claimed`: to be started; `submitted`: given to the queue; `parked`:
its session waits for a person; `held`: it ended its process again and again."""
ACTIVE = frozenset({"claimed", "running", "submitted"})
MOST_RECORDED = 1_000
"""Due times that are recorded one by one when a schedule was not looked at for long."""
_LONGEST = timedelta(days=400)


class Decision(NamedTuple):
    """What becomes of one due time."""

    due: datetime
    verdict: Verdict
    reason: str = ""
    """Why it does not simply start."""


class History(NamedTuple):
    """What is known of a schedule."""

    since: datetime
    """When it came into force as it is: earlier times are none of its own."""
    seen_until: datetime
    """Up to when its due times were decided."""
    decided: Mapping[datetime, Status]
    """The due times of the last `max_age_s`, and all that are not over."""
    paused: str = ""
    """Why it is paused; empty where it is not."""


def window(schedule: Schedule, since: datetime, seen_until: datetime, now: datetime) -> datetime:
    """From when on due times are looked at. What is younger than `max_age_s` is looked at again each time, as a clock that
    was wrong may have said that it was over."""
    delay = timedelta(seconds=schedule.jitter_s)  # what was seen to fall due may have been decided so much later
    young = now - timedelta(seconds=schedule.max_age_s)
    return max(since, min(seen_until, young) - delay, now - _LONGEST)


def decide(schedule: Schedule, history: History, now: datetime) -> tuple[Decision, ...]:
    """What becomes of each due time up to now that is not decided yet, and of those that wait."""
    pending = _pending(schedule, history, now)
    waiting = sorted(due for due, status in history.decided.items() if status == "waiting")
    if history.paused:
        return tuple(Decision(due, "skip", f"paused: {history.paused}") for due in pending)
    old = frozenset(due for due in (*pending, *waiting) if _is_old(schedule, due, now))
    expired = [Decision(d, "skip", f"waited for more than {schedule.max_age_s} s") for d in waiting if d in old]
    current = _on_time(schedule, pending, now)
    missed = [due for due in pending if due != current]
    chosen = _made_up(schedule, [due for due in missed if due not in old], current)
    skipped = [Decision(d, "skip", _why_not(schedule, d in old, chosen, current)) for d in missed if d not in chosen]
    active = sum(status in ACTIVE for status in history.decided.values())
    line = [due for due in waiting if due not in old and schedule.start_at(due) <= now]  # a clock may have been put back
    return (*expired, *skipped, *_started(schedule, line, chosen, current, active))


def next_start(schedule: Schedule, now: datetime) -> datetime | None:
    """When the next run starts, if nothing comes between; None where there is none within 50 years."""
    delay = timedelta(seconds=schedule.jitter_s)
    coming = next(due_times(schedule.cron, schedule.zone, now), None)
    if coming is None:
        return None
    near = due_times(schedule.cron, schedule.zone, now - delay, coming + delay)
    return min(start for start in map(schedule.start_at, near) if start > now)


def _pending(schedule: Schedule, history: History, now: datetime) -> list[datetime]:
    start = window(schedule, history.since, history.seen_until, now)
    fallen = (d for d in due_times(schedule.cron, schedule.zone, start, now) if schedule.start_at(d) <= now)
    return list(deque((d for d in fallen if d not in history.decided), maxlen=MOST_RECORDED))


def _on_time(schedule: Schedule, pending: list[datetime], now: datetime) -> datetime | None:
    """The newest, unless it too was noticed too late."""
    if not pending or now - schedule.start_at(pending[-1]) > timedelta(seconds=schedule.late_s):
        return None
    return pending[-1]


def _made_up(schedule: Schedule, missed: list[datetime], current: datetime | None) -> list[datetime]:
    """The missed times that are run after all. Of `once`, a run that is due anyway is the one."""
    if schedule.missed == "once" and current is not None:
        return []
    return missed[len(missed) - min(schedule.made_up, len(missed)) :]


def _is_old(schedule: Schedule, due: datetime, now: datetime) -> bool:
    """Whether it is too late for it: its own delay does not count."""
    return now - schedule.start_at(due) > timedelta(seconds=schedule.max_age_s)


def _why_not(schedule: Schedule, old: bool, chosen: list[datetime], current: datetime | None) -> str:
    if old:
        return f"missed: noticed more than {schedule.max_age_s} s late"
    instead = chosen[-1] if chosen else current if schedule.missed == "once" else None
    made_up = f"; the run of {instead:%Y-%m-%d %H:%M} UTC stands for it" if instead is not None else ""
    return f"missed: nobody was there ({schedule.missed}){made_up}"


def _started(
    schedule: Schedule, waiting: list[datetime], chosen: list[datetime], current: datetime | None, active: int
) -> Iterator[Decision]:
    """Those that wait first, then those made up for, then the one that is on time."""
    free = max(0, schedule.side_by_side - active)
    line = [*waiting, *chosen]
    yield from (Decision(due, "start", "" if due in waiting else "made up for a missed time") for due in line[:free])
    yield from (Decision(due, "queue", "made up for a missed time") for due in line[free:] if due not in waiting)
    if current is None:
        return
    if len(line) < free:
        yield Decision(current, "start")
    elif schedule.overlap == "queue" or chosen:
        yield Decision(current, "queue", "waits for the run before it")
    else:
        yield Decision(current, "skip", _overlap(schedule, active))


def _overlap(schedule: Schedule, active: int) -> str:
    if active > 1:
        return f"overlap: {active} runs are still going ({schedule.overlap})"
    return f"overlap: the run before is still going ({schedule.overlap})"
