"""Where the money went: by turn, by kind of token, by cause. The log alone is enough to compute it."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import PlainSerializer

from agentloop.baselines import Baselines, baselines
from agentloop.core import costs
from agentloop.core.costs import Bill
from agentloop.core.folding import begin, evolve
from agentloop.core.state import State
from agentloop.core.wire import SYSTEM
from agentloop.types.base import Frozen
from agentloop.types.events import (
    Compacted,
    Event,
    ModelFailed,
    ModelReplied,
    ModelRequested,
    SessionStarted,
    ToolFinished,
)
from agentloop.types.request import Purpose
from agentloop.types.usage import TTL_SECONDS, ModelCard, Usage

Usd = Annotated[Decimal, PlainSerializer(lambda d: f"{d:f}", return_type=str)]

Cause = Literal["start", "extends", "cold", "cut", "moved", "summary", "failed"]
"""Why a request was billed as it was: the first of a session · it extended the cached one · the cache had expired · a
compaction came before it · nothing was read though the cache was warm · it asked for the session state · an attempt that
brought no reply."""


class AttemptCost(Frozen):
    """One attempt that the API billed, or may have."""

    turn: int
    at: datetime
    purpose: Purpose
    cause: Cause
    usage: Usage
    cost_usd: Usd
    decision: str = ""
    """The compaction policy's reason, where it cut before this request."""
    cache_miss: str = ""
    """The API's own reason for a miss."""


class Report(Frozen):
    """The bill of one session, and what stands around it."""

    session_id: str
    agent: str
    model: str
    played_by: str
    """Who answered as the model: `api`, or the name of a script."""
    outcome: str
    detail: str
    started_at: datetime
    ended_at: datetime
    turns: int
    usage: Usage
    cost_usd: Usd
    at_risk_usd: Usd
    """The most that attempts whose usage nobody reported may have cost besides."""
    uncertain: tuple[str, ...]
    """Replies whose usage or price nobody knows for certain, and what stands in for it."""
    cost_by_kind: dict[str, Usd]
    cost_by_cause: dict[str, Usd]
    cost_by_turn: tuple[AttemptCost, ...]
    attempts: int
    failed_attempts: int
    compactions: int
    tool_calls: int
    tool_errors: int
    unknown_outcomes: tuple[str, ...]
    """Calls that may or may not have had their effect: look at these."""
    trimmed_results: int
    trimmed_tokens: int
    """Estimated tokens of results that the model was spared."""
    baselines: Baselines | None = None
    log: str = ""


def report(events: Sequence[Event], log: str = "", with_baselines: bool = True) -> Report:
    """The report of a session's events. Raises ValueError where the first is no session_started."""
    if not events or not isinstance(events[0].body, SessionStarted):
        raise ValueError("a log starts with session_started")
    start = begin(events[0].body, events[0].at)
    state, costs_seen = _followed(start, events[1:])
    finished = [e.body for e in events if isinstance(e.body, ToolFinished)]
    trimmed = [f for f in finished if f.raw is not None]
    total = costs.total(_bills(events, state.card))
    return Report(
        session_id=state.session_id,
        agent=state.agent,
        model=state.prefix.model,
        played_by=state.played_by,
        outcome=state.outcome or "unfinished",
        detail=state.detail,
        started_at=events[0].at,
        ended_at=events[-1].at,
        turns=state.asked,
        usage=state.usage,
        cost_usd=state.spent_usd,
        at_risk_usd=state.at_risk_usd,
        uncertain=tuple(_uncertain(events)),
        cost_by_kind=_by_kind(total),
        cost_by_cause=_by_cause(costs_seen),
        cost_by_turn=tuple(costs_seen),
        attempts=sum(isinstance(e.body, ModelReplied | ModelFailed) for e in events),
        failed_attempts=sum(isinstance(e.body, ModelFailed) for e in events),
        compactions=state.compactions,
        tool_calls=len(finished),
        tool_errors=sum(f.is_error for f in finished),
        unknown_outcomes=tuple(f"{f.name} {f.call_id}" for f in finished if f.outcome == "unknown"),
        trimmed_results=len(trimmed),
        trimmed_tokens=sum(f.raw.tokens for f in trimmed if f.raw) - _shown_tokens(trimmed, state),
        baselines=baselines(events[1:], start) if with_baselines else None,
        log=log,
    )


def _followed(state: State, events: Iterable[Event]) -> tuple[State, list[AttemptCost]]:
    """The final state, and each billed attempt with its cause."""
    attempts: list[AttemptCost] = []
    cut: Compacted | None = None
    for event in events:
        match event.body:
            case Compacted() as compacted:
                cut = compacted
            case ModelRequested(purpose="turn"):
                asked_after_cut, cut = cut, None
            case ModelReplied() as replied:
                cause = _cause(state, replied, asked_after_cut if replied.purpose == "turn" else None)
                attempts.append(_attempt(state, replied, cause, asked_after_cut))
                asked_after_cut = None
            case ModelFailed(turn=turn, purpose=purpose, failure=failure) if failure.usage is not None:
                cost = costs.cost(failure.usage, state.card)
                attempts.append(
                    AttemptCost(turn=turn, at=event.at, purpose=purpose, cause="failed", usage=failure.usage, cost_usd=cost)
                )
            case _:
                pass
        state = evolve(state, event)
    return state, attempts


def _uncertain(events: Iterable[Event]) -> Iterator[str]:
    for event in events:
        if isinstance(event.body, ModelReplied):
            turn, reply = event.body.turn, event.body.reply
            if reply.usage_estimated:
                yield f"turn {turn}: the API reported no usage; an upper estimate counts"
            if reply.price_unknown:
                yield f"turn {turn}: answered by '{reply.model}', which is in no price table; priced as the session's model"


def _bills(events: Iterable[Event], card: ModelCard) -> Iterator[Bill]:
    """The bill of each attempt, at the prices of the model that answered."""
    for event in events:
        match event.body:
            case ModelReplied(reply=reply):
                yield costs.bill(reply.usage, reply.priced_by or card)
            case ModelFailed(failure=failure) if failure.usage is not None:
                yield costs.bill(failure.usage, card)
            case _:
                pass


def _attempt(state: State, replied: ModelReplied, cause: Cause, cut: Compacted | None) -> AttemptCost:
    reply = replied.reply
    return AttemptCost(
        turn=replied.turn,
        at=state.pending_at or state.running_since,
        purpose=replied.purpose,
        cause=cause,
        usage=reply.usage,
        cost_usd=costs.cost(reply.usage, reply.priced_by or state.card),
        decision=cut.decision.reason if cut is not None and cause != "summary" else "",
        cache_miss=str((reply.cache_miss or {}).get("type", "")),
    )


def _cause(state: State, replied: ModelReplied, cut: Compacted | None) -> Cause:
    if replied.purpose == "summary":
        return "summary"
    if state.sent is None:
        return "start"
    if cut is not None:
        return "cut"
    assert state.pending is not None
    assert state.pending_at is not None
    tail = [b for b in state.pending.breakpoints if b.message != SYSTEM]
    expected = state.sent.prompt_tokens if tail else state.prefix_tokens
    if replied.reply.usage.cache_read_input_tokens * 2 >= expected or not _cacheable(state):
        return "extends"
    gap = (state.pending_at - state.sent.at).total_seconds()
    return "cold" if gap > TTL_SECONDS[state.pending.breakpoints[-1].ttl if tail else "5m"] else "moved"


def _cacheable(state: State) -> bool:
    return state.sent is not None and state.sent.prompt_tokens >= state.card.min_cacheable_tokens


def _by_kind(bill: Bill) -> dict[str, Decimal]:
    return {**bill._asdict(), "total": bill.total}


def _by_cause(attempts: Iterable[AttemptCost]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for attempt in attempts:
        sums[attempt.cause] = sums.get(attempt.cause, Decimal(0)) + attempt.cost_usd
    return sums


def _shown_tokens(finished: Iterable[ToolFinished], state: State) -> int:
    from agentloop.core.tokens import estimate

    return sum(estimate(f.content, state.card.tokenizer) for f in finished if isinstance(f.content, str))
