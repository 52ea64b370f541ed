"""A session's log as a file: one JSON line an event, appended whole, made durable, and checked when it is read.

Each line ends with a digest over itself and the digest of the line before it, so a damaged, missing or reordered line in
the middle is found. A torn last line (a crash while writing) is dropped, and said so. One process at a time may append:
it holds a lock that dies with it.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import ValidationError

from agentloop.errors import LogDamaged, LogError, LogVersion, LogWriteFailed, SessionHeld
from agentloop.types.base import compact
from agentloop.types.events import SCHEMA_VERSION, Body, Event, SessionStarted, body_data

LOG = "log.jsonl"
LOCK = "lock"
Fsync = Literal["always", "never"]
LONGEST_LINE = 256 * 1024 * 1024
_SEAL = b',"sum":"'
_SEALED = len(_SEAL) + 16 + len(b'"}')


class Dropped(NamedTuple):
    """The torn end of a log: what a crash left of a line that was being written."""

    path: Path
    line: int
    bytes: int


class _Line(NamedTuple):
    event: Event
    digest: bytes
    end: int
    """Offset behind the line."""


class JsonlLog:
    """A `Log` in a folder of its own. Reading needs no lock; use it as a context manager to append."""

    def __init__(
        self, folder: Path, *, fsync: Fsync = "always", on_dropped: Callable[[Dropped], None] = lambda dropped: None
    ) -> None:
        """Use the log in this folder."""
        self.folder = folder
        self.path = folder / LOG
        self._fsync = fsync
        self._on_dropped = on_dropped
        self._lock = -1
        self._file = -1
        self._seq = 0
        self._digest = b""
        self._size = 0
        self._interrupted = False
        """Something broke into the last append: what stands in the file has to be looked at first."""

    def events(self) -> Iterator[Event]:
        """Every event, oldest first. Raises LogDamaged, LogVersion."""
        return (line.event for line in self._lines())

    def whole_lines(self) -> tuple[int, LogError | None]:
        """How many bytes of the file are whole lines, and the damage that comes after them, if any."""
        end = 0
        try:
            for line in self._lines():
                end = line.end
        except LogError as e:
            return end, e
        return end, None

    def news(self) -> Callable[[], Iterable[Event]]:
        """A function that gives the events which its last call did not give yet; there may be no log yet. A line that is
        just being written is left for the next call. Raises LogDamaged, LogVersion."""
        reader, last = JsonlLog(self.folder), None

        def unseen() -> Iterable[Event]:
            nonlocal last
            new = list(reader._lines(last, growing=True)) if reader.path.exists() else []
            last = new[-1] if new else last
            return [line.event for line in new]

        return unseen

    def _lines(self, behind: _Line | None = None, growing: bool = False) -> Iterator[_Line]:
        digest, end, number = (b"", 0, 0) if behind is None else (behind.digest, behind.end, behind.event.seq + 1)
        with self.path.open("rb") as file:
            file.seek(end)
            while data := file.readline(LONGEST_LINE):
                number += 1
                if growing and not data.endswith(b"\n"):  # a long line can be seen before its end is written
                    return
                if not data.endswith(b"\n") or b"\x00" in data:
                    if rest := file.read(LONGEST_LINE).strip(b"\x00"):
                        raise self._damaged(number, f"{len(rest):,} bytes follow it")
                    self._on_dropped(Dropped(self.path, number, len(data)))
                    return
                line = self._read(data.removesuffix(b"\n"), digest, number, end + len(data))
                digest, end = line.digest, line.end
                yield line

    def _read(self, data: bytes, before: bytes, number: int, end: int) -> _Line:
        content, seal = data[:-_SEALED], data[-_SEALED:]
        digest = _digest(before, content)
        if seal != _sealed(digest):
            raise self._damaged(number, "its checksum does not hold")
        try:
            event = Event.model_validate_json(content + b"}")
        except ValidationError as e:
            raise self._unreadable(content, number) from e
        if isinstance(event.body, SessionStarted) and event.body.schema_version > SCHEMA_VERSION:
            raise self._newer(event.body.schema_version)
        if event.seq != number - 1:
            raise self._damaged(number, f"it has seq {event.seq}, expected {number - 1}")
        return _Line(event, digest, end)

    def _unreadable(self, content: bytes, number: int) -> LogError:
        """A whole line that is no event of ours: from a newer version, most likely."""
        try:
            body = json.loads(content + b"}")["body"]
            version, kind = body.get("schema_version", SCHEMA_VERSION), body.get("type")
        except (ValueError, KeyError, AttributeError):
            return self._damaged(number, "it is not an event")
        if version > SCHEMA_VERSION:
            return self._newer(version)
        return LogVersion(f"{self.path}, line {number}: this agentloop cannot read a '{kind}' event: upgrade it")

    def _newer(self, version: int) -> LogVersion:
        return LogVersion(f"{self.path} has schema version {version}, this agentloop reads {SCHEMA_VERSION}: upgrade it")

    def _damaged(self, number: int, why: str) -> LogDamaged:
        return LogDamaged(
            f"{self.path}, line {number} is damaged: {why}\n"
            f"the {number - 1} lines before it are whole; nothing was changed\n"
            f"'agentloop sessions export {self.folder.name} FOLDER --whole-lines' writes them to a new log"
        )

    def __enter__(self) -> Self:
        """Take the lock and get ready to append. Raises SessionHeld, LogDamaged, LogWriteFailed."""
        try:
            for folder in (self.folder.parent, self.folder):  # mkdir gives its mode to the last folder only
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
            self._open()
        except OSError as e:
            self._close()
            raise LogWriteFailed(
                f"cannot write the session in {self.folder}: {e.strerror}; check the folder and its owner"
            ) from e
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        """Let the session go."""
        self._close()

    def _take_lock(self) -> None:
        path = self.folder / LOCK
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise SessionHeld(f"session '{self.folder.name}' is held by {_holder(path)}; wait for it, or stop it") from e
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, compact(_me()), 0)

    def _open(self) -> None:
        """Find the end of what was written; cut off a torn line, so that the next one does not join it."""
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._find_end()
        self._sync_folder()

    def _find_end(self) -> None:
        newest = deque(self._lines(), maxlen=1)
        last = newest[0] if newest else None
        self._seq, self._digest, self._size = (last.event.seq + 1, last.digest, last.end) if last is not None else (0, b"", 0)
        os.ftruncate(self._file, self._size)
        self._sync(self._file)
        self._interrupted = False

    def append(self, body: Body, at: datetime) -> Event:
        """Write one more event, whole. Raises LogWriteFailed; then it did not happen, and nothing more is written."""
        if self._file < 0:
            raise LogWriteFailed(f"{self.path} is not open for writing")
        if self._interrupted:
            self._find_end()
        self._interrupted = True  # until everything is done: Ctrl-C may come between any two of these lines
        event = Event(seq=self._seq, at=at, body=body)
        stamp = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        content = compact({"seq": event.seq, "at": stamp, "body": body_data(body)})[:-1]
        digest = _digest(self._digest, content)
        self._write(content + _sealed(digest) + b"\n")
        self._seq, self._digest = self._seq + 1, digest
        self._interrupted = False
        return event

    def _write(self, line: bytes) -> None:
        try:
            written = os.pwrite(self._file, line, self._size)
            if written < len(line):
                raise OSError(28, "only a part could be written")
            self._sync(self._file)
        except OSError as e:
            with contextlib.suppress(OSError):  # what stays behind is a torn line, which the next reader drops
                os.ftruncate(self._file, self._size)
            self._close()
            raise LogWriteFailed(f"cannot write {self.path}: {e.strerror}; free the disk, then resume") from e
        self._size += len(line)

    def _sync(self, handle: int) -> None:
        if self._fsync == "always":
            os.fsync(handle)

    def _sync_folder(self) -> None:
        handle = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._sync(handle)
        finally:
            os.close(handle)

    def _close(self) -> None:
        for handle in (self._file, self._lock):
            if handle >= 0:
                os.close(handle)
        self._file = self._lock = -1


def _digest(before: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(before + content, digest_size=8).digest()


def _sealed(digest: bytes) -> bytes:
    return _SEAL + digest.hex().encode() + b'"}'


def _me() -> dict[str, object]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(timespec="seconds")}


def _holder(path: Path) -> str:
    try:
        held = json.loads(path.read_bytes())
        return f"process {held['pid']} on {held['host']} since {held['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
