"""Recorded sessions in waves: the bill against live calls at several rates of hits, and what a wave costs in time.

python -m tests.bench.waves            the bill of 40 recorded sessions, then the throughput of 1,000 sessions of 20 turns
python -m tests.bench.waves bill | speed [SESSIONS TURNS]

The sessions are every third of `../shared/traces` (or of the folder that AGENTLOOP_TRACES names). Each runs through the whole
engine; batches go to the emulator, whose setting `earlier_hits` is the share of items that find the cache.
"""

import cProfile
import io
import pstats
import re
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import IO, NamedTuple

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.batch_calls import Standing
from agentloop.core.stream import whole
from agentloop.emulator.settings import BatchSettings
from agentloop.engine import Shell, run
from agentloop.importers import neutral
from agentloop.importers.recording import Recording
from agentloop.lines.files import FileLines
from agentloop.policies import FourMarks, PolicySettings
from agentloop.ports import Answer, ModelClient
from agentloop.recorded import FIRST_DAY
from agentloop.testing import ScriptedModel, card, given, started
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.tools import ToolCard
from agentloop.waves.flights import Flights, tag
from agentloop.waves.journal import Journal
from agentloop.waves.policy import Course
from agentloop.waves.wave import Rules, Wave
from tests.bench.traces import sessions
from tests.waves import LIVE, VirtualClock, in_a_wave, opening

HITS = (0.3, 0.6, 0.9, 0.95, 0.98, 1.0)
GATHER_S = 600.0
BATCH = Rules(course=Course(assumed_hits=Decimal(1), assumed_weight=1_000_000), gather_s=GATHER_S)
POLICY = Rules(gather_s=GATHER_S)
FIVE_MINUTES = PolicySettings(caching=FourMarks(static_ttl="5m", state_ttl="5m", tail_ttl="5m"))


_CUSTOM_ID = re.compile(rb'"custom_id":"([^"]+)"')


class Row(NamedTuple):
    """One rate of hits: bills, as a share of the live one."""

    hits: float
    batch: Decimal
    policy: Decimal
    batched: float
    """The share of replies that came out of batches, under the policy."""


def recorded(count: int = 40) -> list[Recording]:
    """Sessions of all sources that begin differently: the emulator tells them apart by that."""
    found: dict[str, Recording] = {}
    for _, session in sessions():
        recording = neutral.recording(session, session["id"])
        found.setdefault(opening(recording), recording)
    every = len(found) / count
    known = list(found.values())
    return [known[int(i * every)] for i in range(count)]


def bills(recordings: Sequence[Recording]) -> Iterator[Row]:
    """Each rate of hits."""
    live = in_a_wave(recordings, LIVE, policies=FIVE_MINUTES)
    for hits in HITS:
        settings = BatchSettings(earlier_hits=hits)
        batch = in_a_wave(recordings, BATCH, settings, policies=FIVE_MINUTES)
        policy = in_a_wave(recordings, POLICY, settings, policies=FIVE_MINUTES)
        assert batch.cost_usd == batch.billed_usd
        assert policy.cost_usd == policy.billed_usd
        yield Row(hits, batch.cost_usd / live.cost_usd, policy.cost_usd / live.cost_usd, policy.batched / policy.replies)


def lines(rows: Iterator[Row]) -> Iterator[str]:
    """A Markdown table."""
    yield "| hits | all in batches / live | policy / live | policy / the better | out of batches |"
    yield "|---|---|---|---|---|"
    for row in rows:
        better = row.policy / min(row.batch, Decimal(1))
        yield f"| {row.hits} | {row.batch:.3f} | {row.policy:.3f} | {better:.3f} | {row.batched:.0%} |"


class InstantBatches:
    """A `BatchClient` without a network or an emulator: every item calls a tool, until its session has had enough turns."""

    def __init__(self, clock: VirtualClock, turns: int) -> None:
        self._clock, self._turns = clock, turns
        self._batches: list[list[str]] = []

    def create(self, body: bytes | IO[bytes]) -> Standing:
        assert isinstance(body, bytes)
        self._batches.append([found.decode() for found in _CUSTOM_ID.findall(body)])
        return self.retrieve(str(len(self._batches) - 1))

    def retrieve(self, batch_id: str) -> Standing:
        now = self._clock.now()
        return Standing(batch_id, "ended", now, now, {"succeeded": len(self._batches[int(batch_id)])})

    def results(self, batch_id: str) -> Generator[Json, None, None]:
        for custom_id in self._batches[int(batch_id)]:
            yield {"custom_id": custom_id, "result": {"type": "succeeded", "message": _message(int(batch_id), self._turns)}}
        self._batches[int(batch_id)] = []

    def recent(self) -> Iterator[Standing]:
        return iter(())

    def cancel(self, batch_id: str) -> Standing:
        return self.retrieve(batch_id)


def _message(turn: int, turns: int) -> Json:
    last = turn + 1 == turns
    content = [blocks.text("Done.")] if last else [blocks.tool_use(f"call_{turn}", "look", {"at": turn})]
    usage = {"input_tokens": 100, "cache_read_input_tokens": 2_000 * turn, "output_tokens": 100, "service_tier": "batch"}
    usage["cache_creation_input_tokens"] = 2_000
    return {"type": "message", "id": f"msg_{turn}", "role": "assistant", "model": "claude-test", "content": content,
            "stop_reason": "end_turn" if last else "tool_use", "usage": usage}  # fmt: skip


class _Tool:
    """Answers at once with some 500 tokens."""

    def card(self, name: str) -> ToolCard:
        return ToolCard(name=name, effect="read")

    def invalid(self, call: object) -> None:
        return None

    def run(self, calls: Sequence[blocks.Call], *_: object) -> Iterator[Answer]:
        for call in calls:
            yield Answer(f"{call.id}: " + " ".join(f"line {i} of order W{i * 7919}" for i in range(80)), "ok", 0.0)


class Speed(NamedTuple):
    """How fast it went."""

    session_turns: int
    wall_s: float
    cpu_s: float


def speed(count: int, turns: int) -> Speed:
    """So many sessions of so many turns, all in batches. Logs in memory, the wave's own on the disk."""
    clock = VirtualClock()
    plays = {f"s{i:05d}": _session(f"s{i:05d}", clock) for i in range(count)}
    with tempfile.TemporaryDirectory() as folder, Journal(FileLines(Path(folder), "wave")) as journal:
        flights = Flights(InstantBatches(clock, turns), journal, clock, clock.pass_, tag("speed", FIRST_DAY))
        wave = Wave(_no_live, flights, journal, clock, card(), rules=BATCH, pause=clock.pause)
        wall, cpu = time.perf_counter(), time.process_time()
        for future in wave.run(plays).values():
            future.result()
        return Speed(count * turns, time.perf_counter() - wall, time.process_time() - cpu)


def alone(count: int, turns: int) -> Speed:
    """The same sessions one after the other, without a wave: what the engine itself takes."""
    clock = VirtualClock()
    wall, cpu = time.perf_counter(), time.process_time()
    for i in range(count):
        answers = [whole(_message(turn, turns), None, 10_000) for turn in range(turns)]
        _session(f"s{i:05d}", clock)(ScriptedModel(answers))
    return Speed(count * turns, time.perf_counter() - wall, time.process_time() - cpu)


def _session(session_id: str, clock: VirtualClock) -> Callable[[ModelClient], object]:
    def play(asks: ModelClient) -> object:
        log, known = MemoryLog(), card()
        tools = ({"name": "look", "description": "Looks.", "input_schema": {"type": "object"}},)
        log.append(started(session_id=session_id, tools=tools, model=known), clock.now())
        log.append(given(f"Task of {session_id}."), clock.now())
        return run(log, Shell(asks, _Tool(), MemoryBlobs(), clock), PolicySettings().policies())

    return play


def _no_live() -> ModelClient:
    raise AssertionError("nothing is asked live")


def profile(count: int, turns: int) -> str:
    """Where the engine's time goes, in sessions one after the other: in a wave they are in threads of theirs."""
    profiler = cProfile.Profile()
    profiler.enable()
    alone(count, turns)
    profiler.disable()
    out = io.StringIO()
    pstats.Stats(profiler, stream=out).sort_stats("tottime").print_stats(12)
    return out.getvalue()


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "all"
    if what in ("all", "bill"):
        for line in lines(bills(recorded())):
            print(line, flush=True)
    if what in ("all", "speed"):
        many, long = (int(a) for a in sys.argv[2:4]) if len(sys.argv) > 3 else (1_000, 20)
        for name, made in (("in a wave", speed(many, long)), ("a tenth of them alone", alone(many // 10, long))):
            each = made.cpu_s / made.session_turns * 1_000
            print(f"{many:,} sessions x {long} turns, {name}: {made.wall_s:.1f} s, {made.cpu_s:.1f} s of CPU, "
                  f"{each:.2f} ms a session-turn", flush=True)  # fmt: skip
        print(profile(many // 10, long))
