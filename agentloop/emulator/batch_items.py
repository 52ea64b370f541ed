"""The requests of a batch: what is checked when it is made, and what only when an item starts."""

import re
from typing import Any, Literal, NamedTuple

from agentloop.emulator.answers import invalid, too_large
from agentloop.types.base import Json

MAX_ITEMS = 100_000
CUSTOM_ID = r"^[a-zA-Z0-9_-]{1,64}$"

_CUSTOM_ID = re.compile(CUSTOM_ID)
_FORBIDDEN = ("speed", "store", "thread", "previous_thread_event_id", "cache_hint", "context_hint")
_IGNORED = "fallback_credit_token"


Outcome = Literal["succeeded", "errored", "canceled", "expired"]


class Asked(NamedTuple):
    """The requests of a batch."""

    custom_ids: tuple[str, ...]
    params: tuple[Json, ...]


def asked(body: Json) -> Asked:
    """The requests in a body. Raises ApiError where they are not a batch; what they ask is not looked at."""
    for name in body:
        if name != "requests":
            raise invalid(f"{name}: Extra inputs are not permitted")
    items = body.get("requests")
    if not isinstance(items, list):
        raise invalid("requests: Field required" if items is None else "requests: Input should be a valid list")
    if not items:
        raise invalid("requests: List should have at least 1 item after validation, not 0")
    if len(items) > MAX_ITEMS:
        raise too_large(f"A batch may hold at most {MAX_ITEMS:,} requests; found {len(items):,}")
    custom_ids = tuple(_custom_id(item, i) for i, item in enumerate(items))
    if len(set(custom_ids)) < len(custom_ids):
        raise invalid(f"requests: custom_id must be unique within a batch; '{_twice(custom_ids)}' is not")
    return Asked(custom_ids, tuple(item["params"] for item in items))


def _custom_id(item: Any, i: int) -> str:
    if not isinstance(item, dict):
        raise invalid(f"requests.{i}: Input should be a valid dictionary")
    for name in ("custom_id", "params"):
        if name not in item:
            raise invalid(f"requests.{i}.{name}: Field required")
    for name in item:
        if name not in ("custom_id", "params"):
            raise invalid(f"requests.{i}.{name}: Extra inputs are not permitted")
    custom_id = item["custom_id"]
    if not isinstance(custom_id, str):
        raise invalid(f"requests.{i}.custom_id: Input should be a valid string")
    if not _CUSTOM_ID.fullmatch(custom_id):
        raise invalid(f"requests.{i}.custom_id: String should match pattern '{CUSTOM_ID}'")
    if not isinstance(item["params"], dict):
        raise invalid(f"requests.{i}.params: Input should be a valid dictionary")
    return custom_id


def _twice(custom_ids: tuple[str, ...]) -> str:
    seen: set[str] = set()
    return next(c for c in custom_ids if c in seen or seen.add(c))  # type: ignore[func-returns-value]


def checked(params: Json) -> Json:
    """The params of an item as a Messages request. Raises ApiError for what has no place in a batch."""
    for name in _FORBIDDEN:
        if params.get(name) is not None:
            raise invalid(f"{name}: not supported in batch requests")
    if params.get("stream"):
        raise invalid("stream: streaming is not supported in batch requests")
    if params.get("max_tokens") == 0:
        raise invalid("max_tokens: must be greater than 0 in batch requests")
    policy = params.get("billing_policy")
    if isinstance(policy, dict) and policy.get("bill_to") == "user_profile":
        raise invalid("billing_policy.bill_to: 'user_profile' is not supported in batch requests")
    return {k: v for k, v in params.items() if k != _IGNORED}
