"""What the log of a batch run says: one body an event. A shape only gains optional fields."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from agentloop.types.base import Frozen, Json
from agentloop.types.request import Failure, Reply
from agentloop.types.usage import ModelCard, Ttl

SCHEMA_VERSION = 1
RetryMode = Literal["live", "batch", "none"]
Verdict = Literal[
    "succeeded", "invalid", "refused", "truncated", "tool_call", "paused", "errored", "expired", "canceled", "lost"
]  # fmt: skip
"""What became of an item. `invalid`: the answer does not fit its schema. `truncated`: it was cut by `max_tokens` or the
context window. `tool_call`, `paused`: the model wants to go on, which a single prompt cannot. `lost`: its batch was answered,
perhaps, but the results cannot be had any more."""


class Ask(Frozen):
    """What every row is asked."""

    card: ModelCard
    """The model, with its prices when the run was prepared."""
    template: str
    system: str = ""
    system_ttl: Ttl | None = None
    """Set where the system prompt is long enough to be cached."""
    max_tokens: int
    effort: str | None = None
    output_schema: Json | None = None
    """What an answer has to fit."""
    wire_schema: Json | None = None
    """The same as the API takes it; None: the model is told nothing of it but what the prompt says."""
    output_type: str | None = None
    """`module:Class` of the workspace's tools folder: the pydantic model that checks an answer."""


class Prepared(Frozen):
    """A run is about to be written down. Its rows follow."""

    type: Literal["prepared"] = "prepared"
    schema_version: int = SCHEMA_VERSION
    name: str
    marker: str
    """How the custom ids of this run begin, and of no other: by it a batch whose id was lost is known again."""
    digest: str
    """Of everything that is asked: the same command finds the same run."""
    rows: int
    ask: Ask
    retry: RetryMode = "batch"
    max_retries: int = 1
    max_budget_usd: Decimal | None = None
    job: str
    """Whose shared budgets pay."""
    played_by: str = "api"
    """`script:NAME`: a playbook plays the model, offline."""
    playbook: str | None = None
    """Its file, from the workspace."""


class RowsGiven(Frozen):
    """Some rows of the input, in its order."""

    type: Literal["rows_given"] = "rows_given"
    rows: tuple[Json, ...]


class RoundPlanned(Frozen):
    """Which rows are asked next, and in which batches."""

    type: Literal["round_planned"] = "round_planned"
    round: int
    mode: Literal["batch", "live"]
    parts: tuple[tuple[int, ...], ...]
    """Rows, counted from 0."""


class SubmitIntended(Frozen):
    """A batch is about to be sent."""

    type: Literal["submit_intended"] = "submit_intended"
    round: int
    part: int
    digest: str
    """SHA-256 of the body."""
    most_usd: Decimal
    """The most that it can cost: so much is set aside."""


class Submitted(Frozen):
    """The API has the batch."""

    type: Literal["submitted"] = "submitted"
    round: int
    part: int
    batch_id: str
    created_at: datetime
    expires_at: datetime
    found: bool = False
    """The answer to the submission was lost; the batch was found among the recent ones."""


class SubmitRefused(Frozen):
    """There is no such batch: the API said no, or it never arrived."""

    type: Literal["submit_refused"] = "submit_refused"
    round: int
    part: int
    error_type: str
    message: str
    retry: bool


class ItemResult(Frozen):
    """What came of one row in one round."""

    row: int
    verdict: Verdict
    retryable: bool = False
    why: str = ""
    reply: Reply | None = None


class Received(Frozen):
    """Results of some rows of a round."""

    type: Literal["received"] = "received"
    round: int
    items: tuple[ItemResult, ...]
    live: bool = False


class PartEnded(Frozen):
    """All results of a batch are written down."""

    type: Literal["part_ended"] = "part_ended"
    round: int
    part: int
    counts: dict[str, int] = Field(default={})
    """By the API."""
    unknown: int = 0
    """Results of custom ids that nobody asked."""
    twice: int = 0
    """Results that came a second time."""
    missing: int = 0
    """Items without a result."""
    lost: str = ""
    """Why its results cannot be had."""
    skipped: bool = False
    """It was never sent: the run was cancelled before."""


class LiveAsked(Frozen):
    """A row is about to be asked outside of a batch."""

    type: Literal["live_asked"] = "live_asked"
    round: int
    row: int
    most_usd: Decimal


class LiveFailed(Frozen):
    """An attempt that brought no answer."""

    type: Literal["live_failed"] = "live_failed"
    round: int
    row: int
    failure: Failure


class CancelAsked(Frozen):
    """Nothing more is to be sent."""

    type: Literal["cancel_asked"] = "cancel_asked"


class BudgetChanged(Frozen):
    """The run may cost so much from now on."""

    type: Literal["budget_changed"] = "budget_changed"
    max_budget_usd: Decimal | None = None


class Ended(Frozen):
    """Each row has its outcome."""

    type: Literal["ended"] = "ended"


BatchBody = Annotated[
    Prepared | RowsGiven | RoundPlanned | SubmitIntended | Submitted | SubmitRefused | Received | PartEnded | LiveAsked
    | LiveFailed | CancelAsked | BudgetChanged | Ended,
    Field(discriminator="type"),
]  # fmt: skip


class BatchEvent(Frozen):
    """One line of the log."""

    seq: int
    at: datetime
    body: BatchBody


EVENT: TypeAdapter[BatchEvent] = TypeAdapter(BatchEvent)
