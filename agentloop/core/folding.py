"""How each event of a log changes what is known of its session."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import assert_never

from agentloop.core import costs, extraction, falling_back, finding, keepalive, measuring, replies, results, tokens
from agentloop.core.lifetimes import REMEMBERED
from agentloop.core.permits import Permits
from agentloop.core.state import Segment, State, Trouble, changed
from agentloop.types import blocks
from agentloop.types.blocks import Blocks
from agentloop.types.events import (
    BudgetSeen,
    CallAnswered,
    CallHeld,
    Compacted,
    Event,
    FellBack,
    InputGiven,
    ModelFailed,
    ModelReplied,
    ModelRequested,
    ResultExtracted,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    ToolFinished,
    ToolStarted,
)
from agentloop.types.tools import FactsSettings


def fold(events: Iterable[Event]) -> State:
    """The state after these events. Raises ValueError where the first is no `session_started`."""
    stream = iter(events)
    first = next(stream, None)
    if first is None or not isinstance(first.body, SessionStarted):
        raise ValueError("a log starts with session_started")
    state = begin(first.body, first.at)
    for event in stream:
        state = evolve(state, event)
    return state


def begin(body: SessionStarted, at: datetime) -> State:
    """The state of a session that has just started."""
    return State(
        session_id=body.session_id,
        agent=body.agent,
        prefix=body.prefix,
        prefix_tokens=measuring.prefix_tokens(body.prefix, body.card),
        card=body.card,
        limits=body.limits,
        tools=body.tools,
        policies=body.policies,
        played_by=body.played_by,
        started_at=at,
        running_since=at,
        expected_gap_s=body.expected_gap_s,
        prior=body.prior,
        fallback=body.fallback,
        permits=Permits.of(body.grants, body.leaf),
    )


def evolve(state: State, event: Event) -> State:
    """The state after one more event."""
    match event.body:
        case SessionStarted():
            raise ValueError(f"session_started again at seq {event.seq}")
        case InputGiven(content=content, about=about):
            return changed(_given(state, content), noticed=state.noticed | {about} if about else state.noticed)
        case ModelRequested() as request:
            return _requested(state, request, event.at)
        case ModelReplied(purpose="summary") as replied:
            return replies.summarised(state, replied)
        case ModelReplied(purpose="extraction") as replied:
            return changed(
                replies.paid(state, replied.reply.usage, replied.reply.priced_by), extraction=replies.whole_text(replied)
            )
        case ModelReplied(purpose="keepalive", reply=reply):
            return keepalive.answered(
                replies.paid(state, reply.usage, reply.priced_by), state.pending_at or event.at, reply.usage
            )
        case ModelReplied() as replied:
            return replies.replied(state, replied)
        case ModelFailed() as failed:
            return _failed(state, failed)
        case ToolStarted() as call:
            return keepalive.started(_permitted(state, call), call, event.at)
        case ToolFinished() as finished:
            return results.finished(state, finished)
        case CallHeld() as held:
            return changed(state, permits=state.permits.holding(held))
        case CallAnswered() as answer:
            return _answered(state, answer)
        case BudgetSeen(refused=True) as seen:
            return changed(state, refused=(*state.refused, seen))
        case BudgetSeen() as seen:
            return changed(state, near=seen)
        case ResultExtracted() as extracted:
            return results.extracted(state, extracted)
        case Compacted() as compacted:
            return _compacted(state, compacted)
        case FellBack(to=to):
            return falling_back.fell_back(state, to)
        case SessionResumed() as resumed:
            return _resumed(state, resumed, event.at)
        case SessionEnded(outcome=outcome, detail=detail, until=until):
            return changed(state, outcome=outcome, detail=detail, sleeps_until=until)
        case unknown:
            assert_never(unknown)


def _given(state: State, content: Blocks) -> State:
    size = tokens.blocks_tokens(content, state.card.tokenizer)
    if not state.task:
        return changed(state, task=content, task_tokens=size, given=content, given_tokens=size)
    trouble = state.trouble._replace(handled=True) if state.trouble else None
    given, given_tokens = state.given + content, state.given_tokens + size
    return changed(state, given=given, given_tokens=given_tokens, trouble=trouble, outcome=None, detail="")


def _permitted(state: State, started: ToolStarted) -> State:
    """The call counts against what was granted."""
    call = next((c for c in state.open_calls if c.id == started.call_id), None)
    if call is None or started.call_id in state.started:
        return state
    return changed(state, permits=state.permits.started(call))


def _answered(state: State, answer: CallAnswered) -> State:
    call = next((c for c in state.open_calls if c.id == answer.call_id), None)
    return changed(state, permits=state.permits.answered(answer, call))


def _requested(state: State, request: ModelRequested, at: datetime) -> State:
    trouble = state.trouble._replace(handled=True) if state.trouble else None
    state = changed(state, pending=request, pending_at=at, failure=None, trouble=trouble, refused=())
    if request.purpose != "turn" or state.sent is None:
        return state
    gap_s = max(0.0, (at - state.sent.at).total_seconds())
    return changed(
        state,
        gaps=(*state.gaps, gap_s)[-REMEMBERED:],
        pinged_s=(*state.pinged_s, state.sent.pinged_s)[-REMEMBERED:],
        due_tokens=finding.due_tokens(state, gap_s),
    )


def _failed(state: State, failed: ModelFailed) -> State:
    failure = failed.failure
    state = changed(state, due_tokens=0)  # nobody knows when the next attempt is made, nor what this one left behind
    if failure.possibly_billed and state.pending is not None:
        prompt = failure.usage.prompt_tokens if failure.usage is not None else asked_tokens(state, state.pending)
        card = state.pending.asked_of or state.card
        risk = costs.worst_case(card, prompt, state.pending.max_tokens)
        if failure.usage is not None:  # its input is paid for below
            risk -= costs.worst_case(card, prompt, 0)
        state = changed(state, at_risk_usd=state.at_risk_usd + risk)
    if failure.usage is not None:
        asked = state.pending.asked_of if state.pending is not None else None
        state = changed(
            replies.paid(state, failure.usage, asked or state.card), pending=state.pending, pending_at=state.pending_at
        )
    if failure.kind == "interrupted":  # its gap would count twice when it is asked again
        counted = state.pending is not None and state.pending.purpose == "turn" and state.sent is not None
        state = changed(state, pending=None, pending_at=None)
        return changed(state, gaps=state.gaps[:-1], pinged_s=state.pinged_s[:-1]) if counted else state
    if failure.retry_in_s is not None:
        return state
    if failed.purpose == "summary":
        return changed(state, summary="", summary_failures=state.summary_failures + 1, pending=None, pending_at=None)
    if failed.purpose == "keepalive":
        return keepalive.failed(state)
    if failed.purpose == "extraction":
        return changed(state, extraction="", extraction_failed=True, pending=None, pending_at=None)
    state = changed(state, failure=failure, pending=None, pending_at=None)
    return replies.smaller(state) if failure.kind == "prompt_too_long" and state.once is not None else state


def asked_tokens(state: State, pending: ModelRequested) -> int:
    """Estimated tokens of the prompt that is under way."""
    result = state.to_extract
    if pending.purpose != "extraction" or pending.asked_of is None or result is None or result.raw is None:
        return state.prompt_tokens
    settings = next((t.facts_settings for t in state.tools if t.name == result.name), None)
    return extraction.prompt_tokens(result.raw.bytes, settings or FactsSettings(), pending.asked_of)


def most_usd(state: State, requested: ModelRequested) -> Decimal:
    """The most that an attempt at this request can cost. Its prompt is never taken for smaller than estimated, and for larger
    where the API has been counting more."""
    estimated = asked_tokens(state, requested)
    probable = estimated if requested.asked_of is not None else max(estimated, round(estimated * state.counted))
    return costs.worst_case(requested.asked_of or state.card, probable, requested.max_tokens)


def _compacted(state: State, compacted: Compacted) -> State:
    gone = compacted.keep_from - state.keep_from
    turns = state.turns[gone:]
    segment = Segment(compacted.segment, tokens.estimate(compacted.segment, state.card.tokenizer))
    state = changed(
        state,
        turns=turns,
        turns_tokens=measuring.turns_tokens(turns),
        call_ids=frozenset(c.id for t in turns for c in blocks.calls(t.reply)),
        keep_from=compacted.keep_from,
        segments=(*state.segments, segment),
        state_tokens=state.state_tokens + segment.tokens,
        rent_usd=Decimal(0),
        sent=state.sent._replace(cut=True) if state.sent else None,
        summary=None,
        compactions=state.compactions + 1,
        trouble=None if state.trouble is not None and state.trouble.kind == "window_exceeded" else state.trouble,
        failure=None,
    )
    return measuring.without_thinking(state) if compacted.thinking_dropped else state


def _resumed(state: State, resumed: SessionResumed, at: datetime) -> State:
    state = changed(
        state,
        limits=resumed.limits or state.limits,
        tools=state.tools if resumed.tools is None else resumed.tools,
        permits=state.permits if resumed.grants is None else replace(state.permits, grants=resumed.grants),
        refused=(),
        near=None,
        noticed=frozenset(),
        sleeps_until=None,
        outcome=None,
        detail="",
        failure=None,
        trouble=Trouble("paused", 0) if state.trouble is not None and state.trouble.kind == "paused" else None,
        repeats=("", 0),
        invalid_turns=0,
        running_since=at,
    )
    if state.results and not state.open_calls and state.to_extract is None:  # the tool asks no model any more
        state = changed(results.answered(state), repeats=("", 0), invalid_turns=0)
    if resumed.prefix is None:
        return state
    moved = changed(state, prefix=resumed.prefix, prefix_tokens=measuring.prefix_tokens(resumed.prefix, state.card), sent=None)
    return measuring.without_thinking(moved) if state.card.checks_thinking_prefix else moved
