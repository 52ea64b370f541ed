"""The log of a wave: which requests of which sessions were put into which batch. What they answered is in the sessions' logs.

Sealed lines, one writer, durable before it goes on: what is about to be asked is written before a batch is made, so that
after a crash the batch is found again and its answers are handed to the sessions that ask the same bytes again.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError

from agentloop.core.sealed import digest_of, seal
from agentloop.crash_points import reached
from agentloop.errors import LogDamaged, UsageError
from agentloop.lines import Lines
from agentloop.types.base import Frozen, compact


class WaveStarted(Frozen):
    """The first line."""

    type: Literal["wave_started"] = "wave_started"
    schema_version: int = 1
    wave_id: str
    agent: str
    inputs: str
    """The digest of what the sessions are given."""
    sessions: int
    at: datetime


class Item(Frozen):
    """One request of a batch."""

    custom_id: str
    session_id: str
    digest: str
    """Of the body that the session wants answered."""


class BatchIntended(Frozen):
    """A batch is about to be made."""

    type: Literal["batch_intended"] = "batch_intended"
    number: int
    items: tuple[Item, ...]
    at: datetime
    live: int = 0
    """Requests that were asked live at the same time, for a batch would have been dearer."""
    hits: Decimal | None = None
    """The share of hits that was expected."""


class BatchMade(Frozen):
    """It was made, or found again."""

    type: Literal["batch_made"] = "batch_made"
    number: int
    batch_id: str
    found_again: bool = False


class BatchMissed(Frozen):
    """It was not made, or what was found is another one: its requests are asked anew."""

    type: Literal["batch_missed"] = "batch_missed"
    number: int
    reason: str


class AskedLive(Frozen):
    """Requests that stood in batches, or were about to, are asked live from now on: no batch has their answers any more."""

    type: Literal["asked_live"] = "asked_live"
    requests: tuple[tuple[str, str], ...]
    """Of each, session id and digest."""


class BatchEnded(Frozen):
    """Its answers were handed to their sessions. They stay where they are for 29 days, for a session that lost its own."""

    type: Literal["batch_ended"] = "batch_ended"
    number: int
    outcomes: dict[str, int]
    took_s: float


class HitsMeasured(Frozen):
    """What the items of a batch found of what they could have found in the cache."""

    type: Literal["hits_measured"] = "hits_measured"
    number: int
    items: int
    """That could have found anything."""
    share: Decimal
    """In the mean."""


Line = Annotated[
    WaveStarted | BatchIntended | BatchMade | BatchMissed | AskedLive | BatchEnded | HitsMeasured, Field(discriminator="type")
]
_LINE: TypeAdapter[Line] = TypeAdapter(Line)
_SEALED = len(seal(b"\0" * 8))


class Journal:
    """The log of one wave, held by this process alone while it is open."""

    def __init__(self, lines: Lines) -> None:
        """Keep it in these lines."""
        self.lines: list[Line] = []
        self._kept = lines
        self._digest = b""

    @property
    def where(self) -> str:
        """Where it is, as a person may see it."""
        return self._kept.where

    def __enter__(self) -> Self:
        """Hold it, and read what is there; a torn last line is left out. Raises SessionHeld, LogDamaged, LogWriteFailed."""
        self._kept.__enter__()
        try:
            self.read()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        """Let it go."""
        self._kept.__exit__(*exc)

    def append(self, line: Line) -> None:
        """Write one more line; it is durable when this returns. Raises LogWriteFailed, SessionLost."""
        content = compact(line.model_dump(mode="json"))[:-1]
        digest = digest_of(self._digest, content)
        self._kept.append(len(self.lines), content + seal(digest))
        self._digest = digest
        self.lines.append(line)

    def read(self) -> Self:
        """What is there, without holding it. Raises LogDamaged."""
        self.lines, self._digest = [], b""
        for number, data in enumerate(self._kept.read(), 1):
            self.lines.append(self._line(number, data))
        return self

    def _line(self, number: int, data: bytes) -> Line:
        content = data[:-_SEALED]
        digest = digest_of(self._digest, content)
        try:
            if data[-_SEALED:] != seal(digest):
                raise ValueError("its checksum does not hold")
            line = _LINE.validate_json(content + b"}")
        except (ValueError, ValidationError) as e:
            raise LogDamaged(
                f"{self.where}, line {number} is damaged: {str(e).splitlines()[0]}\n"
                "the sessions' own logs are whole: 'agentloop resume' carries each on by itself"
            ) from e
        self._digest = digest
        return line


def begun(journal: Journal, first: WaveStarted) -> WaveStarted:
    """The first line of a wave's log, which is this one where there is none. Raises UsageError where the wave of that id is
    another one."""
    if not journal.lines:
        journal.append(first)
        reached("wave.started")
    there = journal.lines[0]
    assert isinstance(there, WaveStarted)
    if there.inputs != first.inputs:
        raise UsageError(
            f"wave '{first.wave_id}' was started with {there.sessions:,} other inputs for '{there.agent}'; "
            "give the same inputs, or another --id"
        )
    return there
