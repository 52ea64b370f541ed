"""One session, carried on from wherever its log ends."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, assert_never

from agentloop.core import wire
from agentloop.core.decide import CallModel, Compact, Effect, Finish, Policies, RunTools, Tell, decide
from agentloop.core.folding import evolve, fold
from agentloop.core.state import State
from agentloop.engine import recovery, tools
from agentloop.ports import Blobs, Clock, Log, ModelClient, ToolRunner
from agentloop.types import blocks
from agentloop.types.blocks import Blocks
from agentloop.types.events import (
    Body,
    Compacted,
    Event,
    InputGiven,
    ModelFailed,
    ModelReplied,
    ModelRequested,
    SessionEnded,
)
from agentloop.types.request import Failure

Observer = Callable[[Event, State], None]
Inbox = Callable[[State], Sequence[Blocks]]


@dataclass(frozen=True)
class Shell:
    """What the engine has of the world."""

    model: ModelClient
    tools: ToolRunner
    blobs: Blobs
    clock: Clock
    observe: Observer = lambda event, state: None
    """Told of each event after it is durable."""
    inbox: Inbox = lambda state: ()
    """What the user has said since: asked before each decision, given to the model with what it is given anyway."""


class Happened(NamedTuple):
    """An event that has yet to be written, and when it happened."""

    at: datetime
    body: Body


def run(log: Log, shell: Shell, policies: Policies) -> State:
    """Carry a session on from wherever its log ends, to its outcome.

    Ctrl-C, and whatever else raises `recovery.Interrupted`, ends it as `interrupted`. Raises LogError, and nothing for
    what the model, the network or a tool does.
    """
    state = fold(log.events())

    def write(at: datetime, body: Body) -> State:
        event = log.append(body, at)
        after = evolve(state, event)
        shell.observe(event, after)
        return after

    try:
        for body in recovery.left_open(state, shell.tools):
            state = write(shell.clock.now(), body)
        while state.outcome is None:
            now = shell.clock.now()
            for said in shell.inbox(state):
                state = write(now, InputGiven(content=said))
            for at, body in perform(decide(state, policies, now), state, policies, shell, now):
                state = write(at, body)
    except KeyboardInterrupt as e:
        state = fold(log.events())  # the interrupt may have come after an event was written and before it was folded
        for body in recovery.interrupted(state, e):
            state = write(shell.clock.now(), body)
    return state


def perform(effect: Effect, state: State, policies: Policies, shell: Shell, now: datetime) -> Iterator[Happened]:
    """Do what was decided, event by event. What was decided carries the time at which it was: replay decides by it."""
    match effect:
        case CallModel():
            yield from _call_model(effect, state, policies, shell, now)
        case RunTools(calls=calls):
            for body in tools.answers(calls, state, policies.facts, shell.tools, shell.blobs):
                yield Happened(shell.clock.now(), body)
        case Compact(keep_from, segment, written_by, decision, drop_thinking):
            yield Happened(
                now,
                Compacted(
                    keep_from=keep_from,
                    segment=segment,
                    written_by=written_by,
                    decision=decision,
                    thinking_dropped=drop_thinking,
                ),
            )
        case Tell(text=text):
            yield Happened(now, InputGiven(content=(blocks.text(text),), source="engine"))
        case Finish(outcome=outcome, detail=detail):
            yield Happened(now, SessionEnded(outcome=outcome, detail=detail))
        case unknown:
            assert_never(unknown)


def _call_model(effect: CallModel, state: State, policies: Policies, shell: Shell, now: datetime) -> Iterator[Happened]:
    request = effect.request
    body = wire.body(request)
    turn, purpose = state.asked + 1, request.purpose
    asked = ModelRequested(
        turn=turn,
        purpose=purpose,
        digest=wire.digest(body),
        body_bytes=len(body),
        breakpoints=request.breakpoints,
        max_tokens=request.max_tokens,
        decision=effect.decision,
    )
    yield Happened(now, asked)
    risked = evolve(state, Event(seq=0, at=now, body=asked))
    started = shell.clock.monotonic()
    for answer in shell.model.ask(body):
        if isinstance(answer, Failure):
            at = shell.clock.now()
            failed = ModelFailed(turn=turn, purpose=purpose, failure=answer)
            risked = evolve(risked, Event(seq=0, at=at, body=failed))
            if answer.retry_in_s is not None and (stop := policies.budget.stop(risked, at)) is not None:
                last = answer.model_copy(
                    update={"retry_in_s": None, "message": f"{answer.message}; not tried again: {stop[1]}"}
                )
                yield Happened(at, ModelFailed(turn=turn, purpose=purpose, failure=last))
                return
            yield Happened(at, failed)
        else:
            took = round(shell.clock.monotonic() - started, 6)
            yield Happened(shell.clock.now(), ModelReplied(turn=turn, purpose=purpose, reply=answer, duration_s=took))
