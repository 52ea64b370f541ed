"""A pass-through to another Messages API: what it bills, held against what the emulator would have.

Requests and answers pass unchanged. What is kept of them are tokens and replies, never a key.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, NamedTuple

import httpx2

from agentloop.core.stream import StreamBroken, StreamedReply, read_usage
from agentloop.emulator import comparison
from agentloop.emulator.answers import Answer, ApiError, Chunk, Reset, error_answer, json_answer, not_found
from agentloop.emulator.catalogue import ModelRow
from agentloop.emulator.comparison import Forecaster, Outcome
from agentloop.emulator.http import TOKEN_HEADER, by_name
from agentloop.emulator.script import Recording, ScriptedReply
from agentloop.emulator.settings import EmulatorSettings
from agentloop.types.base import Json
from agentloop.types.usage import Usage

DEFAULTS = EmulatorSettings(foreign_thinking=True)
"""A mirror cannot check signatures that others have made."""
TIMEOUT = httpx2.Timeout(600.0, connect=10.0)

_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade")
)
_NOT_FORWARDED = _HOP_BY_HOP | {"host", "content-length", "accept-encoding", TOKEN_HEADER}


class _Seen(NamedTuple):
    """What an answer said."""

    reply: ScriptedReply | None
    usage: Usage | None
    error: str | None = None


class Mirror:
    """Forwards requests to the API at `base_url`, and keeps an account of its own beside it. Threads may share it."""

    waits_for_others = True

    def __init__(
        self,
        base_url: str,
        models: Mapping[str, ModelRow],
        *,
        client: httpx2.Client | None = None,
        clock: Callable[[], float] = time.time,
        settings: EmulatorSettings = DEFAULTS,
        recorded: Callable[[ScriptedReply], None] = lambda reply: None,
    ) -> None:
        self._base_url, self._clock, self._recorded = base_url.rstrip("/"), clock, recorded
        self._client = client or httpx2.Client(timeout=TIMEOUT)
        # What the API sets for one client is not sent for another.
        self._client.cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        self._forecaster = Forecaster(models, settings)
        self._lock = threading.Lock()
        self._lines: deque[Json] = deque(maxlen=settings.reported_requests)
        self._replies: deque[ScriptedReply] = deque(maxlen=settings.reported_requests)
        self._totals = comparison.Totals()
        self._numbers = 0

    def handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer of the mirrored API to one request."""
        bare, _, query = path.partition("?")
        if (method.upper(), bare) == ("GET", "/emulator/report"):
            return json_answer(self.report(), "req_mirror_report")
        if not bare.startswith("/"):
            # Joined to the base URL, anything else would name another host.
            return error_answer(not_found(f"{method} {bare}: Not found"), "req_mirror_not_found")
        at = self._clock()
        url = self._base_url + bare + (f"?{query}" if query else "")
        lowered = {name.lower(): value for name, value in headers.items()}
        try:
            request = self._client.build_request(method, url, headers=_forwarded(lowered), content=body)
            response = self._client.send(request, stream=True)
        except (httpx2.HTTPError, httpx2.InvalidURL) as e:
            error = ApiError(502, "api_error", f"the mirrored API could not be reached ({type(e).__name__})")
            return error_answer(error, "req_mirror_unreachable")
        if (method.upper(), bare.rstrip("/")) != ("POST", "/v1/messages"):
            return Answer(response.status_code, _returned(response), _passed(response))
        outcome = self._forecaster.forecast(response.status_code, body, lowered, at, self._clock())
        return Answer(response.status_code, _returned(response), self._watched(response, outcome))

    def report(self) -> Json:
        """Each request with the forecast, what the API reported, and where they differ."""
        with self._lock:
            return {"mirror": self._base_url, "requests": list(self._lines), "totals": self._totals.data()}

    def recording(self, name: str) -> Recording:
        """The replies so far as a script, in the order in which they were complete."""
        with self._lock:
            return Recording(name, tuple(self._replies))

    def _watched(self, response: httpx2.Response, outcome: Outcome) -> Iterator[Chunk]:
        """The bytes of an answer as they come; when it has ended, it is held against the forecast."""
        kept = bytearray()
        try:
            for chunk in _passed(response):
                if isinstance(chunk, bytes):
                    kept += chunk
                yield chunk
        finally:
            self._write(response, outcome, _seen(response, bytes(kept)))

    def _write(self, response: httpx2.Response, outcome: Outcome, seen: _Seen) -> None:
        line = comparison.line(outcome, response.status_code, seen.usage, seen.reply, seen.error)
        with self._lock:
            self._numbers += 1
            self._lines.append({"number": self._numbers, "request_id": response.headers.get("request-id"), **line})
            self._totals.add(line)
            if seen.reply is not None:
                self._replies.append(seen.reply)
                self._recorded(seen.reply)


def _forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that are passed on. The answer is asked for uncompressed, to be read on its way."""
    named = {name.strip().lower() for name in headers.get("connection", "").split(",")}
    kept = {name: value for name, value in headers.items() if name not in _NOT_FORWARDED | named}
    return {**kept, "accept-encoding": "identity"}


def _returned(response: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in by_name(response.headers.raw).items() if name not in _HOP_BY_HOP}


def _passed(response: httpx2.Response) -> Iterator[Chunk]:
    """The bytes as they come. Where they break off, the connection to the client does so too."""
    try:
        yield from response.iter_raw()
    except httpx2.HTTPError:
        yield Reset()
    finally:
        response.close()


def _seen(response: httpx2.Response, body: bytes) -> _Seen:
    """What an answer said, as far as it can be read."""
    try:
        if "text/event-stream" in response.headers.get("content-type", ""):
            return _streamed(body)
        data = json.loads(body)
        if response.status_code != 200:
            return _Seen(None, None, str(data["error"]["message"]))
        return _Seen(_reply(data), read_usage(data["usage"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, StreamBroken) as e:
        return _Seen(None, None, f"not an answer of the API: {type(e).__name__}")


def _streamed(body: bytes) -> _Seen:
    """The reply in a stream. A stream that breaks off has no reply, but what was counted until then."""
    streamed = StreamedReply()
    for block in body.decode().replace("\r\n", "\n").split("\n\n"):
        # Not by `splitlines`: U+2028 and its like may stand in JSON as they are.
        data = "".join(line[5:].strip() for line in block.split("\n") if line.startswith("data:"))
        if data:
            event = json.loads(data)
            if event.get("type") == "error":
                return _Seen(None, streamed.usage_seen, str(event["error"]["message"]))
            streamed.feed(event)
    try:
        whole = streamed.reply(None, 0)
    except StreamBroken as e:
        return _Seen(None, streamed.usage_seen, str(e))
    details = whole.stop_details if isinstance(whole.stop_details, dict) else None
    reply = ScriptedReply(whole.content, whole.stop_reason, "", whole.usage.output_tokens, details)
    return _Seen(reply, streamed.usage_seen)


def _reply(message: Json) -> ScriptedReply:
    usage = message["usage"]
    return ScriptedReply(
        tuple(map(_block, message["content"])),
        message["stop_reason"],
        "",
        usage.get("output_tokens"),
        message.get("stop_details"),
    )


def _block(value: Any) -> Json:
    if not isinstance(value, dict):
        raise TypeError("a content block is an object")
    return value
