"""The lines of a session's log. An event's shape only ever gains optional fields.

session_started      who, with which frozen prefix, at which prices, under which policies
input_given          what a person (or the engine) tells the model
model_requested      a request is about to be sent           model_replied   the reply, whole
model_failed         one attempt failed                      tool_started    a call is about to run
tool_finished        its answer, as the model sees it        result_extracted  facts that a cheap model made of it
call_held            a call waits for a person               call_answered   what the person said
budget_seen          a budget shared with others has little or no room for the next request
compacted            the oldest turns left the view     fell_back       another model takes over
session_ended        the outcome                             session_resumed a person chose to go on after it
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field

from agentloop.types.base import Frozen, Json
from agentloop.types.grants import Grants
from agentloop.types.leaves import LeafOf, LeafRun
from agentloop.types.limits import Limits
from agentloop.types.past import Prior
from agentloop.types.request import Breakpoint, Failure, Prefix, Purpose, Reply
from agentloop.types.tools import Effect, ToolCard
from agentloop.types.usage import ModelCard

SCHEMA_VERSION = 1

Outcome = Literal[
    "completed",
    "failed",
    "refused",
    "truncated",
    "budget_exceeded",
    "max_turns",
    "waiting_for_approval",
    "sleeping",
    "prefix_unstable",
    "provider_unavailable",
    "spend_limit",
    "unauthorized",
    "time_limit",
    "interrupted",
]

ToolOutcome = Literal["ok", "error", "invalid", "timeout", "unknown", "denied"]

Because = Literal["unavailable", "model_not_found", "refused"]
"""Why another model takes over."""


class Decision(Frozen):
    """What a compaction policy decided before a request, and why."""

    keep_from: int | None = None
    """The first turn that is kept; None: nothing is cut."""
    reason: str = ""
    rent_usd: Decimal = Decimal(0)
    """What carrying removable turns has cost since the last cut, this request included."""
    price_usd: Decimal | None = None
    """What a cut would cost now, net."""
    saves_usd: Decimal | None = None
    """What a cut would save on every later turn."""


class RawResult(Frozen):
    """The whole result of a tool call, in the blobs."""

    digest: str
    bytes: int
    tokens: int
    """Estimated tokens of the whole result, had the model been shown it."""
    extractor: str = "whole"
    left_out: str = ""


class Fallback(Frozen):
    """A model that takes over where the one before it in the chain is not available, or refuses."""

    card: ModelCard
    effort: str | None = None
    max_tokens: int = 64_000
    """Output tokens of one of its replies, at most."""


class SessionStarted(Frozen):
    """The first line."""

    type: Literal["session_started"] = "session_started"
    schema_version: int = SCHEMA_VERSION
    session_id: str
    agent: str
    prefix: Prefix
    prefix_digest: str
    card: ModelCard
    tools: tuple[ToolCard, ...] = ()
    policies: Json = Field(default_factory=dict)
    limits: Limits = Limits()
    played_by: str = "api"
    """Who answers as the model: `api`, `script:NAME` or `recording:NAME`."""
    agentloop: str = ""
    """The version that wrote the log."""
    expected_gap_s: float | None = None
    """Seconds that are announced to pass between two requests, in the mean."""
    prior: Prior | None = None
    """What the agent's last sessions tell of its gaps; None where there were none."""
    left_out: tuple[str, ...] = ()
    """Of an imported session: what its source holds and this log does not."""
    grants: Grants | None = None
    """What it may do without a person; None: somebody is watching, and nothing has to be granted."""
    job: str | None = None
    """What its spending is counted to; None: its agent."""
    leaf: LeafOf | None = None
    """Set where another session delegated it."""
    fallback: tuple[Fallback, ...] = ()
    """Who takes over where a model is not available, or refuses, in this order."""


class InputGiven(Frozen):
    """Something the model is told: by the user, or by the engine itself."""

    type: Literal["input_given"] = "input_given"
    content: tuple[Json, ...]
    source: Literal["user", "engine"] = "user"
    about: str | None = None
    """What the engine speaks of: the limit that is nearly reached."""


class ModelRequested(Frozen):
    """Written before a request is sent."""

    type: Literal["model_requested"] = "model_requested"
    turn: int
    purpose: Purpose = "turn"
    digest: str
    body_bytes: int
    breakpoints: tuple[Breakpoint, ...] = ()
    max_tokens: int
    decision: Decision | None = None
    call_id: str | None = None
    """The call whose result is asked about."""
    asked_of: ModelCard | None = None
    """Set where another model is asked than the session speaks to."""


class ModelReplied(Frozen):
    """Written before anything is done with a reply."""

    type: Literal["model_replied"] = "model_replied"
    turn: int
    purpose: Purpose = "turn"
    reply: Reply
    duration_s: float = 0.0


class ModelFailed(Frozen):
    """One attempt that brought no whole reply."""

    type: Literal["model_failed"] = "model_failed"
    turn: int
    purpose: Purpose = "turn"
    failure: Failure


class ToolStarted(Frozen):
    """Written before a tool runs, so that a crash in between can be seen."""

    type: Literal["tool_started"] = "tool_started"
    turn: int
    call_id: str
    name: str
    effect: Effect
    idempotency_key: str


class ToolFinished(Frozen):
    """The answer to a call, as the model sees it."""

    type: Literal["tool_finished"] = "tool_finished"
    turn: int
    call_id: str
    name: str
    content: str | list[Json]
    is_error: bool = False
    outcome: ToolOutcome = "ok"
    raw: RawResult | None = None
    """Set where the model was shown facts instead of the whole."""
    once: str | None = None
    """The whole, which the next request carries in the place of `content`, and no later one."""
    duration_s: float = 0.0
    leaves: tuple[LeafRun, ...] | None = None
    """The leaves that it ran: what they spent is counted to this session."""


class ResultExtracted(Frozen):
    """What a cheap model made of a result, before the session's model sees it."""

    type: Literal["result_extracted"] = "result_extracted"
    turn: int
    call_id: str
    content: str | None = None
    """What is shown in place of the facts that were made without a model; None: those stay."""
    detail: str = ""
    """Why they stay."""


class CallHeld(Frozen):
    """A call that is not run until a person has answered."""

    type: Literal["call_held"] = "call_held"
    turn: int
    call_id: str
    name: str
    reason: str


class CallAnswered(Frozen):
    """What a person said about a call that was held."""

    type: Literal["call_answered"] = "call_answered"
    call_id: str
    allowed: bool
    by: str
    """Who answered."""
    note: str = ""
    """Told to the model where the call is denied."""


class BudgetSeen(Frozen):
    """What a budget that is shared with other sessions said to the next request, which was not sent yet."""

    type: Literal["budget_seen"] = "budget_seen"
    scope: str
    """Which budget: `the workspace on 2026-11-22`."""
    limit_usd: Decimal
    left_usd: Decimal
    """What is neither spent nor reserved by others."""
    refused: bool = True
    """The request could cost more than that; or else, the model has yet to be told that little is left."""


class Compacted(Frozen):
    """The turns before `keep_from` left the view; `segment` stands for them."""

    type: Literal["compacted"] = "compacted"
    keep_from: int
    segment: str
    written_by: Literal["engine", "model"] = "engine"
    decision: Decision = Decision()
    thinking_dropped: bool = False


class FellBack(Frozen):
    """From here on the session speaks to the next model of its chain."""

    type: Literal["fell_back"] = "fell_back"
    to: Fallback
    because: Because
    detail: str
    prefix_digest: str


class SessionResumed(Frozen):
    """Somebody chose to go on with a session that had ended, or under other limits or another prefix."""

    type: Literal["session_resumed"] = "session_resumed"
    limits: Limits | None = None
    prefix: Prefix | None = None
    prefix_digest: str | None = None
    tools: tuple[ToolCard, ...] | None = None
    grants: Grants | None = None
    """What it may do without a person from here on; None: as before."""


class SessionEnded(Frozen):
    """How it ended, and the sentence that says why."""

    type: Literal["session_ended"] = "session_ended"
    outcome: Outcome
    detail: str = ""
    until: datetime | None = None
    """When a sleeping session is to be taken up again."""


Body = Annotated[
    SessionStarted
    | InputGiven
    | ModelRequested
    | ModelReplied
    | ModelFailed
    | ToolStarted
    | ToolFinished
    | ResultExtracted
    | CallHeld
    | CallAnswered
    | BudgetSeen
    | Compacted
    | FellBack
    | SessionResumed
    | SessionEnded,
    Field(discriminator="type"),
]


class Event(Frozen):
    """One line of a log."""

    seq: int
    """Contiguous from 0."""
    at: datetime
    """Aware, UTC."""
    body: Body


def body_data(body: Any) -> Json:
    """A body as JSON data, without the fields that are not set."""
    return {k: v for k, v in body.model_dump(mode="json").items() if v is not None}
