"""What sessions in waves cost, beside what live calls would have cost: from their logs. Pure."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from agentloop.core import costs
from agentloop.core.costs import MILLION
from agentloop.core.folding import begin, evolve
from agentloop.core.state import State
from agentloop.core.wire import SYSTEM
from agentloop.types.base import Frozen
from agentloop.types.events import Compacted, Event, FellBack, ModelReplied, ModelRequested, SessionStarted
from agentloop.types.usage import ModelCard, Ttl, Usage
from agentloop.waves.tally import Tally


class SessionBill(Frozen):
    """One session. USD."""

    session_id: str
    outcome: str | None = None
    """None: it has not ended."""
    replies: int = 0
    batched: int = 0
    """Replies that came out of batches."""
    cost_usd: Decimal = Decimal(0)
    """All that the session has spent, its leaves and failed attempts too."""
    live_usd: Decimal = Decimal(0)
    """The same requests, had each been asked live: at live prices, and what a batch did not find in the cache read there."""


class WaveBill(Frozen):
    """All sessions of a wave. USD."""

    sessions: int
    outcomes: dict[str, int]
    replies: int
    batched: int
    cost_usd: Decimal
    live_usd: Decimal
    ratio_to_live: Decimal | None
    hits: Decimal | None
    """What items of batches found of what they could have found in the cache, in the mean; None: nothing was measured."""


class _Reader:
    """One log, event by event."""

    def __init__(self, start: Event) -> None:
        assert isinstance(start.body, SessionStarted)
        self.bill = SessionBill(session_id=start.body.session_id)
        self.shares: list[Decimal] = []
        self._state = begin(start.body, start.at)
        self._tally = Tally(self._state.card)
        self._static: Ttl | None = None
        self._is_cut = False

    def read(self, event: Event) -> None:
        body, before = event.body, self._state
        self._state = after = evolve(before, event)
        dearer_usd, replies, batched = Decimal(0), 0, 0
        if isinstance(body, ModelRequested):
            self._static = next((b.ttl for b in body.breakpoints if b.message == SYSTEM), None)
        elif isinstance(body, Compacted):
            self._is_cut = True
        elif isinstance(body, FellBack):  # another model has another cache
            self._tally = Tally(after.card)
        elif isinstance(body, ModelReplied):
            replies, batched = 1, int(body.reply.usage.service_tier == "batch")
            dearer_usd = self._replied(body, before, event.at)
        old, spent = self.bill, after.spent_usd - before.spent_usd
        self.bill = old.model_copy(
            update={
                "outcome": after.outcome,
                "replies": old.replies + replies,
                "batched": old.batched + batched,
                "cost_usd": old.cost_usd + spent,
                "live_usd": old.live_usd + spent + dearer_usd,
            }
        )

    def _replied(self, body: ModelReplied, before: State, at: datetime) -> Decimal:
        """By how much a live call would have been dearer."""
        usage, missed = body.reply.usage, Decimal(0)
        asked_of = before.pending.asked_of if before.pending is not None else None
        card, is_batch = body.reply.priced_by or asked_of or before.card, usage.service_tier == "batch"
        if card.id == before.card.id and body.purpose in ("turn", "summary"):
            known = self._known_before(before) if is_batch else self._tally
            share = known.found(usage) if is_batch and not self._is_cut else None
            if share is not None:
                self.shares.append(share)
                missed = _missed_usd(usage, known, card)
            self._tally, self._is_cut = self._tally.after(usage, at), False
        if not is_batch:
            return Decimal(0)
        return costs.cost(usage.model_copy(update={"service_tier": None}), card) - costs.cost(usage, card) - missed

    def _known_before(self, state: State) -> Tally:
        """What the session carried; of its first request, the prefix, which another session had written."""
        if self._tally.turns or self._static is None or state.prefix_tokens < state.card.min_cacheable_tokens:
            return self._tally
        return self._tally.only(state.prefix_tokens, self._static)


def _missed_usd(usage: Usage, before: Tally, card: ModelCard) -> Decimal:
    """What a request paid at live prices for writing what it could have read."""
    p = costs.prices_for(card, usage.prompt_tokens)
    written = usage.ephemeral_5m_input_tokens + usage.ephemeral_1h_input_tokens
    missed = min(max(0, before.carried - usage.cache_read_input_tokens), written)
    longer = min(missed, usage.ephemeral_1h_input_tokens)
    wrote = longer * p.cache_write_1h + (missed - longer) * p.cache_write_5m
    return (wrote - missed * p.cache_read) / MILLION


def bill(logs: Iterable[Iterable[Event]]) -> tuple[WaveBill, list[SessionBill]]:
    """The bill of sessions, all of them and each."""
    readers = [_read(log) for log in logs]
    found = [r.bill for r in readers]
    cost, live = (sum((getattr(b, name) for b in found), Decimal(0)) for name in ("cost_usd", "live_usd"))
    shares = [share for r in readers for share in r.shares]
    whole = WaveBill(
        sessions=len(found),
        outcomes=dict(sorted(Counter(b.outcome or "not ended" for b in found).items())),
        replies=sum(b.replies for b in found),
        batched=sum(b.batched for b in found),
        cost_usd=cost,
        live_usd=live,
        ratio_to_live=round(cost / live, 4) if live else None,
        hits=round(sum(shares, Decimal(0)) / len(shares), 4) if shares else None,
    )
    return whole, found


def _read(log: Iterable[Event]) -> _Reader:
    events = iter(log)
    reader = _Reader(next(events))
    for event in events:
        reader.read(event)
    return reader
