"""A request to the model, and its reply."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from agentloop.types.base import Frozen, Json
from agentloop.types.blocks import Message
from agentloop.types.usage import ModelCard, Ttl, Usage

Purpose = Literal["turn", "summary", "extraction", "keepalive"]
"""Why a model is asked: the next turn of the session, the session state that a compaction will keep, the facts of one large
result, or nothing, so that the cache entries of the last request live on."""


class Prefix(Frozen):
    """The part of every request that never changes: frozen when the session starts, and written into its log."""

    model: str
    system: str
    tools: tuple[Json, ...] = ()
    """Tool definitions in a fixed order: name, description, input_schema."""
    thinking: Json | None = None
    effort: str | None = None


class Breakpoint(NamedTuple):
    """Where a request asks the API to keep a cache entry: message and block; message -1 is the end of tools and system."""

    message: int
    block: int
    ttl: Ttl


@dataclass(frozen=True)
class Request:
    """Everything one request says."""

    prefix: Prefix
    messages: tuple[Message, ...]
    breakpoints: tuple[Breakpoint, ...]
    max_tokens: int
    previous_message_id: str | None = None
    """For the API's cache diagnostics: the reply to the request that this one extends."""
    purpose: Purpose = "turn"
    once: tuple[int, ...] = ()
    """Blocks of the last message that later requests do not repeat: results shown whole, whose facts take their place."""


class Reply(Frozen):
    """What the model answered, as it was received."""

    message_id: str
    model: str
    content: tuple[Json, ...]
    stop_reason: str
    usage: Usage
    stop_details: Any | None = None
    cache_miss: Json | None = None
    """The API's own reason for a cache miss, when it gives one."""
    request_id: str | None = None
    usage_estimated: bool = False
    """The API reported no usable usage; what stands here is our own upper estimate."""
    priced_by: ModelCard | None = None
    """Set where another model answered than the session speaks to."""
    price_unknown: bool = False
    """A model answered that is in no price table; the session's own prices stand in."""
    unread: Json | None = None
    """What the API said besides, fields that agentloop does not know for one, as it came."""


FailureKind = Literal[
    "unavailable",
    "not_an_answer",
    "interrupted",
    "spend_limit",
    "unauthorized",
    "model_not_found",
    "prompt_too_long",
    "request_too_large",
    "invalid_request",
]
"""Why an attempt brought no reply. The first three may be tried again."""


class Failure(Frozen):
    """One attempt that brought no whole reply."""

    kind: FailureKind
    error_type: str
    """The API's `error.type`, or the exception's name where the API said nothing."""
    message: str
    attempt: int = 1
    status: int | None = None
    retry_in_s: float | None = None
    """Seconds until the next attempt; None: this was the last."""
    usage: Usage | None = None
    """What the API had counted when the attempt broke off, where it said so."""
    possibly_billed: bool = False
    """The API may have worked on the request, and may bill it, without our knowing the usage."""
    request_id: str | None = None
