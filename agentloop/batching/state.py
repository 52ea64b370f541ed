"""The log of a batch run, folded: which rows were asked how, what came of each, and what that cost."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal, NamedTuple, assert_never

from agentloop.batching.events import (
    BatchEvent,
    BudgetChanged,
    CancelAsked,
    Ended,
    ItemResult,
    LiveAsked,
    LiveFailed,
    PartEnded,
    Prepared,
    Received,
    RoundPlanned,
    RowsGiven,
    SubmitIntended,
    SubmitRefused,
    Submitted,
    Verdict,
)
from agentloop.core import costs
from agentloop.types.request import Reply
from agentloop.types.usage import Usage

Key = tuple[int, int]
"""Round and part."""


@dataclass(frozen=True)
class Part:
    """One batch of a round."""

    rows: tuple[int, ...]
    status: Literal["planned", "intended", "submitted", "ended"] = "planned"
    most_usd: Decimal = Decimal(0)
    intended_at: datetime | None = None
    batch_id: str = ""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    refusals: int = 0
    """How often it was refused, or never arrived."""
    refusal: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it may cost something that is not known yet."""
        return self.status in ("intended", "submitted")


class Item(NamedTuple):
    """What is known of one row. What was asked and what was answered stays in the log."""

    round: int
    """The last round that brought a result."""
    verdict: Verdict
    retryable: bool
    why: str
    attempts: int
    """Rounds that brought a result."""
    cost_usd: Decimal
    is_certain: bool
    """Whether usage and price of its answer are known."""


@dataclass(frozen=True)
class BatchState:
    """A run."""

    prepared: Prepared
    started_at: datetime
    rows: int = 0
    """So many are written down."""
    rounds: tuple[Literal["batch", "live"], ...] = ()
    """How each round asks."""
    parts: Mapping[Key, Part] = field(default_factory=dict)
    items: Mapping[int, Item] = field(default_factory=dict)
    asked_live: Mapping[Key, Decimal] = field(default_factory=dict)
    """Round and row of live requests without an answer, and the most that each can cost."""
    anomalies: Mapping[str, int] = field(default_factory=dict)
    """Results that were unknown, came twice, or were missing."""
    max_budget_usd: Decimal | None = None
    spent_usd: Decimal = Decimal(0)
    live_usd: Decimal = Decimal(0)
    """What the same usage costs outside of batches."""
    at_risk_usd: Decimal = Decimal(0)
    """The most that lost batches and broken live requests may have cost besides."""
    usage: Usage = field(default_factory=Usage)
    cancelled: bool = False
    ended: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether all rows are written down."""
        return self.rows == self.prepared.rows

    @property
    def round(self) -> int:
        """The round that is under way; -1 before the first."""
        return len(self.rounds) - 1

    @property
    def set_aside_usd(self) -> Decimal:
        """The most that open batches and live requests can cost."""
        return sum((p.most_usd for p in self.parts.values() if p.is_open), Decimal(0)) + sum(
            self.asked_live.values(), Decimal(0)
        )

    @property
    def charged_usd(self) -> Decimal:
        """What counts against a budget: spent, and perhaps spent."""
        return self.spent_usd + self.at_risk_usd


def fold(events: Iterable[BatchEvent]) -> BatchState | None:
    """The state that a log describes; None where it says nothing yet."""
    state: BatchState | None = None
    for event in events:
        state = begin(event) if state is None else evolve(state, event)
    return state


def begin(event: BatchEvent) -> BatchState:
    """The state behind the first line."""
    assert isinstance(event.body, Prepared)
    return BatchState(event.body, event.at, max_budget_usd=event.body.max_budget_usd)


def evolve(state: BatchState, event: BatchEvent) -> BatchState:
    """The state, one event later."""
    match event.body:
        case Prepared():
            return state
        case RowsGiven(rows=rows):
            return replace(state, rows=state.rows + len(rows))
        case RoundPlanned(round=number, mode=mode, parts=parts):
            planned = {(number, i): Part(rows) for i, rows in enumerate(parts)}
            return replace(state, rounds=(*state.rounds, mode), parts={**state.parts, **planned})
        case SubmitIntended() | Submitted() | SubmitRefused() | PartEnded() as body:
            return _of_part(state, body, event.at)
        case Received() as body:
            return _received(state, body)
        case LiveAsked(round=number, row=row, most_usd=most):
            before = state.asked_live.get((number, row), Decimal(0))  # asked before a crash: perhaps answered, and paid for
            asked = {**state.asked_live, (number, row): most}
            return replace(state, asked_live=asked, at_risk_usd=state.at_risk_usd + before)
        case LiveFailed(round=number, row=row, failure=failure):
            most = state.asked_live.get((number, row), Decimal(0)) if failure.possibly_billed else Decimal(0)
            left = state.asked_live if failure.retry_in_s is not None else _without(state.asked_live, (number, row))
            return replace(state, at_risk_usd=state.at_risk_usd + most, asked_live=left)
        case CancelAsked():
            return replace(state, cancelled=True)
        case BudgetChanged(max_budget_usd=most_in_all):
            return replace(state, max_budget_usd=most_in_all)
        case Ended():
            unanswered = sum(state.asked_live.values(), Decimal(0))  # perhaps billed
            return replace(state, ended=True, asked_live={}, at_risk_usd=state.at_risk_usd + unanswered)
        case _:
            assert_never(event.body)


def _of_part(state: BatchState, body: SubmitIntended | Submitted | SubmitRefused | PartEnded, at: datetime) -> BatchState:
    key = (body.round, body.part)
    part = state.parts[key]
    match body:
        case SubmitIntended(most_usd=most):
            part = replace(part, status="intended", most_usd=most, intended_at=at)
        case Submitted(batch_id=batch_id, created_at=created_at, expires_at=expires_at):
            part = replace(part, status="submitted", batch_id=batch_id, created_at=created_at, expires_at=expires_at)
        case SubmitRefused(message=message, retry=retry):
            status: Literal["planned", "ended"] = "planned" if retry else "ended"
            part = replace(part, status=status, refusals=part.refusals + 1, refusal=message)
            if not retry:
                state = _without_result(state, part, body.round, "errored", f"the batch was refused: {message}")
        case PartEnded():
            state = _closed(state, part, body)
            part = replace(part, status="ended")
        case _:
            assert_never(body)
    return replace(state, parts={**state.parts, key: part})


def _closed(state: BatchState, part: Part, body: PartEnded) -> BatchState:
    """The end of a batch: what has no result now gets none from it any more."""
    found = {"unknown": body.unknown, "twice": body.twice, "missing": body.missing}
    state = replace(state, anomalies={k: state.anomalies.get(k, 0) + n for k, n in found.items()})
    if body.skipped:
        return _without_result(state, part, body.round, "canceled", "never sent") if body.round == 0 else state
    if body.lost:
        state = replace(state, at_risk_usd=state.at_risk_usd + part.most_usd)
        return _without_result(state, part, body.round, "lost", body.lost)
    if body.missing:  # perhaps answered and billed: not asked again by itself
        state = replace(state, at_risk_usd=state.at_risk_usd + part.most_usd * body.missing / len(part.rows))
    return _without_result(state, part, body.round, "lost", "the batch ended without a result for this item")


def _without_result(state: BatchState, part: Part, number: int, verdict: Verdict, why: str) -> BatchState:
    """The same outcome for every row of a batch that has no result of this round."""
    bare = [r for r in part.rows if r not in state.items or state.items[r].round < number]
    results = tuple(ItemResult(row=r, verdict=verdict, why=why) for r in bare)
    return _received(state, Received(round=number, items=results))


def _received(state: BatchState, body: Received) -> BatchState:
    """The results that are new: one that is told twice changes nothing."""
    items, asked = dict(state.items), dict(state.asked_live)
    spent, live, usage = state.spent_usd, state.live_usd, state.usage
    for result in body.items:
        before = items.get(result.row)
        if before is not None and before.round >= body.round:
            continue
        cost, at_live_prices = costs_of(result.reply, state.prepared)
        so_far, attempts = (before.cost_usd, before.attempts) if before is not None else (Decimal(0), 0)
        items[result.row] = Item(
            body.round, result.verdict, result.retryable, result.why, attempts + 1, so_far + cost, _is_certain(result.reply)
        )
        asked.pop((body.round, result.row), None)
        spent, live = spent + cost, live + at_live_prices
        usage = usage + result.reply.usage if result.reply is not None else usage
    return replace(state, items=items, asked_live=asked, spent_usd=spent, live_usd=live, usage=usage)


def _is_certain(reply: Reply | None) -> bool:
    return reply is None or not (reply.usage_estimated or reply.price_unknown)


def costs_of(reply: Reply | None, prepared: Prepared) -> tuple[Decimal, Decimal]:
    """What a reply cost (USD), and what the same usage costs in a live call."""
    if reply is None:
        return Decimal(0), Decimal(0)
    card = reply.priced_by or prepared.ask.card
    live = reply.usage.model_copy(update={"service_tier": None})
    return costs.cost(reply.usage, card), costs.cost(live, card)


def _without(asked: Mapping[Key, Decimal], key: Key) -> dict[Key, Decimal]:
    return {k: v for k, v in asked.items() if k != key}
