"""Runs the benchmarks and prints one line each: what was measured, the median, and how it compares."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from agentloop.adapters.jsonl_log import JsonlLog
from agentloop.core.folding import fold
from agentloop.policies import PolicySettings
from agentloop.replay import replay
from tests.bench.sessions import long_session

ROUNDS = 7
EVENTS = 1_000


def main() -> None:
    """Everything, one line each."""
    with TemporaryDirectory() as folder:
        log = long_session(Path(folder), events=EVENTS)
        bare = seconds(lambda: start("-c", "pass"))
        print(f"{'bare python start':44}{bare * 1e3:9.1f} ms")
        show("agentloop --help", seconds(lambda: start("-m", "agentloop", "--help")), bare, "bare python start")
        command = ("-m", "agentloop", "report", "long", "--workspace", folder)
        show(f"agentloop report, {EVENTS} events", seconds(lambda: start(*command)), bare, "bare python start")
        reading = seconds(lambda: list(JsonlLog(log.parent).events()))
        events = list(JsonlLog(log.parent).events())
        folding = seconds(lambda: fold(events))
        show(f"read and check {len(events)} events", reading, folding, "the fold")
        print(f"{f'fold {len(events)} events':44}{folding * 1e3:9.1f} ms")
        replaying = seconds(lambda: replay(events, PolicySettings().policies()))
        show(f"replay {len(events)} events", replaying, folding, "the fold")


def seconds(work: Callable[[], object]) -> float:
    """The median of several rounds, after one that is not counted."""
    work()
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def start(*arguments: str) -> None:
    """One whole process."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def show(name: str, value: float, base: float, of: str) -> None:
    """A figure, and its ratio to another of the same run."""
    print(f"{name:44}{value * 1e3:9.1f} ms   {value / base:6.1f} x {of}")


if __name__ == "__main__":
    main()
