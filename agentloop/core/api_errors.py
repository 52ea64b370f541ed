"""What an error of the API means: which kind of failure it is, whether asking again can help, and what is to blame.

https://platform.claude.com/docs/en/api/errors
"""

import re
from typing import NamedTuple

from agentloop.types.request import FailureKind

SPEND_LIMIT_CODE = "enforced_spend_limit_reached"
_SPEND_TEXTS = ("credit balance is too low", "specified api usage limits")
_MODEL = re.compile(rb'\{"model":"([^"]*)"')


class Kind(NamedTuple):
    """A kind of failure, and whether asking again may help."""

    kind: FailureKind
    retry: bool


_BY_TYPE: dict[str, Kind] = {
    "authentication_error": Kind("unauthorized", False),
    "permission_error": Kind("unauthorized", False),
    "billing_error": Kind("spend_limit", False),
    "not_found_error": Kind("model_not_found", False),
    "request_too_large": Kind("request_too_large", False),
    "invalid_request_error": Kind("invalid_request", False),
    "rate_limit_error": Kind("unavailable", True),
    "overloaded_error": Kind("unavailable", True),
    "api_error": Kind("unavailable", True),
    "timeout_error": Kind("unavailable", True),
    "conflict_error": Kind("unavailable", True),
}
NEVER_AGAIN = frozenset({"spend_limit", "request_too_large", "prompt_too_long"})
"""What the same body can never bring, whatever the server says about retrying."""
BY_STATUS: dict[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


def classified(error_type: str, code: str | None, message: str) -> Kind:
    """What an error means, by its own type, whatever the status code says."""
    lowered = message.lower()
    if code == SPEND_LIMIT_CODE or any(text in lowered for text in _SPEND_TEXTS):
        return Kind("spend_limit", False)
    if "prompt is too long" in lowered:
        return Kind("prompt_too_long", False)
    return _BY_TYPE.get(error_type, Kind("unavailable", True))


def named(kind: FailureKind, message: str, body: bytes) -> str:
    """The message, with what is to blame: a setting, a model, a size."""
    match kind:
        case "unauthorized":
            return f"the key in ANTHROPIC_API_KEY was refused: {message}"
        case "model_not_found":
            return f"model '{asked_model(body) or '?'}' is not there: {message}"
        case "request_too_large":
            return f"the request of {len(body):,} bytes was too large: {message}"
        case _:
            return message


def message_of(body: object, otherwise: str) -> str:
    """The words of an error's body, where it has any."""
    error = body.get("error") if isinstance(body, dict) else None
    said = error.get("message") if isinstance(error, dict) else None
    return str(said or otherwise)


def asked_model(body: bytes) -> str | None:
    """The model that a request names."""
    found = _MODEL.match(body)
    return found[1].decode() if found is not None else None
