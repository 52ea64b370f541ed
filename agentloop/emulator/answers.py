"""What the emulator says, before any HTTP: answers, the pauses in them, and refusals in the API's shape."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from agentloop.errors import AgentLoopError
from agentloop.types.base import Json, compact


class Pause(NamedTuple):
    """Nothing is sent for so long."""

    seconds: float


Chunk = bytes | Pause


@dataclass(frozen=True)
class Answer:
    """A response: its chunks are made while they are read, once."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterable[Chunk]


class ApiError(AgentLoopError):
    """A request that the API refuses; the type is the API's own, such as `invalid_request_error`."""

    def __init__(self, status: int, type: str, message: str) -> None:
        super().__init__(message)
        self.status, self.type, self.message = status, type, message


def invalid(message: str) -> ApiError:
    """The refusal of a request that breaks a rule."""
    return ApiError(400, "invalid_request_error", message)


def json_answer(value: Json, request_id: str, status: int = 200) -> Answer:
    """A whole JSON body."""
    return Answer(status, _headers("application/json", request_id), (compact(value),))


def stream_answer(chunks: Iterable[Chunk], request_id: str) -> Answer:
    """A stream of server-sent events."""
    return Answer(200, _headers("text/event-stream; charset=utf-8", request_id), chunks)


def error_answer(error: ApiError, request_id: str) -> Answer:
    """A refusal. https://platform.claude.com/docs/en/api/errors"""
    body = {"type": "error", "error": {"type": error.type, "message": error.message}, "request_id": request_id}
    return json_answer(body, request_id, error.status)


def _headers(content_type: str, request_id: str) -> dict[str, str]:
    return {"content-type": content_type, "cache-control": "no-cache", "request-id": request_id}
