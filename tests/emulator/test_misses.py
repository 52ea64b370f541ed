"""What the report says of a request that read less than was there for it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from agentloop.core import cache
from agentloop.core.cache import DOCUMENTED, Entry
from agentloop.emulator import EmulatorSettings, Function, misses
from agentloop.emulator.misses import REMEMBERED, Misses
from agentloop.emulator.settings import BatchSettings
from agentloop.testing import card
from agentloop.types.base import Json
from agentloop.types.blocks import text
from tests.emulator.rules.asking import HOLLOW, LONG, SYSTEM, TOOL, ask, assistant, body, marked, read, user

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

FIRST = "req_emulator_00000001"
CONTEXT_MANAGEMENT = "context-management-2025-06-27"


def last_miss(bench: Bench) -> Any:
    return bench.lines()[-1]["miss"]


def test_a_request_that_reads_all_there_was_missed_nothing(bench: Bench) -> None:
    ask(bench, [user(marked(LONG))])
    ask(bench, [user(text(LONG)), assistant(text("Done.")), user(marked("Go on."))])

    line = bench.lines()[-1]
    assert (line["miss"], line["read_up_to"], line["read_from"]) == (None, "messages.0.content.0", FIRST)


def test_what_was_renewed_was_still_written_by_the_first(bench: Bench) -> None:
    for _ in range(3):
        ask(bench, [user(marked(LONG))])

    assert [line["read_from"] for line in bench.lines()] == [None, FIRST, FIRST]


@pytest.mark.parametrize(
    ("change", "reason", "where", "detail"),
    [
        ({"model": "claude-sonnet-5-5"}, "model_changed", "model", "claude-opus-5-5, now claude-sonnet-5-5"),
        ({"workspace_id": "wrkspc_2"}, "workspace_changed", "workspace_id", ""),
        ({"speed": "fast"}, "speed_changed", "speed", "standard, now fast"),
        ({"tools": [HOLLOW, marked(TOOL)]}, "tools_changed", "tools.0", ""),
        ({"tools": []}, "tools_changed", "system.0", ""),
        ({"system": [marked("x" + SYSTEM)]}, "system_changed", "system.0", ""),
        ({"messages": [user(marked("x" + LONG))]}, "messages_changed", "messages.0.content.0", ""),
        ({"output_config": {"effort": "low"}}, "settings_changed", "messages.0.content.0", "effort"),
    ],
)
def test_the_first_block_that_differs_is_named(bench: Bench, change: Json, reason: str, where: str, detail: str) -> None:
    opus = body(model="claude-opus-5-5")
    wrote = ask(bench, **opus).cache_creation_input_tokens

    usage = ask(bench, **opus | change)

    missed = last_miss(bench)
    assert missed == {
        "reason": reason,
        "tokens": wrote - read(usage),  # type: ignore[operator]
        "compared_with": FIRST,
        "first_difference": where,
        "detail": detail,
    }


def test_a_request_is_held_against_the_one_most_like_it(bench: Bench) -> None:
    ask(bench, [user(text("one " * 900), marked("same"))])
    ask(bench, [user(text("two " * 900), marked("same"))])

    ask(bench, [user(text("one " * 900), marked("other"))])

    assert (last_miss(bench)["compared_with"], last_miss(bench)["first_difference"]) == (FIRST, "messages.0.content.1")


def test_a_shorter_history_ends_where_the_other_went_on(bench: Bench) -> None:
    ask(bench, [user(text(LONG)), assistant(text("Done.")), user(marked("Go on."))])

    ask(bench, [user(marked(LONG))])

    assert last_miss(bench)["reason"] == "messages_changed"
    assert last_miss(bench)["detail"] == f"the request ends behind it, {FIRST} went on"


def test_requests_that_have_nothing_in_common_are_not_compared(bench: Bench) -> None:
    ask(bench, [user(marked(LONG))])
    ask(bench, [user(marked("another " * 900))])

    assert last_miss(bench)["reason"] == "nothing_before"


def test_an_entry_that_is_no_more_was_used_too_long_ago(bench: Bench) -> None:
    ask(bench, [user(marked(LONG))])
    bench.now += 301
    ask(bench, [user(marked(LONG))])

    assert (last_miss(bench)["reason"], last_miss(bench)["detail"]) == ("expired", "used 301 s before, kept for 5m")


def test_an_entry_that_is_still_being_written_is_not_ready(bench: Bench) -> None:
    bench.play(Function("slow", lambda request, step: [text("Done.")]), EmulatorSettings(first_byte_s=10))
    ask(bench, [user(marked(LONG))])
    bench.now += 4
    ask(bench, [user(marked(LONG))])

    assert (last_miss(bench)["reason"], last_miss(bench)["detail"]) == ("not_ready", "its response begins in 6 s")


def test_items_that_run_beside_each_other_are_not_ready_for_each_other(bench: Bench) -> None:
    alone = EmulatorSettings(batches=BatchSettings(sibling_hits=0.0))
    bench.play(Function("test", lambda request, step: [text("Done.")]), alone)
    params = {"model": "claude-opus-5-5", "max_tokens": 100, "messages": [user(marked(LONG))]}
    items: Any = [{"custom_id": f"item-{n}", "params": params} for n in range(2)]

    batch = bench.sdk().messages.batches.create(requests=items)
    bench.now += 3_600
    bench.sdk().messages.batches.retrieve(batch.id)

    first, second = (line["miss"] for line in bench.lines())
    assert first["reason"] == "nothing_before"
    assert (second["reason"], second["first_difference"], second["tokens"] > 0) == ("not_ready", None, True)


def test_a_request_that_reads_up_to_its_last_breakpoint_missed_nothing(bench: Bench) -> None:
    """Whatever the one before it, which had no breakpoint, left undone."""
    ask(bench, [user(marked(LONG))])
    ask(bench, [user(text(LONG))])
    ask(bench, [user(marked(LONG))])

    assert [line["miss"] and line["miss"]["reason"] for line in bench.lines()] == ["nothing_before", "no_breakpoint", None]


def test_an_entry_more_than_20_positions_away_is_out_of_reach(bench: Bench) -> None:
    ask(bench, [user(marked(LONG))])
    ask(bench, [user(text(LONG), *(text(f"{i}") for i in range(30)), marked("Go on."))])

    assert last_miss(bench)["reason"] == "out_of_reach"


def test_a_request_without_breakpoints_reads_nothing(bench: Bench) -> None:
    ask(bench, [user(marked(LONG))])
    ask(bench, [user(text(LONG))])

    assert last_miss(bench)["reason"] == "no_breakpoint"


def test_a_prompt_below_the_minimum_is_called_so(bench: Bench) -> None:
    for _ in range(2):
        ask(bench, [user(marked("short"))])

    assert (last_miss(bench)["reason"], last_miss(bench)["tokens"]) == ("below_minimum", 0)


def test_where_the_request_before_wrote_nothing_nothing_can_be_read(bench: Bench) -> None:
    ask(bench, [user(text(LONG))])
    ask(bench, [user(marked(LONG))])

    assert last_miss(bench)["reason"] == "nothing_written"


def test_what_is_remembered_of_requests_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(misses, "REMEMBERED_BYTES", 10_000)
    known, seen, model = Misses(), dict[bytes, Entry](), card()
    for n in range(3 * REMEMBERED):
        asked: Json = {"messages": [user(*(text(f"{n} {i}") for i in range(100)))]}
        prompt, parts = cache.prompt_of(asked, model)
        traced = misses.trace(asked, model, parts, f"req_{n}", DOCUMENTED)
        known.look(traced, parts, prompt, cache.account(prompt, seen, n, n), seen, n)

    kept = [len(t.keys) + len(t.bare) for t in known._traces]
    assert 0 < sum(kept) == known._bytes <= 10_000


def test_the_sums_of_the_report_are_those_of_its_lines(bench: Bench) -> None:
    for n in range(4):
        ask(bench, [user(marked(LONG), text(f"{n}"))], inference_geo="us")

    totals, lines = bench.emulator.report()["totals"], bench.lines()
    for kind in ("prompt_tokens", "input_tokens", "cache_read_input_tokens", "ephemeral_5m_input_tokens", "output_tokens"):
        assert totals[kind] == sum(line[kind] for line in lines)
    assert Decimal(totals["cost_usd"]) == sum(Decimal(line["cost_usd"]) for line in lines)
    for kind, usd in totals["cost_by_kind_usd"].items():
        assert Decimal(usd) == sum(Decimal(line["cost_by_kind_usd"][kind]) for line in lines)


def test_blocks_are_named_where_their_sender_put_them(bench: Bench) -> None:
    """Though the model sees the history without the thinking that was cleared."""
    bench.play(Function("test", lambda request, step: [text("Done.")]), EmulatorSettings(foreign_thinking=True))
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"}
    edit = {"type": "clear_thinking_20251015", "keep": {"type": "thinking_turns", "value": 1}}

    def turns(first: str) -> list[Json]:
        answers = [assistant(thought, marked(first)), assistant(thought, text("Two."))]
        return [user(text(LONG)), answers[0], user(text("And?")), answers[1], user(text("And?"))]

    for first in ("One.", "One.", "Other."):
        ask(bench, turns(first), betas=CONTEXT_MANAGEMENT, context_management={"edits": [edit]})

    assert [line["read_up_to"] for line in bench.lines()] == [None, "messages.1.content.1", None]
    assert last_miss(bench)["first_difference"] == "messages.1.content.1"
