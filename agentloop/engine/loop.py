"""One session, carried on from wherever its log ends."""

from collections.abc import Iterator
from datetime import datetime
from typing import assert_never

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
    RunTools,
    Settle,
    Tell,
    decide,
)
from agentloop.core.folding import evolve, fold
from agentloop.core.state import State
from agentloop.crash_points import reached
from agentloop.engine import asking, recovery, taking_up, tools, waiting
from agentloop.engine.shell import Happened, Observer, Shell
from agentloop.ports import Log
from agentloop.types import blocks
from agentloop.types.events import Body, CallHeld, Compacted, InputGiven, SessionEnded

__all__ = ["Observer", "Shell", "perform", "run"]


def run(log: Log, shell: Shell, policies: Policies) -> State:
    """Carry a session on from wherever its log ends, to its outcome.

    Ctrl-C, and whatever else raises `recovery.Interrupted`, ends it as `interrupted`. Raises LogError, and nothing for
    what the model, the network or a tool does.
    """
    state = fold(log.events())

    def write(at: datetime, body: Body) -> State:
        event = log.append(body, at)
        reached("step.recorded")
        after = evolve(state, event)
        shell.observe(event, after)
        return after

    reached("session.folded")
    try:
        for at, body in taking_up.answered(log.events(), state, policies, shell):
            state = write(at, body)
            reached("session.recovered")
        for body in recovery.left_open(state, shell.tools, shell.model):
            state = write(shell.clock.now(), body)
            reached("session.recovered")
        while state.outcome is None:
            now = shell.clock.now()
            for said in shell.inbox(state):
                state = write(now, InputGiven(content=said))
            for at, body in perform(decide(state, policies, now), state, policies, shell, now):
                state = write(at, body)
    except KeyboardInterrupt as e:
        state = fold(log.events())  # the interrupt may have come after an event was written and before it was folded
        for body in recovery.interrupted(state, e, shell.model):
            state = write(shell.clock.now(), body)
            reached("session.interrupted")
    shell.purse.settle(state.own_usd)
    reached("session.ended")
    return state


def perform(effect: Effect, state: State, policies: Policies, shell: Shell, now: datetime) -> Iterator[Happened]:
    """Do what was decided, event by event. What was decided carries the time at which it was: replay decides by it."""
    reached("step.decided")
    match effect:
        case CallModel():
            yield from asking.asked(effect, state, policies.budget, shell, now)
        case AskAbout():
            yield from asking.about(effect, state, policies.budget, shell, now)
        case Settle():
            result = asking.settled(effect, shell.blobs)
            reached("extraction.decided")
            yield Happened(now, result)
            reached("extraction.recorded")
        case RunTools(calls=calls):
            yield from waiting.answered(calls, state, policies, shell, now)
        case Hold(calls=held):
            for verdict in held:
                call = verdict.call
                yield Happened(now, CallHeld(turn=state.asked, call_id=call.id, name=call.name, reason=verdict.why))
        case Deny(call=call, note=note):
            yield Happened(now, tools.denied(call, note, state))
        case Compact(keep_from, segment, written_by, decision, drop_thinking):
            reached("compaction.decided")
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
            reached("compaction.recorded")
        case FallBack(told=told):
            reached("fallback.decided")
            yield Happened(now, told)
            reached("fallback.recorded")
        case Tell(text=text, about=about):
            yield Happened(now, InputGiven(content=(blocks.text(text),), source="engine", about=about))
        case Finish(outcome=outcome, detail=detail, until=until):
            yield Happened(now, SessionEnded(outcome=outcome, detail=detail, until=until))
        case unknown:
            assert_never(unknown)
