"""What the emulator has billed so far: a line for each request, and their sums."""

from collections import deque
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from agentloop.core import costs
from agentloop.core.costs import Bill
from agentloop.core.stream import read_usage
from agentloop.emulator.misses import Miss
from agentloop.types.base import Json
from agentloop.types.usage import ModelCard, Usage


class Line(NamedTuple):
    """One answered request."""

    number: int
    at: float
    card: ModelCard
    usage: Usage
    read_up_to: str | None
    """The last block that was read from the cache, such as `messages.3.content.0`."""
    message_id: str
    request_id: str
    read_from: str | None = None
    """The request that wrote what was read, by its id."""
    miss: Miss | None = None
    billed: bool = True
    """A refusal before any output may be free."""

    @property
    def bill(self) -> Bill:
        """What the request cost."""
        return costs.bill(self.usage, self.card) if self.billed else Bill()

    def data(self) -> Json:
        """As JSON data."""
        bill = self.bill
        return {
            "number": self.number,
            "time": datetime.fromtimestamp(self.at, UTC).isoformat().replace("+00:00", "Z"),
            "model": self.card.id,
            **_tokens(self.usage),
            "service_tier": self.usage.service_tier or "standard",
            "speed": self.usage.speed or "standard",
            "inference_geo": self.usage.inference_geo,
            "billed": self.billed,
            "cost_usd": _usd(bill.total),
            "cost_by_kind_usd": _by_kind(bill),
            "read_up_to": self.read_up_to,
            "read_from": self.read_from,
            "miss": self.miss._asdict() if self.miss is not None else None,
            "message_id": self.message_id,
            "request_id": self.request_id,
        }


class Report:
    """The newest lines, and the sums of all. Not thread-safe: its caller holds a lock."""

    def __init__(self, at_most: int) -> None:
        self._lines: deque[Line] = deque(maxlen=at_most)
        self._usage = Usage()
        self._bill = Bill()
        self._requests = 0

    def add(
        self,
        at: float,
        card: ModelCard,
        usage: Usage,
        read_up_to: str | None,
        message_id: str,
        request_id: str,
        *,
        read_from: str | None = None,
        miss: Miss | None = None,
        billed: bool = True,
    ) -> None:
        """Write down one answered request."""
        self._requests += 1
        line = Line(self._requests, at, card, usage, read_up_to, message_id, request_id, read_from, miss, billed)
        self._lines.append(line)
        self._usage += usage
        self._bill = costs.total((self._bill, line.bill))

    def data(self) -> Json:
        """As JSON data."""
        totals = {
            "requests": self._requests,
            **_tokens(self._usage),
            "cost_usd": _usd(self._bill.total),
            "cost_by_kind_usd": _by_kind(self._bill),
        }
        return {"requests": [line.data() for line in self._lines], "totals": totals}


def billed_usage(message: Json) -> Usage:
    """The usage of an answer, as its receiver reads it."""
    usage = read_usage(message["usage"])
    assert usage is not None
    return usage


def is_billed(message: Json, at: float) -> bool:
    """Whether an answer is paid for: every one is, but for some refusals."""
    if message["stop_reason"] != "refusal":
        return True
    category = (message["stop_details"] or {}).get("category")
    return costs.refusal_is_billed(category, message["content"], datetime.fromtimestamp(at, UTC).date())


def _tokens(usage: Usage) -> Json:
    """The tokens that are paid for, all model calls of the request together."""
    paid = usage + Usage()
    named = paid.model_dump(exclude={"service_tier", "speed", "inference_geo", "iterations"})
    return {"prompt_tokens": paid.prompt_tokens, **named, "model_calls": max(1, len(usage.iterations))}


def _by_kind(bill: Bill) -> dict[str, str]:
    return {kind: _usd(amount) for kind, amount in bill._asdict().items()}


def _usd(amount: Decimal) -> str:
    return format(amount, "f")
