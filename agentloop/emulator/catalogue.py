"""Which models the emulator knows, and what `/v1/models` says of them."""

from collections.abc import Mapping
from datetime import date
from typing import Protocol

from agentloop.emulator import paging
from agentloop.emulator.answers import ApiError
from agentloop.emulator.capabilities import capabilities
from agentloop.emulator.settings import EmulatorSettings
from agentloop.types.base import Json
from agentloop.types.usage import ModelCard, ModelTraits

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

    def card_on(self, day: date) -> ModelCard:
        """The card with the prices of that day."""
        ...


def row(name: str, models: Mapping[str, ModelRow]) -> ModelRow:
    """The model that a request names. Raises ApiError 404 for one that is unknown or retired."""
    found = models.get(name)
    if found is None or found.traits.status == "retired":
        raise ApiError(404, "not_found_error", f"model: {name}")
    return found


def info(name: str, models: Mapping[str, ModelRow], settings: EmulatorSettings) -> Json:
    """One model, retired ones too. Raises ApiError 404 for an unknown one."""
    if name not in models:
        raise ApiError(404, "not_found_error", f"model: {name}")
    return _info(models[name], settings)


def page(models: Mapping[str, ModelRow], query: Mapping[str, str], settings: EmulatorSettings) -> Json:
    """One page of the list, the newest model first."""
    rows = {r.card.id: r for r in models.values()}
    ids = sorted(rows, key=lambda i: rows[i].traits.released or _UNKNOWN_DAY, reverse=True)
    shown, frame = paging.page(ids, query, "model")
    return {"data": [_info(rows[i], settings) for i in shown], **frame}


def _info(model: ModelRow, settings: EmulatorSettings) -> Json:
    card, traits = model.card, model.traits
    return {
        "type": "model",
        "id": card.id,
        "display_name": traits.display_name,
        "capabilities": capabilities(card, traits, settings.compacts_on_demand),
        "created_at": _midnight(traits.released or _UNKNOWN_DAY),
        "lifecycle": traits.status if traits.status in ("deprecated", "retired") else "active",
        "line": next((line for line in _LINES if f"-{line}-" in f"{card.id}-"), None),
        "max_input_tokens": card.context_window,
        "max_tokens": card.max_output_tokens,
        "retires_at": _midnight(traits.retirement_date) if traits.retirement_date else None,
    }


def _midnight(day: str) -> str:
    return f"{day}T00:00:00Z"
