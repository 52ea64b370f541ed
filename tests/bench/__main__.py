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
from agentloop.policies import PolicySettings, Whole, preset
from agentloop.replay import replay
from agentloop.tooling import Registry
from tests.bench import batch_rows, durable, emulator_speed, recall_search, soak, tool_search, traces, workers
from tests.bench.against_loop import SIDES, Api, cpu_seconds, look, same_requests, session
from tests.bench.long_logs import long_log
from tests.bench.memory import peak_bytes
from tests.bench.sessions import long_session

ROUNDS = 7
EVENTS = 1_000
TURNS = 150
LENGTHS = (50, 100, 200, 400)
SHORT_LOG, LONG_LOG = 1_000, 100_000
QUEUED = 100
MB = 1_000_000


def main() -> None:
    """Everything, one line each."""
    starts_and_reading()
    processor()
    growth()
    memory()
    replaying()
    long_logs()
    print(flush=True)
    emulator_speed.main()
    soak.main()
    print(flush=True)
    batch_rows.main()
    print(flush=True)
    recall_search.main()
    tool_search.main()
    print(flush=True)
    durable.main()
    print(flush=True)
    workers.main(sessions=QUEUED, rounds=1)
    if traces.TRACES.is_dir():
        print(flush=True)
        subprocess.run([sys.executable, "-m", "tests.bench.traces"], check=True)


def starts_and_reading() -> None:
    """What a user waits for: commands that only read."""
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
        again = seconds(lambda: replay(events, PolicySettings().policies()))
        show(f"replay {len(events)} events", again, folding, "the fold")


def processor() -> None:
    """Processor time of the engine and of the bare loop, in turns; the ratio is the median over the rounds."""
    assert same_requests(TURNS), "the engine and the bare loop send requests that differ"
    for side in SIDES:
        cpu_seconds(side, 2, ROUNDS)
    rounds = [{side: cpu_seconds(side, TURNS, n)[0] for side in SIDES} for n in range(ROUNDS)]
    bare = statistics.median(r["bare"] for r in rounds) / TURNS
    ours = statistics.median(r["engine"] for r in rounds) / TURNS
    print(f"{f'bare loop, processor a turn of {TURNS}':44}{bare * 1e3:9.2f} ms")
    ratio = statistics.median(r["engine"] / r["bare"] for r in rounds)
    print(f"{f'engine, processor a turn of {TURNS}':44}{ours * 1e3:9.2f} ms   {ratio:6.2f} x the bare loop")


def growth() -> None:
    """Processor time for each byte that is sent, as sessions grow: in proportion where it does not rise."""
    costs = [[per_byte(turns, n) for turns in LENGTHS] for n in range(ROUNDS)]
    for turns, *of in zip(LENGTHS, *costs, strict=True):
        ratio = statistics.median(cost / first[0] for cost, first in zip(of, costs, strict=True))
        name = f"engine, processor for each MB sent, {turns} turns"
        print(f"{name:44}{statistics.median(of) * MB * 1e3:9.2f} ms   {ratio:6.2f} x that of {LENGTHS[0]} turns")


def per_byte(turns: int, round_: int) -> float:
    """Processor seconds of the engine for each byte it sent."""
    taken, sent = cpu_seconds("engine", turns, ROUNDS + 1 + round_)
    return taken / sent


def memory() -> None:
    """Peak memory of whole processes, and what a session adds to that of a single turn."""
    bare, ours, bare_one, our_one = (peak(side, turns) for turns in (TURNS, 1) for side in ("bare", "engine"))
    print(f"{f'bare loop, peak memory over {TURNS} turns':44}{bare / MB:9.1f} MB")
    print(f"{f'engine, peak memory over {TURNS} turns':44}{ours / MB:9.1f} MB   {ours / bare:6.2f} x the bare loop")
    grown, bare_grown = ours - our_one, bare - bare_one
    print(f"{'  of it, grown since the first turn':44}{grown / MB:9.1f} MB   {grown / bare_grown:6.2f} x the bare loop")


def peak(side: str, turns: int) -> float:
    """Peak memory of one side, in a process of its own: the median of three."""
    return statistics.median(peak_bytes("-m", "tests.bench.against_loop", side, str(turns)) for _ in range(3))


def replaying() -> None:
    """A session read from its file and decided again, every request made and compared."""
    settings = preset("never").model_copy(update={"facts": Whole()})
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bench"
        with JsonlLog(path, fsync="never") as log:
            session(log, Api(TURNS, first_place=1), Registry([look]), settings)
        found = replay(JsonlLog(path).events(), settings.policies())
        assert found.same
        assert found.requests == TURNS + 1
        reading = seconds(lambda: list(JsonlLog(path).events()))
        whole = seconds(lambda: replay(JsonlLog(path).events(), settings.policies()))
    show(f"read and replay {TURNS} turns", whole, reading, "reading")


def long_logs() -> None:
    """Memory that does not grow with a log."""
    with TemporaryDirectory() as short, TemporaryDirectory() as long:
        long_log(Path(short), "bench", SHORT_LOG)
        long_log(Path(long), "bench", LONG_LOG)
        for command in (("sessions", "list"), ("report", "bench"), ("report", "bench", "--json")):
            small, large = (peak_bytes("-m", "agentloop", *command, "--workspace", w) for w in (short, long))
            name = f"{' '.join(command)}, {LONG_LOG:,} turns"
            print(f"{name:44}{large / MB:9.1f} MB   {large / small:6.2f} x that of {SHORT_LOG:,} turns", flush=True)


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
