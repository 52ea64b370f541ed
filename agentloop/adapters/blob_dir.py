"""Whole tool results in a folder, by digest: written once, never changed, readable by their owner only."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agentloop.crash_points import reached
from agentloop.errors import LogWriteFailed

_HALF = ".half-"
_HANDLE = re.compile(r"[0-9a-f]{8,64}")


class BlobDir:
    """`Blobs` in a folder. The folder is made with the first blob."""

    def __init__(self, folder: Path) -> None:
        """Use this folder."""
        self._folder = folder
        self._swept = False

    def put(self, data: bytes) -> str:
        """Keep these bytes; returns their digest. Raises LogWriteFailed; then nothing is there."""
        digest = hashlib.sha256(data).hexdigest()
        target = self._folder / digest
        if target.exists():
            return digest
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep()
            reached("blob.before_write")
            self._write(target, data)
            reached("blob.kept")
        except OSError as e:
            raise LogWriteFailed(
                f"cannot keep a tool result in {self._folder}: {e.strerror}; free the disk, then resume"
            ) from e
        return digest

    def _write(self, target: Path, data: bytes) -> None:
        """Whole or not at all: a temporary file with an unpredictable name, then a rename."""
        handle, name = tempfile.mkstemp(dir=self._folder, prefix=_HALF)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            reached("blob.written")
            os.replace(name, target)
            self._sync_folder()
        except BaseException:
            Path(name).unlink(missing_ok=True)
            target.unlink(missing_ok=True)
            raise

    def _sync_folder(self) -> None:
        handle = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _sweep(self) -> None:
        """Delete what a process that died left half written. Whoever puts holds the session, so nobody else is writing."""
        if not self._swept:
            for left in self._folder.glob(f"{_HALF}*"):
                left.unlink(missing_ok=True)
            self._swept = True

    def find(self, handle: str) -> bytes | None:
        """The bytes whose digest starts with this handle; None where there are none, or more than one."""
        if not _HANDLE.fullmatch(handle) or not self._folder.is_dir():
            return None
        found = list(self._folder.glob(f"{handle}*"))
        return found[0].read_bytes() if len(found) == 1 else None

    def digests(self) -> Iterator[str]:
        """The digests of all that is kept, sorted; what a crash left half written is not."""
        names = (entry.name for entry in self._folder.iterdir()) if self._folder.is_dir() else ()
        return iter(sorted(name for name in names if _HANDLE.fullmatch(name) and len(name) == 64))
