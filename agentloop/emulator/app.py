"""The emulator: a request comes in as method, path, headers and body, an answer goes out. No HTTP, no port."""

import itertools
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, NoReturn
from urllib.parse import parse_qsl

from agentloop.emulator import catalogue, sse
from agentloop.emulator.answers import Answer, ApiError, Chunk, Pause, error_answer, invalid, json_answer, stream_answer
from agentloop.emulator.catalogue import ModelRow
from agentloop.emulator.messages import Circumstance, EmulatorSettings, Messages
from agentloop.emulator.script import Script
from agentloop.emulator.validation import VERSIONS, ApiVersion
from agentloop.types.base import Json

__all__ = ["MAX_REQUEST_BYTES", "Emulator", "EmulatorSettings"]

MAX_REQUEST_BYTES = 32 * 1024 * 1024
DEFAULTS = EmulatorSettings()

_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""Any escaped surrogate; pairs pass the check that follows."""


class _Call(NamedTuple):
    headers: Mapping[str, str]
    """Names in lower case."""
    query: Mapping[str, str]
    body: bytes
    at: float
    request_id: str


class Emulator:
    """A Messages API that a script answers, with the API's checks, cache and usage.

    The same requests at the same times get the same bytes. API keys are asked for, and forgotten. Threads may share an
    emulator: what it keeps stands behind one lock, and streams are made outside of it.
    """

    def __init__(
        self,
        script: Script,
        models: Mapping[str, ModelRow],
        *,
        clock: Callable[[], float] = time.time,
        settings: EmulatorSettings = DEFAULTS,
    ) -> None:
        self._models, self._clock, self._settings = models, clock, settings
        self._messages = Messages(script, models, settings)
        self._numbers = itertools.count(1)

    def handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer to one request; `path` may carry a query."""
        path, _, query = path.partition("?")
        lowered = {name.lower(): value for name, value in headers.items()}
        call = _Call(lowered, dict(parse_qsl(query)), body, self._clock(), f"req_emulator_{next(self._numbers):08d}")
        try:
            return self._answer(method.upper(), path, call)
        except ApiError as e:
            return error_answer(e, call.request_id)
        except RecursionError:
            return error_answer(invalid("The request body is nested too deeply"), call.request_id)

    def report(self) -> Json:
        """What has been billed so far: what `GET /emulator/report` answers."""
        return self._messages.report()

    def _answer(self, method: str, path: str, call: _Call) -> Answer:
        if len(call.body) > MAX_REQUEST_BYTES:
            raise ApiError(413, "request_too_large", "Request exceeds the maximum size")
        parts = path.strip("/").split("/")
        if (method, parts) == ("GET", ["emulator", "report"]):
            return json_answer(self.report(), call.request_id)
        _check_key(call.headers)
        match method, parts:
            case "POST", ["v1", "messages"]:
                return self._create(call)
            case "POST", ["v1", "messages", "count_tokens"]:
                return json_answer(self._messages.count(_parsed(call.body), _version(call.headers)), call.request_id)
            case "GET", ["v1", "models"]:
                _version(call.headers)
                return json_answer(catalogue.page(self._models, call.query), call.request_id)
            case "GET", ["v1", "models", name]:
                _version(call.headers)
                return json_answer(catalogue.info(name, self._models), call.request_id)
            case _:
                raise ApiError(404, "not_found_error", f"{method} {path}: Not found")

    def _create(self, call: _Call) -> Answer:
        version, body = _version(call.headers), _parsed(call.body)
        message = self._messages.create(body, Circumstance(call.at, call.request_id, version))
        if body.get("stream"):
            return stream_answer(self._delayed(sse.events(message)), call.request_id)
        whole = json_answer(message, call.request_id)
        return Answer(whole.status, whole.headers, self._delayed(iter(whole.chunks)))

    def _delayed(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        if self._settings.first_byte_s:
            yield Pause(self._settings.first_byte_s)
        yield from chunks


def _check_key(headers: Mapping[str, str]) -> None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if not headers.get("x-api-key") and not (scheme.lower() == "bearer" and key.strip()):
        raise ApiError(401, "authentication_error", "x-api-key header is required")


def _version(headers: Mapping[str, str]) -> ApiVersion:
    named = headers.get("anthropic-version")
    if named is None:
        raise invalid("anthropic-version: header is required")
    for version in VERSIONS:
        if version == named:
            return version
    raise invalid(f'anthropic-version: "{named}" is not a valid version; expected {" or ".join(VERSIONS)}')


def _parsed(body: bytes) -> Json:
    try:
        value = json.loads(body, parse_constant=_no_constant, parse_float=_finite)
        if _LONE_SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as e:
        raise invalid("The request body is not valid JSON: no low surrogate in string") from e
    except ValueError as e:
        raise invalid(f"The request body is not valid JSON: {e}") from e
    if not isinstance(value, dict):
        raise invalid("The request body is not valid JSON: expected an object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number} is out of range")
    return value
