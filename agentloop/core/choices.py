"""What can be chosen about a session: its policies, and what each of them is asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, Protocol

from agentloop.core.state import State
from agentloop.types.blocks import Block, Call, Message
from agentloop.types.events import Decision, Outcome, RawResult
from agentloop.types.request import Breakpoint
from agentloop.types.tools import FactsSettings


class Shown(NamedTuple):
    """A tool result as the model will see it; `raw` is set where it is less than the whole."""

    content: str | list[Block]
    raw: RawResult | None = None


class CompactionPolicy(Protocol):
    """Decides, before a request, whether the oldest turns leave the view."""

    @property
    def keep_pairs(self) -> int | None:
        """How many pairs a cut leaves; None where the policy never cuts."""
        ...

    def weigh(self, state: State, ledger: "LedgerPolicy", now: datetime) -> Decision:
        """Whether to cut before the next request, and why."""
        ...


class LedgerPolicy(Protocol):
    """Writes what stands for the turns that leave the view."""

    def segment(self, state: State, keep_from: int) -> str:
        """The session state's next segment."""
        ...

    def question(self, state: State, keep_from: int) -> str | None:
        """What to ask the model before a cut, where the model writes the state; None where the engine does."""
        ...

    def from_summary(self, state: State, keep_from: int, summary: str) -> str:
        """The segment made from what the model wrote."""
        ...


class FactsPolicy(Protocol):
    """Cuts a large tool result down to what the model needs, before the model first sees it."""

    def shown(
        self,
        call: Call,
        content: str,
        mode: str,
        handle: str,
        family: str,
        settings: FactsSettings | None = None,
        state: State | None = None,
    ) -> Shown:
        """The result as the model will see it; `handle` is the digest of the whole, `settings` the tool's own, `state`
        what the model can see already."""
        ...


class Notice(NamedTuple):
    """What the model is told when a limit is near, so that it comes to an end by itself."""

    about: str
    text: str


class BudgetPolicy(Protocol):
    """Says where a session stops, before money is spent."""

    def notice(self, state: State, now: datetime) -> Notice | None:
        """What to tell the model before the next request; None where nothing is near, or it was told."""
        ...

    def stop(self, state: State, now: datetime) -> tuple[Outcome, str] | None:
        """The limit that forbids the next request, and the sentence that says so."""
        ...

    def max_tokens(self, state: State) -> int:
        """Output tokens that the next request may use."""
        ...

    def affords(self, state: State, cost_usd: Decimal) -> bool:
        """Whether so much may be spent besides the next request."""
        ...

    def fits(self, state: State, most_usd: Decimal) -> bool:
        """Whether a request that can cost so much may be sent: the same one again, most of all."""
        ...


class CachingPolicy(Protocol):
    """Where a request asks the API to keep cache entries."""

    def breakpoints(self, state: State, messages: Sequence[Message]) -> tuple[Breakpoint, ...]:
        """The breakpoints of a request that carries these messages, first to last."""
        ...


@dataclass(frozen=True)
class Policies:
    """Everything about a session that can be chosen."""

    compaction: CompactionPolicy
    ledger: LedgerPolicy
    facts: FactsPolicy
    budget: BudgetPolicy
    caching: CachingPolicy
