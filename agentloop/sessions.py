"""The sessions of a workspace in files: where they are, which there are, how their logs are opened."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from agentloop import session_ids
from agentloop.adapters.blob_dir import BlobDir
from agentloop.adapters.jsonl_log import LOG, Dropped, Fsync, JsonlLog
from agentloop.crash_points import reached
from agentloop.errors import LogError, UnknownSession
from agentloop.ports import Summary
from agentloop.types.events import Event

__all__ = ["Sessions", "Summary"]

_TAIL_BYTES = 64 * 1024
_MOST_TAIL_BYTES = 32 * 1024 * 1024
_HEAD_BYTES = 4 * 1024 * 1024


class Sessions:
    """A `SessionStore`: a folder of sessions, one folder each."""

    def __init__(
        self, folder: Path, *, fsync: Fsync = "always", on_dropped: Callable[[Dropped], None] = lambda d: None
    ) -> None:
        """Use this folder. It is made when the first session starts."""
        self.folder = folder
        self._fsync: Fsync = fsync
        self._on_dropped = on_dropped

    def new_id(self, agent: str, now: datetime) -> str:
        """An id that no session has: agent, time, and eight characters in case two start in one second."""
        return session_ids.new_id(agent, now)

    def path(self, session_id: str) -> Path:
        """The folder of a session. Raises UnknownSession for what is no id."""
        return self.folder / session_ids.checked(session_id)

    location = path

    def log(self, session_id: str) -> JsonlLog:
        """The log of a session, which need not exist yet."""
        return JsonlLog(self.path(session_id), fsync=self._fsync, on_dropped=self._on_dropped)

    def blobs(self, session_id: str) -> BlobDir:
        """The whole tool results of a session."""
        return BlobDir(self.path(session_id) / "blobs")

    def exists(self, session_id: str) -> bool:
        """Whether a session has at least its first line. Raises LogError where that cannot be told, or where whole results
        are left of a session whose log is gone: what it knew must not be forgotten in silence."""
        folder = self.path(session_id)
        try:
            begun = _first_line(folder / LOG).endswith(b"\n")
            forgotten = not begun and any((folder / "blobs").glob("*"))
        except OSError as e:
            raise LogError(f"session '{session_id}' in {folder} cannot be read: {e.strerror}; check its owner") from e
        if forgotten:
            raise LogError(
                f"session '{session_id}' in {folder} has whole results and no log: it was there, and its log is gone\n"
                "put the log back, or take another session id"
            )
        return begun

    def find(self, name: str) -> str:
        """The session of this id, or the only one whose id starts with it. Raises UnknownSession with candidates."""
        if self.exists(name):
            return name
        return session_ids.meant(name, self.ids(), str(self.folder))

    def events(self, session_id: str) -> list[Event]:
        """Every event of a session. Raises UnknownSession where its log is missing or empty, LogDamaged, LogVersion."""
        return list(self.stream(session_id))

    def stream(self, session_id: str) -> Iterator[Event]:
        """The same, read as they are asked for: however long the log, one event is held at a time."""
        if not self.exists(session_id):
            raise UnknownSession(
                f"session '{session_id}' has no log in {self.path(session_id)}; nothing can be resumed from it"
            )
        return session_ids.begun(session_id, self.log(session_id).events())

    def ids(self) -> Iterator[str]:
        """The ids of all sessions, sorted."""
        if self.folder.is_dir():
            with os.scandir(self.folder) as entries:
                yield from sorted(e.name for e in entries if _is_session(e))

    def summaries(self) -> Iterator[Summary]:
        """A row for each session, without reading whole logs."""
        for session_id in self.ids():
            yield _summary(session_id, self.folder / session_id / LOG)

    def delete(self, session_id: str) -> None:
        """Log and blobs are gone. Raises SessionHeld where somebody is writing it."""
        hidden = self.folder / f".deleted-{session_id}"
        with self.log(session_id).held():
            shutil.rmtree(hidden, ignore_errors=True)
            self.path(session_id).rename(hidden)
            reached("prune.hidden")
            shutil.rmtree(hidden)
            reached("prune.deleted")


def _is_session(entry: "os.DirEntry[str]") -> bool:
    """Not what is half deleted, and nothing else that is hidden."""
    return not entry.name.startswith(".") and entry.is_dir() and (Path(entry.path) / LOG).is_file()


def _first_line(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.readline(_MOST_TAIL_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return b""


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
