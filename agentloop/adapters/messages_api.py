"""The Messages API, over the official SDK: bytes out, a whole reply back, and the one place where requests are retried.

The body is sent exactly as `core/wire.py` made it, and the stream's events are read as they come, so nothing between
the log and the API can reformat a block. The SDK's own retries are off.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime
from typing import Any

import anthropic
import httpx2
from anthropic import Anthropic, Stream
from pydantic import Field
from tenacity import RetryCallState, Retrying, stop_after_attempt, wait_random_exponential

from agentloop.attempt_time import AttemptTime, BoundedStream, not_whole
from agentloop.core import api_errors
from agentloop.core.api_errors import NEVER_AGAIN, asked_model, classified, message_of, named
from agentloop.core.stream import StreamBroken, StreamedReply, whole
from agentloop.crash_points import reached
from agentloop.errors import ConfigError
from agentloop.types.base import Settings, parsed
from agentloop.types.request import Failure, FailureKind, Reply
from agentloop.types.usage import ModelCard, Usage

MESSAGE_CHARS = 300
MOST_REQUEST_BYTES = 32 * 1024 * 1024
"""Of a request. https://platform.claude.com/docs/en/api/overview#request-size-limits"""
SDK_MAJOR, SDK_LEAST_MINOR = 2, 12
_HEADERS = {"content-type": "application/json", "accept": "text/event-stream"}
_STREAMS = b',"stream":true}'
"""How a body ends whose answer comes as a stream (`core/wire.py`)."""


class Patience(Settings):
    """How long to try. All in seconds of the monotonic clock; all layers together, for there is only this one."""

    attempts: int = Field(default=8, ge=1)
    total_wait_s: float = Field(default=900.0, ge=0)
    """No further attempt starts after this much waiting."""
    longest_wait_s: float = Field(default=120.0, ge=0)
    """A server that asks for a longer wait than this is unavailable."""
    connect_s: float = Field(default=10.0, gt=0)
    idle_s: float = Field(default=120.0, gt=0)
    """Without a byte for this long, an attempt is given up."""
    attempt_s: float = Field(default=1_800.0, gt=0)
    """An attempt that still drips after this long is given up."""


class _Failed(Exception):
    """One attempt failed."""

    def __init__(self, failure: Failure, retry: bool, retry_after_s: float | None = None) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.retry = retry
        self.retry_after_s = retry_after_s


class MessagesApi:
    """A `ModelClient` on the official SDK."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        http_client: httpx2.Client | None = None,
        card_of: Callable[[str], ModelCard | None] = lambda model: None,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        """Speak to the API at `base_url` (the real one by default). `begun` is told when a reply has begun: from then on others
        can read what its request wrote to the cache. Raises ConfigError for a missing or malformed key."""
        _check_sdk(anthropic.__version__)
        self._patience = patience or Patience()
        self._card_of = card_of
        self._sleep, self._begun = sleep, begun
        self._key = _checked(api_key)
        self._time = AttemptTime()
        self._client = Anthropic(
            api_key=self._key,
            base_url=base_url,
            http_client=http_client or anthropic.DefaultHttpxClient(event_hooks={"request": [self._time.follow]}),
            max_retries=0,
            timeout=httpx2.Timeout(self._patience.idle_s, connect=self._patience.connect_s),
        )

    def ask(self, body: bytes) -> Iterator[Failure | Reply]:
        """The attempts for one request: failures, then the reply; or failures only, the last one without a retry."""
        if len(body) > MOST_REQUEST_BYTES:
            yield _too_large(body)
            return
        attempts = RetryCallState(Retrying(), fn=None, args=(), kwargs={})
        enough = stop_after_attempt(self._patience.attempts)
        while True:
            try:
                yield self._attempt(body)
                return
            except _Failed as failed:
                attempts.set_exception((type(failed), failed, failed.__traceback__))
                attempts.upcoming_sleep = self._wait(attempts, failed)
                again = failed.retry and not enough(attempts) and not self._waited_too_long(attempts)
                wait = attempts.upcoming_sleep if again else None
                message = failed.failure.message.replace(self._key, "[redacted]")[:MESSAGE_CHARS]
                told = {"attempt": attempts.attempt_number, "retry_in_s": wait, "message": message}
                yield failed.failure.model_copy(update=told)
            if not again:
                return
            self._sleep(attempts.upcoming_sleep)
            attempts.idle_for += attempts.upcoming_sleep
            attempts.prepare_for_next_attempt()

    def _wait(self, attempts: RetryCallState, failed: _Failed) -> float:
        """Seconds to wait: at least what the server asked for, else exponential with jitter."""
        backoff = wait_random_exponential(multiplier=1, max=self._patience.longest_wait_s)
        return round(failed.retry_after_s if failed.retry_after_s is not None else backoff(attempts), 3)

    def _waited_too_long(self, attempts: RetryCallState) -> bool:
        return attempts.idle_for + attempts.upcoming_sleep > self._patience.total_wait_s

    def _attempt(self, body: bytes) -> Reply:
        """One request. Raises _Failed."""
        streamed = StreamedReply()
        reached("request.sending")
        try:
            with self._time.within(self._patience.attempt_s):
                stream = self._client.post(
                    "/v1/messages",
                    content=body,
                    cast_to=object,
                    stream=True,
                    stream_cls=Stream[object],
                    options={"headers": _HEADERS},
                )
                return self._priced(self._read(stream.response, streamed, body), body)
        except anthropic.APIStatusError as e:
            raise self._refused(e, body) from e
        except StreamBroken as e:
            told = not_whole(self._patience.attempt_s) if self._time.over else str(e)  # what was cut off looks like an end
            raise _broken("not_an_answer", "stream_broken", told, streamed) from e
        except (anthropic.APIError, httpx2.HTTPError, UnicodeDecodeError) as e:
            told = not_whole(self._patience.attempt_s) if self._time.over else _with_cause(e)
            raise _broken("unavailable", type(e).__name__, told, streamed, _reached(e)) from e

    def _read(self, response: httpx2.Response, streamed: StreamedReply, body: bytes) -> Reply:
        """The stream's events, put together; or the reply in one piece. Raises StreamBroken, _Failed."""
        response.stream = BoundedStream(response.stream, self._patience.attempt_s)
        request_id = response.headers.get("request-id")
        with closing(response):
            if not body.endswith(_STREAMS):
                return whole(_json(response.read().decode()), request_id, len(body))
            _expect_stream(response)
            for event in Stream.raw_events(response):
                if event.event == "error":
                    raise _in_stream(_json(event.data), streamed, request_id, body)
                if event.event != "ping" and event.data:
                    streamed.feed(_json(event.data))
                    if event.event == "message_start":
                        self._begun()
                    reached("reply.streaming")
        return streamed.reply(request_id, len(body))

    def _priced(self, reply: Reply, body: bytes) -> Reply:
        """The reply, with the card of the model that answered, where that is not the one that was asked."""
        asked = asked_model(body)
        if asked is None or not reply.model or asked == reply.model:
            return reply
        answered, expected = self._card_of(reply.model), self._card_of(asked)
        if answered is None:
            return reply.model_copy(update={"price_unknown": True})
        same = expected is not None and answered.id == expected.id
        return reply if same else reply.model_copy(update={"priced_by": answered})

    def _refused(self, e: anthropic.APIStatusError, body: bytes) -> _Failed:
        """What a status and its body mean."""
        headers = e.response.headers
        kind = classified(
            e.type or api_errors.BY_STATUS.get(e.status_code, "api_error"), e.error_code, message_of(e.body, str(e))
        )
        failure = Failure(
            kind=kind.kind,
            error_type=e.type or api_errors.BY_STATUS.get(e.status_code, f"http_{e.status_code}"),
            message=named(kind.kind, message_of(e.body, str(e)), body),
            status=e.status_code,
            request_id=e.request_id,
            possibly_billed=e.status_code in (408, 504),
        )
        told = headers.get("x-should-retry")
        retry = kind.retry if told is None else told == "true" and kind.kind not in NEVER_AGAIN
        after = _seconds(headers)
        if after is not None and after > self._patience.longest_wait_s:
            asks = f"the server asks for {after:g} seconds of waiting: {failure.message}"
            return _Failed(failure.model_copy(update={"message": asks}), retry=False)
        return _Failed(failure, retry, after)


def _too_large(body: bytes) -> Failure:
    """What the API would say of a request that is larger than it takes: such a one is not sent."""
    told = f"the request has {len(body):,} bytes, and the API takes {MOST_REQUEST_BYTES:,}; it was not sent"
    return Failure(kind="request_too_large", error_type="request_too_large", message=told)


def _check_sdk(version: str) -> None:
    major, minor = (int(part) for part in version.split(".")[:2])
    if major != SDK_MAJOR or minor < SDK_LEAST_MINOR:
        raise ConfigError(
            f"the anthropic SDK is {version}; agentloop works with {SDK_MAJOR}.{SDK_LEAST_MINOR} and later {SDK_MAJOR}.x"
        )


def _checked(key: str | None) -> str:
    """A key that can stand in a header. Its value is in no message."""
    if not key:
        raise ConfigError("no API key: set ANTHROPIC_API_KEY, or use --provider scripted to play the session offline")
    if key != key.strip() or not key.isascii() or any(c.isspace() or c in "\"'" for c in key):
        raise ConfigError("the API key in ANTHROPIC_API_KEY holds spaces, quotes or line ends; set the bare key")
    return key


def _expect_stream(response: httpx2.Response) -> None:
    kind = response.headers.get("content-type", "")
    if "text/event-stream" not in kind:
        raise StreamBroken(f"not an API answer: expected an event stream, found {kind or 'nothing'} (a proxy or login page?)")


def _json(data: str) -> Any:
    try:
        return parsed(data)
    except ValueError as e:
        raise StreamBroken(f"an event is not JSON: {data[:80]!r}") from e


def _in_stream(data: Any, streamed: StreamedReply, request_id: str | None, body: bytes) -> _Failed:
    """An error event inside a stream whose status was 200."""
    error = data.get("error") if isinstance(data, dict) else None
    error = error if isinstance(error, dict) else {}
    error_type = str(error.get("type") or "api_error")
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    message = message_of(data, "error event in the stream")
    kind = classified(error_type, code, message)
    told = named(kind.kind, message, body)
    failure = Failure(kind=kind.kind, error_type=error_type, message=told, status=200, request_id=request_id)
    return _Failed(_seen(failure, streamed), kind.retry)


def _broken(kind: FailureKind, error_type: str, message: str, streamed: StreamedReply, reached: bool = True) -> _Failed:
    failure = Failure(kind=kind, error_type=error_type, message=message, possibly_billed=reached)
    return _Failed(_seen(failure, streamed), retry=True)


def _with_cause(e: Exception) -> str:
    """The words of the SDK, and those of what lies behind them: "Connection error." alone helps nobody."""
    said, cause = str(e) or type(e).__name__, str(e.__cause__ or "")
    return f"{said.rstrip('.')}: {cause}" if cause and cause not in said else said


def _reached(e: Exception) -> bool:
    """Whether the request may have reached the API before it failed."""
    return not isinstance(e.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError)


def _seen(failure: Failure, streamed: StreamedReply) -> Failure:
    usage: Usage | None = streamed.usage_seen
    return failure.model_copy(update={"usage": usage, "possibly_billed": True}) if usage is not None else failure


def _seconds(headers: httpx2.Headers) -> float | None:
    """`retry-after-ms`, or `retry-after` in seconds or as an HTTP date."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * scale)
        except (KeyError, ValueError):
            continue
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError, TypeError):
        return None
