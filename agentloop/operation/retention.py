"""Which sessions may go, and how they go: one by one, each wholly or not at all."""

import contextlib
import shutil
from collections import Counter, deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, get_args

from agentloop.adapters.jsonl_log import JsonlLog
from agentloop.errors import AgentLoopError, SessionHeld
from agentloop.operation.reports import JSON, MARKDOWN
from agentloop.origins import Origins
from agentloop.ports import SessionStore, Summary
from agentloop.types.events import Outcome, SessionEnded

PRUNABLE: tuple[str, ...] = tuple(o for o in get_args(Outcome) if o not in ("waiting_for_approval", "sleeping"))
"""What a session may have ended as to be deleted. One that waits or sleeps goes on some time; one without an outcome runs,
or was broken off, and is taken up again."""


class Prunable(NamedTuple):
    """One session that may go."""

    session_id: str
    agent: str
    outcome: str
    ended_at: datetime
    bytes: int
    """Log, whole results and reports together."""


def prunable(
    store: SessionStore, before: datetime, outcomes: frozenset[str], keep: int = 0, folder: Path | None = None
) -> list[Prunable]:
    """The sessions that ended as one of these before this time, the oldest first, without the newest `keep` of each agent."""
    newest_first = sorted(store.summaries(), key=_started, reverse=True)
    found = (_ended(store, s, before, outcomes, folder) for s in _beyond(newest_first, keep) if _started(s) < before)
    return sorted((one for one in found if one is not None), key=lambda one: one.ended_at)


def _beyond(newest_first: list[Summary], keep: int) -> Iterator[Summary]:
    seen: Counter[str] = Counter()
    for summary in newest_first:
        seen[summary.agent] += 1
        if seen[summary.agent] > keep:
            yield summary


def _ended(
    store: SessionStore, summary: Summary, before: datetime, outcomes: frozenset[str], folder: Path | None
) -> Prunable | None:
    """The session, if its log says that it is over. The whole log is read: one that is damaged is left for a person."""
    if summary.outcome not in outcomes or summary.outcome not in PRUNABLE:
        return None
    try:
        last = deque(store.stream(summary.session_id), maxlen=1)
    except AgentLoopError:
        return None
    if not last or not isinstance(last[0].body, SessionEnded) or last[0].at >= before:
        return None
    size = max(summary.bytes, _size(folder / summary.session_id) if folder is not None else 0)
    return Prunable(summary.session_id, summary.agent, summary.outcome, last[0].at, size)


def delete(store: SessionStore, one: Prunable, folder: Path, origins: Origins) -> str | None:
    """Delete it; what stands in the way, if something does. It may have been taken up since it was looked at."""
    try:
        last = deque(store.stream(one.session_id), maxlen=1)
        if not last or not isinstance(last[0].body, SessionEnded) or last[0].at != one.ended_at:
            return "it goes on"
        store.delete(one.session_id)
        _delete_reports(folder / one.session_id)
        origins.forget(one.session_id)
    except SessionHeld:
        return "it is held by another process"
    except OSError as e:
        return e.strerror or type(e).__name__
    return None


def sweep(folder: Path) -> None:
    """Finish what a crash left: sessions that are out of sight and whose files are still there."""
    for hidden in folder.glob(".deleted-*") if folder.is_dir() else ():
        with contextlib.suppress(OSError, SessionHeld), JsonlLog(hidden).held():  # whoever deletes it now may go on
            shutil.rmtree(hidden)


def _delete_reports(folder: Path) -> None:
    """Of a session that is kept elsewhere, its reports are here."""
    if not folder.is_symlink() and folder.is_dir():
        for name in (MARKDOWN, JSON):
            (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _started(summary: Summary) -> datetime:
    try:
        return datetime.fromisoformat(summary.started_at)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)


def _size(folder: Path) -> int:
    return sum(p.lstat().st_size for p in folder.rglob("*") if not p.is_dir()) if folder.is_dir() else 0
