"""What has to hold of schedules: looked at after each transaction, in the database itself, and held against a calculation of
its own.

It knows what people did and when, what really ran, and when a schedule falls due by the clock on the wall. Of the program it
asks nothing but what stands in its tables.
"""

import sqlite3
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from agentloop.schedule.spec import Schedule
from tests.simulator.timetable import Form

BY_HAND = "run by hand"
OVER = frozenset({"done", "held", "skipped"})
ACTIVE = frozenset({"claimed", "running", "submitted"})
NEXT = {
    "": {"claimed", "waiting", "skipped"},
    "waiting": {"claimed", "skipped"},
    "claimed": {"running", "skipped"},
    "running": {"running", "claimed", "submitted", "parked", "done", "held"},
    "submitted": {"claimed", "parked", "done", "held"},
    "parked": {"claimed", "done", "held"},
}
"""What one transaction may make of a due time. What is over stays as it is."""
AT_ONCE = frozenset({"spend_limit", "unauthorized"})
SOON = timedelta(seconds=10)
"""Where somebody is there, what falls due is decided within this time."""
Key = tuple[str, datetime]


class Broken(BaseException):
    """Something does not hold. No `except Exception` of the program hides it."""


class Line(NamedTuple):
    """A due time in the database."""

    status: str
    reason: str
    outcome: str | None
    tries: int
    session_id: str
    owner: str | None

    @property
    def told(self) -> str:
        """What is the same each time that a seed is played: its owner's name is not."""
        return f"{self.status} {self.outcome or ''} {self.reason} ({self.session_id}, {self.tries} tries)"


class Known(NamedTuple):
    """A schedule in the database."""

    digest: str
    since: datetime
    paused: str
    failures: int
    removed: bool


class Timetable:
    """The due times of everything that a schedule's name ever stood for."""

    def __init__(self, first: datetime, last: datetime) -> None:
        self._first, self._last = first, last
        self._known: dict[str, tuple[datetime, ...]] = {}

    def enter(self, schedule: Schedule, form: Form) -> None:
        """A schedule, and what it means."""
        if schedule.digest not in self._known:
            self._known[schedule.digest] = form.due_times(self._first, self._last)

    def of(self, digest: str) -> tuple[datetime, ...]:
        """Its due times."""
        return self._known[digest]

    def between(self, digest: str, after: datetime, until: datetime) -> tuple[datetime, ...]:
        """Those of a stretch of time, with its end."""
        known = self._known[digest]
        return known[bisect_right(known, after) : bisect_right(known, until)]

    def next_start(self, schedule: Schedule, now: datetime) -> datetime | None:
        """When the next run starts: a due time that comes later may be delayed for less."""
        delay = timedelta(seconds=schedule.jitter_s)
        known = self._known[schedule.digest]
        coming = known[bisect_right(known, now) : bisect_right(known, now) + 1]
        near = self.between(schedule.digest, now - delay, coming[0] + delay) if coming else ()
        return min((at for due in near if (at := schedule.start_at(due)) > now), default=None)


def require(holds: object, why: str) -> None:
    """Raises Broken."""
    if not holds:
        raise Broken(why)


class Books:
    """The tables as they stood after the last transaction, and what may become of them."""

    def __init__(
        self, connection: sqlite3.Connection, timetable: Timetable, clock_is_right: bool, is_gone: Callable[[str | None], bool]
    ) -> None:
        self._connection, self._timetable = connection, timetable
        self._clock_is_right, self._is_gone = clock_is_right, is_gone
        self._changes = connection.total_changes
        self.lines: dict[Key, Line] = {}
        self.known: dict[str, Known] = {}
        self.limits: dict[str, set[int | None]] = defaultdict(set)
        """After how many failures each schedule is paused; several where that was changed."""
        self.born: dict[str, datetime] = {}
        """When somebody gave each schedule its times."""
        self.looked: dict[str, datetime] = {}
        """Up to when each schedule was decided about since it counts as it does."""
        self.changed: set[str] = set()
        """Schedules whose pause or row of failures a person touches just now."""
        self.decided = 0

    def look(self, now: datetime | None = None) -> dict[Key, Line]:
        """What the last transaction wrote: checked, and taken note of. `now`: a look at all schedules was the cause."""
        if self._connection.total_changes == self._changes:
            return {}
        self._changes = self._connection.total_changes
        lines, known = self._read()
        new = {key: line for key, line in lines.items() if self.lines.get(key) != line}
        require(self.lines.keys() <= lines.keys(), "a due time was forgotten")
        require(len({line.session_id for line in lines.values()}) == len(lines), "two due times share a session")
        for key, line in new.items():
            self._follows(key, self.lines.get(key), line, known[key[0]])
        self._check_schedules(new, known, now)
        self.lines, self.known = lines, known
        self.changed.clear()
        return new

    def _read(self) -> tuple[dict[Key, Line], dict[str, Known]]:
        rows = self._connection.execute(
            "SELECT name, due, status, reason, outcome, tries, session_id, owner FROM agentloop_due_times ORDER BY due, name"
        ).fetchall()
        lines = {(r[0], datetime.fromisoformat(r[1])): Line(*r[2:]) for r in rows}
        rows = self._connection.execute(
            "SELECT name, digest, since, paused, failures, removed FROM agentloop_schedules"
        ).fetchall()
        return lines, {r[0]: Known(r[1], datetime.fromisoformat(r[2]), r[3], r[4], bool(r[5])) for r in rows}

    def _follows(self, key: Key, before: Line | None, after: Line, schedule: Known) -> None:
        was = before.status if before else ""
        require(after.status == was or after.status in NEXT.get(was, ()), f"{_said(key)}: {was} became {after.status}")
        require(was not in OVER, f"{_said(key)} is over ({was}) and was changed: {before} to {after}")
        if after.status in ("skipped", "held"):
            require(after.reason, f"{_said(key)} did not become a run, and no reason says why")
        if before is not None and was == after.status == "running" and before.owner != after.owner:
            require(self._is_gone(before.owner), f"{_said(key)} is taken from a process that lives")
        if after.status == "running" and after.tries == 1:
            self._may_begin(key, after, schedule)

    def _may_begin(self, key: Key, line: Line, schedule: Known) -> None:
        if line.reason == BY_HAND:
            return
        require(not schedule.paused, f"{_said(key)} begins while its schedule is paused")
        require(not schedule.removed, f"{_said(key)} begins after its schedule was removed")
        require(key[1] in self._timetable.of(schedule.digest), f"{_said(key)} begins, of a form that is not in force")

    def _check_schedules(self, new: dict[Key, Line], known: dict[str, Known], now: datetime | None) -> None:
        for name, after in known.items():
            before = self.known.get(name)
            if before is None or before.since != after.since:
                self.looked.pop(name, None)
            over = [line for (of, _), line in new.items() if of == name and line.status in ("done", "held")]
            if before is None or before.digest != after.digest or before.removed > after.removed:
                right = not self._clock_is_right or after.since >= self.born[name]
                require(after.since == now and right, f"'{name}' is of {self.born[name]} and counts from {after.since}")
            elif name not in self.changed and before.removed == after.removed:
                self._check_failures(name, before, after, over)
                moved = before.since != after.since
                require(not moved or not self._clock_is_right, f"'{name}' counts from {after.since}, not {before.since}")
                require(not moved or after.since == now, f"'{name}' counts from {after.since} on, and it is {now}")

    def _check_failures(self, name: str, before: Known, after: Known, over: list[Line]) -> None:
        require(len(over) <= 1, "two runs were settled in one transaction")
        if not over:
            require(before.failures == after.failures, f"'{name}': {before.failures} failures became {after.failures}")
            require(before.paused == after.paused, f"'{name}' was paused by nobody")
            return
        failures = 0 if over[0].outcome == "completed" and over[0].status == "done" else before.failures + 1
        require(after.failures == failures, f"'{name}': {failures} failures in a row were counted as {after.failures}")
        at_once = failures > 0 and over[0].outcome in AT_ONCE
        enough = {limit is not None and (failures >= limit or at_once) for limit in self.limits[name]}
        if len(enough) == 1 and not before.removed:
            pauses = enough.pop() or bool(before.paused)
            require(bool(after.paused) == pauses, f"'{name}' after {failures} failures: paused {after.paused!r}")

    # decisions

    def decision(
        self, schedule: Schedule, now: datetime, before: dict[Key, Line], present: Callable[[str, datetime], bool]
    ) -> None:
        """A look at this schedule at this time: exactly what the policy says became of its due times."""
        self.decided += 1
        mine = {due: line for (name, due), line in before.items() if name == schedule.name}
        after = {due: line for (name, due), line in self.lines.items() if name == schedule.name}
        found = {due: (line.status, _kind(line)) for due, line in after.items() if mine.get(due) != line}
        known = self.known.get(schedule.name)
        wanted: dict[datetime, tuple[str, str]] = {}
        if known is not None and known.digest == schedule.digest and not known.removed:
            wanted = self.verdicts(schedule, known, mine, now)
            self.looked[schedule.name] = max(now, self.looked.get(schedule.name, now))
        differs = f"{_differ(found, wanted)}, and it should be {_differ(wanted, found)}"
        require(found == wanted, f"'{schedule.name}' at {now}: {differs}")
        for due in (d for d in wanted if d not in mine):
            late = now - schedule.start_at(due)
            require(late <= SOON or not present(schedule.name, schedule.start_at(due)), f"{due} was noticed after {late}")

    def verdicts(
        self, schedule: Schedule, known: Known, lines: dict[datetime, Line], now: datetime
    ) -> dict[datetime, tuple[str, str]]:
        """What the policy says, newest due time first."""
        fallen = [d for d in self._timetable.between(known.digest, known.since, now) if d not in lines]
        fallen = [d for d in fallen if schedule.start_at(d) <= now]
        if known.paused:
            return dict.fromkeys(fallen, ("skipped", "paused"))
        oldest, missed = timedelta(seconds=schedule.max_age_s), schedule.missed
        left = {"skip": 0, "once": 1}.get(missed) or int(missed.partition("all ")[2] or 0)
        said: dict[datetime, tuple[str, str]] = {}
        made_up: list[datetime] = []
        punctual = None
        for due in reversed(fallen):
            age = now - schedule.start_at(due)
            if due == fallen[-1] and age <= timedelta(seconds=schedule.late_s):
                punctual, left = due, 0 if missed == "once" else left
            elif left and age <= oldest:
                made_up, left = [due, *made_up], left - 1
            else:
                said[due] = ("skipped", "missed")
        waiting = sorted(d for d, line in lines.items() if line.status == "waiting")
        said |= {d: ("skipped", "waited") for d in waiting if now - schedule.start_at(d) > oldest}
        line = [d for d in waiting if d not in said and schedule.start_at(d) <= now] + made_up
        room = schedule.side_by_side - sum(of.status in ACTIVE for of in lines.values())
        for due in [*line, *([punctual] if punctual else [])]:
            if room > 0:
                said[due], room = ("claimed", ""), room - 1
            elif due in made_up or (due == punctual and (made_up or schedule.overlap == "queue")):
                said[due] = ("waiting", "")
            elif due == punctual:
                said[due] = ("skipped", "overlap")
        return said

    # the end

    def whole(self, schedules: Iterable[Schedule], unanswered: Callable[[str], bool]) -> None:
        """When everything is over: each due time of those in force stands here, and none is left hanging."""
        for schedule in schedules:
            known = self.known[schedule.name]
            require(known.digest == schedule.digest, f"'{schedule.name}' is not in force as it was written")
            for due in self._timetable.of(schedule.digest):
                if known.since < due and schedule.start_at(due) <= self.looked.get(schedule.name, known.since):
                    require((schedule.name, due) in self.lines, f"{schedule.name}, {due}: nothing was decided")
        for key, line in self.lines.items():
            waits = line.status == "parked" and unanswered(line.session_id)
            waits = waits or (line.status == "waiting" and bool(self.known[key[0]].paused))
            require(line.status in OVER or waits, f"{_said(key)} is left as it is: {line}")


def _said(key: Key) -> str:
    return f"{key[0]}, due {key[1]:%Y-%m-%d %H:%M:%S},"


def _kind(line: Line) -> str:
    """The first word of why a due time is left out."""
    return line.reason.replace(":", " ").split()[0] if line.status == "skipped" else ""


def _differ(these: dict[datetime, tuple[str, str]], those: dict[datetime, tuple[str, str]]) -> str:
    of_these = sorted(these.items() - those.items())
    return ", ".join(f"{due:%m-%d %H:%M} {' '.join(what)}" for due, what in of_these) or "nothing"
