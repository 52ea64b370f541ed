"""A session of our own as a recording: its replies, what the user said, and the whole of each tool result."""

from collections.abc import Sequence

from agentloop.core.folding import begin, evolve
from agentloop.core.state import State
from agentloop.importers.recording import Recording, Step
from agentloop.ports import Blobs
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block
from agentloop.types.events import Event, InputGiven, ModelReplied, SessionStarted, ToolFinished


def recording(events: Sequence[Event], blobs: Blobs) -> Recording:
    """The recording of a session. Turns that only asked for `recall` stay: the model did ask."""
    start = events[0].body
    assert isinstance(start, SessionStarted)
    state: State = begin(start, events[0].at)
    told: list[Block] = []
    steps: list[Step] = []
    results: dict[str, Block] = {}
    lost = 0
    for event in events[1:]:
        after = evolve(state, event)
        match event.body:
            case InputGiven(content=content, source="user"):
                told += content
            case ToolFinished() as finished:
                whole = _whole(finished, blobs)
                lost += whole is None
                results[finished.call_id] = blocks.tool_result(
                    finished.call_id, finished.content if whole is None else whole, finished.is_error
                )
            case ModelReplied(purpose="turn", reply=reply) if len(after.turns) > len(state.turns):
                steps.append(Step(tuple(told), blocks.without_blanks(reply.content), state.pending_at))
                told = []
            case _:
                pass
        state = after
    prefix = start.prefix
    left_out = (f"{lost} whole results that are not in blobs/ any more: what was shown of them stands in",) if lost else ()
    return Recording(
        start.session_id, prefix.model, prefix.system, prefix.tools, tuple(steps), results, left_out, cards=start.tools
    )


def _whole(finished: ToolFinished, blobs: Blobs) -> str | list[Json] | None:
    """The whole of a result; None where it is gone."""
    if finished.raw is None:
        return finished.content
    data = blobs.find(finished.raw.digest)
    return data.decode("utf-8", "replace") if data is not None else None
