"""What an item of a batch brought: the reply, or why there is none, in the words that a session's log has for it. Pure."""

from collections.abc import Callable

from agentloop.core.api_errors import asked_model, classified, message_of, named
from agentloop.core.stream import StreamBroken, whole
from agentloop.types.base import Json
from agentloop.types.request import Failure, Reply
from agentloop.types.usage import ModelCard

CardOf = Callable[[str], ModelCard | None]
AT_ONCE = 0.0
"""Seconds after which an item that brought nothing is asked again."""
_NOT_BILLED = {
    "expired": "the batch expired before the item was done",
    "canceled": "the batch was cancelled before the item was done",
}


def answer(result: Json | None, body: bytes, card_of: CardOf) -> Reply | Failure:
    """The reply to this body; or a failure, which has no time for another attempt where none can help. None: there was no
    line for the item, or its batch is gone; whether it was billed then nobody knows."""
    kind = result.get("type") if result is not None else None
    if result is not None and kind == "succeeded":
        return _reply(result, body, card_of)
    if result is not None and kind == "errored":
        return _error(result, body)
    unknown = f"the item ended as '{kind}', which agentloop does not know" if kind else "the batch has no result for the item"
    return Failure(
        kind="unavailable",
        error_type=f"batch_{kind or 'missing'}",
        message=_NOT_BILLED.get(kind or "", unknown),
        retry_in_s=AT_ONCE,
        possibly_billed=kind not in _NOT_BILLED,
    )


def _reply(result: Json, body: bytes, card_of: CardOf) -> Reply | Failure:
    try:
        return _priced(whole(result.get("message"), None, len(body)), body, card_of)
    except StreamBroken as e:
        failure = Failure(kind="not_an_answer", error_type="batch_not_an_answer", message=str(e), retry_in_s=AT_ONCE)
        return failure.model_copy(update={"possibly_billed": True})


def _priced(reply: Reply, body: bytes, card_of: CardOf) -> Reply:
    """The reply, with the card of the model that answered, where that is not the one that was asked."""
    asked = asked_model(body)
    if asked is None or not reply.model or asked == reply.model:
        return reply
    answered, expected = card_of(reply.model), card_of(asked)
    if answered is None:
        return reply.model_copy(update={"price_unknown": True})
    same = expected is not None and answered.id == expected.id
    return reply if same else reply.model_copy(update={"priced_by": answered})


def _error(result: Json, body: bytes) -> Failure:
    outer = result.get("error")
    outer = outer if isinstance(outer, dict) else {}
    error = outer.get("error")
    error_type = str(error.get("type") or "api_error") if isinstance(error, dict) else "api_error"
    message = message_of(outer, "the item ended in an error")
    kind = classified(error_type, None, message)
    return Failure(
        kind=kind.kind,
        error_type=error_type,
        message=named(kind.kind, message, body),
        retry_in_s=AT_ONCE if kind.retry else None,
        request_id=str(outer["request_id"]) if outer.get("request_id") else None,
    )
