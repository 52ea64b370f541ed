"""Recorded sessions, all at once through the engine and a wave, on the emulator and its clock: what they cost and wrote."""

import json
import tempfile
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from agentloop.adapters.batches_api import BatchesApi
from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.messages_api import MessagesApi
from agentloop.adapters.model_table import Model, models
from agentloop.core.costs import cost
from agentloop.emulator.app import Emulator
from agentloop.emulator.script import Recording as Played
from agentloop.emulator.script import Script, ScriptedReply, checked_name
from agentloop.emulator.settings import BatchSettings, EmulatorSettings
from agentloop.emulator.transport import BASE_URL, client
from agentloop.engine import Shell, run
from agentloop.importers.recording import Recording
from agentloop.lines.files import FileLines
from agentloop.policies import PolicySettings, preset
from agentloop.ports import ModelClient
from agentloop.recorded import FIRST_DAY, RecordedTools, RecordedUser, started
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.events import Event, InputGiven, ModelReplied
from agentloop.waves.flights import Flights, tag
from agentloop.waves.journal import Journal, Line
from agentloop.waves.wave import Rules, Wave

MODEL = "claude-sonnet-4-6"
LIVE = Rules(deadline=datetime(2000, 1, 1, tzinfo=UTC), gather_s=600)


class VirtualClock:
    """A clock for several threads, which moves when the coordinator lets time pass."""

    def __init__(self, at: datetime = FIRST_DAY) -> None:
        self._at = at
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            return self._at

    def monotonic(self) -> float:
        return self.now().timestamp()

    def pass_(self, seconds: float) -> None:
        with self._lock:
            self._at += timedelta(seconds=seconds)

    def pause(self, changed: threading.Condition, seconds: float) -> None:
        self.pass_(seconds)


class Chorus:
    """The scripts of several recordings, told apart by the id of the last reply, or else by how the session begins."""

    name = "chorus"

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self._by_name: dict[str, Script] = {}
        self._by_task: dict[str, str] = {}
        for i, recording in enumerate(recordings):
            name = checked_name(f"r{i:04d}")
            replies = [ScriptedReply(s.reply, "tool_use" if blocks.calls(s.reply) else "end_turn") for s in recording.steps]
            self._by_name[name] = Played(name, replies)
            self._by_task[opening(recording)] = name
        assert len(self._by_task) == len(recordings), "two recordings begin alike"

    def reply(self, request: Json) -> ScriptedReply:
        before = str((request.get("diagnostics") or {}).get("previous_message_id") or "")
        name = before.split("_")[1] if before else self._by_task[_opening(request)]
        return self._by_name[name].reply(request)


def opening(recording: Recording) -> str:
    """What tells the first requests of two recordings apart."""
    return json.dumps([recording.system, [b.get("text") for b in recording.steps[0].told]])


def _opening(request: Json) -> str:
    system = "".join(b["text"] for b in request.get("system") or [])
    return json.dumps([system, [b.get("text") for b in request["messages"][0]["content"]]])


class Ran(NamedTuple):
    """What came of it."""

    logs: dict[str, list[Event]]
    journal: list[Line]
    cost_usd: Decimal
    billed_usd: Decimal
    """By the emulator."""
    batches_usd: Decimal
    """By the emulator, for items of batches."""
    batched: int
    """Replies that came out of batches."""
    replies: int


class Stage:
    """Sessions, an emulator, and a folder for the wave's log: so that a wave can be run again after it died."""

    def __init__(
        self, recordings: Sequence[Recording], folder: Path, batches: BatchSettings, policies: PolicySettings | None = None
    ) -> None:
        self._recordings, self._folder = recordings, folder
        self.clock = VirtualClock()
        self._model: Model = models()[MODEL]
        self._policies = policies or preset("rent")
        settings = EmulatorSettings(batches=batches)
        self._emulator = Emulator(Chorus(recordings), models(), clock=self.clock.monotonic, settings=settings)
        self._logs = {f"s{i:04d}": MemoryLog() for i in range(len(recordings))}
        self._journal: list[Line] = []

    def run(self, rules: Rules) -> None:
        """Run them, or carry them on, to their ends."""
        sessions = {i: self._session(r, i) for i, r in zip(self._logs, self._recordings, strict=True)}
        api = BatchesApi(api_key="emulator", base_url=BASE_URL, http_client=client(self._emulator), sleep=self.clock.pass_)
        with Journal(FileLines(self._folder, "wave")) as journal:
            flights = Flights(api, journal, self.clock, self.clock.pass_, tag("test", FIRST_DAY))
            card, live = self._model.card, lambda: _live(self._emulator)
            wave = Wave(live, flights, journal, self.clock, card, rules=rules, pause=self.clock.pause)
            for future in wave.run(sessions).values():
                future.result()
            self._journal = list(journal.lines)

    def ran(self) -> Ran:
        """What came of it."""
        logs = {session_id: list(log.events()) for session_id, log in self._logs.items()}
        usages = [e.body.reply.usage for log in logs.values() for e in log if isinstance(e.body, ModelReplied)]
        report = self._emulator.report()
        items = [r for r in report["requests"] if r["request_id"].startswith("req_msgbatch")]
        return Ran(
            logs,
            self._journal,
            sum((cost(u, self._model.card) for u in usages), Decimal(0)),
            Decimal(report["totals"]["cost_usd"]),
            sum((Decimal(r["cost_usd"]) for r in items), Decimal(0)),
            sum(u.service_tier == "batch" for u in usages),
            len(usages),
        )

    def _session(self, recording: Recording, session_id: str) -> Callable[[ModelClient], object]:
        log = self._logs[session_id]

        def play(asks: ModelClient) -> object:
            written = len(list(log.events()))
            if written == 0:
                log.append(started(recording, session_id, self._model.card, self._policies.data()), self.clock.now())
            if written <= 1:
                log.append(InputGiven(content=recording.steps[0].told), self.clock.now())
            shell = Shell(asks, RecordedTools(recording), MemoryBlobs(), self.clock, inbox=RecordedUser(recording))
            return run(log, shell, self._policies.policies())

        return play


def in_a_wave(
    recordings: Sequence[Recording],
    rules: Rules,
    batches: BatchSettings | None = None,
    *,
    policies: PolicySettings | None = None,
) -> Ran:
    """Play these recordings side by side."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(recordings, Path(folder), batches or BatchSettings(), policies)
        stage.run(rules)
    return stage.ran()


def _live(emulator: Emulator) -> ModelClient:
    return MessagesApi(api_key="emulator", base_url=BASE_URL, http_client=client(emulator))
