"""`kill -9` at any moment: the session goes on, and what was done is not done again."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue

import pytest

from agentloop.adapters.blob_dir import BlobDir
from agentloop.adapters.jsonl_log import LOG, JsonlLog
from agentloop.replay import replay
from agentloop.types.events import Event, SessionEnded, ToolFinished, ToolStarted
from tests.e2e import killable
from tests.property.histories import told

AT_ONCE = 4
Reached = Callable[[Path], bool]


class Nursery:
    """A program that runs sessions in processes of their own."""

    def __init__(self) -> None:
        self._program = subprocess.Popen(
            [sys.executable, killable.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def run(self, folder: Path, until: Reached | None = None) -> int:
        """Run the session in this folder to its end, or kill it when that is reached; returns its exit code."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(f"{folder}\n")
        pid = int(self._program.stdout.readline())
        if until is not None:
            give_up = time.monotonic() + 20
            while not until(folder) and time.monotonic() < give_up:
                time.sleep(0.000_5)
            time.sleep(random.uniform(0, killable.PACE_S))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return int(self._program.stdout.readline())

    def close(self) -> None:
        """End the program."""
        self._program.communicate(timeout=20)


@pytest.fixture(scope="module")
def nurseries() -> Iterator[SimpleQueue[Nursery]]:
    free: SimpleQueue[Nursery] = SimpleQueue()
    started = [Nursery() for _ in range(AT_ONCE)]
    for nursery in started:
        free.put(nursery)
    yield free
    for nursery in started:
        nursery.close()


@pytest.fixture(scope="module")
def unbroken(nurseries: SimpleQueue[Nursery], tmp_path_factory: pytest.TempPathFactory) -> Sequence[Event]:
    """The log of the session when nobody kills it."""
    folder = tmp_path_factory.mktemp("unbroken")
    with _one_of(nurseries) as nursery:
        assert nursery.run(folder) == 0
    return _events(folder)


def test_a_session_killed_at_any_line_of_its_log_goes_on(
    nurseries: SimpleQueue[Nursery], unbroken: Sequence[Event], tmp_path: Path
) -> None:
    def killed_at(line: int) -> int:
        folder = _made(tmp_path / str(line))
        with _one_of(nurseries) as nursery:
            code = nursery.run(folder, until=lambda f: _lines(f / "session" / LOG) >= line)
            _assert_it_goes_on(nursery, folder, unbroken)
        return code

    codes = _side_by_side(killed_at, range(1, len(unbroken) + 1))
    assert codes.count(-signal.SIGKILL) > len(unbroken) // 2


@pytest.mark.parametrize("moment", ["entered", "effects"])
def test_a_session_killed_inside_of_a_tool_goes_on(
    moment: str, nurseries: SimpleQueue[Nursery], unbroken: Sequence[Event], tmp_path: Path
) -> None:
    """Before its effect, or after it and before its answer is on record."""

    def killed_in(call: int) -> int:
        folder = _made(tmp_path / f"{moment}{call}")
        with _one_of(nurseries) as nursery:
            code = nursery.run(folder, until=lambda f: _lines(f / moment) >= call)
            _assert_it_goes_on(nursery, folder, unbroken)
        return code

    calls = sum(isinstance(e.body, ToolStarted) for e in unbroken)
    assert -signal.SIGKILL in _side_by_side(killed_in, range(1, calls + 1))


def test_a_session_killed_again_and_again_still_ends(
    nurseries: SimpleQueue[Nursery], unbroken: Sequence[Event], tmp_path: Path
) -> None:
    with _one_of(nurseries) as nursery:
        for line in range(2, len(unbroken), 4):
            nursery.run(tmp_path, until=lambda f, line=line: _lines(f / "session" / LOG) >= line)  # type: ignore[misc]

        _assert_it_goes_on(nursery, tmp_path, unbroken)


def _assert_it_goes_on(nursery: Nursery, folder: Path, unbroken: Sequence[Event]) -> None:
    answered, done = _answers(_events(folder)), _done(folder)
    assert nursery.run(folder) == 0

    events = _events(folder)
    assert [e.seq for e in events] == list(range(len(events)))
    assert isinstance(last := events[-1].body, SessionEnded)
    assert last.outcome == "completed"
    assert replay(events, killable.SETTINGS.policies()).same
    _assert_effects(folder, _answers(events))
    for answer in answered:
        assert _done(folder)[_key(answer)] == done[_key(answer)], f"{answer.call_id} was finished, and was repeated"
    if all(a.outcome == "ok" for a in _answers(events)):
        assert told(events) == told(unbroken)


def _assert_effects(folder: Path, answers: Sequence[ToolFinished]) -> None:
    """Each call has one answer, and the world tells the same: idempotent calls count once for their key."""
    done = _done(folder)
    blobs = BlobDir(folder / "session" / "blobs")
    assert len(answers) == len({a.call_id for a in answers}) == sum(map(len, killable.REPLIES))
    for answer in answers:
        times = done[_key(answer)]
        if answer.name == "send":
            assert times == 1 if answer.outcome == "ok" else times <= 1, f"{answer.call_id} was sent {times} times"
        else:
            assert answer.outcome == "ok"
            assert times >= 1
        assert answer.raw is None or blobs.find(answer.raw.digest) is not None


def _done(folder: Path) -> Counter[str]:
    """What each tool did, by its own account."""
    file = folder / "effects"
    return Counter(file.read_text().splitlines()) if file.exists() else Counter()


def _key(answer: ToolFinished) -> str:
    return f"{answer.name} session:{answer.call_id}"


def _answers(events: Sequence[Event]) -> list[ToolFinished]:
    return [e.body for e in events if isinstance(e.body, ToolFinished)]


def _events(folder: Path) -> list[Event]:
    """What stands in the log, if it is there."""
    log = JsonlLog(folder / "session")
    return list(log.events()) if log.path.exists() else []


def _lines(file: Path) -> int:
    try:
        return file.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@contextmanager
def _one_of(nurseries: SimpleQueue[Nursery]) -> Iterator[Nursery]:
    nursery = nurseries.get()
    try:
        yield nursery
    finally:
        nurseries.put(nursery)


def _side_by_side(check: Callable[[int], int], numbers: Sequence[int]) -> list[int]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(check, numbers))
