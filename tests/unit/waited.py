"""A session against the emulator in which one tool takes its time, all on a clock that moves only when something waits."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.messages_api import MessagesApi, Patience
from agentloop.adapters.model_table import find, models
from agentloop.core.state import State
from agentloop.emulator import Emulator, Function
from agentloop.emulator.transport import client
from agentloop.engine import Shell, run
from agentloop.policies import PolicySettings
from agentloop.ports import Answer, ModelClient, NothingShared, Purse, Wakes, never
from agentloop.testing import NOON, FixedClock, given, started
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block, Call
from agentloop.types.events import Event, ModelFailed, ModelReplied, ModelRequested
from agentloop.types.limits import Limits
from agentloop.types.request import Failure, Reply
from agentloop.types.tools import ToolCard
from agentloop.types.usage import Usage

LINE = "A line of page {page}, and what it costs is 12.50 EUR.\n"
NO_PURSE = NothingShared()
DEFINITIONS = tuple(
    {
        "name": name,
        "description": f"{name} something.",
        "input_schema": {"type": "object", "properties": {"page": {"type": "integer"}}},
    }
    for name in ("crawl", "look")
)


class SlowTools:
    """`look` answers at once with a page, `crawl` after `takes_s` seconds. Neither is ever a thread."""

    def __init__(self, clock: FixedClock, takes_s: float, announced_s: float | None, page_lines: int, facts: str) -> None:
        self._clock, self._takes_s = clock, takes_s
        self._page = LINE * page_lines
        crawl = ToolCard(name="crawl", effect="once", timeout_s=100_000, takes_s=announced_s)
        self.cards = {"crawl": crawl, "look": ToolCard(name="look", effect="read", facts=facts)}

    def card(self, name: str) -> ToolCard | None:
        return self.cards.get(name)

    def invalid(self, call: Call) -> str | None:
        return None

    def run(
        self, calls: Sequence[Call], idempotency_key: Callable[[Call], str], wakes_in_s: Wakes = never
    ) -> Iterator[Answer | None]:
        started_at = self._clock.monotonic()
        for call in calls:
            done_at = started_at + (self._takes_s if call.name == "crawl" else 0.0)
            while (seconds := wakes_in_s()) is not None and self._clock.monotonic() + seconds < done_at:
                self._clock.pass_(seconds)
                yield None
            self._clock.pass_(max(0.0, done_at - self._clock.monotonic()))
            yield Answer("crawled" if call.name == "crawl" else self._page.format(**call.input), "ok", 0.0)


class Waited(NamedTuple):
    """What came of it."""

    state: State
    events: list[Event]
    bodies: list[bytes]

    @property
    def pings(self) -> list[ModelRequested]:
        return [e.body for e in self.events if isinstance(e.body, ModelRequested) and e.body.purpose == "keepalive"]

    @property
    def pinged(self) -> list[Usage]:
        return [e.body.reply.usage for e in self.events if isinstance(e.body, ModelReplied) and e.body.purpose == "keepalive"]

    @property
    def failures(self) -> list[Failure]:
        return [e.body.failure for e in self.events if isinstance(e.body, ModelFailed)]

    def asked_at(self, number: int) -> datetime:
        """When this turn was asked for."""
        asked = [e.at for e in self.events if isinstance(e.body, ModelRequested) and e.body.purpose == "turn"]
        return asked[number - 1]

    def turn(self, number: int) -> Usage:
        """The usage of this turn's reply."""
        replies = [e.body for e in self.events if isinstance(e.body, ModelReplied) and e.body.purpose == "turn"]
        return replies[number - 1].reply.usage


class Wire:
    """A `ModelClient` that keeps what was sent, and may refuse pings."""

    def __init__(self, inner: ModelClient, refused: Failure | None = None) -> None:
        self._inner, self._refused = inner, refused
        self.bodies: list[bytes] = []

    def ask(self, body: bytes) -> Iterator[Failure | Reply]:
        self.bodies.append(body)
        if self._refused is not None and b'"max_tokens":0' in body:
            yield self._refused
        else:
            yield from self._inner.ask(body)


def waited(
    takes_s: float = 1_200,
    announced_s: float | None = 1_200,
    looks: int = 12,
    page_lines: int = 150,
    after: int = 0,
    model: str = "claude-sonnet-5-5",
    settings: PolicySettings | None = None,
    limits: Limits | None = None,
    refused: Failure | None = None,
    past: Sequence[Event] = (),
    facts: str = "keep",
    every: int = 0,
    purse: Purse = NO_PURSE,
) -> Waited:
    """A session that looks at so many pages, ten seconds each, then crawls, looks at some more, and is done. `past`: what
    its log held already when the process before this one ended; the API remembers nothing of it. `every`: it crawls in
    place of each so many-th look, too."""
    clock, table = FixedClock(past[-1].at if past else NOON), models()
    tools = SlowTools(clock, takes_s, announced_s, page_lines, facts)

    def answer(request: Json, at: int) -> list[Block]:
        clock.pass_(10)
        if at > looks + after:
            return [blocks.text("Done.")]
        crawls = at == looks or (every and at % every == 0)
        return [blocks.tool_use(f"toolu_{at}", "crawl" if crawls else "look", {"page": at})]

    emulator = Emulator(Function("waits", answer), table, clock=lambda: clock.at.timestamp())
    api = MessagesApi(
        api_key="emulator",
        base_url="http://emulator",
        http_client=client(emulator, clock.pass_),
        patience=Patience(attempts=1),
    )
    wire = Wire(api, refused)
    start = started(
        system="You look at pages. " * 200,
        tools=DEFINITIONS,
        tool_cards=tuple(tools.cards.values()),
        model=find(model, table).card,
        policies=settings,
        limits=limits,
    )
    log = MemoryLog(past)
    for body in () if past else (start, given("Look at the pages.")):
        log.append(body, NOON)
    state = run(log, Shell(wire, tools, MemoryBlobs(), clock, purse=purse), (settings or PolicySettings()).policies())
    return Waited(state, list(log.events()), wire.bodies)
