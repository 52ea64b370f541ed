"""The events of a streamed reply → the reply, block for block as it was received.

A protocol without I/O: feed it events, ask it for the reply. A stream that ends without its last event, or that does not
keep the order of the documentation, is broken and never a shorter reply.
https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from typing import Any

from agentloop.types.base import Json, compact, parsed, plain, plain_json
from agentloop.types.request import Reply
from agentloop.types.usage import Iteration, Usage

_NEEDED = {"text": ("text",), "tool_use": ("id", "name", "input")}
"""What the rest of the engine relies on."""
_READ = frozenset({"id", "type", "role", "model", "content", "stop_reason", "stop_details", "usage", "diagnostics"})
_READ_OF_USAGE = frozenset(
    {"input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"}
    | {"service_tier", "speed", "inference_geo", "server_tool_use", "iterations", "output_tokens_details"}
)
"""What is read, or known and of no use here."""


class StreamBroken(Exception):
    """The stream is not one whole reply."""


class StreamedReply:
    """One reply while it arrives."""

    def __init__(self) -> None:
        """Nothing has arrived yet."""
        self._message: Json | None = None
        self._usage: Json = {}
        self._open: dict[int, Json] = {}
        self._json: dict[int, list[str]] = {}
        self._content: dict[int, Json] = {}
        self._delta: Json = {}
        self._output_counted = False
        """Whether the end of the stream said how much was written: the figure at its start is none."""
        self._ended = False

    def feed(self, data: Any) -> None:
        """Take the next event's data. Unknown events are ignored, as documented. Raises StreamBroken."""
        if not isinstance(data, dict):
            raise StreamBroken(f"an event is no JSON object: {str(data)[:80]!r}")
        try:
            self._take(data)
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            raise StreamBroken(f"event {data.get('type')!r} has another shape than documented: {e!r}") from e

    def _take(self, data: Json) -> None:
        match data.get("type"):
            case "message_start":
                if self._message is not None:
                    raise StreamBroken("a second message_start")
                self._message = dict(data["message"])
                self._usage = dict(self._message.get("usage") or {})
            case "content_block_start":
                self._start(data["index"], dict(data["content_block"]))
            case "content_block_delta":
                self._add(data["index"], data["delta"])
            case "content_block_stop":
                self._close(data["index"])
            case "message_delta":
                self._delta |= data["delta"]
                # cumulative: later figures replace earlier ones, adding them would count twice
                counted = {k: v for k, v in (data.get("usage") or {}).items() if v is not None}
                self._usage |= counted
                self._output_counted |= "output_tokens" in counted
            case "message_stop":
                self._ended = True

    def _start(self, index: Any, block: Json) -> None:
        if not isinstance(index, int) or index in self._open or index in self._content:
            raise StreamBroken(f"block {index!r} was started twice, or has no number")
        self._open[index] = block

    def _add(self, index: int, delta: Json) -> None:
        block = self._open.get(index)
        if block is None:
            raise StreamBroken(f"a delta for block {index}, which is not open")
        match delta.get("type"):
            case "text_delta":
                block["text"] = block.get("text", "") + delta["text"]
            case "thinking_delta":
                block["thinking"] = block.get("thinking", "") + delta["thinking"]
            case "signature_delta":
                block["signature"] = delta["signature"]
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or []), delta["citation"]]
            case "input_json_delta":
                self._json.setdefault(index, []).append(delta["partial_json"])
            case _:
                block |= {k: v for k, v in delta.items() if k != "type"}

    def _close(self, index: int) -> None:
        block = self._open.pop(index, None)
        if block is None:
            raise StreamBroken(f"content_block_stop for block {index}, which is not open")
        if written := "".join(self._json.pop(index, [])):
            try:
                block["input"] = parsed(written)
            except ValueError:
                block["_broken_input"] = written
        if missing := [k for k in _NEEDED.get(str(block.get("type")), ()) if k not in block]:
            raise StreamBroken(f"block {index} has no {', '.join(missing)}")
        self._content[index] = block

    @property
    def usage_seen(self) -> Usage | None:
        """The usage reported so far, for an attempt that breaks off."""
        return read_usage(self._usage)

    def reply(self, request_id: str | None, body_bytes: int) -> Reply:
        """The whole reply. Raises StreamBroken where it is not whole."""
        if self._message is None:
            raise StreamBroken("the stream held no message_start")
        stop_reason = self._delta.get("stop_reason")
        if not self._ended or stop_reason is None or self._open:
            raise StreamBroken("the stream ended before the reply did")
        content = [self._content[i] for i in sorted(self._content)]
        if stop_reason != "max_tokens" and any("_broken_input" in b for b in content):
            raise StreamBroken("the input of a tool call is not JSON")
        content = [_sendable({k: v for k, v in b.items() if k != "_broken_input"}) for b in content]
        usage, estimated = self._billed(body_bytes, content)
        return Reply(
            message_id=plain(str(self._message.get("id") or "")),
            model=plain(str(self._message.get("model") or "")),
            content=tuple(content),
            stop_reason=plain(str(stop_reason)),
            stop_details=plain_json(self._delta.get("stop_details")),
            usage=usage,
            usage_estimated=estimated,
            cache_miss=_cache_miss(self._message),
            request_id=request_id,
            unread=self._unread(),
        )

    def _billed(self, body_bytes: int, content: list[Json]) -> tuple[Usage, bool]:
        """The usage of the whole reply, and whether it is an estimate: an upper one, where the API did not say all."""
        usage, most = read_usage(self._usage), _upper_estimate(body_bytes, content)
        if usage is None or not usage.prompt_tokens:  # no prompt has no tokens
            return most, True
        if not self._output_counted and not usage.iterations:
            said = max(usage.output_tokens, most.output_tokens)
            return usage.model_copy(update={"output_tokens": said}), True
        return usage, False

    def _unread(self) -> Json | None:
        """What the message held besides, new fields of the API for one: kept as it came."""
        assert self._message is not None
        said = {**self._message, **self._delta}
        unread = {k: v for k, v in said.items() if k not in _READ and v is not None}
        if usage := {k: v for k, v in self._usage.items() if k not in _READ_OF_USAGE and v is not None}:
            unread["usage"] = usage
        found: Json | None = plain_json(unread) if unread else None
        return found


def whole(data: Any, request_id: str | None, body_bytes: int) -> Reply:
    """The reply that came in one piece, as to a request with `max_tokens: 0`. Raises StreamBroken where it is none."""
    if not isinstance(data, dict) or data.get("type") != "message":
        raise StreamBroken(f"not an API answer: expected a message, found {str(data)[:80]!r}")
    content = data.get("content") or []
    if not isinstance(content, list):
        raise StreamBroken(f"not an API answer: expected blocks of content, found {str(content)[:80]!r}")
    made = StreamedReply()
    made.feed({"type": "message_start", "message": data})
    for index, block in enumerate(content):
        made.feed({"type": "content_block_start", "index": index, "content_block": block})
        made.feed({"type": "content_block_stop", "index": index})
    stopped = {k: data.get(k) for k in ("stop_reason", "stop_details")}
    made.feed({"type": "message_delta", "delta": stopped, "usage": data.get("usage")})
    made.feed({"type": "message_stop"})
    return made.reply(request_id, body_bytes)


def read_usage(data: Json) -> Usage | None:
    """Usage as the API reports it; None where a figure is missing, not a number, or negative."""
    figures, iterations = _figures(data), _iterations(data.get("iterations"))
    searches = _searches(data.get("server_tool_use"))
    if figures is None or iterations is None or searches is None:
        return None
    named = {k: v for k in ("service_tier", "speed", "inference_geo") if isinstance(v := data.get(k), str)}
    return Usage(**figures, **named, web_search_requests=searches, iterations=iterations)


def _figures(data: Json) -> dict[str, Any] | None:
    written, total_written = data.get("cache_creation") or {}, data.get("cache_creation_input_tokens") or 0
    one_hour: Any = (written.get("ephemeral_1h_input_tokens") or 0) if isinstance(written, dict) else None
    if not _is_count(total_written) or not _is_count(one_hour):
        return None
    figures = {
        "input_tokens": data.get("input_tokens"),
        "cache_read_input_tokens": data.get("cache_read_input_tokens") or 0,
        "ephemeral_5m_input_tokens": written.get("ephemeral_5m_input_tokens", total_written - one_hour),
        "ephemeral_1h_input_tokens": one_hour,
        "output_tokens": data.get("output_tokens"),
    }
    return figures if all(map(_is_count, figures.values())) else None


def _iterations(data: Any) -> tuple[Iteration, ...] | None:
    """The model calls that the request made, each with usage of its own; None where one of them has no usable figures."""
    found = []
    for one in data if isinstance(data, list) else ():
        figures = _figures(one) if isinstance(one, dict) else None
        if figures is None:
            return None
        named = {k: v for k in ("type", "model") if isinstance(v := one.get(k), str)}
        found.append(Iteration(**figures, **named))
    return tuple(found)


def _searches(server_tools: Any) -> int | None:
    count = (server_tools.get("web_search_requests") or 0) if isinstance(server_tools, dict) else 0
    return count if _is_count(count) else None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _upper_estimate(body_bytes: int, content: list[Json]) -> Usage:
    """No text has more tokens than half its bytes, by far."""
    return Usage(input_tokens=body_bytes // 2, output_tokens=len(compact(content)) // 2)


def _cache_miss(message: Json) -> Json | None:
    diagnostics = message.get("diagnostics")
    reason = diagnostics.get("cache_miss_reason") if isinstance(diagnostics, dict) else None
    return plain_json(reason) if isinstance(reason, dict) else None


def _sendable(block: Json) -> Json:
    """The block as it was received; only text that UTF-8 cannot carry is mended, or it could never be sent back."""
    try:
        compact(block)
    except UnicodeEncodeError:
        mended: Json = plain_json(block)
        return mended
    return block
