"""What a result means: the verdict on an item, and whether asking again may help. Pure: checking is the caller's function."""

from collections.abc import Callable
from typing import Any

from agentloop.batching.events import ItemResult, Verdict
from agentloop.core.api_errors import classified
from agentloop.core.stream import StreamBroken, whole
from agentloop.types.request import Reply
from agentloop.types.usage import ModelCard

Check = Callable[[str], str | None]
"""Why an answer does not fit; None where it does."""
CardOf = Callable[[str], ModelCard | None]

_STOPS: dict[str, tuple[Verdict, str]] = {
    "refusal": ("refused", "the model refused"),
    "max_tokens": ("truncated", "cut at max_tokens; allow more with --max-tokens"),
    "model_context_window_exceeded": ("truncated", "the context window is full; shorten the prompt"),
    "tool_use": ("tool_call", "the model called a tool, and there is none"),
    "pause_turn": ("paused", "the model paused in the middle of its turn"),
}
_WHOLE = frozenset({"end_turn", "stop_sequence"})


def item_result(row: int, result: Any, asked: ModelCard, card_of: CardOf, check: Check) -> ItemResult:
    """The verdict on one line of a batch's results."""
    match result.get("type") if isinstance(result, dict) else None:
        case "succeeded":
            return of_message(row, result.get("message"), asked, card_of, check)
        case "errored":
            return _errored(row, result.get("error"))
        case "canceled":
            return ItemResult(row=row, verdict="canceled", why="cancelled before it started")
        case "expired":
            return ItemResult(row=row, verdict="expired", retryable=True, why="not started within 24 hours")
        case other:
            return ItemResult(row=row, verdict="errored", why=f"a result of an unknown type: {str(other)[:60]}")


def of_message(row: int, message: Any, asked: ModelCard, card_of: CardOf, check: Check) -> ItemResult:
    """The verdict on a message."""
    try:
        reply = whole(message, None, len(str(message)))
    except StreamBroken as e:
        return ItemResult(row=row, verdict="errored", retryable=True, why=str(e))
    if reply.usage.service_tier is None:  # what a batch answers is billed as one, said or not
        reply = reply.model_copy(update={"usage": reply.usage.model_copy(update={"service_tier": "batch"})})
    return of_reply(row, _priced(reply, asked, card_of), check)


def of_reply(row: int, reply: Reply, check: Check) -> ItemResult:
    """The verdict on a reply: an answer is one only where it is whole, says something, and fits."""
    if reply.stop_reason not in _WHOLE:
        verdict, why = _STOPS.get(reply.stop_reason, ("errored", f"an unknown stop reason: {reply.stop_reason[:60]}"))
        return ItemResult(row=row, verdict=verdict, why=why, reply=reply)
    said = text(reply)
    if not said.strip():
        return ItemResult(row=row, verdict="invalid", retryable=True, why="the answer is empty", reply=reply)
    wrong = check(said)
    if wrong is not None:
        return ItemResult(row=row, verdict="invalid", retryable=True, why=wrong, reply=reply)
    return ItemResult(row=row, verdict="succeeded", reply=reply)


def text(reply: Reply) -> str:
    """What the model said, its blocks put together as they came."""
    return "".join(str(b["text"]) for b in reply.content if b.get("type") == "text")


def _priced(reply: Reply, asked: ModelCard, card_of: CardOf) -> Reply:
    """The reply, with the card of the model that answered, where that is not the one that was asked."""
    if not reply.model or reply.model == asked.id:
        return reply
    answered = card_of(reply.model)
    if answered is None:
        return reply.model_copy(update={"price_unknown": True})
    return reply if answered.id == asked.id else reply.model_copy(update={"priced_by": answered})


def _errored(row: int, error: Any) -> ItemResult:
    """An error of the API: final where the same request would meet it again."""
    inner = error.get("error") if isinstance(error, dict) else None
    inner = inner if isinstance(inner, dict) else {}
    error_type, message = str(inner.get("type") or "api_error"), str(inner.get("message") or "no message")
    retry = classified(error_type, None, message).retry
    return ItemResult(row=row, verdict="errored", retryable=retry, why=f"{error_type}: {message}"[:300])
