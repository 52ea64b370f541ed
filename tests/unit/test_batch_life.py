"""The life of one batch: parted, found again, its results taken whole. Laws, held against plain arithmetic."""

import random
from collections import Counter
from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.batch_calls import AROUND, BatchCallFailed, Standing, body_of, request_line
from agentloop.batch_life import Batches, Found, Limits, Matching, Patience, Sent, candidates, parted
from agentloop.types.base import Json

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def standing(id: str, items: int, at: datetime = NOON, status: str = "ended", archived: bool = False) -> Standing:
    return Standing(id, status, at, at + timedelta(days=1), {"succeeded": items}, archived)


class Listed:
    """A `BatchClient` with these batches, the newest first; the results of each name it. Time passes by sleeping."""

    def __init__(self, *batches: Standing) -> None:
        self.batches = list(batches)
        self.at = NOON
        self.looks = 0
        self.cuts: list[int] = []
        """After so many lines the next downloads end, without a word."""

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    def create(self, body: bytes | IO[bytes]) -> Standing:
        raise AssertionError("nothing is made here")

    def retrieve(self, batch_id: str) -> Standing:
        return next(b for b in self.batches if b.id == batch_id)

    def recent(self) -> Iterator[Standing]:
        self.looks += 1
        return iter(self.batches)

    def results(self, batch_id: str) -> Generator[Json, None, None]:
        items = self.retrieve(batch_id).items
        for i in range(self.cuts.pop(0) if self.cuts else items):
            yield {"custom_id": f"{batch_id}-{i}", "result": {"type": "succeeded"}}

    def cancel(self, batch_id: str) -> Standing:
        return self.retrieve(batch_id)


def life(client: Listed, **patience: float) -> Batches:
    return Batches(client, client.now, client.sleep, Patience(**patience))


@given(sizes=st.lists(st.integers(0, 300), max_size=60), most=st.integers(1, 9), room=st.integers(400, 900))
def test_parts_hold_everything_in_its_order_within_the_limits_and_none_is_begun_too_early(
    sizes: list[int], most: int, room: int
) -> None:
    lines = [request_line(f"r-{i}", {"x": "y" * size}) for i, size in enumerate(sizes)]
    parts = list(parted(((line, len(line)) for line in lines), Limits(most, room)))

    assert [line for part in parts for line in part] == lines
    assert all(part and len(part) <= most and len(body_of(list(part))) <= room for part in parts)
    for part, after in pairwise(parts):
        assert len(part) == most or len(body_of([*part, after[0]])) >= room
    assert len(body_of([])) == AROUND


@given(asked=st.sets(st.integers(0, 40)), came=st.lists(st.integers(0, 60)), seed=st.integers(0, 9))
def test_each_item_is_matched_once_and_the_odd_ones_are_counted(asked: set[int], came: list[int], seed: int) -> None:
    lines = [{"custom_id": f"n{i}"} for i in came] + [{"custom_id": "else"}]
    random.Random(seed).shuffle(lines)
    matching = Matching(asked, lambda custom_id: int(custom_id[1:]) if custom_id[0] == "n" else None)

    keys = [key for line in lines if (key := matching.key(line)) is not None]

    counted = Counter(came)
    assert sorted(keys) == sorted(asked & set(came))
    assert matching.missing == asked - set(came)
    assert matching.twice == sum(counted[i] - 1 for i in asked & set(came))
    assert matching.unknown == sum(n for i, n in counted.items() if i not in asked) + 1


@given(batches=st.lists(st.tuples(st.integers(1, 3), st.integers(-200, 200), st.booleans()), max_size=12))
def test_only_batches_of_the_right_size_and_time_may_be_the_one(batches: list[tuple[int, int, bool]]) -> None:
    newest_first = sorted(batches, key=lambda b: -b[1])
    known = [standing(f"b{i}", n, NOON + timedelta(seconds=s), archived=a) for i, (n, s, a) in enumerate(newest_first)]

    found = candidates(Listed(*known), Sent(NOON, 2, frozenset({"b0"})), timedelta(seconds=60))

    right = (b for b in known if b.items == 2 and b.created_at >= NOON - timedelta(seconds=60))
    assert list(found) == [b for b in right if b.id != "b0" and not b.is_archived]


def test_a_lost_batch_is_known_by_its_results_and_by_nothing_else() -> None:
    client = Listed(standing("theirs", 2), standing("ours", 2), standing("small", 1))

    found = life(client).find(Sent(NOON, 2, frozenset()), lambda custom_id: custom_id.startswith("ours-"))

    assert found == Found(client.batches[1])
    assert client.at == NOON


def test_that_nothing_was_made_is_said_when_it_is_certain_and_not_before() -> None:
    client = Listed(standing("theirs", 2))

    found = life(client, settle_s=60).find(Sent(NOON, 2, frozenset()), lambda custom_id: False)

    assert found == Found()
    assert (client.looks, client.at) == (2, NOON + timedelta(seconds=60))


def test_a_batch_that_goes_on_may_be_the_one_and_is_waited_for_by_whoever_wants_to_know() -> None:
    client = Listed(standing("ours", 2, status="in_progress"))
    sent = Sent(NOON, 2, frozenset())

    def ours(custom_id: str) -> bool:
        return custom_id.startswith("ours-")

    unclear = life(client).find(sent, ours)
    waits = life(client)
    client.sleep = lambda seconds: client.batches.__setitem__(0, standing("ours", 2))  # type: ignore[method-assign]

    assert unclear == Found(None, may_be=True)
    assert Batches(client, client.now, client.sleep).found(sent, ours) == standing("ours", 2)
    assert waits.now() == NOON


def test_results_that_end_too_early_are_fetched_again_and_only_whole_ones_are_given() -> None:
    client = Listed(standing("b", 4))
    client.cuts = [1, 3]

    with life(client).results(client.batches[0]) as lines:
        found = [line["custom_id"] for line in lines]

    assert found == ["b-0", "b-1", "b-2", "b-3"]


def test_results_that_always_end_there_are_all_that_there_is() -> None:
    client = Listed(standing("b", 4))
    client.cuts = [3, 3]

    with life(client).results(client.batches[0]) as lines:
        assert len(list(lines)) == 3


def test_a_batch_that_never_ends_is_not_waited_for_for_ever() -> None:
    client = Listed(standing("b", 1, status="in_progress"))

    with pytest.raises(BatchCallFailed, match="b expired long ago"):
        life(client).ended("b")

    assert client.at - NOON < timedelta(hours=27)
