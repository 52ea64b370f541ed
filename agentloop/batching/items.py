"""What a row becomes: a custom id by which its result is known, the request, and the batch that it travels in."""

import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

from agentloop.batch_calls import AROUND, request_line
from agentloop.batch_life import Limits, parted
from agentloop.batching import rows
from agentloop.batching.events import Ask
from agentloop.batching.state import BatchState, Key
from agentloop.core import costs
from agentloop.core.tokens import estimate, json_tokens
from agentloop.errors import UsageError
from agentloop.types.base import Json

_CUSTOM_ID = re.compile(r"([a-z0-9]{4,24})-(\d{1,6})-(\d{1,6})-(\d{1,9})")


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


Given = tuple[int, Json]
"""The number of a row, and its fields."""


def params_of(state: BatchState, given: Given) -> Json:
    """The request of a row, as the round that is under way asks it."""
    row, fields = given
    before = state.items.get(row)
    wrong = before.why if before is not None and before.verdict == "invalid" else ""
    return params(state.prepared.ask, fields, wrong)


def requests(state: BatchState, key: Key, given: Iterable[Given]) -> Iterator[tuple[str, Json]]:
    """The custom ids and requests of a batch whose rows these are."""
    return ((custom_id(state.prepared.marker, *key, one[0]), params_of(state, one)) for one in given)


def split(state: BatchState, round: int, asked: int, given: Iterable[Given], limits: Limits) -> tuple[tuple[int, ...], ...]:
    """So many rows in batches that the API takes, in their order. Raises UsageError for a row that fits into none."""
    # The longest part number that there can be stands in for the one that is not known yet.
    named = ((one, custom_id(state.prepared.marker, round, asked, one[0])) for one in given)
    sized = ((one[0], len(request_line(name, params_of(state, one)))) for one, name in named)
    return tuple(parted(_fitting(sized, limits), limits))


def _fitting(sized: Iterable[tuple[int, int]], limits: Limits) -> Iterator[tuple[int, int]]:
    for row, line in sized:
        if line + AROUND > limits.bytes:
            raise UsageError(f"row {row + 1} is a request of {line:,} bytes; a batch takes {limits.bytes:,}: shorten it")
        yield row, line


def most_usd(ask: Ask) -> Callable[[Json], Decimal]:
    """The most that each request can cost live (USD): all input written to the cache, all output used."""
    family = ask.card.tokenizer
    around = json_tokens(_output_config(ask), family) + estimate(ask.system, family) + 16

    def most(request: Json) -> Decimal:
        tokens = estimate(request["messages"][0]["content"], family) + around
        return costs.worst_case(ask.card, tokens, ask.max_tokens)

    return most
