"""What every frozen value is built from, and the one way JSON is written."""

import json
import math
from typing import Any

from pydantic import BaseModel, ConfigDict

DEEPEST = 100
"""How deep JSON of others may be nested: what is deeper, other readers of a log refuse."""

Json = dict[str, Any]
"""A JSON object as it was received: key order kept, never edited in place."""


class Frozen(BaseModel):
    """A value that can be written to a log. Fields a newer version added are ignored when read."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Settings(BaseModel):
    """A value that a person wrote. A key that is not known is refused, not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def compact(value: Any) -> bytes:
    """JSON as UTF-8 bytes: no spaces, keys in their own order, the same bytes in every process.

    Raises ValueError for NaN and infinities, UnicodeEncodeError for a lone surrogate (see `plain`).
    """
    return _ENCODER.encode(value).encode("utf-8")


def parsed(text: str) -> Any:
    """The value of a JSON text. Raises ValueError for what `compact` could not write again: NaN, infinities; and for
    what is nested too deep."""
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError as e:
        raise ValueError("JSON that is nested too deep") from e
    if text.count("{") + text.count("[") > DEEPEST and _depth(value) > DEEPEST:
        raise ValueError(f"JSON that is nested more than {DEEPEST} deep")
    return value


def _depth(value: Any) -> int:
    """How deep a value is nested, without recursion."""
    depth, level = 0, [value]
    while level:
        depth += 1
        inner = [v for v in level if isinstance(v, dict | list)]
        level = [w for v in inner for w in (v.values() if isinstance(v, dict) else v)]
    return depth


def _finite(written: str) -> float:
    value = float(written)
    if not math.isfinite(value):
        raise ValueError(f"{written} is no JSON number")
    return value


def plain(text: str) -> str:
    """Text that UTF-8, JSON and a terminal agree about: no lone surrogates, no NUL, `\\n` line ends."""
    text = text.replace("\r\n", "\n").replace("\x00", "\ufffd")
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text


def plain_json(value: Any) -> Any:
    """The same JSON value with every string made `plain`."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain(k): plain_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(v) for v in value]
    return value
