"""Which models the emulator knows, and what `/v1/models` says of them."""

from collections.abc import Mapping
from typing import Protocol

from agentloop.emulator.answers import ApiError, invalid
from agentloop.types.base import Json
from agentloop.types.usage import ModelCard, ModelTraits

DEFAULT_LIMIT = 20
MAX_LIMIT = 1_000
_LINES = ("haiku", "sonnet", "opus", "fable", "mythos")
_UNKNOWN_DAY = "1970-01-01"
"""The API gives the epoch where it does not know a release date."""


class ModelRow(Protocol):
    """One row of a table of models."""

    @property
    def card(self) -> ModelCard:
        """What the model costs and holds."""
        ...

    @property
    def traits(self) -> ModelTraits:
        """What the model accepts."""
        ...


def row(name: str, models: Mapping[str, ModelRow]) -> ModelRow:
    """The model that a request names. Raises ApiError 404 for one that is unknown or retired."""
    found = models.get(name)
    if found is None or found.traits.status == "retired":
        raise ApiError(404, "not_found_error", f"model: {name}")
    return found


def info(name: str, models: Mapping[str, ModelRow]) -> Json:
    """One model, retired ones too. Raises ApiError 404 for an unknown one."""
    if name not in models:
        raise ApiError(404, "not_found_error", f"model: {name}")
    return _info(models[name])


def page(models: Mapping[str, ModelRow], query: Mapping[str, str]) -> Json:
    """One page of the list, the newest model first."""
    rows = {r.card.id: r for r in models.values()}
    ids = sorted(rows, key=lambda i: rows[i].traits.released or _UNKNOWN_DAY, reverse=True)
    before, after = _position(ids, query, "before_id", len(ids)), _position(ids, query, "after_id", -1)
    within = ids[after + 1 : before]
    limit = _limit(query)
    shown = within[-limit:] if "before_id" in query else within[:limit]
    return {
        "data": [_info(rows[i]) for i in shown],
        "first_id": shown[0] if shown else None,
        "last_id": shown[-1] if shown else None,
        "has_more": len(within) > len(shown),
    }


def _position(ids: list[str], query: Mapping[str, str], name: str, otherwise: int) -> int:
    if name not in query:
        return otherwise
    if query[name] not in ids:
        raise invalid(f"{name}: no model has the id '{query[name]}'")
    return ids.index(query[name])


def _limit(query: Mapping[str, str]) -> int:
    value = query.get("limit", str(DEFAULT_LIMIT))
    if not value.isdecimal() or not 1 <= int(value) <= MAX_LIMIT:
        raise invalid(f"limit: Input should be between 1 and {MAX_LIMIT}")
    return int(value)


def _info(model: ModelRow) -> Json:
    card, traits = model.card, model.traits
    return {
        "type": "model",
        "id": card.id,
        "display_name": traits.display_name,
        "created_at": _midnight(traits.released or _UNKNOWN_DAY),
        "lifecycle": traits.status if traits.status in ("deprecated", "retired") else "active",
        "line": next((line for line in _LINES if f"-{line}-" in f"{card.id}-"), None),
        "max_input_tokens": card.context_window,
        "max_tokens": card.max_output_tokens,
        "retires_at": _midnight(traits.retirement_date) if traits.retirement_date else None,
    }


def _midnight(day: str) -> str:
    return f"{day}T00:00:00Z"
