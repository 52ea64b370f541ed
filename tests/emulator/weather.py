"""A session against the emulator whose requests can be looked at, whose answers can be tampered with, and that can be taken
up again when the weather is better."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.messages_api import MessagesApi, Patience
from agentloop.adapters.toolbox import Toolbox
from agentloop.core.state import State
from agentloop.emulator import EmulatorSettings, Function
from agentloop.emulator.faults import Faults
from agentloop.emulator.transport import BASE_URL, EmulatorTransport
from agentloop.engine import Shell, run
from agentloop.policies import PolicySettings
from agentloop.report import Report, report
from agentloop.testing import NOON, FixedClock, given, started
from agentloop.tooling import Registry, tool
from agentloop.types.base import Json
from agentloop.types.blocks import Block, text, tool_use
from agentloop.types.events import ModelFailed, ModelReplied, SessionResumed, ToolFinished
from agentloop.types.limits import Limits
from agentloop.types.request import Failure, Reply
from agentloop.types.usage import ModelCard
from tests.emulator.conftest import MODEL, MODELS

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

Tamper = Callable[[int, bytes], bytes | httpx2.Response]
"""From the number of a request and the bytes of its answer to what arrives instead."""


def untouched(number: int, data: bytes) -> bytes:
    return data


def places(request: Json, step: int) -> Sequence[Block]:
    """Four places are looked at, one a turn."""
    if step >= 4:
        return [text("All seen.")]
    return [text(f"I look at {step}."), tool_use(f"toolu_{step}_{len(request['messages'])}", "look", {"place": step})]


class Session:
    """A session of five turns. `requests` are those that the fault hits."""

    def __init__(
        self,
        bench: Bench,
        root: Path,
        *faults: Json,
        tamper: Tamper = untouched,
        answer: Callable[[Json, int], Sequence[Block]] = places,
        limits: Limits | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.bench, self.root, self.tamper = bench, root, tamper
        self.looked: list[int] = []
        self.bodies: list[bytes] = []
        self.keys: list[str] = []
        self.waited: list[float] = []
        self.patience = patience
        looked = self.looked

        @tool(effect="once")
        def look(place: int) -> str:
            """Look at a place.

            Args:
                place: Which one.
            """
            looked.append(place)
            return f"seen {place}"

        self.registry = Registry([look])
        bench.play(Function("places", answer), EmulatorSettings(), Faults.of(*faults))
        self.log, self.blobs, self.clock = MemoryLog(), MemoryBlobs(), FixedClock(step_s=1)
        card = MODELS[MODEL].card
        start = started(model=card, tools=self.registry.definitions, tool_cards=self.registry.cards, limits=limits or Limits())
        self.log.append(start, NOON)
        self.log.append(given("Look at every place."), NOON)

    def run(self, key: str = "k") -> State:
        """Carry it on from wherever its log ends."""
        http = httpx2.Client(transport=_Watched(self), base_url=BASE_URL)
        model = MessagesApi(
            api_key=key, base_url=BASE_URL, http_client=http, sleep=self.waited.append, card_of=card_of, patience=self.patience
        )
        tools = Toolbox(self.registry, session_id="s", root=self.root)
        self.state = run(self.log, Shell(model, tools, self.blobs, self.clock), PolicySettings().policies())
        return self.state

    def resumed(self, key: str = "k", limits: Limits | None = None) -> State:
        """Somebody takes it up again."""
        self.log.append(SessionResumed(limits=limits), self.clock.now())
        return self.run(key)

    @property
    def failures(self) -> list[Failure]:
        return [e.body.failure for e in self.log.events() if isinstance(e.body, ModelFailed)]

    @property
    def replies(self) -> list[Reply]:
        return [e.body.reply for e in self.log.events() if isinstance(e.body, ModelReplied)]

    @property
    def results(self) -> list[ToolFinished]:
        return [e.body for e in self.log.events() if isinstance(e.body, ToolFinished)]

    @property
    def report(self) -> Report:
        return report(list(self.log.events()))

    @property
    def billed_usd(self) -> Decimal:
        """What the emulator charged."""
        return Decimal(self.bench.emulator.report()["totals"]["cost_usd"])


def card_of(model: str) -> ModelCard | None:
    return MODELS[model].card if model in MODELS else None


class _Watched(httpx2.BaseTransport):
    def __init__(self, session: Session) -> None:
        self._session = session
        self._inner = EmulatorTransport(session.bench.emulator, session.bench.slept.append)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        watched = self._session
        watched.bodies.append(request.read())
        watched.keys.append(request.headers["authorization"])
        response = self._inner.handle_request(request)
        if watched.tamper is untouched:
            return response
        told = watched.tamper(len(watched.bodies), response.read())
        if isinstance(told, httpx2.Response):
            return told
        headers = {k: v for k, v in response.headers.items() if k != "content-length"}
        return httpx2.Response(response.status_code, headers=headers, stream=_Bytes([told]))


class _Bytes(httpx2.SyncByteStream):
    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces


def at(number: int, change: Callable[[bytes], bytes | httpx2.Response]) -> Tamper:
    """Tamper with one answer alone."""
    return lambda n, data: change(data) if n == number else data


def from_(number: int, change: Callable[[bytes], bytes | httpx2.Response]) -> Tamper:
    """Tamper with this answer and with all that follow."""
    return lambda n, data: change(data) if n >= number else data
