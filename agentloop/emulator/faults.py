"""Which fault hits which request: by a script, or by chance that a seed decides. Pure; what a fault does says `breaking`.

    seed: 7
    faults:
      - request 3: 529
      - {request: 5, fault: 429, retry_after_s: 2}
      - {requests: [7, 8], fault: reset}
      - {share: 0.01, fault: stall, seconds: 30}
      - {endpoint: batches, request: 1, fault: 500}

Requests are counted from 1 for each endpoint, in the order in which they arrive, those that a fault hits too.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from agentloop.emulator import written
from agentloop.errors import ConfigError
from agentloop.types.base import Settings

Endpoint = Literal["messages", "count_tokens", "batches", "models"]
Refusal = Literal[
    "400", "401", "402", "403", "404", "408", "409", "413", "422", "429", "500", "503", "504", "529",
    "spend_limit", "own_spend_limit",
]  # fmt: skip
"""The API answers with an error: nothing is run, written to the cache or billed."""
Outage = Literal["reset", "html"]
"""No answer of the API arrives, and none was made."""
Interruption = Literal[
    "slow_first_byte", "stall", "reset_mid_stream", "error_event", "cut_stream", "cut_in_tool_call",
    "unknown_event", "second_message_delta",
]  # fmt: skip
"""The answer is made and billed; something happens on its way."""
Distortion = Literal[
    "duplicate_tool_ids", "empty_end_turn", "refusal_before_output", "refusal_after_output", "pause_turn",
    "max_tokens_in_tool_call", "unknown_stop_reason", "unknown_block",
]  # fmt: skip
"""The model answers something that a client must be able to take."""
Kind = Refusal | Outage | Interruption | Distortion

REFUSALS: frozenset[str] = frozenset(get_args(Refusal))
OUTAGES: frozenset[str] = frozenset(get_args(Outage))
INTERRUPTIONS: frozenset[str] = frozenset(get_args(Interruption))
DISTORTIONS: frozenset[str] = frozenset(get_args(Distortion))
KINDS = REFUSALS | OUTAGES | INTERRUPTIONS | DISTORTIONS

_SHORT = re.compile(r"request (\d+)")


class Fault(Settings):
    """One fault, with what there is to choose about it."""

    fault: str
    retry_after_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Sent as `retry-after`."""
    retry_after_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Sent as `retry-after-ms`."""
    should_retry: bool | None = None
    """Sent as `x-should-retry`."""
    seconds: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    """How long a slow first byte or a stall lasts."""
    error_type: str = "overloaded_error"
    """The type in an error event."""
    category: str | None = None
    """What a refusal is about."""
    after: float = Field(default=0.5, ge=0, le=1)
    """How much of a stream arrives before it breaks."""

    @field_validator("fault", mode="before")
    @classmethod
    def _is_known(cls, kind: object) -> str:
        if str(kind) not in KINDS:
            raise ValueError(f"expected one of {', '.join(sorted(KINDS))}, found '{kind}'")
        return str(kind)


class Rule(Fault):
    """A fault and the requests that it hits."""

    endpoint: Endpoint = "messages"
    request: int | None = Field(default=None, ge=1)
    requests: tuple[int, ...] = ()
    share: float = Field(default=0.0, ge=0, le=1)
    """The probability that it hits a request."""
    model: str | None = None
    """Only requests that ask this model are hit; all of them, where neither numbers nor a share are given."""

    @model_validator(mode="after")
    def _hits_something(self) -> "Rule":
        if self.request is None and not self.requests and not self.share and self.model is None:
            raise ValueError("expected 'request', 'requests', 'share' or 'model': which requests does the fault hit?")
        if self.model is not None and self.endpoint != "messages":
            raise ValueError(f"'model' is for requests to messages; found the endpoint '{self.endpoint}'")
        if self.endpoint != "messages" and self.fault in INTERRUPTIONS | DISTORTIONS:
            raise ValueError(f"'{self.fault}' is a fault of a message; the endpoint '{self.endpoint}' answers with none")
        return self

    def hits(self, number: int) -> bool:
        """Whether this request is named."""
        if self.request is None and not self.requests:
            return self.model is not None and not self.share
        return number == self.request or number in self.requests


class _File(Settings):
    seed: int = 0
    faults: tuple[Rule, ...]

    @field_validator("faults", mode="before")
    @classmethod
    def _are_written_out(cls, rules: object) -> object:
        return [_written_out(r) for r in rules] if isinstance(rules, list) else rules


@dataclass(frozen=True)
class Faults:
    """A plan of faults: the same requests are hit by the same faults, every time."""

    rules: Sequence[Rule] = ()
    seed: int = 0

    @classmethod
    def of(cls, *rules: dict[str, Any], seed: int = 0) -> "Faults":
        """The plan of rules as they stand in a file. Raises ConfigError."""
        return cls.from_data({"seed": seed, "faults": list(rules)})

    @classmethod
    def load(cls, path: Path | str) -> "Faults":
        """The plan in a YAML or JSON file. Raises ConfigError, naming file and rule."""
        source = f"faults {path}"
        return cls.from_data(written.data_of(path, source), source)

    @classmethod
    def from_data(cls, data: object, source: str = "faults") -> "Faults":
        """The plan that this data describes. Raises ConfigError, naming source and rule."""
        try:
            file = _File.model_validate({"faults": data} if isinstance(data, list) else data)
        except ValidationError as e:
            fault = e.errors(include_url=False)[0]
            where = ", ".join(w for w in (source, ".".join(str(p) for p in fault["loc"])) if w)
            raise ConfigError(f"{where}: {fault['msg'].removeprefix('Value error, ')}") from e
        return cls(file.faults, file.seed)

    @property
    def ask_for_models(self) -> bool:
        """Whether it matters which model a request asks."""
        return any(r.model is not None for r in self.rules)

    def at(self, endpoint: str, number: int, model: str | None = None) -> Fault | None:
        """The fault that hits the request of this number, to this model: one that names it, else one that chance brings."""
        rules = [r for r in self.rules if r.endpoint == endpoint and r.model in (None, model)]
        if not rules:
            return None
        if (named := next((r for r in rules if r.hits(number)), None)) is not None:
            return named
        drawn = chance(self.seed, f"{endpoint} {number}")
        for rule in rules:
            if drawn < rule.share:
                return rule
            drawn -= rule.share
        return None


def chance(seed: int, what: str) -> float:
    """A number from 0 to 1 that looks like chance, and is the same for the same seed and words."""
    digest = hashlib.blake2b(f"{seed} {what}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _written_out(rule: object) -> object:
    """`request 3: 529` in full."""
    if isinstance(rule, dict) and len(rule) == 1:
        [(key, value)] = rule.items()
        if (short := _SHORT.fullmatch(str(key))) is not None:
            return {"request": int(short[1]), "fault": value}
    return rule
