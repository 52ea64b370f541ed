"""Rate limits: buckets that fill up evenly, the headers that tell of them, and the refusal when one is empty.

https://platform.claude.com/docs/en/api/rate-limits
"""

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from agentloop.emulator.answers import ApiError
from agentloop.emulator.settings import RateLimits
from agentloop.types.base import Json

MINUTE_S = 60.0


@dataclass
class _Bucket:
    limit: int
    level: float
    at: float

    def filled(self, at: float) -> None:
        self.level = min(self.limit, self.level + max(0.0, at - self.at) * self.limit / MINUTE_S)
        self.at = max(self.at, at)

    def seconds_to(self, level: float) -> float:
        return max(0.0, level - self.level) * MINUTE_S / self.limit


_Buckets = Mapping[str, _Bucket]


class Limits:
    """What is left of an organisation's limits, for each model. Thread-safe.

    A request is let in while there is something in each of its buckets, and takes what it has used: that is known only
    afterwards, so a bucket can be overdrawn by one request.
    """

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._buckets: dict[str, _Buckets] = {}

    def admit(self, name: str, at: float) -> None:
        """Take one request. Raises ApiError 429, with the seconds to wait, where a bucket is empty."""
        with self._lock:
            buckets = self._filled(name, at)
            empty = {kind: bucket for kind, bucket in buckets.items() if bucket.level < 1}
            if empty:
                raise self._exceeded(buckets, empty, at)
            buckets["requests"].level -= 1

    def use(self, name: str, usage: Json, at: float) -> None:
        """Take the tokens that a request has used, a summary's too; what it read from the cache is not counted."""
        runs = usage.get("iterations") or [usage]
        with self._lock:
            buckets = self._filled(name, at)
            buckets["input-tokens"].level -= sum(r["input_tokens"] + r["cache_creation_input_tokens"] for r in runs)
            buckets["output-tokens"].level -= sum(r["output_tokens"] for r in runs)

    def headers(self, name: str, at: float) -> dict[str, str]:
        """What is left, as the API tells it."""
        with self._lock:
            return _headers(self._filled(name, at), at)

    def _filled(self, name: str, at: float) -> _Buckets:
        if name not in self._buckets:
            self._buckets[name] = self._full(name, at)
        buckets = self._buckets[name]
        for bucket in buckets.values():
            bucket.filled(at)
        return buckets

    def _full(self, name: str, at: float) -> _Buckets:
        limits = self._limits
        if name == COUNTING:
            return {"requests": _Bucket(limits.counts_per_minute, limits.counts_per_minute, at)}
        sizes = {"requests": limits.requests_per_minute}
        if name != BATCHING:
            sizes |= {"input-tokens": limits.input_tokens_per_minute, "output-tokens": limits.output_tokens_per_minute}
        return {kind: _Bucket(size, size, at) for kind, size in sizes.items()}

    def _exceeded(self, buckets: _Buckets, empty: _Buckets, at: float) -> ApiError:
        kind, bucket = next(iter(empty.items()))
        wait = max(math.ceil(b.seconds_to(1)) for b in empty.values())
        return ApiError(
            429,
            "rate_limit_error",
            "This request would exceed your organization's rate limit "
            f"of {bucket.limit:,} {kind.replace('-', ' ')} per minute.",
            headers={"retry-after": str(max(1, wait)), **_headers(buckets, at)},
        )


COUNTING = "count_tokens"
BATCHING = "batches"
"""Endpoints with limits of their own; the other names are models."""


def _headers(buckets: _Buckets, at: float) -> dict[str, str]:
    told = {kind: (b.limit, b.level, b.seconds_to(b.limit)) for kind, b in buckets.items()}
    if "input-tokens" in told:
        put_in, put_out = told["input-tokens"], told["output-tokens"]
        told["tokens"] = (put_in[0] + put_out[0], max(0, put_in[1]) + max(0, put_out[1]), max(put_in[2], put_out[2]))
    return {
        f"anthropic-ratelimit-{kind}-{name}": value
        for kind, (limit, level, wait) in told.items()
        for name, value in (("limit", str(limit)), ("remaining", str(max(0, int(level)))), ("reset", _time(at + wait)))
    }


def _time(at: float) -> str:
    return _written(math.ceil(at))


@lru_cache(maxsize=256)
def _written(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
