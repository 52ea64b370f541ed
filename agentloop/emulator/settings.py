"""How an emulator behaves where the API's behaviour is a matter of circumstance, or is not documented for certain."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from agentloop.core.parts import DOCUMENTED, Assumed


@dataclass(frozen=True)
class RateLimits:
    """What an organisation may use of one model in a minute; a bucket of each fills up evenly."""

    requests_per_minute: int = 1_000_000_000
    input_tokens_per_minute: int = 1_000_000_000
    """Tokens that are read from the cache do not count."""
    output_tokens_per_minute: int = 1_000_000_000
    counts_per_minute: int = 1_000_000_000
    """Requests to `count_tokens`, which have a bucket of their own."""
    queued_batch_requests: int = 1_000_000_000
    """Items of batches that may wait at a time."""


START = RateLimits(1_000, 2_000_000, 400_000, 2_000, 200_000)
BUILD = RateLimits(5_000, 5_000_000, 1_000_000, 4_000, 300_000)
SCALE = RateLimits(10_000, 10_000_000, 2_000_000, 8_000, 500_000)


@dataclass(frozen=True)
class BatchSettings:
    """How batches go, on the emulator's clock."""

    start_s: float = 1.0
    """Seconds from a batch's creation until its first items start."""
    item_s: float = 1.0
    """Seconds that an item takes."""
    at_once: int = 1_000
    """Items that run side by side."""
    cancel_s: float = 5.0
    """Seconds from a cancellation until the batch has ended, at least."""
    expires_s: float = 86_400.0
    """Seconds after which what is not done expires."""
    kept_s: float = 29 * 86_400.0
    """Seconds from a batch's creation until its results are gone."""
    sibling_hits: float = 0.65
    """The share of items that may read what earlier items of their batch wrote, as if those were done. Unverified: the
    documentation quotes 30% to 98%."""
    earlier_hits: float = 1.0
    """The share of items that find what the cache held before their batch; the others find nothing at all, and write anew.
    Unverified: the documentation quotes 30% to 98%."""
    errored: float = 0.0
    """The share of items that end in an error of the API."""
    expired: float = 0.0
    """The share of items that are never done."""
    outcomes: Mapping[str, Literal["errored", "expired"]] = field(default_factory=dict)
    """What comes of single items, by `custom_id`."""


@dataclass(frozen=True)
class EmulatorSettings:
    """The settings of one emulator. A field that says *unverified* stands for an open question about the API: its
    default is what is documented best, and with `strict` each answer that depends on it is written into the report."""

    first_byte_s: float = 0.0
    """Seconds from a request's start until its response begins: until then, nothing it writes can be read."""
    user_first: bool = True
    """Whether a conversation that the assistant opens is refused. Unverified: the API did in 2024; its documentation is
    silent."""
    remembered_messages: int = 10_000
    """Replies whose requests cache diagnostics can be asked about."""
    reported_requests: int = 10_000
    """Requests that the report lists; its sums count all."""
    tokens: Literal["estimated", "exact"] = "estimated"
    """How texts are counted; `exact` needs the optional package `ctok`."""
    max_tool_name: int = 128
    """How long a tool's name may be. Unverified: errors say 128, the documentation prints 64."""
    cache: Assumed = DOCUMENTED
    """What is assumed of the cache where its documentation is silent or at odds with itself; each field is unverified."""
    minimum_tokens: Mapping[str, int] = field(default_factory=dict)
    """By model, the shortest prefix that is cached, where it is not the price table's. Unverified for Fable and Mythos 5.2,
    of which none is documented (512 is assumed), and for Sonnet 4.6 and Mythos Preview, of which others were reported."""
    seed: int = 0
    """Decides what is left to chance: the order of a batch's results, its hits, faults of a probability."""
    limits: RateLimits = RateLimits()
    batches: BatchSettings = BatchSettings()
    organization_id: str = "org_emulator"
    workspace_id: str = "wrkspc_emulator"
    account_created: datetime = datetime(2026, 10, 1, tzinfo=UTC)
    """Accounts from 2026-08-31 on have the prefix of their thinking checked by every model that checks any."""
    adds_thinking: bool = False
    """Whether a model that thinks unless told otherwise is given a thought where the script has none."""
    foreign_thinking: bool = False
    """Whether thinking that the emulator has not signed is taken as it is, unchecked; it is refused otherwise."""
    mythos_5_1_checks_thinking: bool = True
    """Whether Mythos 5.1 checks every account, as its documentation of November says. Unverified: that of October says
    that it checks none."""
    newest_reads_earlier_thinking: bool = True
    """Whether Fable and Mythos 5.2 read the thinking that 5.1 reads. Unverified: only who reads theirs is documented."""
    compacts_on_demand: bool = True
    """Whether models of which it is not known, Fable and Mythos 5.2, compact on demand. Unverified."""
    default_display: Literal["summarized", "omitted"] | None = None
    """What is shown of thinking where a request does not say; None: nothing on models that take no thinking budget, the
    text on those that do. Unverified: the documentation speaks of newer models."""
    available_tools: int = 10_000
    """How many tools a conversation may have at a time, once it changes them. Unverified: the number is not documented."""
    compaction_tool_references: int = 1_000
    """How many tools a compaction can record. Unverified: the number is not documented."""
    second_message_delta: bool = False
    """Whether a stream reports its usage twice, as the API may."""
    strict: bool = False
    """Whether the report names every answer that rests on unverified behaviour of the API."""
