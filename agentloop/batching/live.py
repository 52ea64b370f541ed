"""One row asked outside of a batch, at the full price, at once: where an answer could not be used and somebody is waiting."""

from decimal import Decimal
from typing import Protocol

from agentloop.batch_calls import BatchCallFailed, Trouble
from agentloop.batching import items
from agentloop.batching.events import BatchBody, ItemResult, LiveAsked, LiveFailed, Received
from agentloop.batching.means import Means
from agentloop.batching.results import of_reply
from agentloop.batching.state import BatchState
from agentloop.crash_points import reached
from agentloop.errors import BatchStopped
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
    """The run that the row is of."""

    state: BatchState

    def write(self, body: BatchBody) -> None: ...  # noqa: D102

    def has_room(self, more: Decimal) -> bool: ...  # noqa: D102

    def account(self) -> None: ...  # noqa: D102

    def stopped(self, e: BatchCallFailed, what: str) -> BatchStopped: ...  # noqa: D102


def ask_live(run: Run, means: Means, round: int, row: int) -> None:
    """Ask it, and write down what came. Raises BatchStopped where nobody answers."""
    request = items.params_of(run.state, row)
    most = items.most_usd(run.state.prepared.ask, [request], live=True)
    if not run.has_room(most):
        return
    run.write(LiveAsked(round=round, row=row, most_usd=most))
    reached("batch.live_intended")
    for answer in means.live().ask(compact({**request, "stream": True})):
        if isinstance(answer, Failure):
            run.write(LiveFailed(round=round, row=row, failure=answer))
            if answer.retry_in_s is None:
                _failed(run, round, row, answer)
        else:
            reached("batch.live_answered")
            clean = Reply.model_validate(means.cleaned(answer.model_dump(mode="json")))
            run.write(Received(round=round, items=(of_reply(row, clean, means.check),), live=True))
    run.account()


def _failed(run: Run, round: int, row: int, failure: Failure) -> None:
    if (trouble := _LATER.get(failure.kind)) is not None:
        run.account()
        raise run.stopped(BatchCallFailed(trouble, failure.message), f"row {row + 1}")
    result = ItemResult(row=row, verdict="errored", why=f"{failure.error_type}: {failure.message}")
    run.write(Received(round=round, items=(result,), live=True))
