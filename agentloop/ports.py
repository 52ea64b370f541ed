"""What the engine needs of the world. Adapters fulfil these; tests and the emulator fulfil them too."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, Protocol, Self, runtime_checkable

from agentloop.errors import LogError
from agentloop.types.blocks import Block, Call
from agentloop.types.events import Body, Event, ToolOutcome
from agentloop.types.leaves import LeafRun
from agentloop.types.request import Failure, Reply
from agentloop.types.tools import ToolCard


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


@runtime_checkable
class Rejoins(Protocol):
    """A `ModelClient` whose answers outlive the process that asked for them: items of batches."""

    def rejoins(self, digest: str) -> bool:
        """Whether the answer to a body of this digest is still to be had: it is not paid for again."""
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
    leaves: tuple[LeafRun, ...] | None = None
    """The leaves that the call ran, to be counted in the bill."""

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
        """Write one more event. Raises LogWriteFailed; then the event did not happen. Raises SessionLost where another
        process has taken the session over."""
        ...


News = Callable[[], Iterable[Event]]
"""A session's events that its last call did not give yet, oldest first."""


class SessionLog(Log, Protocol):
    """A log in a store. Reading needs nothing; as a context manager it is held by this process alone, and can be written."""

    @property
    def location(self) -> Path | str:
        """The file, or where in which database; never with a password."""
        ...

    def news(self) -> News:
        """The events as they come."""
        ...

    def whole_lines(self) -> tuple[int, LogError | None]:
        """How many bytes of the log are whole lines, and the damage that comes after them, if any."""
        ...

    def pieces(self, end: int) -> Iterator[bytes]:
        """The bytes of the log up to this end, as a file holds them, a piece at a time."""
        ...

    def __enter__(self) -> Self:
        """Hold it. Raises SessionHeld, LogDamaged, LogVersion, LogWriteFailed, StoreUnavailable."""
        ...

    def __exit__(self, *exc: object) -> None:
        """Let it go."""
        ...


class Blobs(Protocol):
    """Whole tool results, by the SHA-256 of their bytes."""

    def put(self, data: bytes) -> str:
        """Keep these bytes; returns their digest."""
        ...

    def find(self, handle: str) -> bytes | None:
        """The bytes whose digest starts with this handle (8 or more characters); None where there are none."""
        ...

    def digests(self) -> Iterator[str]:
        """The digests of all that is kept, sorted."""
        ...


class Summary(NamedTuple):
    """One row of `sessions list`, as the two ends of a log tell it."""

    session_id: str
    agent: str
    model: str
    started_at: str
    events: int
    outcome: str
    bytes: int


class SessionStore(Protocol):
    """The sessions of a workspace: which there are, and how their logs and blobs are opened."""

    def new_id(self, agent: str, now: datetime) -> str:
        """An id that no session has."""
        ...

    def location(self, session_id: str) -> Path | str:
        """Where a session is kept. Raises UnknownSession for what is no id."""
        ...

    def log(self, session_id: str) -> SessionLog:
        """The log of a session, which need not exist yet."""
        ...

    def blobs(self, session_id: str) -> Blobs:
        """The whole tool results of a session."""
        ...

    def exists(self, session_id: str) -> bool:
        """Whether a session has at least its first line."""
        ...

    def find(self, name: str) -> str:
        """The session of this id, or the only one whose id starts with it. Raises UnknownSession with candidates."""
        ...

    def events(self, session_id: str) -> list[Event]:
        """Every event of a session. Raises UnknownSession where its log is missing or empty, LogDamaged, LogVersion."""
        ...

    def stream(self, session_id: str) -> Iterator[Event]:
        """The same, read as they are asked for."""
        ...

    def ids(self) -> Iterator[str]:
        """The ids of all sessions, sorted."""
        ...

    def summaries(self) -> Iterator[Summary]:
        """A row for each session, without reading whole logs."""
        ...

    def delete(self, session_id: str) -> None:
        """Log and blobs are gone. Raises SessionHeld where somebody is writing it."""
        ...


class Room(NamedTuple):
    """What the tightest of the budgets that a session shares with others has left."""

    scope: str
    """Which one it is: `the workspace on 2026-11-22`."""
    limit_usd: Decimal
    left_usd: Decimal
    """Neither spent nor reserved by anybody, before this request."""
    granted: bool
    """Whether the request was given its room."""


ZERO = Decimal(0)


class Purse(Protocol):
    """The budgets that a session shares with others: money is set aside before it is spent.

    A session says what it has spent in all, never what came on top: so whoever says it twice changes nothing.
    """

    def reserve(self, spent_usd: Decimal, most_usd: Decimal, sent_usd: Decimal = ZERO) -> Room | None:
        """Set aside the most that the next request can cost; `spent_usd` is what the session has spent so far. None where
        nothing is shared. Raises BudgetUnknown where nobody can say what is left.

        `sent_usd`: what of `most_usd` is under way already, and may be billed whatever is said here (a batch that was sent
        yesterday). It stays set aside where the rest is refused."""
        ...

    def settle(self, spent_usd: Decimal) -> None:
        """The session has spent so much in all, and has no request under way. Raises BudgetUnknown."""
        ...


class NothingShared:
    """The purse of a session that shares no budget."""

    def reserve(self, spent_usd: Decimal, most_usd: Decimal, sent_usd: Decimal = ZERO) -> Room | None:
        """There is always room."""
        return None

    def settle(self, spent_usd: Decimal) -> None:
        """Nobody asks."""
