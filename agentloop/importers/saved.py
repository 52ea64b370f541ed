"""A session of our own as a recording: its replies, what the user said, and the whole of each tool result."""

from collections.abc import Sequence

from agentloop.core.folding import begin, evolve
from agentloop.core.state import State
from agentloop.importers.recording import Recording, Step
from agentloop.ports import Blobs
from agentloop.types import blocks
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
    for event in events[1:]:
        after = evolve(state, event)
        match event.body:
            case InputGiven(content=content, source="user"):
                told += content
            case ToolFinished() as finished:
                results[finished.call_id] = _whole(finished, blobs)
            case ModelReplied(purpose="turn", reply=reply) if len(after.turns) > len(state.turns):
                steps.append(Step(tuple(told), blocks.without_blanks(reply.content), state.pending_at))
                told = []
            case _:
                pass
        state = after
    return Recording(start.session_id, start.prefix.model, start.prefix.system, start.prefix.tools, tuple(steps), results)


def _whole(finished: ToolFinished, blobs: Blobs) -> Block:
    data = blobs.find(finished.raw.digest) if finished.raw is not None else None
    content = data.decode("utf-8", "replace") if data is not None else finished.content
    return blocks.tool_result(finished.call_id, content, finished.is_error)
