"""Message batches: many requests at half price, on the emulator's clock.

Nothing runs on its own. Whoever asks brings the time with it, and every item that has started by then is answered, each
at the moment at which it starts: the same questions at the same times get the same answers.
https://platform.claude.com/docs/en/build-with-claude/batch-processing
"""

import random
import threading
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from agentloop.emulator import batch_items
from agentloop.emulator.answers import ApiError, invalid, not_found
from agentloop.emulator.batch_items import Asked, Outcome
from agentloop.emulator.faults import chance
from agentloop.emulator.paging import page
from agentloop.emulator.settings import BatchSettings
from agentloop.emulator.siblings import Siblings
from agentloop.emulator.timeline import Timeline, written
from agentloop.emulator.validation import ApiVersion
from agentloop.types.base import Json, compact

LINES_AT_ONCE = 256


class Item(NamedTuple):
    """One request of a batch, when it starts."""

    params: Json
    at: float
    done_at: float
    request_id: str
    version: ApiVersion
    betas: frozenset[str]
    siblings: Siblings


class Answerer(Protocol):
    """Answers the items of batches."""

    def __call__(self, item: Item) -> Json:
        """The message. Raises ApiError."""
        ...


class _Batch:
    def __init__(self, id: str, asked: Asked, timeline: Timeline, version: ApiVersion, betas: frozenset[str]) -> None:
        self.id, self.timeline, self.version, self.betas = id, timeline, version, betas
        self.custom_ids = asked.custom_ids
        self.params: list[Json | None] = list(asked.params)
        self.outcomes: list[Outcome] = ["succeeded"] * len(asked.params)
        self.lines: list[bytes] = []
        self.siblings = Siblings()
        self.next = 0
        """The item that starts next."""
        self.never_done = 0
        """Items that are not done before the batch expires."""
        self.is_closed = False

    @property
    def next_at(self) -> float:
        return self.timeline.starts(self.next)


class Batches:
    """The batches of one emulator. Thread-safe."""

    def __init__(self, answer: Answerer, settings: BatchSettings, seed: int, queue: int) -> None:
        self._answer, self._settings, self._seed, self._queue = answer, settings, seed, queue
        self._lock = threading.RLock()
        self._batches: dict[str, _Batch] = {}
        self._active: dict[str, _Batch] = {}
        self._made = 0

    def create(self, body: Json, at: float, version: ApiVersion, betas: frozenset[str], host: str) -> Json:
        """A new batch. Only its shape is looked at: what its items ask is checked when they start. Raises ApiError."""
        asked = batch_items.asked(body)
        with self._lock:
            self.advance(at)
            if sum(len(b.params) - b.next for b in self._active.values()) + len(asked.params) > self._queue:
                raise ApiError(
                    429,
                    "rate_limit_error",
                    f"This batch would exceed the limit of {self._queue:,} batch requests in the queue.",
                )
            self._made += 1
            timeline = Timeline(at, len(asked.params), self._settings)
            batch = _Batch(f"msgbatch_emulator_{self._made:08d}", asked, timeline, version, betas)
            self._batches[batch.id] = self._active[batch.id] = batch
            return self._shown(batch, at, host)

    def retrieve(self, id: str, at: float, host: str) -> Json:
        """One batch, as it stands. Raises ApiError."""
        with self._lock:
            self.advance(at)
            return self._shown(self._found(id), at, host)

    def list(self, query: Mapping[str, str], at: float, host: str) -> Json:
        """One page of the batches, the newest first. Raises ApiError."""
        with self._lock:
            self.advance(at)
            shown, frame = page(list(reversed(self._batches)), query, "batch")
            return {"data": [self._shown(self._batches[i], at, host) for i in shown], **frame}

    def cancel(self, id: str, at: float, host: str) -> Json:
        """Let no further item of a batch start. Raises ApiError for one that has ended."""
        with self._lock:
            self.advance(at)
            batch = self._found(id)
            if batch.is_closed:
                raise invalid(f"Batch {id} cannot be canceled: its processing has ended")
            if batch.timeline.canceled_at is None:
                batch.timeline.cancel(at, batch.next)
            return self._shown(batch, at, host)

    def delete(self, id: str, at: float) -> Json:
        """Forget a batch. Raises ApiError for one that has not ended."""
        with self._lock:
            self.advance(at)
            if not self._found(id).is_closed:
                raise invalid(f"Batch {id} cannot be deleted while it is processed; cancel it first")
            del self._batches[id]
            return {"id": id, "type": "message_batch_deleted"}

    def results(self, id: str, at: float) -> Iterator[bytes]:
        """One line for each item, in an order that means nothing. Raises ApiError."""
        with self._lock:
            self.advance(at)
            batch = self._found(id)
            if not batch.is_closed:
                raise not_found(f"Batch {id} has no results yet: its processing has not ended")
            if at >= batch.timeline.archived_at:
                batch.lines.clear()
                raise not_found(f"The results of batch {id} are no longer available")
            lines = batch.lines
        return (b"".join(lines[i : i + LINES_AT_ONCE]) for i in range(0, len(lines), LINES_AT_ONCE))

    def advance(self, at: float) -> None:
        """Answer every item that has started by now, in the order in which they start."""
        if not self._active:
            return
        with self._lock:
            while (batch := self._earliest()) is not None and batch.next_at <= at:
                self._start(batch)
            for batch in [b for b in self._active.values() if self._ended_at(b) <= at]:
                self._close(batch)

    def _found(self, id: str) -> _Batch:
        if id not in self._batches:
            raise not_found(f"Batch {id} was not found")
        return self._batches[id]

    def _earliest(self) -> _Batch | None:
        """The batch whose next item starts first."""
        waiting = [b for b in self._active.values() if b.next < b.timeline.running]
        return min(waiting, key=lambda b: b.next_at, default=None)

    def _start(self, batch: _Batch) -> None:
        """Answer all items of a batch that start at the same time as the next."""
        at = batch.next_at
        for i in range(batch.next, batch.timeline.next_wave(batch.next)):
            batch.next = i + 1
            params, batch.params[i] = batch.params[i], None
            assert params is not None
            planned = self._planned(batch, i)
            if planned == "expired" or batch.timeline.done(i) > batch.timeline.expires_at:
                batch.outcomes[i] = "expired"
                batch.never_done += 1
                continue
            batch.siblings.may_read = chance(self._seed, f"{batch.id} {i} hit") < self._settings.sibling_hits
            batch.siblings.finds_any = chance(self._seed, f"{batch.id} {i} earlier") < self._settings.earlier_hits
            item = Item(
                params, at, batch.timeline.done(i), f"req_{batch.id}_{i:06d}", batch.version, batch.betas, batch.siblings
            )
            # Until it is answered, and where the script itself breaks, an item has ended in an error.
            batch.outcomes[i] = "errored"
            batch.lines.append(_line(batch.custom_ids[i], _errored(_broken(), item)))
            batch.outcomes[i], result = self._result(item, planned)
            batch.lines[-1] = _line(batch.custom_ids[i], result)

    def _planned(self, batch: _Batch, i: int) -> Outcome | None:
        named = self._settings.outcomes.get(batch.custom_ids[i])
        if named is not None or not (self._settings.errored or self._settings.expired):
            return named
        drawn = chance(self._seed, f"{batch.id} {i} outcome")
        if drawn < self._settings.errored:
            return "errored"
        return "expired" if drawn < self._settings.errored + self._settings.expired else None

    def _result(self, item: Item, planned: Outcome | None) -> tuple[Outcome, Json]:
        try:
            if planned == "errored":
                raise _broken()
            params = batch_items.checked(item.params)
            return "succeeded", {"type": "succeeded", "message": self._answer(item._replace(params=params))}
        except ApiError as e:
            return "errored", _errored(e, item)
        except RecursionError:
            return "errored", _errored(invalid("The item is nested too deeply"), item)

    def _ended_at(self, batch: _Batch) -> float:
        return batch.timeline.ended_at(batch.never_done > 0)

    def _close(self, batch: _Batch) -> None:
        """Say what became of the items that were never done, and put the results in another order."""
        left: Outcome = "expired" if batch.timeline.canceled_at is None else "canceled"
        for i, outcome in enumerate(batch.outcomes):
            if i >= batch.next or outcome == "expired":
                batch.outcomes[i] = left
                batch.lines.append(_line(batch.custom_ids[i], {"type": left}))
        random.Random(f"{self._seed} {batch.id}").shuffle(batch.lines)
        batch.params, batch.siblings, batch.is_closed = [], Siblings(), True
        del self._active[batch.id]

    def _shown(self, batch: _Batch, at: float, host: str) -> Json:
        """The batch object. What became of its items is counted only when all of it has ended."""
        timeline, total = batch.timeline, len(batch.outcomes)
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        counts["processing"] = 0 if batch.is_closed else total
        for outcome in batch.outcomes if batch.is_closed else ():
            counts[outcome] += 1
        status = "ended" if batch.is_closed else "in_progress" if timeline.canceled_at is None else "canceling"
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": counts,
            "created_at": written(timeline.created_at),
            "expires_at": written(timeline.expires_at),
            "ended_at": written(self._ended_at(batch)) if batch.is_closed else None,
            "cancel_initiated_at": written(timeline.canceled_at),
            "archived_at": written(timeline.archived_at) if at >= timeline.archived_at else None,
            "results_url": f"{host}/v1/messages/batches/{batch.id}/results" if batch.is_closed else None,
        }


def _broken() -> ApiError:
    return ApiError(500, "api_error", "Internal server error")


def _errored(error: ApiError, item: Item) -> Json:
    return {"type": "errored", "error": error.body(item.request_id)}


def _line(custom_id: str, result: Json) -> bytes:
    return compact({"custom_id": custom_id, "result": result}) + b"\n"
