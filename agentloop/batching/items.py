"""What a row becomes: a custom id by which its result is known, the request, and the batch that it travels in."""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

from agentloop.batch_calls import MAX_BYTES, MAX_ITEMS, request_line
from agentloop.batching import rows
from agentloop.batching.events import Ask
from agentloop.batching.state import BatchState, Key
from agentloop.core import costs
from agentloop.core.tokens import estimate, json_tokens
from agentloop.errors import UsageError
from agentloop.types.base import Json

_CUSTOM_ID = re.compile(r"([a-z0-9]{4,24})-(\d{1,6})-(\d{1,6})-(\d{1,9})")
_AROUND = len(b'{"requests":[]}')


class Limits(NamedTuple):
    """How much one batch may hold."""

    items: int = MAX_ITEMS
    bytes: int = MAX_BYTES


class ItemId(NamedTuple):
    """What a custom id says."""

    round: int
    part: int
    row: int


def custom_id(marker: str, round: int, part: int, row: int) -> str:
    """The id of an item: letters, digits and hyphens, at most 64, whatever the row holds."""
    return f"{marker}-{round}-{part}-{row}"


def item_id(marker: str, custom_id: str) -> ItemId | None:
    """Which item a custom id names; None for one that this run never gave."""
    found = _CUSTOM_ID.fullmatch(custom_id)
    return ItemId(int(found[2]), int(found[3]), int(found[4])) if found is not None and found[1] == marker else None


def params(ask: Ask, row: Json, wrong: str = "") -> Json:
    """The Messages request of one row; `wrong` says why its last answer could not be used."""
    prompt = rows.rendered(ask.template, row)
    if wrong:
        prompt += f"\n\nAn earlier answer to this could not be used: {wrong}\nAnswer again so that it fits."
    made: Json = {"model": ask.card.id, "max_tokens": ask.max_tokens}
    if config := _output_config(ask):
        made["output_config"] = config
    if ask.system:
        made["system"] = [_system(ask)]
    return {**made, "messages": [{"role": "user", "content": prompt}]}


def _output_config(ask: Ask) -> Json:
    effort: Json = {"effort": ask.effort} if ask.effort else {}
    return effort | ({"format": {"type": "json_schema", "schema": ask.wire_schema}} if ask.wire_schema else {})


def _system(ask: Ask) -> Json:
    block: Json = {"type": "text", "text": ask.system}
    if ask.system_ttl is None:
        return block
    mark = {"type": "ephemeral"} if ask.system_ttl == "5m" else {"type": "ephemeral", "ttl": ask.system_ttl}
    return {**block, "cache_control": mark}


def params_of(state: BatchState, row: int) -> Json:
    """The request of a row, as the round that is under way asks it."""
    before = state.items.get(row)
    wrong = before.result.why if before is not None and before.result.verdict == "invalid" else ""
    return params(state.prepared.ask, state.rows[row], wrong)


def lines(state: BatchState, key: Key) -> list[bytes]:
    """The requests of a batch, as they stand in its body."""
    marker = state.prepared.marker
    return [request_line(custom_id(marker, *key, row), params_of(state, row)) for row in state.parts[key].rows]


def split(state: BatchState, round: int, asked: Sequence[int], limits: Limits) -> tuple[tuple[int, ...], ...]:
    """Rows in batches that the API takes, in their order. Raises UsageError for a row that fits into none."""
    parts: list[list[int]] = []
    size = limits.bytes + 1
    for row in asked:
        # The longest part number that there can be stands in for the one that is not known yet.
        line = len(request_line(custom_id(state.prepared.marker, round, len(asked), row), params_of(state, row))) + 1
        if line + _AROUND > limits.bytes:
            raise UsageError(f"row {row + 1} is a request of {line:,} bytes; a batch takes {limits.bytes:,}: shorten it")
        if size + line > limits.bytes or len(parts[-1]) >= limits.items:
            parts.append([])
            size = _AROUND
        parts[-1].append(row)
        size += line
    return tuple(map(tuple, parts))


def most_usd(ask: Ask, requests: Iterable[Json], live: bool = False) -> Decimal:
    """The most that requests can cost (USD): all input written to the cache, all output used; in a batch, half of it."""
    family = ask.card.tokenizer
    around = json_tokens(_output_config(ask), family) + estimate(ask.system, family) + 16
    prompts = (estimate(r["messages"][0]["content"], family) + around for r in requests)
    most = sum((costs.worst_case(ask.card, tokens, ask.max_tokens) for tokens in prompts), Decimal(0))
    return most if live else most * costs.BATCH
