"""The sessions of a workspace: where they are, which there are, how their logs are opened."""

import difflib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from agentloop.adapters.blob_dir import BlobDir
from agentloop.adapters.jsonl_log import LOG, Dropped, Fsync, JsonlLog
from agentloop.errors import UnknownSession
from agentloop.types.events import Event, SessionStarted

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_TAIL_BYTES = 64 * 1024
_MOST_TAIL_BYTES = 32 * 1024 * 1024
_HEAD_BYTES = 4 * 1024 * 1024


class Summary(NamedTuple):
    """One row of `sessions list`, read from the two ends of the log."""

    session_id: str
    agent: str
    model: str
    started_at: str
    events: int
    outcome: str
    bytes: int


class Sessions:
    """A folder of sessions, one folder each."""

    def __init__(
        self, folder: Path, *, fsync: Fsync = "always", on_dropped: Callable[[Dropped], None] = lambda d: None
    ) -> None:
        """Use this folder. It is made when the first session starts."""
        self.folder = folder
        self._fsync: Fsync = fsync
        self._on_dropped = on_dropped

    def new_id(self, agent: str, now: datetime) -> str:
        """An id that no session has: agent, time, and four characters in case two start in one second."""
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", agent).strip("-_") or "session"
        return f"{name[:60]}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"

    def path(self, session_id: str) -> Path:
        """The folder of a session. Raises UnknownSession for what is no id."""
        if not _ID.fullmatch(session_id) or ".." in session_id:
            shown = session_id[:60].encode("unicode_escape").decode()
            raise UnknownSession(f"'{shown}' is not a session id: letters, digits, '-', '_' and '.', at most 100, no path")
        return self.folder / session_id

    def log(self, session_id: str) -> JsonlLog:
        """The log of a session, which need not exist yet."""
        return JsonlLog(self.path(session_id), fsync=self._fsync, on_dropped=self._on_dropped)

    def blobs(self, session_id: str) -> BlobDir:
        """The whole tool results of a session."""
        return BlobDir(self.path(session_id) / "blobs")

    def exists(self, session_id: str) -> bool:
        """Whether a session has at least its first line."""
        path = self.path(session_id) / LOG
        return path.is_file() and path.stat().st_size > 0

    def find(self, name: str) -> str:
        """The session of this id, or the only one whose id starts with it. Raises UnknownSession with candidates."""
        if self.exists(name):
            return name
        ids = list(self.ids())
        starting = [i for i in ids if i.startswith(name)]
        if len(starting) == 1:
            return starting[0]
        near = starting or difflib.get_close_matches(name, ids, n=3, cutoff=0.3)
        hint = f"did you mean {', '.join(near[:5])}?" if near else "'agentloop sessions list' shows those that exist"
        what = "is ambiguous" if starting else "does not exist"
        raise UnknownSession(f"session '{name}' {what} in {self.folder}; {hint}")

    def events(self, session_id: str) -> list[Event]:
        """Every event of a session. Raises UnknownSession where its log is missing or empty, LogDamaged, LogVersion."""
        return list(self.stream(session_id))

    def stream(self, session_id: str) -> Iterator[Event]:
        """The same, read as they are asked for: however long the log, one event is held at a time."""
        if not self.exists(session_id):
            raise UnknownSession(
                f"session '{session_id}' has no log in {self.path(session_id)}; nothing can be resumed from it"
            )
        events = self.log(session_id).events()
        first = next(events, None)
        if first is None or not isinstance(first.body, SessionStarted):
            raise UnknownSession(f"the log of session '{session_id}' does not start with session_started; it cannot be used")
        return chain([first], events)

    def ids(self) -> Iterator[str]:
        """The ids of all sessions, sorted."""
        if self.folder.is_dir():
            with os.scandir(self.folder) as entries:
                yield from sorted(e.name for e in entries if e.is_dir() and (Path(e.path) / LOG).is_file())

    def summaries(self) -> Iterator[Summary]:
        """A row for each session, without reading whole logs."""
        for session_id in self.ids():
            yield _summary(session_id, self.folder / session_id / LOG)


def _summary(session_id: str, path: Path) -> Summary:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = _record(file.readline(_HEAD_BYTES))
        last = _last_record(file, size)
    first, body, seq = _object(head, "body"), _object(last, "body"), last.get("seq")
    outcome = body.get("outcome", "unfinished") if body.get("type") == "session_ended" else "unfinished"
    return Summary(
        session_id=session_id,
        agent=str(first.get("agent", "?")),
        model=str(_object(first, "prefix").get("model", "?")),
        started_at=str(head.get("at", "?")),
        events=seq + 1 if isinstance(seq, int) else 0,
        outcome=str(outcome),
        bytes=size,
    )


def _last_record(file: BinaryIO, size: int) -> dict[str, Any]:
    """The last whole line, looked for from the end, in parts that grow."""
    tail = _TAIL_BYTES
    while True:
        file.seek(max(0, size - tail))
        if record := next((r for r in map(_record, reversed(file.read().split(b"\n"))) if r), None):
            return record
        if tail >= min(size, _MOST_TAIL_BYTES):
            return {}
        tail *= 8


def _object(record: dict[str, Any], key: str) -> dict[str, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _record(line: bytes) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
