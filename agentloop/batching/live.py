"""Rows asked outside of a batch, at the full price, at once: where answers could not be used and somebody is waiting.

A few rows are asked side by side, each by a thread of its own. The threads only ask: what is about to be asked and what came of
it is written down by the thread that holds the log, in the order in which it comes.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from queue import SimpleQueue
from typing import NamedTuple, Protocol

from agentloop.batch_calls import BatchCallFailed, Trouble
from agentloop.batching import items
from agentloop.batching.events import BatchBody, ItemResult, LiveAsked, LiveFailed, Received
from agentloop.batching.items import Given
from agentloop.batching.means import Means
from agentloop.batching.results import of_reply
from agentloop.batching.state import BatchState
from agentloop.crash_points import reached
from agentloop.errors import BatchStopped
from agentloop.ports import ModelClient
from agentloop.types.base import compact
from agentloop.types.request import Failure, FailureKind, Reply

_LATER: dict[FailureKind, Trouble] = {
    "unavailable": "unavailable",
    "not_an_answer": "unavailable",
    "interrupted": "unavailable",
    "unauthorized": "unauthorized",
    "spend_limit": "spend_limit",
}
"""Failures that say nothing of the row: it is asked again when the run is taken up."""


class Run(Protocol):
    """The run that the rows are of."""

    state: BatchState

    def write(self, body: BatchBody) -> None: ...  # noqa: D102

    def has_room(self, more: Decimal) -> bool: ...  # noqa: D102

    def account(self) -> None: ...  # noqa: D102

    def stopped(self, e: BatchCallFailed, what: str) -> BatchStopped: ...  # noqa: D102


class _Heard(NamedTuple):
    """What a thread has to tell of its row: an attempt's answer, or that it is done."""

    row: int
    answer: Failure | Reply | Future[None]


def ask_live(run: Run, means: Means, round: int, given: Iterable[Given]) -> None:
    """Ask these rows, and write down what comes, until the budget has no room for the next. Raises BatchStopped where nobody
    answers: then no other row is begun, and those under way are waited for."""
    with ThreadPoolExecutor(means.live_at_once, "batch-live") as pool:
        _Asking(run, means, round, pool).all(iter(given))
    run.account()


class _Asking:
    """The rows that are under way."""

    def __init__(self, run: Run, means: Means, round: int, pool: ThreadPoolExecutor) -> None:
        self._run, self._means, self._round, self._pool = run, means, round, pool
        self._heard: SimpleQueue[_Heard] = SimpleQueue()
        self._by_row: dict[int, ModelClient] = {}
        self._idle: list[ModelClient] = []
        self._most = items.most_usd(run.state.prepared.ask)
        self._stopped: BatchStopped | None = None

    def all(self, given: Iterator[Given]) -> None:
        """Each of these, as many side by side as may be."""
        try:
            waiting = next(given, None)
            while True:
                while waiting is not None and self._begun(waiting):
                    waiting = next(given, None)
                if not self._by_row:
                    break
                self._take(self._heard.get())
        except KeyboardInterrupt:  # answers that are paid for are kept; a second interrupt does not wait for them
            while self._by_row:
                self._take(self._heard.get())
            raise
        if self._stopped is not None:
            self._run.account()
            raise self._stopped

    def _begun(self, given: Given) -> bool:
        """Whether a row is under way now: there was a thread for it, and money."""
        if self._stopped is not None or len(self._by_row) >= self._means.live_at_once:
            return False
        request = items.params_of(self._run.state, given)
        most, row = self._most(request), given[0]
        if not self._run.has_room(most):
            return False
        self._run.write(LiveAsked(round=self._round, row=row, most_usd=most))
        reached("batch.live_intended")
        self._by_row[row] = client = self._idle.pop() if self._idle else self._means.live()
        asked = self._pool.submit(self._ask, client, row, compact({**request, "stream": True}))
        asked.add_done_callback(lambda done: self._heard.put(_Heard(row, done)))
        return True

    def _ask(self, client: ModelClient, row: int, body: bytes) -> None:
        for answer in client.ask(body):
            self._heard.put(_Heard(row, answer))

    def _take(self, heard: _Heard) -> None:
        """Write down what was heard."""
        row, answer = heard
        match answer:
            case Reply():
                reached("batch.live_answered")
                clean = Reply.model_validate(self._means.cleaned(answer.model_dump(mode="json")))
                self._received(of_reply(row, clean, self._means.check))
            case Failure():
                self._run.write(LiveFailed(round=self._round, row=row, failure=answer))
                if answer.retry_in_s is None:
                    self._failed(row, answer)
            case Future():
                self._idle.append(self._by_row.pop(row))
                answer.result()  # raises what no client should

    def _failed(self, row: int, failure: Failure) -> None:
        if (trouble := _LATER.get(failure.kind)) is not None:
            stopped = self._run.stopped(BatchCallFailed(trouble, failure.message), f"row {row + 1}")
            self._stopped = self._stopped or stopped
        else:
            self._received(ItemResult(row=row, verdict="errored", why=f"{failure.error_type}: {failure.message}"))

    def _received(self, result: ItemResult) -> None:
        self._run.write(Received(round=self._round, items=(result,), live=True))
