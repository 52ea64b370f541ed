"""Which models there are, what they cost and what they accept: the dated table of the package, or one of your own."""

import difflib
import json
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from agentloop.errors import ConfigError, UnknownModel
from agentloop.types.usage import ModelCard, ModelTraits, Prices

ASSUMED_MINIMUM_TOKENS = 512
"""Cacheable length of models whose documentation names none: Fable 5.2 and Mythos 5.2, unverified."""

PACKAGED = Path(__file__).parent.parent / "data" / "models.json"


class Model(NamedTuple):
    """One row of the table."""

    card: ModelCard
    traits: ModelTraits
    earlier_prices: tuple[tuple[date, tuple[Prices, ...]], ...]
    """Prices that ended on a day, oldest first."""

    def card_on(self, day: date) -> ModelCard:
        """The card with the prices of that day."""
        for until, prices in self.earlier_prices:
            if day < until:
                return self.card.model_copy(update={"prices": prices})
        return self.card


def models(path: Path = PACKAGED) -> dict[str, Model]:
    """The table by model id, aliases too. Raises ConfigError where the file is not one."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
        rows = {name: _model(name, data["as_of"], entry) for name, entry in data["models"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise ConfigError(f"price table {path} cannot be read ({type(e).__name__}); see docs/prices.md for its shape") from e
    return rows | {alias: row for row in rows.values() for alias in row.traits.aliases}


def chosen(price_table: str | None) -> dict[str, Model]:
    """The table that the setting of that name says; the package's own where it says none. Raises ConfigError."""
    return models(Path(price_table) if price_table else PACKAGED)


def cards(table: Mapping[str, Model]) -> Callable[[str], ModelCard | None]:
    """What finds the card of a model; None for one that is not in the table."""
    return lambda name: table[name].card if name in table else None


def find(name: str, table: Mapping[str, Model]) -> Model:
    """The model of that name. Raises UnknownModel, naming the nearest."""
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else "'agentloop doctor' lists the models"
    raise UnknownModel(f"unknown model '{name}': it is not in the price table; {hint}")


def _model(name: str, as_of: str, entry: dict[str, Any]) -> Model:
    thinking = entry["thinking"]
    prices = tuple(Prices(**tier) for tier in entry["prices"]["standard"])
    card = ModelCard(
        id=name,
        prices=prices,
        prices_as_of=as_of,
        tokenizer=entry["tokenizer"],
        min_cacheable_tokens=entry["min_cacheable_tokens"] or ASSUMED_MINIMUM_TOKENS,
        context_window=entry["context_window"],
        max_output_tokens=entry["max_output_tokens"] or 8_192,
        tool_system_tokens=entry["tool_use_system_prompt_tokens"]["auto_or_none"] or 0,
        forced_tool_system_tokens=entry["tool_use_system_prompt_tokens"]["any_or_tool"],
        fast_prices=_fast(entry["prices"]),
        geo_multiplier=_decimal(entry.get("inference_geo_us_multiplier")),
        default_effort=entry["default_effort"],
        keeps_earlier_thinking=thinking["earlier_thinking_kept_in_context"],
        thinks_by_default=str(thinking["default"] or "").startswith("adaptive"),
        checks_thinking_prefix=thinking["prefix_check"] is not None,
    )
    traits = ModelTraits(
        display_name=entry["display_name"],
        status=entry["status"],
        aliases=tuple(entry["aliases"]),
        released=entry["released"],
        retirement_date=entry["retirement_date"],
        thinking_types=tuple(thinking["accepted_types"] or ()),
        thinking_default=thinking["default"],
        keeps_earlier_thinking=thinking["earlier_thinking_kept_in_context"],
        prefix_check=thinking["prefix_check"],
        default_effort=entry["default_effort"],
        forced_tool_choice=entry["forced_tool_choice_supported"],
        assistant_prefill=entry["assistant_prefill_supported"],
        sampling_params=entry["sampling_params_supported"],
        system_messages=entry["mid_conversation_system_messages"],
        compacts_on_demand=entry["compaction_on_demand"],
        batch_output_tokens=entry.get("max_output_tokens_batch_beta"),
    )
    earlier = tuple(
        (date.fromisoformat(e["until"]), tuple(p.model_copy(update=_decimals(e["changes"])) for p in prices))
        for e in entry["earlier_prices"]
    )
    return Model(card, traits, earlier)


def _fast(prices: Mapping[str, Any]) -> tuple[Prices, ...]:
    fast = prices.get("fast")
    return (Prices(**fast),) if fast else ()


def _decimal(value: Any) -> Decimal | None:
    return None if value is None else Decimal(value)


def _decimals(changes: Mapping[str, str]) -> dict[str, Decimal]:
    return {k: Decimal(v) for k, v in changes.items()}
