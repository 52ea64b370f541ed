"""The core over a saved log: does it decide the same again?

Nothing is performed. Wherever the log records something that was decided, the state before it is asked to decide again,
at the recorded time; each request is compared by the digest of its bytes (the question about a large result by its call:
its text stands in the blobs).
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from agentloop.core import extraction, wire
from agentloop.core.choices import Policies
from agentloop.core.decide import (
    AskAbout,
    CallModel,
    Compact,
    Deny,
    Effect,
    FallBack,
    Finish,
    Hold,
    KeepWarm,
    RunTools,
    Settle,
    Tell,
    decide,
    while_waiting,
)
from agentloop.core.folding import begin, evolve
from agentloop.core.prefix import Divergence, divergence
from agentloop.core.state import State
from agentloop.types import blocks
from agentloop.types.blocks import Call
from agentloop.types.events import (
    CallHeld,
    Compacted,
    Event,
    FellBack,
    InputGiven,
    ModelRequested,
    ResultExtracted,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    ToolFinished,
    ToolStarted,
)
from agentloop.types.request import Request

FROM_OUTSIDE = frozenset({"interrupted", "prefix_unstable"})
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
    divergence: Divergence | None = None
    """Where a request does not extend the one before it, although no compaction came between them."""

    @property
    def same(self) -> bool:
        """Whether every decision was the same, and the cached prefix never moved by itself."""
        return self.difference is None and self.divergence is None


def replay(events: Iterable[Event], policies: Policies) -> Replayed:
    """Decide everything again, up to the first difference."""
    state: State | None = None
    last: Request | None = None
    seen = requests = 0
    for event in events:
        seen += 1
        if state is None:
            if not isinstance(event.body, SessionStarted):
                raise ValueError("a log starts with session_started")
            state = begin(event.body, event.at)
            continue
        if (recorded := _recorded(event)) is not None:
            effect = _decided_at(state, policies, event)
            if (decided := _decided(effect, event)) != recorded:
                return Replayed(seen, requests, Difference(event.seq, state.asked + 1, recorded, decided))
            if isinstance(effect, CallModel):
                requests += 1
                if last is not None and (moved := divergence(last, effect.request)) is not None:
                    return Replayed(seen, requests, None, moved)
                last = effect.request if effect.request.purpose == "turn" else last
        if _moves_the_prefix(event):
            last = None
        state = evolve(state, event)
    return Replayed(seen, requests, None)


def requests(events: Iterable[Event], policies: Policies) -> Iterator[tuple[datetime, bytes]]:
    """When each request of a log was made, and its bytes, decided again."""
    state: State | None = None
    for event in events:
        if state is None:
            assert isinstance(event.body, SessionStarted)
            state = begin(event.body, event.at)
            continue
        if isinstance(event.body, ModelRequested):
            effect = _decided_at(state, policies, event)
            if isinstance(effect, CallModel | KeepWarm):
                yield event.at, wire.body(effect.request)
        state = evolve(state, event)


def _decided_at(state: State, policies: Policies, event: Event) -> Effect | KeepWarm | None:
    """What is decided where this event was: a ping was decided while calls were running."""
    if isinstance(event.body, ModelRequested) and event.body.purpose == "keepalive":
        return while_waiting(state, policies, event.at)
    return decide(state, policies, event.at)


def _moves_the_prefix(event: Event) -> bool:
    body = event.body
    return isinstance(body, Compacted | FellBack) or (isinstance(body, SessionResumed) and body.prefix is not None)


def _recorded(event: Event) -> str | None:
    """What a line says was decided; None where it tells of the world."""
    match event.body:
        case ModelRequested(purpose="extraction", call_id=call_id, max_tokens=most):
            return f"ask about {call_id} for {most} tokens"
        case ResultExtracted(call_id=call_id, content=content):
            return f"settle {call_id}{' by an answer' if content is not None else ''}"
        case ModelRequested(purpose=purpose, digest=digest):
            return f"request ({purpose}) {digest}"
        case Compacted(keep_from=keep_from, segment=segment):
            return f"compact before turn {keep_from}, segment {wire.digest(segment.encode())}"
        case FellBack(to=to, because=because):
            return f"fall back to {to.card.id}: {because}"
        case ToolFinished(call_id=call_id, outcome="denied"):
            return f"deny {call_id}"
        case CallHeld(call_id=call_id):
            return f"hold {call_id}"
        case ToolStarted(call_id=call_id) | ToolFinished(call_id=call_id, outcome="invalid"):
            return f"run {call_id}"
        case InputGiven(source="engine", content=content):
            return f"tell {blocks.text_of(content)}"
        case SessionEnded(outcome=outcome) if outcome not in FROM_OUTSIDE:
            return f"finish {outcome}"
        case _:
            return None


def _decided(effect: Effect | KeepWarm | None, event: Event) -> str:
    match effect:
        case None:
            return "wait"
        case CallModel(request=request) | KeepWarm(request=request):
            return f"request ({request.purpose}) {wire.digest(wire.body(request))}"
        case Compact(keep_from=keep_from, segment=segment):
            return f"compact before turn {keep_from}, segment {wire.digest(segment.encode())}"
        case RunTools(calls=calls):
            return f"run {_named(calls, event)}"
        case Deny(call=call):
            return f"deny {call.id}"
        case Hold(calls=held):
            return f"hold {_named(tuple(v.call for v in held), event)}"
        case AskAbout(call=call, card=card, max_tokens=most):
            assert card.facts_card is not None
            return f"ask about {call.id} for {extraction.output_tokens(card.facts_card, most)} tokens"
        case Settle(call=call, said=said):
            answered = said and getattr(event.body, "content", None) is not None
            return f"settle {call.id}{' by an answer' if answered else ''}"
        case FallBack(told=told):
            return f"fall back to {told.to.card.id}: {told.because}"
        case Tell(text=text):
            return f"tell {text}"
        case Finish(outcome=outcome):
            return f"finish {outcome}"


def _named(calls: tuple[Call, ...], event: Event) -> str:
    """The call that a line tells of, where it is among these; all of them where it is not."""
    wanted = getattr(event.body, "call_id", None)
    return str(wanted) if any(c.id == wanted for c in calls) else ", ".join(c.id for c in calls)
