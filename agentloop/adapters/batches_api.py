"""The Message Batches API, over the official SDK: bytes out, every result as it was received.

A batch is made by one call that is never repeated here: whether one that broke off made a batch can only be found out by
looking. Every other call is safe to repeat, and is, a bounded number of times.
https://platform.claude.com/docs/en/build-with-claude/batch-processing
"""

import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import datetime
from typing import IO, Any, NamedTuple, TypeVar

import anthropic
import httpx2
from anthropic import Anthropic, Stream

from agentloop.batch_calls import BatchCallFailed, Standing, Trouble
from agentloop.core import api_errors
from agentloop.core.api_errors import NEVER_AGAIN, classified, message_of
from agentloop.errors import ConfigError
from agentloop.types.base import Json, parsed, plain_json

PATH = "/v1/messages/batches"
PAGE = 100
"""Batches of one page of the list; the API gives at most 1,000."""
_HEADERS = {"content-type": "application/json"}
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)
_TROUBLES: dict[str, Trouble] = {"unauthorized": "unauthorized", "spend_limit": "spend_limit", "model_not_found": "missing"}
"""By kind of failure; any other that no second attempt can help is a refusal."""
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
T = TypeVar("T")


class Persistence(NamedTuple):
    """How often a call that may be repeated is, and how long is waited in between, in seconds."""

    attempts: int = 8
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0


class BatchesApi:
    """A `BatchClient` on the official SDK."""

    def __init__(
        self,
        *,
        api_key: str | None,
        base_url: str | None = None,
        http_client: httpx2.Client | None = None,
        sleep: Callable[[float], None] = time.sleep,
        persistence: Persistence | None = None,
    ) -> None:
        """Speak to the API at `base_url` (the real one by default). Raises ConfigError where there is no key."""
        if not api_key:
            raise ConfigError("no API key: set ANTHROPIC_API_KEY; for a batch on an emulator any word will do, with --base-url")
        self._key, self._sleep, self._persistence = api_key, sleep, persistence or Persistence()
        self._client = Anthropic(api_key=api_key, base_url=base_url, http_client=http_client, max_retries=0)

    def create(self, body: bytes | IO[bytes]) -> Standing:
        """Make a batch of this body. Sent once. Raises BatchCallFailed: `unknown` where nobody knows whether it was made."""
        try:
            return _standing(self._client.post(PATH, content=body, cast_to=object, options={"headers": _HEADERS}))
        except anthropic.APIStatusError as e:
            failed = self._failed(e)
            if 400 <= e.status_code < 500 and e.status_code != 408:
                raise failed from e
            raise BatchCallFailed("unknown", failed.message, failed.error_type, retry=True) from e
        except (anthropic.APIError, httpx2.HTTPError, BatchCallFailed) as e:
            trouble: Trouble = "unavailable" if isinstance(e.__cause__, _NEVER_SENT) else "unknown"
            raise BatchCallFailed(trouble, self._told(e), type(e).__name__, retry=True) from e

    def retrieve(self, batch_id: str) -> Standing:
        """One batch, as it stands. Raises BatchCallFailed."""
        return self._again(lambda: _standing(self._get(f"{PATH}/{batch_id}").json()))

    def cancel(self, batch_id: str) -> Standing:
        """Let no further item start. Raises BatchCallFailed, for a batch that has ended too."""
        path = f"{PATH}/{batch_id}/cancel"
        return self._again(lambda: _standing(self._client.post(path, cast_to=object)))

    def recent(self) -> Iterator[Standing]:
        """All batches, the newest first, page by page as they are asked for. Raises BatchCallFailed."""
        after = ""
        while True:
            path = f"{PATH}?limit={PAGE}{after}"
            page: Json = self._again(lambda path=path: self._get(path).json())  # type: ignore[misc]
            yield from map(_standing, page.get("data") or ())
            if not page.get("has_more") or not page.get("last_id"):
                return
            after = f"&after_id={page['last_id']}"

    def results(self, batch_id: str) -> Generator[Json, None, None]:
        """The results of a batch that has ended, as they come, one an item, in any order. Raises BatchCallFailed, also where
        the download breaks off in the middle."""
        try:
            response = self._again(lambda: self._opened(f"{PATH}/{batch_id}/results"))
        except BatchCallFailed as e:
            e.trouble = "no_results" if e.trouble == "missing" else e.trouble
            raise
        left = b""
        with closing(response):
            try:
                for chunk in response.iter_bytes():
                    *lines, left = (left + chunk).split(b"\n")
                    yield from (_result(line, batch_id) for line in lines if line)
            except httpx2.HTTPError as e:
                raise BatchCallFailed("unavailable", self._told(e), type(e).__name__, retry=True) from e
        if left:
            raise _no_answer(f"the results of batch {batch_id} end in the middle of a line")

    def _opened(self, path: str) -> httpx2.Response:
        """An answer whose body is still to be read."""
        return self._client.get(path, cast_to=httpx2.Response, stream=True, stream_cls=Stream[object])  # type: ignore[return-value]

    def _get(self, path: str) -> httpx2.Response:
        return self._client.get(path, cast_to=httpx2.Response)

    def _again(self, ask: Callable[[], T]) -> T:
        """What is answered, at the first attempt that is. Raises BatchCallFailed."""
        wait_s = self._persistence.first_wait_s
        for attempt in range(1, self._persistence.attempts + 1):
            try:
                return ask()
            except anthropic.APIStatusError as e:
                failed = self._failed(e)
            except BatchCallFailed as e:
                failed = e
            except (anthropic.APIError, httpx2.HTTPError, ValueError) as e:
                failed = BatchCallFailed("unavailable", self._told(e), type(e).__name__, retry=True)
            if not failed.retry or attempt == self._persistence.attempts:
                raise failed
            self._sleep(max(wait_s, failed.after_s))
            wait_s = min(self._persistence.longest_wait_s, 2 * wait_s)
        raise AssertionError("the last attempt returns or raises")

    def _failed(self, e: anthropic.APIStatusError) -> BatchCallFailed:
        error_type = e.type or api_errors.BY_STATUS.get(e.status_code, "api_error")
        message = message_of(e.body, str(e)).replace(self._key, "[redacted]")
        kind = classified(error_type, e.error_code, message)
        retry = kind.retry and kind.kind not in NEVER_AGAIN
        trouble: Trouble = "unavailable" if retry else _TROUBLES.get(kind.kind, "refused")
        return BatchCallFailed(trouble, message, error_type, retry, self._after_s(e.response.headers))

    def _after_s(self, headers: httpx2.Headers) -> float:
        """Seconds that the server asks to be left alone, up to the longest wait."""
        try:
            return min(self._persistence.longest_wait_s, max(0.0, float(headers["retry-after"])))
        except (KeyError, ValueError):
            return 0.0

    def _told(self, e: Exception) -> str:
        """The words of the SDK, and those of what lies behind them."""
        return f"{str(e) or type(e).__name__} {e.__cause__ or ''}".strip().replace(self._key, "[redacted]")


def _standing(data: Any) -> Standing:
    """The batch object of the API. Raises BatchCallFailed where it is none."""
    try:
        return Standing(
            id=str(data["id"]),
            status=str(data["processing_status"]),
            created_at=datetime.fromisoformat(str(data["created_at"])),
            expires_at=datetime.fromisoformat(str(data["expires_at"])),
            counts={str(k): int(n) for k, n in data["request_counts"].items()},
            is_archived=data.get("archived_at") is not None,
            is_cancelled=data.get("cancel_initiated_at") is not None,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise _no_answer(f"not an API answer: expected a message batch, found {str(data)[:80]!r}") from e


def _result(line: bytes, batch_id: str) -> Json:
    """A line of the results. Raises BatchCallFailed where it is none."""
    try:
        found = parsed(line.decode())
    except ValueError as e:
        raise _no_answer(f"a line of the results of batch {batch_id} is no JSON: {e}") from e
    if not isinstance(found, dict):
        raise _no_answer(f"a line of the results of batch {batch_id} is no object: {str(found)[:80]!r}")
    # half a character, which JSON may escape and UTF-8 cannot hold, must not keep the other results from being written
    return plain_json(found) if _HALF.search(line) is not None else found


def _no_answer(message: str) -> BatchCallFailed:
    return BatchCallFailed("unavailable", message, "not_an_answer", retry=True)
