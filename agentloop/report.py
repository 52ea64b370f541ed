"""Where the money went: by turn, by kind of token, by cause. The log alone is enough to compute it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, NamedTuple

from pydantic import PlainSerializer

from agentloop.baselines import Baselines, OtherHands
from agentloop.core import costs
from agentloop.core.costs import Bill
from agentloop.core.folding import begin, evolve
from agentloop.core.state import State
from agentloop.core.tokens import estimate
from agentloop.core.wire import SYSTEM
from agentloop.types.base import Frozen, Json
from agentloop.types.events import (
    Compacted,
    Event,
    FellBack,
    ModelFailed,
    ModelReplied,
    ModelRequested,
    ResultExtracted,
    SessionStarted,
    ToolFinished,
)
from agentloop.types.leaves import LeafRun
from agentloop.types.request import Purpose, Reply
from agentloop.types.usage import TTL_SECONDS, ModelCard, Usage

Usd = Annotated[Decimal, PlainSerializer(lambda d: f"{d:f}", return_type=str)]

Cause = Literal[
    "start", "extends", "cold", "cut", "moved", "fallback", "summary", "extraction", "keepalive", "failed", "leaves"
]
"""Why a request was billed as it was: the first of a session · it extended the cached one · the cache had expired · a
compaction came before it · nothing was read though the cache was warm · another model had taken over, whose cache was empty ·
it asked for the session state · it asked a cheap model for facts · it kept the cache warm while tools ran · an attempt that
brought no reply. `leaves` are no request of the session: what its leaves spent."""


@dataclass(frozen=True, slots=True)
class AttemptCost:
    """One attempt that the API billed, or may have. There may be very many: it is kept small."""

    turn: int
    at: datetime
    purpose: Purpose
    cause: Cause
    usage: Usage
    cost_usd: Usd
    decision: str = ""
    """The compaction policy's reason, where it cut before this request; of a ping, why it pays."""
    cache_miss: str = ""
    """The API's own reason for a miss."""


class Report(Frozen):
    """The bill of one session, and what stands around it."""

    session_id: str
    agent: str
    model: str
    """The one that it speaks to at the end."""
    models_before: tuple[str, ...] = ()
    """Those that it spoke to before, first to last: each was not available, or refused."""
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
    leaves: tuple[LeafRun, ...] = ()
    """Sessions that it delegated to: what they spent is in its cost, what they used is not in its usage."""
    baselines: Baselines | None = None
    log: str = ""


def report(events: Iterable[Event], log: str = "", with_baselines: bool = True, with_turns: bool = True) -> Report:
    """The report of a session's events. Raises ValueError where the first is no session_started.

    One pass: only `cost_by_turn` grows with the session, by a line an attempt; `with_turns=False` leaves it empty.
    """
    stream = iter(events)
    first = next(stream, None)
    if first is None or not isinstance(first.body, SessionStarted):
        raise ValueError("a log starts with session_started")
    state = begin(first.body, first.at)
    counts, others = _Counts(), OtherHands(state)
    attempts: list[AttemptCost] = []
    by_cause: dict[str, Decimal] = {}
    for attempt, before, event, after in _followed(state, stream):
        state = after
        counts.take(event, before)
        if with_baselines:
            others.take(before, event, after)
        if attempt is not None:
            by_cause[attempt.cause] = by_cause.get(attempt.cause, Decimal(0)) + attempt.cost_usd
        if attempt is not None and with_turns:
            attempts.append(attempt)
    if counts.leaves:
        by_cause["leaves"] = counts.leaves_usd
    return Report(
        session_id=state.session_id,
        agent=state.agent,
        model=state.prefix.model,
        played_by=state.played_by,
        outcome=state.outcome or "unfinished",
        detail=state.detail,
        started_at=first.at,
        ended_at=counts.last_at or first.at,
        turns=state.asked,
        usage=state.usage,
        cost_usd=state.spent_usd,
        at_risk_usd=state.at_risk_usd,
        uncertain=tuple(counts.uncertain),
        cost_by_kind=_by_kind(counts),
        cost_by_cause=by_cause,
        cost_by_turn=tuple(attempts),
        models_before=tuple(counts.models_before),
        attempts=counts.attempts,
        failed_attempts=counts.failed_attempts,
        compactions=state.compactions,
        tool_calls=counts.tool_calls,
        tool_errors=counts.tool_errors,
        unknown_outcomes=tuple(counts.unknown_outcomes),
        trimmed_results=counts.trimmed_results,
        trimmed_tokens=counts.trimmed_tokens,
        leaves=tuple(counts.leaves),
        baselines=others.baselines() if with_baselines else None,
        log=log,
    )


class _Followed(NamedTuple):
    """One event, what was billed with it, and the states around it."""

    attempt: AttemptCost | None
    before: State
    event: Event
    after: State


def _followed(state: State, events: Iterable[Event]) -> Iterator[_Followed]:
    """Each event with the state after it, and the billed attempt with its cause."""
    cut: Compacted | None = None
    asked_after_cut: Compacted | None = None
    for event in events:
        attempt: AttemptCost | None = None
        match event.body:
            case Compacted() as compacted:
                cut = compacted
            case ModelRequested(purpose="turn"):
                asked_after_cut, cut = cut, None
            case ModelReplied() as replied:
                cause = _cause(state, replied, asked_after_cut if replied.purpose == "turn" else None)
                attempt = _attempt(state, replied, cause, asked_after_cut)
                asked_after_cut = None
            case ModelFailed(turn=turn, purpose=purpose, failure=failure) if failure.usage is not None:
                cost = costs.cost(failure.usage, _asked_card(state))
                attempt = AttemptCost(
                    turn=turn, at=event.at, purpose=purpose, cause="failed", usage=failure.usage, cost_usd=cost
                )
            case _:
                pass
        before, state = state, evolve(state, event)
        yield _Followed(attempt, before, event, state)


class _Counts:
    """What is counted event by event, whatever the state is."""

    def __init__(self) -> None:
        self.last_at: datetime | None = None
        self.bill = Bill()
        self.uncertain: list[str] = []
        self.attempts = self.failed_attempts = 0
        self.tool_calls = self.tool_errors = 0
        self.unknown_outcomes: list[str] = []
        self.trimmed_results = self.trimmed_tokens = 0
        self.leaves: list[LeafRun] = []
        self.models_before: list[str] = []

    @property
    def leaves_usd(self) -> Decimal:
        """What they spent."""
        return sum((leaf.spent_usd for leaf in self.leaves), Decimal(0))

    def take(self, event: Event, before: State) -> None:
        """One more event, and the state before it."""
        self.last_at = event.at
        match event.body:
            case ModelReplied(turn=turn, reply=reply):
                self.attempts += 1
                self._pay(costs.bill(reply.usage, reply.priced_by or before.card))
                self.uncertain += _uncertain(turn, reply)
            case ModelFailed(failure=failure):
                self.attempts, self.failed_attempts = self.attempts + 1, self.failed_attempts + 1
                if failure.usage is not None:
                    self._pay(costs.bill(failure.usage, _asked_card(before)))
            case FellBack():
                self.models_before.append(before.prefix.model)
            case ToolFinished() as finished:
                self._finished(finished, before.card.tokenizer)
            case ResultExtracted(call_id=call_id, content=str(content)):
                shown = next(r.content for r in before.results if r.call_id == call_id)
                self.trimmed_tokens += _tokens(shown, before.card.tokenizer) - _tokens(content, before.card.tokenizer)
            case _:
                pass

    def _pay(self, bill: Bill) -> None:
        self.bill = costs.total((self.bill, bill))

    def _finished(self, finished: ToolFinished, tokenizer: str) -> None:
        self.tool_calls += 1
        self.tool_errors += finished.is_error
        self.leaves += finished.leaves or ()
        if finished.outcome == "unknown":
            self.unknown_outcomes.append(f"{finished.name} {finished.call_id}")
        if finished.raw is not None:
            self.trimmed_results += 1
            self.trimmed_tokens += finished.raw.tokens - _tokens(finished.content, tokenizer)


def _tokens(content: str | list[Json], tokenizer: str) -> int:
    return estimate(content, tokenizer) if isinstance(content, str) else 0


def _asked_card(state: State) -> ModelCard:
    """The model that the request under way asks."""
    return (state.pending.asked_of if state.pending is not None else None) or state.card


def _uncertain(turn: int, reply: Reply) -> Iterator[str]:
    if reply.usage_estimated:
        yield f"turn {turn}: the API reported no usage; an upper estimate counts"
    if reply.price_unknown:
        asked = f"'{reply.priced_by.id}'" if reply.priced_by is not None else "the session's model"
        yield f"turn {turn}: answered by '{reply.model}', which is in no price table; priced as {asked}"


def _attempt(state: State, replied: ModelReplied, cause: Cause, cut: Compacted | None) -> AttemptCost:
    reply = replied.reply
    return AttemptCost(
        turn=replied.turn,
        at=state.pending_at or state.running_since,
        purpose=replied.purpose,
        cause=cause,
        usage=reply.usage,
        cost_usd=costs.cost(reply.usage, reply.priced_by or state.card),
        decision=_reason(state, cause, cut),
        cache_miss=str((reply.cache_miss or {}).get("type", "")),
    )


def _reason(state: State, cause: Cause, cut: Compacted | None) -> str:
    if cause == "keepalive":
        return state.pending.decision.reason if state.pending is not None and state.pending.decision is not None else ""
    return cut.decision.reason if cut is not None and cause != "summary" else ""


def _cause(state: State, replied: ModelReplied, cut: Compacted | None) -> Cause:
    if replied.purpose != "turn":
        return replied.purpose
    if state.sent is None:
        return "start"
    if state.sent.lost:
        return "fallback"
    if cut is not None:
        return "cut"
    assert state.pending is not None
    assert state.pending_at is not None
    tail = [b for b in state.pending.breakpoints if b.message != SYSTEM]
    expected = state.sent.prompt_tokens if tail else state.prefix_tokens
    if replied.reply.usage.cache_read_input_tokens * 2 >= expected or not _cacheable(state):
        return "extends"
    gap = max(0.0, (state.pending_at - state.sent.at).total_seconds())
    return "cold" if gap > TTL_SECONDS[state.sent.ttl or "5m"] else "moved"


def _cacheable(state: State) -> bool:
    return state.sent is not None and state.sent.prompt_tokens >= state.card.min_cacheable_tokens


def _by_kind(counts: _Counts) -> dict[str, Decimal]:
    leaves = {"leaves": counts.leaves_usd} if counts.leaves else {}
    return {**counts.bill._asdict(), **leaves, "total": counts.bill.total + counts.leaves_usd}
