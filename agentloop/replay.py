"""The core over a saved log: does it decide the same again?

Nothing is performed. Wherever the log records something that was decided, the state before it is asked to decide again,
at the recorded time; each request is compared by the digest of its bytes.
"""

from collections.abc import Iterable
from typing import NamedTuple

from agentloop.core import wire
from agentloop.core.decide import CallModel, Compact, Effect, Finish, Policies, RunTools, Tell, decide
from agentloop.core.state import State, begin, evolve
from agentloop.types import blocks
from agentloop.types.events import (
    Compacted,
    Event,
    InputGiven,
    ModelRequested,
    SessionEnded,
    SessionStarted,
    ToolFinished,
    ToolStarted,
)

FROM_OUTSIDE = frozenset({"interrupted", "waiting_for_approval", "prefix_unstable"})
"""Outcomes that nobody decides: they come from a signal, a person or another program."""


class Difference(NamedTuple):
    """The first place where log and code part."""

    seq: int
    turn: int
    recorded: str
    decided: str


class Replayed(NamedTuple):
    """What a replay found."""

    events: int
    requests: int
    difference: Difference | None

    @property
    def same(self) -> bool:
        """Whether every decision was the same."""
        return self.difference is None


def replay(events: Iterable[Event], policies: Policies) -> Replayed:
    """Decide everything again, up to the first difference."""
    state: State | None = None
    seen = requests = 0
    for event in events:
        seen += 1
        if state is None:
            if not isinstance(event.body, SessionStarted):
                raise ValueError("a log starts with session_started")
            state = begin(event.body, event.at)
            continue
        if (difference := _difference(state, event, policies)) is not None:
            return Replayed(seen, requests, difference)
        requests += isinstance(event.body, ModelRequested)
        state = evolve(state, event)
    return Replayed(seen, requests, None)


def _difference(state: State, event: Event, policies: Policies) -> Difference | None:
    recorded = _recorded(event)
    if recorded is None:
        return None
    decided = _decided(decide(state, policies, event.at), event)
    return None if decided == recorded else Difference(event.seq, state.asked + 1, recorded, decided)


def _recorded(event: Event) -> str | None:
    """What a line says was decided; None where it tells of the world."""
    match event.body:
        case ModelRequested(purpose=purpose, digest=digest):
            return f"request ({purpose}) {digest}"
        case Compacted(keep_from=keep_from, segment=segment):
            return f"compact before turn {keep_from}, segment {wire.digest(segment.encode())}"
        case ToolStarted(call_id=call_id) | ToolFinished(call_id=call_id, outcome="invalid"):
            return f"run {call_id}"
        case InputGiven(source="engine", content=content):
            return f"tell {blocks.text_of(content)}"
        case SessionEnded(outcome=outcome) if outcome not in FROM_OUTSIDE:
            return f"finish {outcome}"
        case _:
            return None


def _decided(effect: Effect, event: Event) -> str:
    match effect:
        case CallModel(request=request):
            return f"request ({request.purpose}) {wire.digest(wire.body(request))}"
        case Compact(keep_from=keep_from, segment=segment):
            return f"compact before turn {keep_from}, segment {wire.digest(segment.encode())}"
        case RunTools(calls=calls):
            wanted = getattr(event.body, "call_id", None)
            return f"run {wanted if any(c.id == wanted for c in calls) else ', '.join(c.id for c in calls)}"
        case Tell(text=text):
            return f"tell {text}"
        case Finish(outcome=outcome):
            return f"finish {outcome}"
