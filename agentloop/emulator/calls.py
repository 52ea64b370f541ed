"""What stands in a request before its meaning is looked at: key, version, betas, JSON, and how large it may be."""

import json
import math
import re
from collections.abc import Mapping
from typing import NamedTuple, NoReturn

from agentloop.emulator.answers import ApiError, invalid
from agentloop.emulator.validation import VERSIONS, ApiVersion
from agentloop.types.base import Json

MAX_REQUEST_BYTES = 32 * 1024 * 1024
MAX_BATCH_BYTES = 256 * 1024 * 1024
BATCHES = "/v1/messages/batches"

_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""Any escaped surrogate; pairs pass the check that follows."""


class Call(NamedTuple):
    """One request, as it came in."""

    headers: Mapping[str, str]
    """Names in lower case."""
    query: Mapping[str, str]
    body: bytes
    at: float
    request_id: str


def limit_bytes(path: str) -> int:
    """How large a request to this path may be."""
    return MAX_BATCH_BYTES if path.partition("?")[0].rstrip("/") == BATCHES else MAX_REQUEST_BYTES


def check_key(headers: Mapping[str, str]) -> None:
    """Raise ApiError where there is no API key. What it is does not matter, and is kept nowhere."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if not headers.get("x-api-key") and not (scheme.lower() == "bearer" and key.strip()):
        raise ApiError(401, "authentication_error", "x-api-key header is required")


def version(headers: Mapping[str, str]) -> ApiVersion:
    """The version that a request names. Raises ApiError."""
    named = headers.get("anthropic-version")
    if named is None:
        raise invalid("anthropic-version: header is required")
    for known in VERSIONS:
        if known == named:
            return known
    raise invalid(f'anthropic-version: "{named}" is not a valid version; expected {" or ".join(VERSIONS)}')


def betas(headers: Mapping[str, str]) -> frozenset[str]:
    """The features that a request's `anthropic-beta` header names."""
    named = headers.get("anthropic-beta")
    return frozenset(b.strip() for b in named.split(",")) - {""} if named else frozenset()


def parsed(body: bytes) -> Json:
    """The JSON object of a body. Raises ApiError."""
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant, parse_float=_finite)
        if _LONE_SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as e:
        raise invalid("The request body is not valid JSON: no low surrogate in string") from e
    except ValueError as e:
        raise invalid(f"The request body is not valid JSON: {e}") from e
    if not isinstance(value, dict):
        raise invalid("The request body is not valid JSON: expected an object")
    return value


def model(body: bytes) -> str | None:
    """The model that a request asks; None where its body does not say."""
    try:
        named = parsed(body).get("model")
    except (ApiError, UnicodeDecodeError):
        return None
    return named if isinstance(named, str) else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number} is out of range")
    return value
