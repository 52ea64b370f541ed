"""A session that ends its process is told from one that was only there when it ended."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from agentloop.core.crashes import Crashes, progress
from agentloop.types.events import (
    Body,
    Event,
    InputGiven,
    ModelFailed,
    ModelRequested,
    SessionEnded,
    SessionResumed,
    ToolFinished,
    ToolStarted,
)
from agentloop.types.request import Failure

_AT = datetime(2026, 11, 22, tzinfo=UTC)
_BY_ITSELF: tuple[Body, ...] = (
    ModelRequested(turn=1, purpose="turn", digest="d", body_bytes=1, breakpoints=(), max_tokens=1),
    ModelFailed(turn=1, purpose="turn", failure=Failure(kind="interrupted", error_type="e", message="m")),
    ToolStarted(turn=1, call_id="c", name="n", effect="once", idempotency_key="k"),
    ToolFinished(turn=1, call_id="c", name="n", content="?", is_error=True, outcome="unknown"),
    InputGiven(content=({"type": "text", "text": "80 % is spent"},), source="engine"),
    SessionEnded(outcome="interrupted"),
    SessionResumed(),
)
_FORWARD = ToolFinished(turn=1, call_id="c", name="n", content="done", is_error=False, outcome="ok")


@given(st.lists(st.integers(0, 5), min_size=1))
def test_deaths_in_a_row_are_counted_from_the_last_step_forward(seen: list[int]) -> None:
    crashes = Crashes()
    for steps in seen:
        crashes = crashes.after(steps)

    last_forward = max([i for i in range(1, len(seen)) if seen[i] > seen[i - 1]], default=0)
    assert crashes == (seen[-1], len(seen) - last_forward)


@given(st.lists(st.sampled_from(_BY_ITSELF)), st.integers(0, 3))
def test_what_each_new_start_writes_by_itself_is_no_step(written: list[Body], steps: int) -> None:
    bodies = [*written, *[_FORWARD] * steps, *written]

    assert progress(Event(seq=i, at=_AT, body=b) for i, b in enumerate(bodies)) == steps
