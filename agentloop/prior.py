"""What an agent's last sessions tell of the next one: the gaps between their requests, and how soon one came after the other.

Looked up once, when a session starts, and written into its first line; what is decided, then or when it is replayed, rests on
that line alone. Of each log only the first line and the last megabytes are read; one that cannot be read counts as none.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from heapq import nlargest
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from agentloop.adapters.jsonl_log import LOG
from agentloop.core import cron
from agentloop.errors import AgentLoopError
from agentloop.ports import SessionStore
from agentloop.sessions import Sessions
from agentloop.types.events import ModelRequested, SessionStarted
from agentloop.types.past import PastSession, Prior
from agentloop.types.usage import LIVES, TTL_SECONDS

MOST_SESSIONS = 5
_MOST_LOGS = 50
"""So many logs are looked into for them, those last written first."""
_HEAD_BYTES = 4 * 1024 * 1024
_TAIL_BYTES = 4 * 1024 * 1024
_REQUEST = b'"model_requested"'
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""Whatever is wrong with a log, a run does not need it: times out of any calendar and nesting without end too."""


class _Past(NamedTuple):
    started_at: datetime
    prefix_digest: str
    turns: tuple[tuple[datetime, datetime], ...]
    """When each turn was first asked for, and when it was last asked for."""

    @property
    def last_use(self) -> datetime:
        return self.turns[-1][1] if self.turns else self.started_at

    @property
    def gaps_s(self) -> list[float]:
        """Between requests for turns: a wait that pings kept warm counts as long as it was."""
        return [max(0.0, (after[0] - before[1]).total_seconds()) for before, after in pairwise(self.turns)]


class Whose(NamedTuple):
    """Whose session starts, and when."""

    agent: str
    played_by: str
    prefix_digest: str
    now: datetime
    schedule: Any = None
    """When the next ones start, as its prompt file says."""


def prior(sessions: SessionStore, whose: Whose) -> Prior | None:
    """What is known before a session starts; None where nothing is."""
    past = list(islice(_past(sessions, whose), MOST_SESSIONS))
    past.sort(key=lambda one: one.started_at, reverse=True)
    due = cron.due_in_s(whose.schedule, whose.now)
    if not past and due is None:
        return None
    return Prior(sessions=tuple(counted(one.gaps_s) for one in past), starts_s=tuple(_starts(past, whose)), next_start_s=due)


def counted(gaps_s: Sequence[float]) -> PastSession:
    """What a session's gaps say: how many of them an entry of each life outlives."""
    within_5m, within_1h = (sum(gap <= TTL_SECONDS[ttl] for gap in gaps_s) for ttl in LIVES)
    return PastSession(gaps=len(gaps_s), within_5m=within_5m, within_1h=within_1h)


def _starts(past: Iterable[_Past], whose: Whose) -> Iterator[float]:
    """From the last request of each session with this prefix to the start of the one after it."""
    after = whose.now
    for one in past:
        if one.prefix_digest == whose.prefix_digest:
            yield max(0.0, (after - one.last_use).total_seconds())
            after = one.started_at


def _past(sessions: SessionStore, whose: Whose) -> Iterator[_Past]:
    """The agent's sessions that the same kind of player played, the last ones first."""
    return _in_files(sessions, whose) if isinstance(sessions, Sessions) else _streamed(sessions, whose)


def _streamed(sessions: SessionStore, whose: Whose) -> Iterator[_Past]:
    """From a store that has no files: whole logs, one event at a time."""
    rows = (s for s in sessions.summaries() if s.agent == whose.agent)
    for row in nlargest(_MOST_LOGS, rows, key=lambda s: s.started_at):
        try:
            events = sessions.stream(row.session_id)
            first = next(events)
            assert isinstance(first.body, SessionStarted)
            times: dict[int, tuple[datetime, datetime]] = {}
            for event in events:
                if isinstance(event.body, ModelRequested) and event.body.purpose == "turn":
                    turn = event.body.turn
                    times[turn] = (times[turn][0] if turn in times else event.at, event.at)
        except (AgentLoopError, *_UNREADABLE):
            continue
        if kind(first.body.played_by) == kind(whose.played_by) and first.at <= whose.now:
            yield _Past(first.at, first.body.prefix_digest, tuple(times.values()))


def _in_files(sessions: Sessions, whose: Whose) -> Iterator[_Past]:
    paths = [sessions.folder / session_id / LOG for session_id in sessions.ids()]
    for path in sorted(paths, key=_written_at, reverse=True)[:_MOST_LOGS]:
        try:
            found = _read(path, whose)
        except _UNREADABLE:
            continue
        if found is not None and found.started_at <= whose.now:
            yield found


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _read(path: Path, whose: Whose) -> _Past | None:
    with path.open("rb") as file:
        head = json.loads(file.readline(_HEAD_BYTES))
        start = head["body"]
        if start["agent"] != whose.agent or kind(start["played_by"]) != kind(whose.played_by):
            return None
        return _Past(_time(head["at"]), start["prefix_digest"], tuple(_turns(file)))


def kind(played_by: str) -> str:
    """What kind of player it is that answered as the model: `api`, `script` or `recording`."""
    return played_by.partition(":")[0]


def _turns(file: BinaryIO) -> Iterator[tuple[datetime, datetime]]:
    """The times of the turns in the last part of a log: from the first attempt of each to its last."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL_BYTES))
    times: dict[int, tuple[datetime, datetime]] = {}
    for line in file.read(_TAIL_BYTES).split(b"\n"):
        request = _request(line) if _REQUEST in line else None
        if request is not None:
            turn, at = request
            times[turn] = (times[turn][0] if turn in times else at, at)
    yield from times.values()


def _request(line: bytes) -> tuple[int, datetime] | None:
    """Number and time of a request for a turn; None where the line is none, or is cut off."""
    try:
        data: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    body = data["body"]
    if body["type"] != "model_requested" or body.get("purpose", "turn") != "turn":
        return None
    return int(body["turn"]), _time(data["at"])


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
