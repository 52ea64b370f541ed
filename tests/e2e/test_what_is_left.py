"""What is left of a run besides its session: nothing (invariant 29); and what a long one takes of the machine (28)."""

import gc
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest

from agentloop import Agent, tool
from agentloop.emulator.script import Function
from agentloop.types.base import Json
from agentloop.types.blocks import Block, text, tool_use
from tests.e2e.workplace import PLAIN, agentloop, workspace


@tool(effect="read")
def look(place: int) -> str:
    """Look at a place.

    Args:
        place: Which one.
    """
    return f"seen {place}: " + "x" * 500


def for_so_long(turns: int) -> Function:
    def answer(request: Json, step: int) -> list[Block]:
        return [tool_use(f"toolu_{step}", "look", {"place": step})] if step < turns else [text("Enough.")]

    return Function("walker", answer)


def agent(folder: Path, turns: int) -> Agent:
    script = for_so_long(turns)
    return Agent(system="You walk.", tools=[look], workspace=folder, script=script, environment={},
                 max_turns=10_000, max_budget_usd="1000", fsync="never")  # fmt: skip


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_open_files_and_threads_do_not_grow_with_a_session(tmp_path: Path) -> None:
    agent(tmp_path, 1).run("Go.")
    seen: list[tuple[int, int]] = []

    def count(event: object, state: object) -> None:
        seen.append((open_files(), threading.active_count()))

    walker = agent(tmp_path, 120)
    walker._on_event = count
    before = (open_files(), threading.active_count())
    result = walker.run("Go.")

    assert (result.outcome, result.turns) == ("completed", 121)
    assert max(files for files, _ in seen[-50:]) <= max(files for files, _ in seen[:50])
    assert max(threads for _, threads in seen[-50:]) <= max(threads for _, threads in seen[:50])
    assert (open_files(), threading.active_count()) == before


@pytest.mark.slow
def test_memory_does_not_grow_with_a_session_beyond_what_is_in_its_view(tmp_path: Path) -> None:
    """From turn 150 to turn 450, in bytes: what the emulator remembers of each request is in it too, some 9 kB a turn."""
    held: dict[int, int] = {}

    def measure(event: object, state: object) -> None:
        asked = state.asked  # type: ignore[attr-defined]
        if asked in (150, 450) and asked not in held:
            gc.collect()
            held[asked] = tracemalloc.get_traced_memory()[0]

    walker = agent(tmp_path, 460)
    walker._on_event = measure
    tracemalloc.start()
    try:
        walker.run("Go.")
    finally:
        tracemalloc.stop()

    assert held[450] - held[150] < 4_500_000, held


@pytest.mark.parametrize("command", ["run assistant --session-id s -q", "run assistant --session-id s -q --max-turns 1"])
def test_after_a_run_there_is_no_process_lock_or_temporary_file(tmp_path: Path, command: str) -> None:
    folder, scratch = workspace(tmp_path / "w"), tmp_path / "scratch"
    scratch.mkdir()

    process = subprocess.Popen(
        [sys.executable, "-m", "agentloop", *command.split()],
        cwd=folder,
        env={**PLAIN, "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    code = process.wait(60)
    left = subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, check=False)

    assert code in (0, 3)
    assert left.stdout == b""
    assert list(scratch.iterdir()) == []
    assert not [p for p in folder.rglob("*") if p.name.startswith((".half", ".report-", ".health-", ".making-"))]
    assert agentloop(folder, "resume", "s", "-q").code == code  # nobody holds it
