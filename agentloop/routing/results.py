"""What evals have been paid for: one file a kind, `.agentloop/evals/KIND.jsonl`, to which each answer is appended as it comes.

An answer belongs to the very bytes that were asked, so no case is paid twice, and one that was changed is asked anew. A
batch is written down before it is made: where the program ends in between, the next run finds the batch and takes it over.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from agentloop.core import costs
from agentloop.crash_points import reached
from agentloop.errors import LogDamaged, LogWriteFailed, SessionHeld
from agentloop.types.base import Frozen
from agentloop.types.usage import Usage

FOLDER = Path(".agentloop") / "evals"


class Answer(Frozen):
    """What a model answered to one request."""

    type: Literal["answer"] = "answer"
    key: str
    """The digest of what was asked, model and settings too."""
    case: str
    model: str
    text: str
    stop_reason: str
    """As the API says it; `errored` and the like where there was no answer, and asking again would bring none."""
    detail: str = ""
    usage: Usage = Usage()
    cost_usd: Decimal = Decimal(0)
    at_risk_usd: Decimal = Decimal(0)
    """The most that attempts of unknown usage may have cost besides."""
    batch: bool = False
    at: datetime

    @property
    def is_whole(self) -> bool:
        """Whether the model came to the end of what it had to say."""
        return self.stop_reason in ("end_turn", "stop_sequence")

    @property
    def live_usd(self) -> Decimal:
        """What it would have cost outside a batch: so that two models are compared at the same prices."""
        return self.cost_usd / costs.BATCH if self.batch else self.cost_usd


class Intended(Frozen):
    """A batch that is about to be made."""

    type: Literal["intended"] = "intended"
    name: str
    """How the custom ids of its items begin."""
    keys: tuple[str, ...]
    """What each item asks, in their order."""
    at: datetime
    most_usd: Decimal = Decimal(0)
    """The most that it can cost: so much is set aside until it is collected."""


class Submitted(Frozen):
    """A batch that was made."""

    type: Literal["submitted"] = "submitted"
    name: str
    batch_id: str


class Collected(Frozen):
    """A batch whose results are all written down, or cannot be had, or that never was made (`batch_id` is empty)."""

    type: Literal["collected"] = "collected"
    name: str
    batch_id: str = ""
    lost_usd: Decimal = Decimal(0)
    """The most that it may have cost, where its results are gone."""
    at: datetime | None = None


class Asked(Frozen):
    """A request that is about to be made live: where nothing follows, the process ended before it had the answer."""

    type: Literal["asked"] = "asked"
    key: str
    most_usd: Decimal
    """The most that it can cost."""
    at: datetime


class Unanswered(Frozen):
    """Attempts at a request that brought no answer, and may have been billed."""

    type: Literal["unanswered"] = "unanswered"
    key: str
    usd: Decimal
    at: datetime


class Decided(Frozen):
    """A verdict that stands in the table."""

    type: Literal["decided"] = "decided"
    pair: str
    """The pair with which it fell."""
    verdict: str


Record = Answer | Intended | Submitted | Collected | Asked | Unanswered | Decided
_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="type")])


class Results:
    """The results of one kind, held by this process alone."""

    def __init__(self, path: Path, handle: int) -> None:
        """What stands in a file that is open and locked. Raises LogDamaged."""
        self._path, self._handle = path, handle
        self.answers: dict[str, Answer] = {}
        """By what was asked, oldest first."""
        self.decided: dict[str, str] = {}
        """Verdicts, by the pair with which they fell."""
        self.spent_usd = Decimal(0)
        """Of all runs so far, what perhaps was billed too."""
        self._open: dict[str, Intended] = {}
        self._submitted: dict[str, str] = {}
        self._asked: dict[str, Asked] = {}
        for record in self._read():
            self._take(record)
        for left in list(self._asked.values()):
            self.add(Unanswered(key=left.key, usd=left.most_usd, at=left.at))

    def batch_id(self, name: str) -> str:
        """The id of a batch that was made."""
        return self._submitted[name]

    @property
    def batch_ids(self) -> frozenset[str]:
        """The batches whose ids are known."""
        return frozenset(self._submitted.values())

    @property
    def set_aside_usd(self) -> Decimal:
        """The most that open batches can cost."""
        return sum((intended.most_usd for intended in self._open.values()), Decimal(0))

    @property
    def open_batches(self) -> list[tuple[Intended, str | None]]:
        """Batches whose results are not written down, each with its id where that is known."""
        return [(intended, self._submitted.get(name)) for name, intended in self._open.items()]

    def add(self, record: Record) -> None:
        """Write one record; it is on the disk when this returns. Raises LogWriteFailed."""
        line = record.model_dump_json(exclude_defaults=True, exclude={"type"})[1:]
        data = f'{{"type":"{record.type}",{line}\n'.encode()
        try:
            written = os.write(self._handle, data)
            if written != len(data):
                raise OSError(f"{written} of {len(data)} bytes were written")
            os.fsync(self._handle)
        except OSError as e:
            raise LogWriteFailed(f"{self._path}: {e}; free some space and run it again: what is in it is not paid twice") from e
        self._take(record)

    def _take(self, record: Record) -> None:
        self.spent_usd += charged_usd(record)
        match record:
            case Answer():
                self.answers.setdefault(record.key, record)
                self._asked.pop(record.key, None)
            case Asked():
                self._asked[record.key] = record
            case Unanswered():
                self._asked.pop(record.key, None)
            case Intended():
                self._open[record.name] = record
            case Submitted():
                self._submitted[record.name] = record.batch_id
            case Collected():
                self._open.pop(record.name, None)
            case Decided():
                self.decided[record.pair] = record.verdict

    def _read(self) -> Iterator[Record]:
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):  # a torn last line: the process ended while it was written
            os.ftruncate(self._handle, whole)
        return records(self._path, data[:whole])


def records(path: Path, data: bytes) -> Iterator[Record]:
    """The records of a file's whole lines. Raises LogDamaged."""
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            yield _RECORD.validate_json(line)
        except ValidationError as e:
            raise LogDamaged(
                f"{path}, line {number} is damaged; take the line out (what it held is paid again) or bring it back"
            ) from e


def charged_usd(record: Record) -> Decimal:
    """What a record counts against budgets: spent, and perhaps spent."""
    match record:
        case Answer():
            return record.cost_usd + record.at_risk_usd
        case Collected():
            return record.lost_usd
        case Unanswered():
            return record.usd
        case _:
            return Decimal(0)


@contextmanager
def opened(workspace: Path, kind: str) -> Iterator[Results]:
    """The results of a kind, for this process alone. Raises SessionHeld, LogDamaged, LogWriteFailed."""
    path = workspace / FOLDER / f"{kind}.jsonl"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise LogWriteFailed(f"{path} cannot be written: {e.strerror}; check its owner. Nothing was asked") from e
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise SessionHeld(f"another process runs the evals of '{kind}' ({path}); wait for it to end") from e
        yield Results(path, handle)
    finally:
        os.close(handle)


def keep(results: Results, answers: Iterable[Answer | Unanswered]) -> None:
    """Write answers down, and what was paid for none."""
    for answer in answers:
        results.add(answer)
        reached("route.answer_kept")
