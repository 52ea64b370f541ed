"""Files under one folder and nowhere else: the guard that every path of a tool goes through.

A path is judged on its real location. It is then opened one folder at a time without following a link, so a link that is
swapped in between the check and the use opens nothing.
"""

import difflib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

MAX_BYTES = 20_000_000
"""Larger files are neither read nor written: a session has no use for them, and the engine holds results in memory."""

PROTECTED_FOLDERS = frozenset({"sessions", "tools", "prompts", "outbox"})
PROTECTED_NAMES = frozenset(
    {"agentloop.toml", "pyproject.toml", "makefile", "agents.md", "claude.md", "allowed_hosts.txt", "allowed_commands.txt"}
)
PROTECTED_SUFFIXES = frozenset({".py", ".pyc", ".pth", ".sh"})

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO without a writer would hang otherwise; on a regular file it means nothing.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Found(NamedTuple):
    """A file under the root; or an empty folder, whose path ends in a slash."""

    path: str
    bytes: int


def rooted(path: str, root: Path) -> Path:
    """The real place of a path under the root. Raises ValueError where it is outside, or hidden."""
    given = PurePosixPath(path)
    if "\x00" in path:
        raise ValueError(f"{path!r} holds a NUL character, which no path can")
    if given.is_absolute():
        raise ValueError(f"'{path}' is an absolute path; give it relative to the working folder, such as 'notes/today.md'")
    if ".." in given.parts:
        raise ValueError(f"'{path}' goes up with '..'; only files below the working folder can be used")
    base = _real(root)
    place = _real(base / path)
    if not place.is_relative_to(base):
        raise ValueError(f"'{path}' leads outside the working folder")
    if any(part.startswith(".") for part in place.relative_to(base).parts):
        raise ValueError(f"'{path}' is hidden (a name that starts with a dot); such files are not for tools")
    return place


def read_text(root: Path, path: str) -> str:
    """The text of a file under the root; bytes that are not UTF-8 are replaced. Raises ValueError, FileNotFoundError."""
    return read_bytes(root, path).decode("utf-8-sig", "replace").replace("\r\n", "\n")


def read_bytes(root: Path, path: str) -> bytes:
    """The bytes of a file under the root. Raises ValueError, FileNotFoundError."""
    with _parent(root, path) as (folder, name):
        fd = os.open(name, _READ, dir_fd=folder)
        try:
            _refuse_unless_regular(os.fstat(fd).st_mode, path)
            with open(fd, "rb", closefd=False) as file:
                data = file.read(MAX_BYTES + 1)
        finally:
            os.close(fd)
    _refuse_if_large(len(data), path)
    return data


def write_text(root: Path, path: str, text: str) -> int:
    """Write a file under the root, all of it or nothing of it; returns its size in bytes.

    Folders are made as needed. Raises ValueError for places that are not a tool's to write: sessions, prompts, tools,
    configuration, lists of what is allowed, the outbox, program code, hidden files.
    """
    data = text.encode("utf-8")
    _refuse_if_large(len(data), path)
    _refuse_protected(path, root)
    with _parent(root, path, make=True) as (folder, name):
        with suppress(FileNotFoundError):
            _refuse_unless_regular(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode, path)
        _replace(folder, name, data)
    return len(data)


def move_file(root: Path, source: str, target: str) -> None:
    """Move a file under the root in one step: whoever looks finds it at the one place or at the other.

    The source must be a tool's to write. The target is named by the tool's author and never by the model: it may lie in a
    folder that `write_text` refuses. Raises ValueError where something stands there already, FileNotFoundError.
    """
    _refuse_protected(source, root)
    with _parent(root, source) as (old, name), _parent(root, target, make=True) as (new, new_name):
        _refuse_unless_regular(os.stat(name, dir_fd=old, follow_symlinks=False).st_mode, source)
        with suppress(FileNotFoundError):
            os.stat(new_name, dir_fd=new, follow_symlinks=False)
            raise ValueError(f"'{target}' is there already")
        os.rename(name, new_name, src_dir_fd=old, dst_dir_fd=new)


def files_in(root: Path, folder: str = ".") -> tuple[Found, ...]:
    """Every file below a folder (or the one file that is named), sorted by path; links and hidden files are left out."""
    place, base = rooted(folder, root), _real(root)
    if place.is_file():
        return (Found(place.relative_to(base).as_posix(), place.stat().st_size),)
    parts = place.relative_to(base).parts
    with _explained(folder, root), _opened(base, parts) as fd:
        return tuple(sorted(_walk(fd, PurePosixPath(*parts))))


def _walk(fd: int, prefix: PurePosixPath) -> Iterator[Found]:
    for where, folders, names, here in os.fwalk(".", dir_fd=fd, follow_symlinks=False):
        folders[:] = [f for f in folders if not f.startswith(".")]
        at = prefix / where
        if not folders and not names and at != PurePosixPath("."):
            yield Found(f"{at.as_posix()}/", 0)
        for name in names:
            if not name.startswith(".") and (size := _regular_size(name, here)) is not None:
                yield Found((at / name).as_posix(), size)


def _regular_size(name: str, folder: int) -> int | None:
    """None for a link, a FIFO, a device, and for a file that has gone since the folder was read."""
    try:
        seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return seen.st_size if stat.S_ISREG(seen.st_mode) else None


@contextmanager
def _parent(root: Path, path: str, make: bool = False) -> Iterator[tuple[int, str]]:
    """The open folder that holds a path, and the path's name in it."""
    base = _real(root)
    inside = rooted(path, root).relative_to(base)
    with _explained(path, root), _opened(base, inside.parts[:-1], make) as folder:
        yield folder, inside.name or "."


@contextmanager
def _opened(base: Path, parts: Sequence[str], make: bool = False) -> Iterator[int]:
    """A folder below the base, opened one step at a time, no step through a link."""
    fd = os.open(base, _FOLDER)
    try:
        for part in parts:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=fd)
            below = os.open(part, _FOLDER, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _explained(path: str, root: Path) -> Iterator[None]:
    """An error of the system, told with the path that the caller gave."""
    try:
        yield
    except FileNotFoundError as e:
        raise FileNotFoundError(f"there is no '{path}'{_nearby(path, root)}") from e
    except OSError as e:
        raise ValueError(f"'{path}' cannot be used: {e.strerror}") from e


def _nearby(path: str, root: Path) -> str:
    if not root.is_dir():
        return "; the working folder itself is not there"
    known = [f.path for f in files_in(root)]
    near = difflib.get_close_matches(path, known, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else f"; the working folder holds {len(known)} files"


def _replace(folder: int, name: str, data: bytes) -> None:
    """Put a file in its place in one step, so that a reader sees the old one or the new one."""
    temporary = f".{name[:100]}.{secrets.token_hex(4)}"
    fd = os.open(temporary, _CREATE, 0o666, dir_fd=folder)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _refuse_protected(path: str, root: Path) -> None:
    """Both the path as given and its real place are judged, without regard to case: some file systems have none."""
    inside = rooted(path, root).relative_to(_real(root))
    for place in (PurePosixPath(path.casefold()), PurePosixPath(inside.as_posix().casefold())):
        parts = [p for p in place.parts if p != "."]
        if parts and (
            parts[0] in PROTECTED_FOLDERS
            or parts[-1] in PROTECTED_NAMES
            or place.suffix in PROTECTED_SUFFIXES
            or any(p.startswith(".") for p in parts)
        ):
            kinds = "sessions, prompts, tools, settings, the outbox, programs, hidden files"
            raise ValueError(f"'{path}' is not for tools to write: {kinds}")


def _refuse_unless_regular(mode: int, path: str) -> None:
    if stat.S_ISDIR(mode):
        raise ValueError(f"'{path}' is a folder; list_files shows what is in it")
    if not stat.S_ISREG(mode):
        raise ValueError(f"'{path}' is not a regular file")


def _refuse_if_large(size: int, path: str) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"'{path}' is larger than {MAX_BYTES // 1_000_000} MB, the most that tools read or write")


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
