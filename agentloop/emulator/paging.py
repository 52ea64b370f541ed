"""One page of a list, as the API cuts it."""

import re
from collections.abc import Mapping, Sequence

from agentloop.emulator.answers import invalid
from agentloop.types.base import Json

DEFAULT_LIMIT = 20
MAX_LIMIT = 1_000

_NUMBER = re.compile(r"[0-9]{1,9}")


def page(ids: Sequence[str], query: Mapping[str, str], kind: str) -> tuple[Sequence[str], Json]:
    """The ids on the page that a query asks for, and what frames it. Raises ApiError for a cursor that is none."""
    before, after = _position(ids, query, "before_id", len(ids), kind), _position(ids, query, "after_id", -1, kind)
    within = ids[after + 1 : before]
    limit = _limit(query)
    shown = within[-limit:] if "before_id" in query else within[:limit]
    return shown, {
        "first_id": shown[0] if shown else None,
        "last_id": shown[-1] if shown else None,
        "has_more": len(within) > len(shown),
    }


def _position(ids: Sequence[str], query: Mapping[str, str], name: str, otherwise: int, kind: str) -> int:
    if name not in query:
        return otherwise
    if query[name] not in ids:
        raise invalid(f"{name}: no {kind} has the id '{query[name]}'")
    return ids.index(query[name])


def _limit(query: Mapping[str, str]) -> int:
    value = query.get("limit", str(DEFAULT_LIMIT))
    if not _NUMBER.fullmatch(value) or not 1 <= int(value) <= MAX_LIMIT:
        raise invalid(f"limit: Input should be between 1 and {MAX_LIMIT}")
    return int(value)
