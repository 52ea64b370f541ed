"""A place in a session, as the model saw it there, and as it would have seen it with everything kept whole."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from agentloop.core import view
from agentloop.core.folding import begin, evolve
from agentloop.core.state import State
from agentloop.errors import UsageError
from agentloop.importers.recording import Recording
from agentloop.importers.saved import recording as saved
from agentloop.ports import Blobs
from agentloop.types import blocks
from agentloop.types.blocks import Block, Message
from agentloop.types.events import Compacted, Event, ModelRequested, SessionStarted, ToolFinished

END, CUT = "end", "cut"


class Contexts(NamedTuple):
    """One place, twice."""

    state: State
    turns: int
    """How many turns there had been."""
    recording: Recording
    compacted: tuple[Message, ...]
    full: tuple[Message, ...]
    trimmed: frozenset[str]
    """Calls of whose results only facts were shown."""


def contexts(events: Sequence[Event], blobs: Blobs, at: str = END) -> Contexts:
    """At the end of a session, right behind its last cut, or before the request of turn N. Raises UsageError."""
    state = _place(events, at)
    recording = saved(events, blobs)
    turns = state.keep_from + len(state.turns)
    trimmed = frozenset(e.body.call_id for e in events if isinstance(e.body, ToolFinished) and e.body.raw is not None)
    return Contexts(state, turns, recording, _sent(view.messages(state)), _sent(_whole(recording, turns, state)), trimmed)


def _place(events: Sequence[Event], at: str) -> State:
    found = None
    for state, after_cut in _places(events):
        if at == END or (at == CUT and after_cut) or at == str(state.asked + 1):
            found = state
    if found is None:
        what = {CUT: "has no compaction", END: "has no answered turn"}.get(at, f"asks for no turn {at} behind another")
        raise UsageError(f"the session {what}; probe it at 'end', at 'cut', or at the number of a turn")
    return found


def _places(events: Sequence[Event]) -> Iterator[tuple[State, bool]]:
    """The states in which nothing is under way: before each request for a turn, and at the end. With each, whether a cut
    has just been made."""
    first = events[0]
    assert isinstance(first.body, SessionStarted)
    state = begin(first.body, first.at)
    cut = False
    for event in events[1:]:
        match event.body:
            case Compacted():
                cut = True
            case ModelRequested(purpose="turn") if state.turns:
                yield state, cut
                cut = False
            case _:
                pass
        state = evolve(state, event)
    if state.turns and not state.open_calls and state.to_extract is None:
        yield state, cut


def _whole(recording: Recording, turns: int, state: State) -> Iterator[Message]:
    """Every message up to a place, with whole results."""
    steps = recording.steps[:turns]
    given: tuple[Block, ...] = steps[0].told
    for i, step in enumerate(steps):
        yield blocks.user(*given)
        yield blocks.assistant(*step.reply)
        results = tuple(recording.results[c.id] for c in blocks.calls(step.reply) if c.id in recording.results)
        told = steps[i + 1].told if i + 1 < turns else tuple(b for b in state.given if b.get("type") != "tool_result")
        given = (*results, *told)
    if given:
        yield blocks.user(*given)


def _sent(messages: Sequence[Message] | Iterator[Message]) -> tuple[Message, ...]:
    """As they can be sent with another question behind them: without thinking, whose signatures hold for the session only."""
    bare = (replace(m, content=blocks.without_thinking(m.content)) for m in messages)
    return tuple(m for m in bare if m.content)
