"""What sessions in waves cost, beside what live calls would have cost: from their logs. Pure."""

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal

from agentloop.core import costs
from agentloop.core.costs import MILLION
from agentloop.core.measuring import prefix_tokens
from agentloop.core.wire import SYSTEM
from agentloop.types.base import Frozen
from agentloop.types.events import Event, ModelReplied, ModelRequested, SessionEnded, SessionStarted
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

    def __init__(self, start: SessionStarted) -> None:
        self.bill = SessionBill(session_id=start.session_id)
        self.shares: list[Decimal] = []
        self._card, self._tally = start.card, Tally(start.card)
        self._asked_of = start.card
        self._static: Ttl | None = None
        self._prefix_tokens = prefix_tokens(start.prefix, start.card)

    def read(self, event: Event) -> None:
        body = event.body
        if isinstance(body, ModelRequested):
            self._asked_of = body.asked_of or self._card
            self._static = next((b.ttl for b in body.breakpoints if b.message == SYSTEM), None)
        elif isinstance(body, SessionEnded):
            self.bill = self.bill.model_copy(update={"outcome": body.outcome})
        elif isinstance(body, ModelReplied):
            self._replied(body, event)

    def _replied(self, body: ModelReplied, event: Event) -> None:
        usage, card = body.reply.usage, body.reply.priced_by or self._asked_of
        is_batch = usage.service_tier == "batch"
        missed = Decimal(0)
        if card.id == self._card.id and body.purpose in ("turn", "summary"):
            before = self._known_before() if is_batch else self._tally
            share = before.found(usage) if is_batch else None
            if share is not None:
                self.shares.append(share)
                missed = _missed_usd(usage, before, card)
            self._tally = self._tally.after(usage, event.at)
        cost = costs.cost(usage, card)
        live = costs.cost(usage.model_copy(update={"service_tier": None}), card) - missed if is_batch else cost
        old = self.bill
        self.bill = old.model_copy(
            update={
                "replies": old.replies + 1,
                "batched": old.batched + is_batch,
                "cost_usd": old.cost_usd + cost,
                "live_usd": old.live_usd + live,
            }
        )

    def _known_before(self) -> Tally:
        """What the session carried; of its first request, the prefix, which another session had written."""
        if self._tally.turns or self._static is None or self._prefix_tokens < self._card.min_cacheable_tokens:
            return self._tally
        return self._tally.only(self._prefix_tokens, self._static)


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
    start = next(events).body
    assert isinstance(start, SessionStarted)
    reader = _Reader(start)
    for event in events:
        reader.read(event)
    return reader
