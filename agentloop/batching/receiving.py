"""The results of a batch that has ended: downloaded whole or not at all, then written down item by item, each once."""

import json
from collections.abc import Iterator
from contextlib import closing
from tempfile import TemporaryFile
from typing import IO, Protocol

from agentloop.batch_calls import BatchCallFailed, Standing
from agentloop.batching import items
from agentloop.batching.events import BatchBody, ItemResult, PartEnded, Received
from agentloop.batching.means import Means
from agentloop.batching.results import item_result
from agentloop.batching.state import BatchState, Key
from agentloop.crash_points import reached
from agentloop.types.base import Json, compact

RESULTS_AT_ONCE = 500
"""Results of one line of the log."""
LONGEST_CUSTOM_ID = 64


class Run(Protocol):
    """The run that the results are for."""

    state: BatchState

    def write(self, body: BatchBody) -> None: ...  # noqa: D102


def receive(run: Run, means: Means, key: Key, standing: Standing) -> None:
    """Write down what came of every item of a batch. Raises BatchCallFailed; then nothing of this download is written."""
    with TemporaryFile() as file:
        found = _download(file, means, standing)
        reached("batch.downloaded")
        tally = _Tally(run, key)
        waiting: list[ItemResult] = []
        for line in _lines(file):
            if (row := tally.row_of(line)) is None:
                continue
            ask = run.state.prepared.ask
            waiting.append(item_result(row, means.cleaned(line["result"]), ask.card, means.card_of, means.check))
            if len(waiting) >= RESULTS_AT_ONCE:
                _write(run, key, waiting)
                reached("batch.half_received")
        _write(run, key, waiting)
        reached("batch.received")
    counts = dict(standing.counts)
    missing = len(tally.waiting)
    run.write(PartEnded(round=key[0], part=key[1], counts=counts, unknown=tally.unknown, twice=tally.twice, missing=missing))
    assert found >= missing or missing


def _download(file: IO[bytes], means: Means, standing: Standing) -> int:
    """Every line of the results, in the file. One that ends before all items are told is taken for cut, and asked for again;
    if it always ends there, that is all there is."""
    found = -1
    for attempt in range(1, means.patience.downloads + 1):
        file.seek(0)
        file.truncate()
        before, failed = found, None
        try:
            found = _into(file, means, standing.id)
        except BatchCallFailed as e:
            failed = e
        if failed is None and (found >= standing.items or found == before):
            return found
        if failed is not None and (not failed.retry or attempt == means.patience.downloads):
            raise failed
        means.sleep(min(2.0**attempt, means.patience.poll_longest_s))
    raise BatchCallFailed("unavailable", f"the results end after {found:,} of {standing.items:,} items", retry=True)


def _into(file: IO[bytes], means: Means, batch_id: str) -> int:
    found = 0
    with closing(means.api.results(batch_id)) as lines:
        for line in lines:
            file.write(compact(line) + b"\n")
            found += 1
    return found


def _lines(file: IO[bytes]) -> Iterator[Json]:
    file.seek(0)
    return (json.loads(line) for line in file)


def _write(run: Run, key: Key, waiting: list[ItemResult]) -> None:
    if waiting:
        run.write(Received(round=key[0], items=tuple(waiting)))
    waiting.clear()


class _Tally:
    """Whose results have come: matched by custom id, each once."""

    def __init__(self, run: Run, key: Key) -> None:
        self.key, self._marker = key, run.state.prepared.marker
        self.unknown = self.twice = 0
        rows = run.state.parts[key].rows
        self._all = frozenset(rows)
        self._written = {r for r in rows if r in run.state.items and run.state.items[r].round >= key[0]}
        """Written down before a crash."""
        self.waiting = set(rows)

    def row_of(self, line: Json) -> int | None:
        """The row whose result this line brings; None where it brings nothing new."""
        told = items.item_id(self._marker, str(line["custom_id"])[: LONGEST_CUSTOM_ID + 1])
        if told is None or (told.round, told.part) != self.key or told.row not in self._all:
            self.unknown += 1
            return None
        if told.row not in self.waiting:
            self.twice += 1
            return None
        self.waiting.discard(told.row)
        return None if told.row in self._written else told.row
