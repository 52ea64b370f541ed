"""Programs in which sessions get their lives, and lose them: `crashing`, a few of them side by side."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from tests.e2e import crashing

AT_ONCE = 2
Kills = Sequence[tuple[str, int]]


class Nursery:
    """A program that gives sessions their lives, and ends them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()
        self._program = subprocess.Popen(
            [sys.executable, crashing.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, shape: str, kills: Kills | None, database: str | None = None) -> Any:
        """One case: where it was, and what is wrong with it; or, without kills, how often each place is reached."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        folder = self._folder / str(next(self._numbers))
        told = {"folder": str(folder), "shape": shape, "kills": kills, "database": database}
        self._program.stdin.write(json.dumps(told) + "\n")
        return json.loads(self._program.stdout.readline()) | ({} if kills is None else {"folder": folder})

    def full(self, shape: str, size: int) -> Any:
        """A life on a disk where no file has more than so many bytes, and a life after it was freed."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        folder = self._folder / str(next(self._numbers))
        self._program.stdin.write(json.dumps({"folder": str(folder), "shape": shape, "database": None, "size": size}) + "\n")
        return json.loads(self._program.stdout.readline()) | {"folder": folder}

    def close(self) -> None:
        """End the program."""
        self._program.communicate(timeout=20)


class Nurseries:
    """Several of them, each doing one thing at a time."""

    def __init__(self, folder: Path) -> None:
        self._all = [Nursery(folder / f"nursery{i}") for i in range(AT_ONCE)]
        self._free: SimpleQueue[Nursery] = SimpleQueue()
        for nursery in self._all:
            self._free.put(nursery)

    def ask(self, shape: str, cases: Sequence[Kills | None], database: str | None = None) -> list[Any]:
        """The answers to these cases, side by side."""

        def one(kills: Kills | None) -> Any:
            with self._one() as nursery:
                return nursery.ask(shape, kills, database)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(one, cases))

    @contextmanager
    def _one(self) -> Iterator[Nursery]:
        nursery = self._free.get()
        try:
            yield nursery
        finally:
            self._free.put(nursery)

    def close(self) -> None:
        """End them all."""
        for nursery in self._all:
            nursery.close()


@pytest.fixture(scope="module")
def nurseries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nurseries]:
    made = Nurseries(tmp_path_factory.mktemp("crashes"))
    yield made
    made.close()
