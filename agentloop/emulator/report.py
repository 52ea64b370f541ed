"""What the emulator has billed so far: a line for each request, and their sums."""

from collections import deque
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from agentloop.core import costs
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

    @property
    def cost_usd(self) -> Decimal:
        """What the request cost."""
        return costs.cost(self.usage, self.card)

    def data(self) -> Json:
        """As JSON data."""
        return {
            "number": self.number,
            "time": datetime.fromtimestamp(self.at, UTC).isoformat().replace("+00:00", "Z"),
            "model": self.card.id,
            **_tokens(self.usage),
            "cost_usd": _usd(self.cost_usd),
            "read_up_to": self.read_up_to,
            "message_id": self.message_id,
            "request_id": self.request_id,
        }


class Report:
    """The newest lines, and the sums of all. Not thread-safe: its caller holds a lock."""

    def __init__(self, at_most: int) -> None:
        self._lines: deque[Line] = deque(maxlen=at_most)
        self._usage = Usage()
        self._cost_usd = Decimal(0)
        self._requests = 0

    def add(self, at: float, card: ModelCard, usage: Usage, read_up_to: str | None, message_id: str, request_id: str) -> None:
        """Write down one answered request."""
        self._requests += 1
        line = Line(self._requests, at, card, usage, read_up_to, message_id, request_id)
        self._lines.append(line)
        self._usage += usage
        self._cost_usd += line.cost_usd

    def data(self) -> Json:
        """As JSON data."""
        totals = {"requests": self._requests, **_tokens(self._usage), "cost_usd": _usd(self._cost_usd)}
        return {"requests": [line.data() for line in self._lines], "totals": totals}


def _tokens(usage: Usage) -> Json:
    return {"prompt_tokens": usage.prompt_tokens, **usage.model_dump(exclude={"service_tier"})}


def _usd(amount: Decimal) -> str:
    return format(amount, "f")
