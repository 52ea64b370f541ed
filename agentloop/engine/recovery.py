"""What a crash or an interrupt left open, and how it is written down before the session goes on.

A request without a reply may have been billed: it is recorded as such and asked again. A tool call that was started and
has no answer is run again where that is harmless; where a second run would be a second effect, its outcome is unknown:
the model is told so and the operator sees it, and it is never repeated.
"""

from collections.abc import Iterator

from agentloop.core.state import State
from agentloop.ports import ModelClient, Rejoins, ToolRunner
from agentloop.types.events import Body, ModelFailed, ModelRequested, SessionEnded, ToolFinished
from agentloop.types.request import Failure

UNKNOWN = (
    "outcome unknown: the call was started and the process ended before an answer was recorded. It may have had its "
    "effect and will not be repeated. Check whether it did before you do anything that depends on it."
)


class Interrupted(KeyboardInterrupt):
    """The process was asked to stop by a signal."""

    def __init__(self, signal: str) -> None:
        """`signal` is its name, such as SIGTERM."""
        super().__init__(signal)
        self.signal = signal


def left_open(state: State, runner: ToolRunner, model: ModelClient | None = None) -> Iterator[Body]:
    """What has to be written first when a session is taken up again."""
    if state.pending is not None and is_kept(state.pending, model):
        yield _cut_off(state, "the process ended before the reply was recorded; a batch still has it", possibly_billed=False)
    elif state.pending is not None:
        yield _cut_off(state, "the process ended before the reply was recorded")
    for call in state.open_calls:
        card = runner.card(call.name)
        now = card.effect if card is not None else "once"
        if call.id in state.started and "once" in (state.started[call.id], now):
            yield ToolFinished(
                turn=state.asked, call_id=call.id, name=call.name, content=UNKNOWN, is_error=True, outcome="unknown"
            )


def interrupted(state: State, error: KeyboardInterrupt, model: ModelClient | None = None) -> Iterator[Body]:
    """What is written when somebody stops a running session; nothing where it had just ended by itself. A request that a batch
    answers stays open: the session takes its answer up when it is resumed."""
    if state.outcome is not None:
        return
    by = error.signal if isinstance(error, Interrupted) else "SIGINT"
    if state.pending is not None and not is_kept(state.pending, model):
        yield _cut_off(state, f"stopped by {by} while the reply was under way")
    yield SessionEnded(outcome="interrupted", detail=f"stopped by {by}; 'agentloop resume {state.session_id}' goes on")


def is_kept(pending: ModelRequested, model: ModelClient | None) -> bool:
    """Whether the answer to a request outlived the process that asked."""
    return isinstance(model, Rejoins) and model.rejoins(pending.digest)


def _cut_off(state: State, why: str, possibly_billed: bool = True) -> ModelFailed:
    assert state.pending is not None
    failure = Failure(kind="interrupted", error_type="interrupted", message=why, possibly_billed=possibly_billed)
    return ModelFailed(turn=state.pending.turn, purpose=state.pending.purpose, failure=failure)
