"""Rules 54 to 56, and what of 44 concerns batches. Rule 57 stands in test_batch_item_rules.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anthropic
import pytest
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse

from agentloop.emulator import EmulatorSettings, Function
from agentloop.emulator.settings import BatchSettings
from agentloop.types.base import Json
from agentloop.types.blocks import text

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

MODEL = "claude-sonnet-5-5"
DAY_S = 86_400
LONG = "word " * 1_500
SLOW = BatchSettings(start_s=60, item_s=60, at_once=2)


def item(custom_id: str, **params: Any) -> Any:
    asked = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "Hello."}]}
    return {"custom_id": custom_id, "params": asked | params}


def items(count: int, **params: Any) -> list[Any]:
    return [item(f"item-{i}", **params) for i in range(count)]


def sharing(count: int) -> list[Any]:
    """Items that begin with the same long, marked prefix."""
    system = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    return [item(f"item-{i}", system=system, messages=[{"role": "user", "content": f"Number {i}."}]) for i in range(count)]


def played(bench: Bench, **settings: Any) -> None:
    bench.play(
        Function("test", lambda request, step: [text("Done.")]),
        EmulatorSettings(batches=replace(SLOW, **settings)),
    )


def submit(bench: Bench, requests: Sequence[Any]) -> MessageBatch:
    return bench.sdk().messages.batches.create(requests=requests)


def state(bench: Bench, batch: MessageBatch) -> MessageBatch:
    return bench.sdk().messages.batches.retrieve(batch.id)


def results(bench: Bench, batch: MessageBatch) -> dict[str, MessageBatchIndividualResponse]:
    return {line.custom_id: line for line in bench.sdk().messages.batches.results(batch.id)}


def types_of(found: dict[str, MessageBatchIndividualResponse]) -> list[str]:
    return [found[name].result.type for name in sorted(found)]


@pytest.mark.parametrize("custom_id", ["", "a b", "a" * 65, "é", "a\n"])
def test_rule_54_a_custom_id_has_1_to_64_plain_characters(bench: Bench, custom_id: str) -> None:
    """An id with other characters, or too many, is refused when the batch is made."""
    with pytest.raises(anthropic.BadRequestError, match=r"requests\.1\.custom_id: String should match pattern"):
        submit(bench, [item("a" * 64), item(custom_id)])


def test_rule_54_a_custom_id_is_unique_in_its_batch(bench: Bench) -> None:
    """Two items of one batch may not have the same id; two batches may."""
    submit(bench, [item("a")])
    submit(bench, [item("a")])

    with pytest.raises(anthropic.BadRequestError, match="custom_id must be unique within a batch; 'a' is not"):
        submit(bench, [item("a"), item("b"), item("a")])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "requests: Field required"),
        ({"requests": {}}, "requests: Input should be a valid list"),
        ({"requests": []}, "requests: List should have at least 1 item"),
        ({"requests": ["a"]}, "requests.0: Input should be a valid dictionary"),
        ({"requests": [{"custom_id": "a"}]}, "requests.0.params: Field required"),
        ({"requests": [{"custom_id": "a", "params": []}]}, "requests.0.params: Input should be a valid dictionary"),
        ({"requests": [{"custom_id": 1, "params": {}}]}, "requests.0.custom_id: Input should be a valid string"),
        ({"requests": [item("a") | {"model": "x"}]}, "requests.0.model: Extra inputs are not permitted"),
        ({"requests": [item("a")], "model": "x"}, "model: Extra inputs are not permitted"),
    ],
)
def test_rule_54_what_is_no_list_of_items_is_refused_at_once(bench: Bench, body: Json, said: str) -> None:
    """The frame of a batch is checked when it is made."""
    with pytest.raises(anthropic.BadRequestError) as refused:
        bench.sdk().messages.batches.create(requests=[], extra_body=body if body else {"requests": None})

    assert said in str(refused.value)


def test_rule_54_a_batch_has_at_most_100_000_items(bench: Bench) -> None:
    """One item more is too large."""
    with pytest.raises(anthropic.APIStatusError) as refused:
        submit(bench, [{"custom_id": f"i{i}", "params": {}} for i in range(100_001)])

    assert (refused.value.status_code, refused.value.type) == (413, "request_too_large")


def test_rule_54_a_batch_may_have_256_megabytes(bench: Bench) -> None:
    """A body that is too large for one message may be a batch; one that is larger than 256 MB may not."""
    headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
    fits = json.dumps({"requests": [item("a", system="x" * 34_000_000)]}).encode()

    statuses = [
        bench.emulator.handle("POST", path, headers, body).status
        for path, body in (
            ("/v1/messages/batches", fits),
            ("/v1/messages", fits),
            ("/v1/messages/batches", bytes(256 * 1024 * 1024 + 1)),
        )
    ]

    assert statuses == [200, 413, 413]


def test_rule_54_a_bad_item_is_an_errored_result_and_no_refusal(bench: Bench) -> None:
    """What the items ask is checked while the batch is processed; the good ones are answered all the same."""
    played(bench)
    batch = submit(bench, [item("bad", max_tokens=-1), item("good"), item("worse", model="claude-unknown-1")])
    bench.now += 600

    found = results(bench, batch)

    assert types_of(found) == ["errored", "succeeded", "errored"]
    bad, worse = found["bad"].result, found["worse"].result
    assert bad.type == worse.type == "errored"
    assert bad.error.error.type == "invalid_request_error"
    assert worse.error.error.type == "not_found_error"
    assert bad.error.request_id


def test_rule_55_a_batch_counts_nothing_until_all_of_it_has_ended(bench: Bench) -> None:
    """While items are processed the counts say so of all of them, though some are done; then they say what became of each."""
    played(bench)
    batch = submit(bench, [*items(3), item("bad", max_tokens=-1)])
    bench.now += 121  # the first two are done

    half, bench.now = state(bench, batch), bench.now + 120
    whole = state(bench, batch)

    assert (batch.processing_status, half.processing_status, whole.processing_status) == ("in_progress", "in_progress", "ended")
    assert half.request_counts.to_dict() == {"processing": 4, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    assert whole.request_counts.to_dict() == {"processing": 0, "succeeded": 3, "errored": 1, "canceled": 0, "expired": 0}
    assert half.results_url is None
    assert half.ended_at is None
    assert whole.ended_at is not None
    assert (whole.ended_at - whole.created_at).total_seconds() == 180


def test_rule_55_a_canceled_batch_ends_with_what_had_started(bench: Bench) -> None:
    """Canceling goes over `canceling` to `ended`; items that had started are answered and billed, the others are neither."""
    played(bench)
    batch = submit(bench, items(5))
    bench.now += 90  # the first two have started

    canceling = bench.sdk().messages.batches.cancel(batch.id)
    again = bench.sdk().messages.batches.cancel(batch.id)
    bench.now += 60
    ended = state(bench, batch)

    assert (canceling.processing_status, ended.processing_status) == ("canceling", "ended")
    assert canceling.request_counts.processing == 5
    assert canceling.cancel_initiated_at == again.cancel_initiated_at == ended.cancel_initiated_at is not None
    assert types_of(results(bench, batch)) == ["succeeded", "succeeded", "canceled", "canceled", "canceled"]
    assert (ended.request_counts.succeeded, ended.request_counts.canceled) == (2, 3)
    assert len(bench.lines()) == 2


def test_rule_55_a_batch_that_nothing_was_done_of_can_be_canceled(bench: Bench) -> None:
    """Where no item had started, every result is `canceled` and nothing is billed."""
    played(bench)
    batch = submit(bench, items(3))

    bench.sdk().messages.batches.cancel(batch.id)
    bench.now += 5

    assert types_of(results(bench, batch)) == ["canceled"] * 3
    assert bench.emulator.report()["totals"]["cost_usd"] == "0"


def test_rule_55_what_is_not_done_after_24_hours_expires(bench: Bench) -> None:
    """The batch ends a day after its creation; items without an answer by then are `expired`, and free."""
    played(bench, at_once=1, item_s=DAY_S / 4)
    batch = submit(bench, items(6))
    bench.now += DAY_S - 1

    before, bench.now = state(bench, batch), bench.now + 1
    after = state(bench, batch)

    assert (before.processing_status, after.processing_status) == ("in_progress", "ended")
    assert (after.expires_at - after.created_at).total_seconds() == DAY_S
    assert after.ended_at == after.expires_at
    assert types_of(results(bench, batch)) == ["succeeded"] * 3 + ["expired"] * 3
    assert len(bench.lines()) == 3


def test_rule_55_results_are_gone_29_days_after_the_creation(bench: Bench) -> None:
    """The batch can still be looked at, its results cannot."""
    played(bench)
    batch = submit(bench, items(2))
    bench.now += 29 * DAY_S - 1
    assert len(results(bench, batch)) == 2
    assert state(bench, batch).archived_at is None

    bench.now += 1

    with pytest.raises(anthropic.NotFoundError, match="no longer available"):
        results(bench, batch)
    archived = state(bench, batch).archived_at
    assert archived is not None
    assert (archived - batch.created_at).days == 29


def test_rule_55_a_batch_can_be_deleted_once_it_has_ended(bench: Bench) -> None:
    """Deleting one that is processed is refused; one that has ended is gone, with its results."""
    played(bench)
    batch = submit(bench, items(2))
    with pytest.raises(anthropic.BadRequestError, match="cannot be deleted while it is processed"):
        bench.sdk().messages.batches.delete(batch.id)
    bench.now += 600
    with pytest.raises(anthropic.BadRequestError, match="processing has ended"):
        bench.sdk().messages.batches.cancel(batch.id)

    deleted = bench.sdk().messages.batches.delete(batch.id)

    assert (deleted.id, deleted.type) == (batch.id, "message_batch_deleted")
    with pytest.raises(anthropic.NotFoundError):
        state(bench, batch)
    with pytest.raises(anthropic.NotFoundError):
        results(bench, batch)


def test_rule_55_items_end_as_they_are_planned_to(bench: Bench) -> None:
    """A script can let single items fail or expire; a seeded share does the same to any."""
    played(bench, outcomes={"item-1": "errored", "item-2": "expired"})
    planned = submit(bench, items(4))
    bench.now += DAY_S
    by_script = types_of(results(bench, planned))

    played(bench, errored=0.25, expired=0.25)
    chanced = submit(bench, items(200))
    bench.now += DAY_S
    by_chance = types_of(results(bench, chanced))

    assert by_script == ["succeeded", "errored", "expired", "succeeded"]
    assert 30 <= by_chance.count("errored") <= 70
    assert 30 <= by_chance.count("expired") <= 70


def test_rule_56_results_come_from_the_emulator_itself(bench: Bench) -> None:
    """`results_url` names the host that the client asked, and stands there only when there are results."""
    played(bench)
    batch = submit(bench, items(1))
    headers = {"x-api-key": "k", "anthropic-version": "2026-10-21", "host": "127.0.0.1:4711"}
    early = bench.emulator.handle("GET", f"/v1/messages/batches/{batch.id}/results", headers, b"")
    bench.now += 600

    answer = bench.emulator.handle("GET", f"/v1/messages/batches/{batch.id}", headers, b"")

    url = json.loads(b"".join(c for c in answer.chunks if isinstance(c, bytes)))["results_url"]
    assert url == f"http://127.0.0.1:4711/v1/messages/batches/{batch.id}/results"
    assert early.status == 404


def test_rule_56_results_are_one_line_an_item_in_an_order_that_means_nothing(bench: Bench) -> None:
    """The order is not that of the items, and the same for the same seed."""

    def order(seed: int) -> list[str]:
        bench.play(Function("test", lambda request, step: [text("Done.")]), EmulatorSettings(seed=seed))
        batch = submit(bench, items(50))
        bench.now += 600
        return [line.custom_id for line in bench.sdk().messages.batches.results(batch.id)]

    first, again, other = order(1), order(1), order(2)

    assert first == again != other
    assert sorted(first) == sorted(other) == sorted(i["custom_id"] for i in items(50))
    assert first != [i["custom_id"] for i in items(50)]


def test_rule_56_the_batches_are_listed_newest_first_over_all_pages(bench: Bench) -> None:
    """Pages follow each other by their last id, and go back by their first."""
    made = [submit(bench, items(1)).id for _ in range(7)]

    listed = [b.id for b in bench.sdk().messages.batches.list(limit=3)]
    back = bench.sdk().messages.batches.list(limit=2, before_id=made[0])

    assert listed == made[::-1]
    assert [b.id for b in back.data] == [made[2], made[1]]
    assert back.has_more


@pytest.mark.parametrize(
    ("model", "header", "result"),
    [
        (MODEL, "output-300k-2026-03-24", "succeeded"),
        (MODEL, "another-2026-01-01", "errored"),
        ("claude-haiku-4-5", "output-300k-2026-03-24", "errored"),
    ],
)
def test_rule_57_an_item_may_answer_longer_with_the_header_for_it(bench: Bench, model: str, header: str, result: str) -> None:
    """300,000 tokens, on models that have it, and only in a batch."""
    messages = bench.sdk().beta.messages
    batch = messages.batches.create(requests=[item("long", model=model, max_tokens=300_000)], betas=[header])
    bench.now += 10

    assert [line.result.type for line in messages.batches.results(batch.id)] == [result]
    with pytest.raises(anthropic.BadRequestError, match="maximum allowed number of output tokens"):
        messages.create(**item("long", model=model, max_tokens=300_000)["params"], betas=[header], timeout=60)


def test_rule_56_an_item_at_which_the_script_breaks_has_its_line_too(bench: Bench) -> None:
    """Whoever asks first gets to see the script's error; the batch ends all the same, with one line for each item."""

    def breaks(request: Json, step: int) -> list[Any]:
        if "Break" in request["messages"][0]["content"]:
            raise ZeroDivisionError
        return [text("Done.")]

    bench.play(Function("test", breaks))
    asked = [item("a"), item("b", messages=[{"role": "user", "content": "Break."}]), item("c")]
    batch = bench.sdk().messages.batches.create(requests=asked)
    bench.now += 10

    with pytest.raises(anthropic.APIConnectionError):
        bench.sdk().messages.batches.retrieve(batch.id)
    ended = bench.sdk().messages.batches.retrieve(batch.id)
    lines = {line.custom_id: line.result.type for line in bench.sdk().messages.batches.results(batch.id)}

    assert lines == {"a": "succeeded", "b": "errored", "c": "succeeded"}
    assert (ended.request_counts.succeeded, ended.request_counts.errored) == (2, 1)
