"""A session's log as a file: one JSON line an event, appended whole, made durable, and checked when it is read.

Each line ends with a digest over itself and the digest of the line before it, so a damaged, missing or reordered line in
the middle is found. A torn last line (a crash while writing) is dropped, and said so. One process at a time may append:
it holds a lock that dies with it.
"""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Self

from agentloop import holding
from agentloop.core import sealed
from agentloop.core.sealed import Line, Place
from agentloop.crash_points import reached, watched
from agentloop.errors import LogDamaged, LogError, LogWriteFailed, SessionLost
from agentloop.types.events import SCHEMA_VERSION, Body, Event

LOG = "log.jsonl"
LOCK = "lock"
Fsync = Literal["always", "never"]
LONGEST_LINE = sealed.LONGEST_LINE
_PIECE = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Dropped(NamedTuple):
    """The torn end of a log: what a crash left of a line that was being written."""

    path: Path
    line: int
    bytes: int


class JsonlLog:
    """A `Log` in a folder of its own. Reading needs no lock; use it as a context manager to append."""

    def __init__(
        self, folder: Path, *, fsync: Fsync = "always", on_dropped: Callable[[Dropped], None] = lambda dropped: None
    ) -> None:
        """Use the log in this folder."""
        self.folder = folder
        self.path = folder / LOG
        self._place = Place(folder.name, str(self.path))
        self._fsync = fsync
        self._on_dropped = on_dropped
        self._lock = -1
        self._file = -1
        self._seq = 0
        self._digest = b""
        self._size = 0
        self._interrupted = False
        """Something broke into the last append: what stands in the file has to be looked at first."""

    @property
    def location(self) -> Path:
        """The file."""
        return self.path

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

    def pieces(self, end: int) -> Iterator[bytes]:
        """The bytes of the file up to this end, a piece at a time."""
        with self.path.open("rb") as file:
            while end and (piece := file.read(min(end, _PIECE))):
                end -= len(piece)
                yield piece

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

    def _lines(self, behind: Line | None = None, growing: bool = False) -> Iterator[Line]:
        last, number = behind, 0 if behind is None else behind.event.seq + 1
        with self.path.open("rb") as file:
            file.seek(0 if behind is None else behind.end)
            while data := file.readline(LONGEST_LINE):
                number += 1
                if growing and not data.endswith(b"\n"):  # a long line can be seen before its end is written
                    return
                if not data.endswith(b"\n") or b"\x00" in data:
                    if more := _bytes_left(file):
                        raise self._damaged(number, f"{more:,} bytes follow it")
                    self._on_dropped(Dropped(self.path, number, len(data)))
                    return
                end = (0 if last is None else last.end) + len(data)
                last = sealed.read(_as_written(data, number), last, self._place)._replace(end=end)
                yield last

    def _damaged(self, number: int, why: str) -> LogDamaged:
        return sealed.damaged(self._place, number, why)

    def __enter__(self) -> Self:
        """Take the lock and get ready to append. Raises SessionHeld, LogDamaged, LogWriteFailed."""
        try:
            for folder in (self.folder.parent, self.folder):  # mkdir gives its mode to the last folder only
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            reached("log.folder_made")
            self._take_lock()
            reached("log.locked")
            self._open()
            reached("log.ready")
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

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody can write, and nothing is looked at, until the block ends. Raises SessionHeld, OSError."""
        try:
            self._take_lock()
            yield
        finally:
            self._close()

    def _take_lock(self) -> None:
        self._lock = holding.taken(self.folder / LOCK, f"session '{self.folder.name}'")

    def _open(self) -> None:
        """Find the end of what was written; cut off a torn line, so that the next one does not join it."""
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        reached("log.opened")
        version = self._find_end()
        if version != SCHEMA_VERSION:
            self._migrate(version)
        self._sync_folder()

    def _migrate(self, version: int) -> None:
        """Write an older log anew in today's words. The old file stays beside it; a crash leaves the one or the other."""
        new, backup = self.folder / f".{LOG}.new", self.folder / f"log.v{version}.jsonl"
        reached("log.before_backup")
        digest = b""
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            for line in self._lines():
                made = sealed.sealed(line.event.seq, line.event.at, line.event.body, digest)
                digest = made.digest
                file.write(made.data)
            file.flush()
            self._sync(file.fileno())
        if not backup.exists():
            os.link(self.path, backup)
        reached("log.backed_up")
        os.replace(new, self.path)
        self._sync_folder()
        reached("log.migrated")
        os.close(self._file)
        self._file = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._find_end()

    def _find_end(self) -> int:
        """Get ready to append behind the last whole line; returns the schema version of the log."""
        newest = deque(self._lines(), maxlen=1)
        last = newest[0] if newest else None
        self._seq, self._digest, self._size = (last.event.seq + 1, last.digest, last.end) if last is not None else (0, b"", 0)
        os.ftruncate(self._file, self._size)
        self._sync(self._file)
        self._interrupted = False
        return last.version if last is not None else SCHEMA_VERSION

    def append(self, body: Body, at: datetime) -> Event:
        """Write one more event, whole. Raises LogWriteFailed, SessionLost; then nothing more is written."""
        if self._file < 0:
            raise LogWriteFailed(f"{self.path} is not open for writing")
        if self._interrupted:
            self._find_end()
        self._check_hold()
        self._interrupted = True  # until everything is done: Ctrl-C may come between any two of these lines
        line = sealed.sealed(self._seq, at, body, self._digest)
        if len(line.data) > LONGEST_LINE:
            size = f"{len(line.data):,} bytes; at most {LONGEST_LINE:,} can be read back"
            raise LogWriteFailed(f"{self.path}: an event of {size}")
        self._write(line.data)
        self._seq, self._digest = self._seq + 1, line.digest
        self._interrupted = False
        return line.event

    def _check_hold(self) -> None:
        """Raise SessionLost where lock and log are no longer the files that were opened, or somebody else wrote: the lock
        was deleted, the folder moved, restored or deleted, or the file system's locks do not hold."""
        try:
            lock, log = os.stat(self.folder / LOCK), os.stat(self.path)
        except OSError:
            raise self._lost("its files are gone") from None
        if not os.path.samestat(lock, os.fstat(self._lock)) or not os.path.samestat(log, os.fstat(self._file)):
            raise self._lost(f"its files were replaced; it is held by {holding.holder(self.folder / LOCK)}")
        if log.st_size != self._size:
            raise self._lost(f"the log has {log.st_size:,} bytes, expected {self._size:,}: somebody else wrote to it")

    def _lost(self, why: str) -> SessionLost:
        self._close()
        return SessionLost(
            f"session '{self.folder.name}' was taken away: {why}\n"
            "nothing more was written here; 'agentloop sessions show' says how far it is"
        )

    def _write(self, line: bytes) -> None:
        reached("log.before_write")
        try:
            if watched():
                os.pwrite(self._file, line[: len(line) // 2], self._size)
                reached("log.half_written")
            written = os.pwrite(self._file, line, self._size)
            if written < len(line):
                raise OSError(28, "only a part could be written")
            reached("log.written")
            self._sync(self._file)
        except OSError as e:
            with contextlib.suppress(OSError):  # what stays behind is a torn line, which the next reader drops
                os.ftruncate(self._file, self._size)
            self._close()
            raise LogWriteFailed(f"cannot write {self.path}: {e.strerror}; free the disk, then resume") from e
        self._size += len(line)
        reached("log.durable")

    def _sync(self, handle: int) -> None:
        if self._fsync == "always":
            os.fsync(handle)

    def _sync_folder(self) -> None:
        for folder in (self.folder, self.folder.parent):  # the names of the files, and that of a new session's folder
            handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._sync(handle)
            finally:
                os.close(handle)

    def _close(self) -> None:
        for handle in (self._file, self._lock):
            if handle >= 0:
                os.close(handle)
        self._file = self._lock = -1


def _as_written(data: bytes, number: int) -> bytes:
    """A line without its end, and without what an editor that saved the file may have put around it."""
    line = data.removesuffix(b"\n").removesuffix(b"\r")
    return line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line


def _bytes_left(file: BinaryIO) -> int:
    """How much more there is, NUL bytes aside; however much it is, little of it is held at a time."""
    return sum(len(piece) - piece.count(0) for piece in iter(lambda: file.read(_PIECE), b""))
