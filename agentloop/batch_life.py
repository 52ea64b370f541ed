"""The life of one batch, whoever sends it: requests parted by the limits, a lost batch found, its end waited for, its results
taken whole.

Who sends writes down what is about to be sent, makes the batch by one call that is never repeated, and writes down its id.
Where that id was lost, the batch is looked for here. Nothing here writes a log: batch runs, evals and waves have their own.
"""

import json
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from tempfile import TemporaryFile
from typing import IO, Generic, NamedTuple, TypeVar

from pydantic import Field

from agentloop.batch_calls import AROUND, MAX_BYTES, MAX_ITEMS, BatchCallFailed, BatchClient, Standing
from agentloop.types.base import Json, Settings, compact

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
LONGEST_CUSTOM_ID = 64


class Limits(NamedTuple):
    """How much one batch may hold."""

    items: int = MAX_ITEMS
    bytes: int = MAX_BYTES


class Patience(Settings):
    """How long is waited for what. In seconds."""

    poll_first_s: float = Field(default=5.0, gt=0)
    """Between the first looks at a batch."""
    poll_longest_s: float = Field(default=120.0, gt=0)
    poll_growth: float = Field(default=1.5, ge=1)
    settle_s: float = Field(default=60.0, ge=0)
    """After a submission that nobody answered: until then the batch may still turn up in the list."""
    skew_s: float = Field(default=3_600.0, ge=0)
    """How far our clock may be ahead of the API's. Only how far back the list is read depends on it."""
    overdue_s: float = Field(default=7_200.0, ge=0)
    """A batch that has not ended so long after it expired is not waited for."""
    kept_s: float = Field(default=29 * 86_400.0, ge=0)
    """From a batch's creation: then its results are gone."""
    downloads: int = Field(default=5, ge=1)
    """So often results are asked for that break off."""
    refusals: int = Field(default=5, ge=1)
    """So often a batch is sent again in one go that was refused for the time being, or that never arrived."""


class Sent(NamedTuple):
    """A batch that was written down before it was sent, and of which nobody knows whether it was made."""

    at: datetime
    """When it was written down."""
    items: int
    others: frozenset[str]
    """Batches that are known to be others."""


class Found(NamedTuple):
    """What a look at the list of batches told."""

    batch: Standing | None = None
    may_be: bool = False
    """One that has not ended may be it: nothing is sent again before it has."""


class Matching(Generic[K]):
    """Whose results have come: matched by custom id, never by their order, each once."""

    def __init__(self, asked: Iterable[K], key_of: Callable[[str], K | None]) -> None:
        """`asked` are the items of the batch; `key_of` says which one a custom id names, None for one that nobody gave."""
        self._asked, self._key_of = frozenset(asked), key_of
        self.missing = set(self._asked)
        self.unknown = self.twice = 0

    def key(self, line: Json) -> K | None:
        """Whose result this line is; None where it is nobody's, or came before."""
        key = self._key_of(str(line.get("custom_id"))[: LONGEST_CUSTOM_ID + 1])
        if key is None or key not in self._asked:
            self.unknown += 1
            return None
        if key not in self.missing:
            self.twice += 1
            return None
        self.missing.discard(key)
        return key


def parted(sized: Iterable[tuple[T, int]], limits: Limits) -> Iterator[tuple[T, ...]]:
    """Requests in batches that the API takes, in their order. Each comes with the bytes of its line (`request_line`)."""
    part: list[T] = []
    size = AROUND
    for one, line in sized:
        if part and (size + line + 1 > limits.bytes or len(part) >= limits.items):
            yield tuple(part)
            part, size = [], AROUND
        part.append(one)
        size += line + 1
    if part:
        yield tuple(part)


def candidates(client: BatchClient, sent: Sent, skew: timedelta) -> Iterator[Standing]:
    """The batches that may be the one that was sent, by their time and size, the newest first. Raises BatchCallFailed."""
    for batch in client.recent():
        if batch.created_at < sent.at - skew:
            return
        if batch.items == sent.items and batch.id not in sent.others and not batch.is_archived:
            yield batch


@dataclass(frozen=True)
class Batches:
    """What is done with batches that are written down. Every method raises BatchCallFailed."""

    api: BatchClient
    now: Callable[[], datetime]
    sleep: Callable[[float], None]
    patience: Patience = field(default_factory=Patience)

    def find(self, sent: Sent, is_ours: Callable[[str], bool]) -> Found:
        """The batch whose id was lost. The list shows no custom ids, so it is known by those of its results (`is_ours`).

        Nothing found, and nothing that may be it, means that nothing was made: where that is not certain yet, it waits.
        """
        found = self._looked(sent, is_ours)
        certain_at = sent.at + timedelta(seconds=self.patience.settle_s)
        if found == Found() and self.now() < certain_at:
            self.sleep((certain_at - self.now()).total_seconds())
            found = self._looked(sent, is_ours)
        return found

    def found(self, sent: Sent, is_ours: Callable[[str], bool]) -> Standing | None:
        """The same, once it is clear: those that may be it are waited for. None: nothing was made."""
        for pause_s in self.pauses():
            found = self.find(sent, is_ours)
            if not found.may_be or found.batch is not None:
                return found.batch
            self.sleep(pause_s)
        raise AssertionError("pauses do not end")

    def _looked(self, sent: Sent, is_ours: Callable[[str], bool]) -> Found:
        may_be = False
        for batch in candidates(self.api, sent, timedelta(seconds=self.patience.skew_s)):
            if not batch.has_ended:
                may_be = True
            elif (first := self._first_id(batch.id)) is not None and is_ours(first):
                return Found(batch)
        return Found(None, may_be)

    def _first_id(self, batch_id: str) -> str | None:
        def asked() -> str | None:
            with closing(self.api.results(batch_id)) as lines:
                first = next(lines, None)
            return str(first.get("custom_id")) if first is not None else None

        return self._tried(asked)

    def pauses(self) -> Iterator[float]:
        """Seconds between looks at a batch that goes on: ever longer ones."""
        pause_s = self.patience.poll_first_s
        while True:
            yield pause_s
            pause_s = min(pause_s * self.patience.poll_growth, self.patience.poll_longest_s)

    def ended(self, batch_id: str) -> Standing:
        """A batch once it has ended."""
        for pause_s in self.pauses():
            batch = self.api.retrieve(batch_id)
            if batch.has_ended:
                return batch
            if self.is_overdue(batch):
                break
            self.sleep(pause_s)
        raise BatchCallFailed("unavailable", f"{batch_id} expired long ago and is still '{batch.status}'")

    def is_overdue(self, batch: Standing) -> bool:
        """Whether a batch should have ended long ago."""
        return not batch.has_ended and self.now() > batch.expires_at + timedelta(seconds=self.patience.overdue_s)

    @contextmanager
    def results(self, batch: Standing) -> Iterator[Iterator[Json]]:
        """Every result of a batch that has ended, from the disk: nothing is given before all of it is there."""
        with TemporaryFile() as file:
            self._download(file, batch)
            file.seek(0)
            yield (json.loads(line) for line in file)

    def _download(self, file: IO[bytes], batch: Standing) -> None:
        """One that ends before all items are told is taken for cut, and made again; if it always ends there, that is all."""
        before = -1
        for attempt in range(self.patience.downloads):
            found = self._tried(lambda: _written(file, self.api, batch.id))
            if found >= batch.items or found == before:
                return
            before = found
            self._wait(attempt)
        raise BatchCallFailed("unavailable", f"the results end after {before:,} of {batch.items:,} items", retry=True)

    def _tried(self, ask: Callable[[], T]) -> T:
        """What is answered, at the first attempt that does not break off."""
        for attempt in range(self.patience.downloads - 1):
            try:
                return ask()
            except BatchCallFailed as e:
                if not e.retry:
                    raise
            self._wait(attempt)
        return ask()

    def _wait(self, attempt: int) -> None:
        self.sleep(min(2.0 ** (attempt + 1), self.patience.poll_longest_s))


def _written(file: IO[bytes], api: BatchClient, batch_id: str) -> int:
    """How many results a download brought, which is all that the file holds then."""
    file.seek(0)
    file.truncate()
    found = 0
    with closing(api.results(batch_id)) as lines:
        for line in lines:
            file.write(compact(line) + b"\n")
            found += 1
    return found
