"""What a planned fault does: to the reply of the model, to the events of a stream, to the bytes of a body."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from agentloop.emulator import sse
from agentloop.emulator.answers import Answer, ApiError, Chunk, Pause, Reset, answer
from agentloop.emulator.faults import DISTORTIONS, Fault
from agentloop.emulator.script import ScriptedReply, unchanged
from agentloop.emulator.sse import Event
from agentloop.types import blocks
from agentloop.types.base import Json, compact
from agentloop.types.blocks import Block

UNKNOWN_STOP_REASON = "not_known_yet"
UNKNOWN_BLOCK: Block = {"type": "not_known_yet", "data": "x"}
UNKNOWN_EVENT = Event("not_known_yet", {"data": "x"})
PAUSED: tuple[Block, ...] = (
    {"type": "server_tool_use", "id": "srvtoolu_emulator", "name": "web_search", "input": {"query": "x"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_emulator", "content": []},
)
"""A server tool's call and result, as they stand in a reply that the API paused."""

_HTML = b"<!doctype html><html><head><title>Sign in</title></head><body>Please sign in to the network.</body></html>"
_EMPTY_TOKENS = 3


class _Error(NamedTuple):
    status: int
    type: str
    message: str
    code: str | None = None


_ERRORS: dict[str, _Error] = {
    "400": _Error(400, "invalid_request_error", "Invalid request"),
    "401": _Error(401, "authentication_error", "invalid x-api-key"),
    "402": _Error(402, "billing_error", "There is a problem with your billing or payment information."),
    "403": _Error(403, "permission_error", "Your API key does not have permission to use the specified resource."),
    "404": _Error(404, "not_found_error", "The requested resource could not be found."),
    "408": _Error(408, "timeout_error", "Request timeout"),
    "409": _Error(409, "conflict_error", "Conflict"),
    "413": _Error(413, "request_too_large", "Request exceeds the maximum size"),
    "422": _Error(422, "invalid_request_error", "Unprocessable entity"),
    "429": _Error(429, "rate_limit_error", "This request would exceed your organization's rate limit."),
    "500": _Error(500, "api_error", "Internal server error"),
    "503": _Error(503, "api_error", "Service unavailable"),
    "504": _Error(504, "timeout_error", "Request timed out"),
    "529": _Error(529, "overloaded_error", "Overloaded"),
    "spend_limit": _Error(
        429, "rate_limit_error", "Your organization has reached its monthly spend limit.", "enforced_spend_limit_reached"
    ),
    "own_spend_limit": _Error(400, "invalid_request_error", "You have reached your specified API usage limits."),
}
_STATUS_OF = {e.type: e for e in reversed(_ERRORS.values()) if e.code is None}


def refusal(fault: Fault) -> ApiError:
    """The error that the API answers with."""
    error = _ERRORS[fault.fault]
    told = {"retry-after": fault.retry_after_s, "retry-after-ms": fault.retry_after_ms}
    headers = {name: f"{value:g}" for name, value in told.items() if value is not None}
    if fault.should_retry is not None:
        headers["x-should-retry"] = str(fault.should_retry).lower()
    return ApiError(error.status, error.type, error.message, error.code, headers)


def outage(fault: Fault, request_id: str) -> Answer:
    """What arrives instead of an answer of the API."""
    if fault.fault == "html":
        return answer("text/html; charset=utf-8", (_HTML,), request_id)
    return answer("application/json", (Reset(),), request_id)


def reshaped(fault: Fault | None) -> Callable[[ScriptedReply], ScriptedReply]:
    """What makes the model's reply the one that the fault asks for."""
    if fault is None or fault.fault not in DISTORTIONS:
        return unchanged
    return lambda reply: _distorted(reply, fault)


def taken_back(body: Json) -> Json:
    """A request without the unknown blocks of earlier replies: the API takes back what it has said."""
    messages = body.get("messages")
    if not isinstance(messages, list) or UNKNOWN_BLOCK["type"] not in str(messages):
        return body
    return body | {"messages": [_known(m) for m in messages]}


def _known(message: Any) -> Any:
    content = message.get("content") if isinstance(message, dict) else None
    return message | {"content": [b for b in content if b != UNKNOWN_BLOCK]} if isinstance(content, list) else message


def _distorted(reply: ScriptedReply, fault: Fault) -> ScriptedReply:
    """The distorted reply. Its step is still to come where a client does well to ask again."""
    again = f"{reply.message_id}_cut"
    said = tuple(b for b in reply.content if b.get("type") == "text")
    details = {"type": "refusal", "category": fault.category, "explanation": None}
    calls = [b for b in reply.content if b.get("type") == "tool_use"]
    match fault.fault:
        case "empty_end_turn":
            return ScriptedReply((), "end_turn", again, _EMPTY_TOKENS)
        case "refusal_before_output":
            return ScriptedReply((), "refusal", again, None, details)
        case "refusal_after_output":
            return ScriptedReply(said, "refusal", again, None, details)
        case "pause_turn":
            return ScriptedReply((*said, *PAUSED), "pause_turn", again)
        case "unknown_stop_reason":
            return reply._replace(stop_reason=UNKNOWN_STOP_REASON)
        case "unknown_block":
            return reply._replace(content=(*reply.content, UNKNOWN_BLOCK))
        case "duplicate_tool_ids" if calls:
            return reply._replace(content=(*reply.content, calls[0]), message_id=again)
        case "max_tokens_in_tool_call" if calls:
            until = reply.content[: reply.content.index(calls[0]) + 1]
            return ScriptedReply(until, "max_tokens", again)
        case _:
            return reply


def waits(fault: Fault | None) -> float:
    """Seconds by which the fault delays the first byte."""
    return fault.seconds if fault is not None and fault.fault == "slow_first_byte" else 0.0


def refuse_whole(fault: Fault) -> None:
    """Raise the ApiError that would stand in a stream: an answer that is no stream has its status for it."""
    if fault.fault == "error_event":
        raise _named_error(fault.error_type)


def whole(fault: Fault | None, message: Json) -> Iterator[Chunk]:
    """The body of an answer that is no stream, on its way."""
    body = compact(_without_half_calls(message) if fault and fault.fault == "max_tokens_in_tool_call" else message)
    match fault and fault.fault:
        case "stall" | "reset_mid_stream" | "cut_stream" | "cut_in_tool_call":
            assert fault is not None
            at = max(1, min(len(body) - 1, int(len(body) * fault.after)))
            return iter((body[:at], *_break(fault), *((body[at:],) if fault.fault == "stall" else ())))
        case _:
            return iter((body,))


def streamed(fault: Fault | None, message: Json, second_delta: bool) -> Iterator[Chunk]:
    """The stream of a message, on its way."""
    kind = fault.fault if fault is not None else None
    steps = sse.steps(message, second_delta=second_delta or kind == "second_message_delta")
    if fault is None:
        return sse.framed(steps)
    events = list(steps)
    at = _breaks_at(events, fault.after)
    match kind:
        case "stall" | "reset_mid_stream" | "cut_stream" | "error_event":
            rest = sse.framed(events[at:]) if kind == "stall" else ()
            return _chain(sse.framed(events[:at]), _break(fault), rest)
        case "cut_in_tool_call":
            return sse.framed(_up_to_half_a_call(events) or events[:at])
        case "max_tokens_in_tool_call":
            return sse.framed(_with_half_a_call(events))
        case "unknown_event":
            return sse.framed([*events[:1], UNKNOWN_EVENT, *events[1:at], UNKNOWN_EVENT, *events[at:]])
        case _:
            return sse.framed(events)


def _break(fault: Fault) -> tuple[Chunk, ...]:
    match fault.fault:
        case "stall":
            return (Pause(fault.seconds),)
        case "reset_mid_stream":
            return (Reset(),)
        case "error_event":
            error = _named_error(fault.error_type)
            return (sse.event("error", {"error": {"type": error.type, "message": error.message}}),)
        case _:
            return ()


def _named_error(type: str) -> ApiError:
    known = _STATUS_OF.get(type, _Error(500, type, "An error occurred"))
    return ApiError(known.status, known.type, known.message)


def _chain(*parts: Iterable[Chunk]) -> Iterator[Chunk]:
    for part in parts:
        yield from part


def _breaks_at(events: Sequence[Event], after: float) -> int:
    """How many events arrive: the first at least, and nothing from the first `message_delta` on."""
    last = next(i for i, e in enumerate(events) if e.name == "message_delta")
    return max(1, min(last, round(last * after)))


def _half_a_call(events: Sequence[Event]) -> tuple[int, Event] | None:
    """Where the first piece of a call's input stands, and half of it."""
    for i, event in enumerate(events):
        piece = (event.data.get("delta") or {}).get("partial_json")
        if piece:
            half = {"type": "input_json_delta", "partial_json": piece[: max(1, len(piece) // 2)]}
            return i, Event(event.name, event.data | {"delta": half})
    return None


def _up_to_half_a_call(events: Sequence[Event]) -> list[Event]:
    found = _half_a_call(events)
    return [*events[: found[0]], found[1]] if found is not None else []


def _with_half_a_call(events: list[Event]) -> list[Event]:
    """The stream of a reply whose last call was cut off by `max_tokens`: half of its input, then the end."""
    found = _half_a_call(events)
    if found is None:
        return events
    at, half = found
    return [*events[:at], half, *(e for e in events[at + 1 :] if e.name != "content_block_delta")]


def _without_half_calls(message: Json) -> Json:
    """The same where it is not streamed: a call that was cut off has no input."""
    content = [b | {"input": {}} if blocks.calls([b]) else b for b in message["content"]]
    return message | {"content": content}
