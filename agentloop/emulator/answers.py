"""What the emulator says, before any HTTP: answers, the pauses in them, and refusals in the API's shape."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from agentloop.errors import AgentLoopError
from agentloop.types.base import Json, compact


class Pause(NamedTuple):
    """Nothing is sent for so long."""

    seconds: float


@dataclass(frozen=True)
class Reset:
    """The connection is torn down: before anything was sent, where nothing was."""


Chunk = bytes | Pause | Reset
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class Answer:
    """A response: its chunks are made while they are read, once. Headers are sent with the first bytes."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterable[Chunk]

    def with_headers(self, more: Mapping[str, str]) -> "Answer":
        """The same with more headers."""
        return Answer(self.status, {**self.headers, **more}, self.chunks)


class ApiError(AgentLoopError):
    """A request that the API refuses; the type is the API's own, such as `invalid_request_error`."""

    def __init__(
        self,
        status: int,
        type: str,
        message: str,
        code: str | None = None,
        headers: Mapping[str, str] = NOTHING,
        details: Json | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.type, self.message, self.headers = status, type, message, headers
        self.details: Json = ({"error_code": code} if code else {}) | (details or {})

    def body(self, request_id: str) -> Json:
        """The error object. https://platform.claude.com/docs/en/api/errors"""
        details = {"details": self.details} if self.details else {}
        error = {"type": self.type, "message": self.message, **details}
        return {"type": "error", "error": error, "request_id": request_id}


def invalid(message: str, code: str | None = None) -> ApiError:
    """The refusal of a request that breaks a rule."""
    return ApiError(400, "invalid_request_error", message, code)


def not_found(message: str) -> ApiError:
    """The refusal of a request for something that is not there."""
    return ApiError(404, "not_found_error", message)


def too_large(message: str = "Request exceeds the maximum size") -> ApiError:
    """The refusal of a request that is too large."""
    return ApiError(413, "request_too_large", message)


def json_answer(value: Json, request_id: str, status: int = 200) -> Answer:
    """A whole JSON body."""
    return answer("application/json", (compact(value),), request_id, status)


def stream_answer(chunks: Iterable[Chunk], request_id: str) -> Answer:
    """A stream of server-sent events."""
    return answer("text/event-stream; charset=utf-8", chunks, request_id)


def answer(content_type: str, chunks: Iterable[Chunk], request_id: str, status: int = 200) -> Answer:
    """A response of any kind."""
    return Answer(status, {"content-type": content_type, "cache-control": "no-cache", "request-id": request_id}, chunks)


def error_answer(error: ApiError, request_id: str) -> Answer:
    """A refusal."""
    return json_answer(error.body(request_id), request_id, error.status).with_headers(error.headers)


def delayed(seconds: float, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """The chunks, after a while."""
    if seconds:
        yield Pause(seconds)
    yield from chunks
