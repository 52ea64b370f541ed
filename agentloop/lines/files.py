"""The lines of a log in a file, which one process at a time may append to: it holds a lock that dies with it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from agentloop import holding
from agentloop.core.sealed import LONGEST_LINE
from agentloop.errors import LogDamaged, LogWriteFailed, SessionLost

LOG = "log.jsonl"
LOCK = "lock"


class FileLines:
    """`Lines` in a folder of their own."""

    def __init__(self, folder: Path, of: str = "batch") -> None:
        """Use the log in this folder. `of`: what errors call it."""
        self.folder, self.path, self._of = folder, folder / LOG, of
        self._lock = self._file = -1
        self._size = 0

    @property
    def where(self) -> str:
        """The file."""
        return str(self.path)

    def read(self) -> Iterator[bytes]:
        """Every whole line. A torn last one is left out; it is cut off when the next line is written."""
        if not self.path.exists():
            return
        number = 0
        with self.path.open("rb") as file:
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if not line.endswith(b"\n") or b"\x00" in line:
                    if file.read().strip(b"\x00"):
                        raise LogDamaged(f"{self.path}, line {number} is damaged, and more lines follow it: restore a backup")
                    return
                yield line[:-1]

    def __enter__(self) -> Self:
        """Take the lock and find the end. Raises SessionHeld, LogWriteFailed."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            self._size = sum(len(line) + 1 for line in self.read())
            os.ftruncate(self._file, self._size)
            os.fsync(self._file)
            for folder in (self.folder, self.folder.parent):  # the names of what was made
                _sync(folder)
        except OSError as e:
            self.__exit__()
            raise LogWriteFailed(
                f"cannot write the {self._of} in {self.folder}: {e.strerror}; check the folder and its owner"
            ) from e
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        """Let it go."""
        for handle in (self._file, self._lock):
            if handle >= 0:
                os.close(handle)
        self._file = self._lock = -1

    def append(self, number: int, line: bytes) -> None:
        """Write one line, and wait until it is on the disk."""
        self._check_hold()
        data = line + b"\n"
        try:
            if os.pwrite(self._file, data, self._size) < len(data):
                raise OSError(28, "only a part could be written")
            os.fsync(self._file)
        except OSError as e:
            self.__exit__()  # what was written of it is a torn end, which the next reader leaves out
            raise LogWriteFailed(f"cannot write {self.path}: {e.strerror}; free the disk, then carry the {self._of} on") from e
        self._size += len(data)

    def _take_lock(self) -> None:
        self._lock = holding.taken(self.folder / LOCK, f"{self._of} '{self.folder.name}'")

    def _check_hold(self) -> None:
        """Raise SessionLost where the files were replaced or written to by somebody else."""
        try:
            lock, log = os.stat(self.folder / LOCK), os.stat(self.path)
        except OSError:
            raise self._lost() from None
        same = os.path.samestat(lock, os.fstat(self._lock)) and os.path.samestat(log, os.fstat(self._file))
        if not same or log.st_size != self._size:
            raise self._lost()

    def _lost(self) -> SessionLost:
        self.__exit__()
        return SessionLost(f"{self._of} '{self.folder.name}' was taken away: its files are gone, replaced or written by others")


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
