"""Everything that is known of a session: its log, folded (`core/folding.py` does that)."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from agentloop.core.permits import Permits
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Blocks, Call, Message
from agentloop.types.events import BudgetSeen, Fallback, ModelRequested, Outcome, ToolFinished
from agentloop.types.limits import Limits
from agentloop.types.past import Prior
from agentloop.types.request import Breakpoint, Failure, Prefix
from agentloop.types.tools import Effect, ToolCard
from agentloop.types.usage import ModelCard, Ttl, Usage

__all__ = ["Announced", "Found", "Once", "Segment", "Sent", "State", "Trouble", "TroubleKind", "Turn", "changed"]

Made = TypeVar("Made")
TroubleKind = Literal["truncated", "window_exceeded", "empty", "paused", "duplicate_ids", "refused", "unknown_stop"]


@dataclass(frozen=True, eq=False)
class Turn:
    """What was given to the model and what it replied. `given` of a session's first turn is its task."""

    given: Blocks
    given_tokens: int
    reply: Blocks
    reply_tokens: int
    message_id: str

    @cached_property
    def question(self) -> Message:
        """The user message that carried `given`."""
        return blocks.user(*self.given)

    @cached_property
    def answer(self) -> Message:
        """The assistant message of the reply."""
        return blocks.assistant(*self.reply)

    @cached_property
    def _made(self) -> dict[Hashable, Any]:
        return {}

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` makes of this turn: made once, and forgotten with the turn. One cache for all sessions would be too small
        as soon as a thousand of them take turns."""
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made


class Segment(NamedTuple):
    """One piece of the session state: what stands for the turns that one compaction removed."""

    text: str
    tokens: int


class Trouble(NamedTuple):
    """A reply that cannot stand as the next turn, and how many of its kind came in a row."""

    kind: TroubleKind
    times: int
    detail: str = ""
    handled: bool = False
    """Whether something was done about it: the model was told, or asked again."""


class Once(NamedTuple):
    """Results that are shown whole until a reply to them stands; then their facts, which `State.given` holds already."""

    wholes: Mapping[str, str]
    """By the id of the call."""
    extra_tokens: int
    """What they take more than their facts."""
    first: int
    """The block of `State.given` that is the first of them. From there on nothing is written to the cache."""
    tokens_before: int
    """Estimated tokens of the blocks of `State.given` before it."""


class Announced(NamedTuple):
    """A wait whose end is known: tools are running that said how long they take."""

    since: datetime
    until: datetime
    given_up: bool = False
    """A ping came to nothing: no other is sent before the next request."""


class Sent(NamedTuple):
    """The last request for a turn that was answered."""

    at: datetime
    """When its cache entries were last used: when it was sent, or the last ping that kept them alive."""
    prompt_tokens: int
    """Estimated tokens of it that the next request repeats: all, up to what is shown once."""
    given_blocks: int
    """How many blocks of `State.given` it carried already (0 once its reply is a turn)."""
    message_id: str
    ttl: Ttl | None = None
    """How long its end was asked to be cached; None where it was not."""
    cut: bool = False
    """A compaction came after it: what it left in the cache behind the session state cannot be read any more."""
    once_from: int | None = None
    """The block of its last message from which on it was not written, because of what it showed once."""
    breakpoints: tuple[Breakpoint, ...] = ()
    """Where it asked for cache entries."""
    pinged_s: float = 0.0
    """Seconds from when it was sent to the last ping."""
    lost: bool = False
    """Nothing of it is in the cache: the session speaks to another model since."""
    carried: int = 0
    """Tokens that it left in the cache, read or written, as the API counted them; 0 where that is not known."""


class Found(NamedTuple):
    """What requests found that should still have been in the cache."""

    requests: int = 0
    shares: Decimal = Decimal(0)
    """The sum over them of the share that was found, each between 0 and 1."""


@dataclass(frozen=True, eq=False)
class State:
    """A session, as its log tells it."""

    session_id: str
    agent: str
    prefix: Prefix
    prefix_tokens: int
    card: ModelCard
    limits: Limits
    tools: tuple[ToolCard, ...]
    policies: Json
    played_by: str
    started_at: datetime
    running_since: datetime
    """When the session started, or was last resumed after an end."""
    task: Blocks = ()
    task_tokens: int = 0
    turns: tuple[Turn, ...] = ()
    """The turns that are in the view: those before `keep_from` have left it."""
    turns_tokens: int = 0
    """Estimated tokens of the turns in the view, without what the first of them was given."""
    call_ids: frozenset[str] = frozenset()
    """Ids of the tool calls in the view."""
    keep_from: int = 0
    """How many turns have left the view."""
    segments: tuple[Segment, ...] = ()
    state_tokens: int = 0
    """Estimated tokens of the segments: of the session state."""
    thinking_from: int = 0
    """Turns before this one are shown without their thinking."""
    given: Blocks = ()
    """What the next request gives to the model."""
    given_tokens: int = 0
    """Estimated tokens of it as the next request carries it: with results whole that are shown once."""
    once: Once | None = None
    open_calls: tuple[Call, ...] = ()
    """Calls of the last reply that have no answer yet."""
    results: tuple[ToolFinished, ...] = ()
    extracted: frozenset[str] = frozenset()
    """Calls of the last reply about whose results a cheap model was asked, or is not to be asked."""
    extraction: str | None = None
    """What it wrote about the next one; empty where it failed, None where it was not asked yet."""
    extraction_failed: bool = False
    """Whether it did not answer, in this turn."""
    started: Mapping[str, Effect] = field(default_factory=dict)
    """Calls that were started and have not finished, with the effect that was recorded."""
    announced: Announced | None = None
    asked: int = 0
    """Replies to requests for a turn: what `max_turns` counts."""
    pending: ModelRequested | None = None
    """A request that has neither reply nor failure: the process ended in between."""
    pending_at: datetime | None = None
    due_tokens: int = 0
    """What it should find in the cache, in the API's tokens; 0 where that cannot be told."""
    found: Found = field(default_factory=Found)
    sent: Sent | None = None
    gaps: tuple[float, ...] = ()
    """Seconds from when the cache entries were last used, by a request for a turn or a ping, to the next request for a turn."""
    pinged_s: tuple[float, ...] = ()
    """By gap, the seconds before it through which pings had kept the entries alive; 0 where none was sent."""
    expected_gap_s: float | None = None
    """What was announced of them when the session started."""
    prior: Prior | None = None
    """What was known then of the agent's earlier sessions."""
    fallback: tuple[Fallback, ...] = ()
    """Who takes over next where the model is not available, or refuses."""
    counted: float = 1.0
    """Tokens that the API counted in the last prompt, as a multiple of those estimated."""
    rent_usd: Decimal = Decimal(0)
    trouble: Trouble | None = None
    failure: Failure | None = None
    summary: str | None = None
    """A session state that the model wrote and that no compaction has used yet."""
    summary_failures: int = 0
    facts_shown: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By tool, the handles of its results that were shown as facts."""
    facts_recalled: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Those of which the model asked for more."""
    repeats: tuple[str, int] = ("", 0)
    """The last turn's calls with their results, as a digest, and how often it came in a row."""
    invalid_turns: int = 0
    """Turns in a row in which no call was valid."""
    usage: Usage = field(default_factory=Usage)
    spent_usd: Decimal = Decimal(0)
    at_risk_usd: Decimal = Decimal(0)
    """The most that attempts without known usage may have cost."""
    leaves_usd: Decimal = Decimal(0)
    """What of `charged_usd` is that of leaves: the budgets shared with others know it under their own names."""
    leaves_tokens: int = 0
    """Tokens of all requests of its leaves together."""
    compactions: int = 0
    permits: Permits = field(default_factory=Permits)
    refused: tuple[BudgetSeen, ...] = ()
    """The refusals of shared budgets since the last request that was sent."""
    near: BudgetSeen | None = None
    """A shared budget of which little is left."""
    noticed: frozenset[str] = frozenset()
    """Limits that the model was told it is near to."""
    sleeps_until: datetime | None = None
    outcome: Outcome | None = None
    detail: str = ""

    @property
    def charged_usd(self) -> Decimal:
        """What was spent, and the most that attempts without known usage may have cost besides."""
        return self.spent_usd + self.at_risk_usd

    @property
    def own_usd(self) -> Decimal:
        """The same, without what its leaves were charged."""
        return self.charged_usd - self.leaves_usd

    @property
    def all_tokens(self) -> int:
        """Tokens of all requests so far, those of its leaves too."""
        return self.usage.all_tokens + self.leaves_tokens

    @property
    def awaits_reply(self) -> bool:
        """Whether something stands there for the model to answer."""
        return bool(self.given) or (self.trouble is not None and self.trouble.kind == "paused")

    @property
    def to_extract(self) -> ToolFinished | None:
        """The next result about which a cheap model is to be asked."""
        asks = {t.name for t in self.tools if t.facts_card is not None}
        return next((r for r in self.results if r.raw and r.name in asks and r.call_id not in self.extracted), None)

    @property
    def text(self) -> str:
        """The text of the last reply."""
        return blocks.text_of(self.turns[-1].reply) if self.turns else ""

    @property
    def opening(self) -> Blocks:
        """What the first message of the view says before the session state."""
        if self.keep_from:
            return self.task
        return self.turns[0].given if self.turns else self.given

    @property
    def opening_tokens(self) -> int:
        """Estimated tokens of the opening."""
        if self.keep_from:
            return self.task_tokens
        return self.turns[0].given_tokens if self.turns else self.given_tokens

    @property
    def prompt_tokens(self) -> int:
        """Estimated tokens of the next request."""
        given = self.given_tokens if self.turns else 0
        return self.prefix_tokens + self.opening_tokens + self.state_tokens + self.turns_tokens + given

    @property
    def probable_tokens(self) -> int:
        """Tokens that the API will probably count in the next request: where a limit is given in its tokens, these count."""
        return round(self.prompt_tokens * self.counted)

    @property
    def repeated_tokens(self) -> int:
        """Estimated tokens of the next request that the one after it repeats, without a cut: up to what is shown once."""
        return self.prompt_tokens - (self.given_tokens - self.once.tokens_before if self.once is not None else 0)


if TYPE_CHECKING:
    from dataclasses import replace as changed  # the checker knows this one's rules: names and types of the fields
else:

    def changed(state: "State", **changes: Any) -> "State":
        """A state that differs in these fields: `dataclasses.replace`, ten times as fast on so many fields."""
        new = object.__new__(State)
        new.__dict__.update(state.__dict__, **changes)
        return new
