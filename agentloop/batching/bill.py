"""Where a batch run stands, and what it costs: the sum of recorded usage at batch prices, beside the same usage live."""

from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import PlainSerializer

from agentloop.batching.state import BatchState, Part
from agentloop.types.base import Frozen
from agentloop.types.usage import Usage

Usd = Annotated[Decimal, PlainSerializer(lambda d: f"{d:f}", return_type=str)]
Status = Literal["preparing", "planned", "processing", "ended", "cancelled"]


class BatchRow(Frozen):
    """One batch of the API."""

    round: int
    part: int
    status: str
    batch_id: str
    items: int
    created_at: datetime | None
    expires_at: datetime | None
    most_usd: Usd
    """What was set aside for it."""


class Summary(Frozen):
    """A run at a glance."""

    name: str
    model: str
    played_by: str
    status: Status
    started_at: datetime
    rows: int
    done: int
    """Rows that have their outcome."""
    outcomes: dict[str, int]
    """Rows by outcome; while the run is under way those that are asked again are `open`."""
    asked_again: int
    """Rows that were asked more than once."""
    batches: tuple[BatchRow, ...]
    usage: Usage
    cost_usd: Usd
    live_usd: Usd
    """What live calls with the same usage cost."""
    ratio_to_live: float | None
    set_aside_usd: Usd
    at_risk_usd: Usd
    """The most that requests whose usage nobody reported may have cost besides."""
    max_budget_usd: Usd | None
    uncertain: int
    """Answers whose usage or price nobody knows for certain."""
    anomalies: dict[str, int]
    """Results that nobody asked for, that came twice, or that never came."""
    log: str


def summary(state: BatchState, log: str) -> Summary:
    """Where a run stands."""
    outcomes = Counter("open" if _is_open(state, row) else state.items[row].verdict for row in range(state.rows))
    return Summary(
        name=state.prepared.name,
        model=state.prepared.ask.card.id,
        played_by=state.prepared.played_by,
        status=_status(state),
        started_at=state.started_at,
        rows=state.prepared.rows,
        done=state.rows - outcomes["open"],
        outcomes=dict(sorted((k, n) for k, n in outcomes.items() if n)),
        asked_again=sum(item.attempts > 1 for item in state.items.values()),
        batches=tuple(_row(key, part) for key, part in sorted(state.parts.items()) if state.rounds[key[0]] == "batch"),
        usage=state.usage,
        cost_usd=state.spent_usd,
        live_usd=state.live_usd,
        ratio_to_live=round(float(state.spent_usd / state.live_usd), 6) if state.live_usd else None,
        set_aside_usd=state.set_aside_usd,
        at_risk_usd=state.at_risk_usd,
        max_budget_usd=state.max_budget_usd,
        uncertain=sum(not item.is_certain for item in state.items.values()),
        anomalies={k: n for k, n in state.anomalies.items() if n},
        log=log,
    )


def _is_open(state: BatchState, row: int) -> bool:
    """Whether a row may still get another outcome than it has."""
    item = state.items.get(row)
    return not state.ended and (item is None or item.retryable)


def _status(state: BatchState) -> Status:
    if not state.is_whole:
        return "preparing"
    if state.ended:
        return "cancelled" if state.cancelled else "ended"
    return "processing" if any(p.is_open for p in state.parts.values()) else "planned"


def _row(key: tuple[int, int], part: Part) -> BatchRow:
    return BatchRow(
        round=key[0],
        part=key[1],
        status=part.status,
        batch_id=part.batch_id,
        items=len(part.rows),
        created_at=part.created_at,
        expires_at=part.expires_at,
        most_usd=part.most_usd,
    )
