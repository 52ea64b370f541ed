"""The results of a batch that has ended: downloaded whole or not at all, then written down item by item, each once."""

from collections.abc import Iterator
from typing import Protocol

from agentloop.batch_calls import Standing
from agentloop.batch_life import Limits, Matching, parted
from agentloop.batching import items
from agentloop.batching.events import BatchBody, ItemResult, PartEnded, Received
from agentloop.batching.means import Means
from agentloop.batching.results import item_result
from agentloop.batching.state import BatchState, Key
from agentloop.crash_points import reached
from agentloop.types.base import Json

RESULTS_AT_ONCE = Limits(items=500, bytes=8 * 1024 * 1024)
"""Results of one line of the log, and what they may come to: however long they are, the line can be read back."""


class Run(Protocol):
    """The run that the results are for."""

    state: BatchState

    def write(self, body: BatchBody) -> None: ...  # noqa: D102


def receive(run: Run, means: Means, key: Key, standing: Standing) -> None:
    """Write down what came of every item of a batch. Raises BatchCallFailed; then nothing of this download is written."""
    matching, written = _matching(run.state, key), _written(run.state, key)
    ask = run.state.prepared.ask

    def items_of(lines: Iterator[Json]) -> Iterator[tuple[ItemResult, int]]:
        for line in lines:
            row = matching.key(line)
            if row is not None and row not in written:
                item = item_result(row, means.cleaned(line.get("result")), ask.card, means.card_of, means.check)
                yield item, _chars(item)

    with means.batches.results(standing) as lines:
        reached("batch.downloaded")
        for some in parted(items_of(lines), RESULTS_AT_ONCE):
            run.write(Received(round=key[0], items=some))
            reached("batch.half_received")
    reached("batch.received")
    odd = {"unknown": matching.unknown, "twice": matching.twice, "missing": len(matching.missing)}
    run.write(PartEnded(round=key[0], part=key[1], counts=dict(standing.counts), **odd))


def _matching(state: BatchState, key: Key) -> Matching[int]:
    """The rows of a batch by the custom ids that they were given."""

    def row_of(custom_id: str) -> int | None:
        told = items.item_id(state.prepared.marker, custom_id)
        return told.row if told is not None and (told.round, told.part) == key else None

    return Matching(state.parts[key].rows, row_of)


def _written(state: BatchState, key: Key) -> frozenset[int]:
    """The rows whose results of this batch were written down before a crash."""
    return frozenset(r for r in state.parts[key].rows if r in state.items and state.items[r].round >= key[0])


def _chars(item: ItemResult) -> int:
    """About how long a result is in the log."""
    content = item.reply.content if item.reply is not None else ()
    return len(item.why) + sum(len(str(value)) for block in content for value in block.values())
