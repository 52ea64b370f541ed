"""Programs that a tool may run: only those on the operator's list, without a shell, and with nothing left running.

A program is judged by where it is found, never by what it is called. It gets a list of arguments, an environment of three
variables, and a process group of its own, which ends with it.
"""

import atexit
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

COMMANDS_FILE = "allowed_commands.txt"
COMMANDS_VARIABLE = "AGENTLOOP_COMMANDS"
MOST_BYTES = 1_000_000
LIMIT_S = 60.0
GRACE_S = 2.0
LOOK_EVERY_S = 0.05

_RUNNING: set[int] = set()
"""The process groups that are under way; those that a session leaves behind when it is broken off end with the process."""


class Ran(NamedTuple):
    """What became of a program."""

    code: int | None
    """Its exit code; below zero for the signal that ended it; None where it was ended for the time it took."""
    out: str
    err: str
    dropped: int
    """Bytes of output beyond the limit."""


def run(
    program: str,
    arguments: Sequence[str],
    root: Path,
    allowed: Sequence[str],
    *,
    limit_s: float = LIMIT_S,
    grace_s: float = GRACE_S,
    most_bytes: int = MOST_BYTES,
) -> Ran:
    """Run a program in the root and wait for it. Raises ValueError where it may not be run, or cannot be."""
    place = found(program, allowed, root)
    if any("\x00" in a for a in arguments):
        raise ValueError("an argument holds a NUL character, which no argument can")
    try:
        process = subprocess.Popen(
            [place, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=root,
            env=plain_environment(root),
            start_new_session=True,
        )
    except OSError as e:
        raise ValueError(f"'{program}' cannot be run: {e.strerror}") from e
    _RUNNING.add(process.pid)
    output = _Output(most_bytes)
    try:
        in_time = _wait(process, output, time.monotonic() + limit_s)
        if not in_time:
            _end(process, grace_s)
    finally:
        _signal(process.pid, signal.SIGKILL)
        _RUNNING.discard(process.pid)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    return Ran(process.returncode if in_time else None, output.text("out"), output.text("err"), output.dropped)


def found(program: str, allowed: Sequence[str], root: Path) -> str:
    """Where an allowed program is. Raises ValueError for one that is not on the list, or is not there.

    A name is searched on the operator's `PATH`, without the folders that tools can write to; a path has to be absolute.
    """
    search = search_path(root)
    place = _place(program, search)
    if place is None or place not in {_place(name, search) for name in allowed}:
        known = ", ".join(allowed) or "none"
        raise ValueError(
            f"'{program}' is not a program that may be run; allowed: {known}\n"
            f"a person allows it with a line in {COMMANDS_FILE}, or in the environment variable {COMMANDS_VARIABLE}"
        )
    return place


def plain_environment(root: Path) -> dict[str, str]:
    """All that a program learns of the environment: keys and tokens of the engine stay with the engine."""
    return {"PATH": search_path(root), "LANG": os.environ.get("LANG", "C.UTF-8"), "HOME": os.path.realpath(root)}


def search_path(root: Path) -> str:
    """`PATH` without relative folders and without those under the root."""
    base = Path(os.path.realpath(root))
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    kept = [f for f in folders if os.path.isabs(f) and not Path(os.path.realpath(f)).is_relative_to(base)]
    return os.pathsep.join(kept)


def _place(program: str, search: str) -> str | None:
    """A program's folder, free of links, and its name in it; the name stays, for there are programs that go by theirs."""
    if not program or "\x00" in program or program.startswith("-") or ("/" in program and not program.startswith("/")):
        return None
    place = shutil.which(program, path=search)
    return os.path.join(os.path.realpath(os.path.dirname(place)), os.path.basename(place)) if place else None


class _Output:
    """The first bytes of what a program says; the rest is counted, so that the program can go on."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._kept = {"out": bytearray(), "err": bytearray()}
        self.dropped = 0

    def take(self, name: str, data: bytes) -> None:
        self._kept[name] += data[: self._left]
        self.dropped += max(0, len(data) - self._left)
        self._left = max(0, self._left - len(data))

    def text(self, name: str) -> str:
        return self._kept[name].decode("utf-8", "replace")


def _wait(process: subprocess.Popen[bytes], output: _Output, deadline: float) -> bool:
    """Read until the program has ended; whether it did in time. Whoever else holds its pipes is not waited for."""
    assert process.stdout is not None
    assert process.stderr is not None
    with selectors.DefaultSelector() as pipes:
        pipes.register(process.stdout, selectors.EVENT_READ, "out")
        pipes.register(process.stderr, selectors.EVENT_READ, "err")
        while time.monotonic() < deadline:
            ended = process.poll() is not None
            if ended:
                _signal(process.pid, signal.SIGKILL)
            ready = pipes.select(0 if ended else min(LOOK_EVERY_S, max(0.0, deadline - time.monotonic())))
            if ended and not ready:
                return True
            for key, _ in ready:
                data = os.read(key.fd, 65_536)
                output.take(key.data, data)
                if not data:
                    pipes.unregister(key.fileobj)
            if not pipes.get_map():
                return _ended(process, max(0.0, deadline - time.monotonic()))
    return process.poll() is not None


def _end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Ask the whole group to end; what is still there after the grace is killed by the caller."""
    _signal(process.pid, signal.SIGTERM)
    _ended(process, grace_s)


def _ended(process: subprocess.Popen[bytes], within_s: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(within_s)
    return process.returncode is not None


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


@atexit.register
def _leave_nothing_running() -> None:
    for group in tuple(_RUNNING):
        _signal(group, signal.SIGKILL)
