"""Rule 57: what an item may ask, what it reads of the cache, what it costs; and what of 40 concerns batches."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anthropic
import pytest

from agentloop.emulator import EmulatorSettings, Function
from agentloop.emulator.settings import RateLimits
from agentloop.types.base import Json
from agentloop.types.blocks import text
from tests.emulator.rules.test_batch_rules import (
    DAY_S,
    MODEL,
    SLOW,
    item,
    items,
    played,
    results,
    sharing,
    state,
    submit,
    types_of,
)

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench


@pytest.mark.parametrize(
    "params",
    [
        {"stream": True},
        {"speed": "fast"},
        {"max_tokens": 0},
        {"store": True},
        {"thread": {"type": "create"}},
        {"previous_thread_event_id": "x"},
        {"cache_hint": {}},
        {"context_hint": {"x": 1}},
        {"billing_policy": {"bill_to": "user_profile"}},
    ],
)
def test_rule_57_params_that_have_no_place_in_a_batch_are_errors_of_their_item(bench: Bench, params: Json) -> None:
    """The batch is taken, the item errors, and costs nothing."""
    batch = submit(bench, [item("a", **params), item("b", fallback_credit_token="ignored")])
    bench.now += 600

    found = results(bench, batch)

    assert types_of(found) == ["errored", "succeeded"]
    assert len(bench.lines()) == 1


def test_rule_57_items_are_billed_at_half_price_on_every_kind_of_token(bench: Bench) -> None:
    """The same request costs half in a batch, and its usage says `batch`."""
    played(bench, sibling_hits=1.0)
    batch = submit(bench, sharing(2))
    bench.now += 600
    found = results(bench, batch)
    in_batch = bench.emulator.report()["totals"]

    played(bench)
    for one in sharing(2):
        bench.sdk().messages.create(**one["params"])
    alone = bench.emulator.report()["totals"]

    assert {line.result.message.usage.service_tier for line in found.values() if line.result.type == "succeeded"} == {"batch"}
    assert in_batch["cache_read_input_tokens"] == alone["cache_read_input_tokens"] > 0
    assert Decimal(in_batch["cost_usd"]) * 2 == Decimal(alone["cost_usd"])


def hits(bench: Bench, count: int, share: float, before: Callable[[], None] = lambda: None, **settings: Any) -> int:
    """How many items of a batch with one prefix read it from the cache."""
    played(bench, sibling_hits=share, **settings)
    before()
    batch = submit(bench, sharing(count))
    bench.now += DAY_S
    done = [line.result for line in results(bench, batch).values()]
    return sum(1 for r in done if r.type == "succeeded" and r.message.usage.cache_read_input_tokens)


def test_rule_57_items_run_beside_each_other_and_pay_for_their_own_writes(bench: Bench) -> None:
    """Without luck no item reads what its siblings wrote, started together or not; with it, all but the first do."""
    assert hits(bench, 6, 0.0, at_once=2, item_s=30) == 0
    assert hits(bench, 6, 1.0, at_once=6) == 5


def test_rule_57_what_was_written_before_the_batch_is_read_by_every_item(bench: Bench) -> None:
    """A request that writes the prefix first makes every item of the fan-out a hit."""

    def write() -> None:
        bench.sdk().messages.create(**sharing(1)[0]["params"])

    assert hits(bench, 6, 0.0, write) == 6


def test_rule_57_a_share_of_items_finds_nothing_of_what_was_there_before(bench: Bench) -> None:
    """About the named share of the items reads what was written before; the others take it away from nobody."""

    def write() -> None:
        bench.sdk().messages.create(**sharing(1)[0]["params"])

    assert hits(bench, 20, 0.0, write, earlier_hits=0.0) == 0
    assert 70 <= hits(bench, 200, 0.0, write, earlier_hits=0.5) <= 130


def test_rule_57_the_share_of_hits_is_a_setting_and_a_matter_of_the_seed(bench: Bench) -> None:
    """About the named share of the items hits, and the same items for the same seed."""
    first, again = hits(bench, 200, 0.5), hits(bench, 200, 0.5)

    assert first == again
    assert 70 <= first <= 130


def test_rule_57_requests_beside_a_batch_see_its_entries_when_its_items_are_done(bench: Bench) -> None:
    """What an item writes can be read from outside once its answer has begun, and not before."""
    played(bench, sibling_hits=1.0, at_once=100)
    submit(bench, sharing(3))
    bench.now += 90
    early = bench.sdk().messages.create(**sharing(1)[0]["params"])
    played(bench, sibling_hits=1.0, at_once=100)
    submit(bench, sharing(3))
    bench.now += 121
    late = bench.sdk().messages.create(**sharing(1)[0]["params"])

    assert early.usage.cache_read_input_tokens == 0
    assert late.usage.cache_read_input_tokens


def test_rule_57_the_queue_has_a_limit_of_its_own(bench: Bench) -> None:
    """A batch whose items do not fit into the queue is refused for now."""
    limits = RateLimits(queued_batch_requests=10)
    bench.play(Function("test", lambda request, step: [text("Done.")]), EmulatorSettings(limits=limits, batches=SLOW))
    submit(bench, items(8))

    with pytest.raises(anthropic.RateLimitError, match="10 batch requests in the queue"):
        submit(bench, items(3))
    bench.now += 600
    assert submit(bench, items(3)).processing_status == "in_progress"


def test_rule_57_thinking_behind_a_changed_history_is_dropped_in_a_batch(bench: Bench) -> None:
    """Where a request would be refused for it, an item goes on without the thinking, unless it asks for the error."""
    thought = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    bench.play(Function("test", lambda request, step: [thought, text("So.")]))
    asked: Any = {"model": MODEL, "max_tokens": 1_000, "thinking": {"type": "adaptive"}}
    opening: Any = {"role": "user", "content": "Hello."}
    said = bench.sdk().messages.create(**asked, messages=[opening])
    changed: Any = [
        opening | {"content": "Other."},
        {"role": "assistant", "content": [b.to_dict() for b in said.content]},
        opening,
    ]
    with pytest.raises(anthropic.BadRequestError, match="bound to a different conversation"):
        bench.sdk().messages.create(**asked, messages=changed)

    batch = submit(bench, [{"custom_id": "a", "params": asked | {"messages": changed}}])
    bench.now += 600

    assert types_of(results(bench, batch)) == ["succeeded"]


def test_rule_57_a_share_of_hits_is_unverified_and_said_to_be(bench: Bench) -> None:
    """Strict mode names it with the items that it may have decided."""
    bench.play(Function("test", lambda request, step: [text("Done.")]), EmulatorSettings(strict=True))
    submit(bench, sharing(3))
    bench.now += 600

    warned = [w for w in bench.emulator.report()["warnings"] if w["rule"] == 57]

    assert [w["answers"] for w in warned] == [3]


def test_rule_40_batch_and_fast_exclude_each_other(bench: Bench) -> None:
    """An item that asks for fast mode errors, whatever its model."""
    batch = submit(bench, [item("a", model="claude-opus-5-5", speed="fast")])
    bench.now += 600

    assert types_of(results(bench, batch)) == ["errored"]


def test_a_large_batch_takes_time_in_proportion(bench: Bench) -> None:
    def seconds(count: int) -> float:
        played(bench, at_once=10_000, item_s=1)
        started = time.process_time()
        batch = submit(bench, items(count))
        bench.now += DAY_S
        assert state(bench, batch).request_counts.succeeded == count
        return time.process_time() - started

    seconds(500)
    small, large = seconds(1_000), seconds(8_000)

    assert large < 8 * small * 2.5
