"""What the engine needs of the world. Adapters fulfil these; tests and the emulator fulfil them too."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from agentloop.types.blocks import Block, Call
from agentloop.types.events import Body, Event, ToolCard, ToolOutcome
from agentloop.types.request import Failure, Reply


class Clock(Protocol):
    """What time it is."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards, for durations."""
        ...


class ModelClient(Protocol):
    """Something that answers requests."""

    def ask(self, body: bytes) -> Iterator[Failure | Reply]:
        """The attempts for one request body: failures, then the reply; or failures only, the last without a retry."""
        ...


Wakes = Callable[[], float | None]
"""Seconds until whoever waits for calls wants to be woken; None where it only waits. Asked again each time."""


def never() -> None:
    """Not to be woken."""


class Answer(NamedTuple):
    """What came of a tool call."""

    content: str | list[Block]
    outcome: ToolOutcome
    duration_s: float

    @property
    def is_error(self) -> bool:
        """Whether the model is told that the call failed."""
        return self.outcome != "ok"


class ToolRunner(Protocol):
    """Runs tool calls. It never raises for what a tool does."""

    def card(self, name: str) -> ToolCard | None:
        """What the tool declared, or None where there is no such tool."""
        ...

    def invalid(self, call: Call) -> str | None:
        """Why a call cannot be run: unknown tool, input that does not fit its schema; None where it can."""
        ...

    def run(
        self, calls: Sequence[Call], idempotency_key: Callable[[Call], str], wakes_in_s: Wakes = never
    ) -> Iterator[Answer | None]:
        """The answers to these calls, in their order, run side by side; None each time the caller is woken before."""
        ...


class Log(Protocol):
    """One session's events. Appending is durable when it returns; only one process can append."""

    def events(self) -> Iterator[Event]:
        """Every event, oldest first. Raises LogDamaged, LogVersion."""
        ...

    def append(self, body: Body, at: datetime) -> Event:
        """Write one more event. Raises LogWriteFailed; then the event did not happen."""
        ...


News = Callable[[], Iterable[Event]]
"""A session's events that its last call did not give yet, oldest first."""


class Blobs(Protocol):
    """Whole tool results, by the SHA-256 of their bytes."""

    def put(self, data: bytes) -> str:
        """Keep these bytes; returns their digest."""
        ...

    def find(self, handle: str) -> bytes | None:
        """The bytes whose digest starts with this handle (8 or more characters); None where there are none."""
        ...
