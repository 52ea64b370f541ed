from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from anthropic.types import Usage

from agentloop.emulator import EmulatorSettings, Function
from agentloop.emulator.cache_store import SWEEP_EVERY
from agentloop.types.base import Json
from agentloop.types.blocks import text, tool_result, tool_use

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

LONG = "word " * 1_000
SYSTEM = "instruction " * 500


def marked(value: str, ttl: str | None = None) -> Json:
    control = {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})
    return text(value) | {"cache_control": control}


def user(*content: Json) -> Json:
    return {"role": "user", "content": list(content)}


def assistant(*content: Json) -> Json:
    return {"role": "assistant", "content": list(content)}


def split(usage: Usage) -> tuple[int, int, int, int]:
    """Fresh, read, written for 5 minutes, written for an hour."""
    assert usage.cache_creation is not None
    created = usage.cache_creation
    read = usage.cache_read_input_tokens or 0
    return usage.input_tokens, read, created.ephemeral_5m_input_tokens, created.ephemeral_1h_input_tokens


def test_a_growing_conversation_reads_what_it_wrote_and_writes_only_what_is_new(bench: Bench) -> None:
    messages = [user(marked(LONG))]
    first = bench.ask(messages).usage
    messages = [user(text(LONG)), assistant(text("Done.")), user(marked("And then? " * 20))]
    second = bench.ask(messages).usage
    messages = [*messages[:2], user(text("And then? " * 20)), assistant(text("Done.")), user(marked("Go on."))]
    third = bench.ask(messages).usage

    assert first.cache_read_input_tokens == 0
    assert second.cache_read_input_tokens == first.cache_creation_input_tokens
    assert third.cache_read_input_tokens == second.cache_read_input_tokens + second.cache_creation_input_tokens  # type: ignore[operator]
    assert [u.input_tokens for u in (first, second, third)] == [0, 0, 0]


def test_a_read_says_which_block_it_reached(bench: Bench) -> None:
    bench.ask([user(text("Hello."), marked(LONG))])
    bench.ask([user(text("Hello."), text(LONG)), assistant(text("Done.")), user(marked("Go on."))])

    assert [line["read_up_to"] for line in bench.lines()] == [None, "messages.0.content.1"]


@pytest.mark.parametrize(("blocks_between", "found"), [(18, True), (19, False)])
def test_an_entry_is_found_within_20_positions_of_the_breakpoint(bench: Bench, blocks_between: int, found: bool) -> None:
    bench.ask([user(marked(LONG))])

    usage = bench.ask([user(text(LONG), *(text(f"{i}") for i in range(blocks_between)), marked("Go on."))]).usage

    assert (usage.cache_read_input_tokens != 0) == found


def test_a_second_breakpoint_finds_what_the_last_one_does_not_reach(bench: Bench) -> None:
    bench.ask([user(marked(LONG))])

    usage = bench.ask([user(marked(LONG), *(text(f"{i}") for i in range(30)), marked("Go on."))]).usage

    assert usage.cache_read_input_tokens


def test_parallel_calls_and_their_results_are_one_position_each(bench: Bench) -> None:
    ids = [f"toolu_{i}" for i in range(30)]
    calls, results = [tool_use(i, "look", {}) for i in ids], [tool_result(i, "seen") for i in ids]
    bench.ask([user(marked(LONG))])

    usage = bench.ask([user(text(LONG)), assistant(*calls), user(*results, marked("Go on."))]).usage

    assert usage.cache_read_input_tokens


def test_a_prompt_below_the_minimum_is_neither_written_nor_read(bench: Bench) -> None:
    short = [user(marked("word " * 100))]

    assert [split(bench.ask(short).usage)[1:] for _ in range(2)] == [(0, 0, 0)] * 2


@pytest.mark.parametrize(("ttl", "seconds"), [("5m", 300), ("1h", 3_600)])
def test_an_entry_lives_from_the_start_of_the_request_that_last_used_it(bench: Bench, ttl: str, seconds: int) -> None:
    def read() -> bool:
        return bool(bench.ask([user(marked(LONG, ttl))]).usage.cache_read_input_tokens)

    read()
    bench.now += seconds
    within = read()
    bench.now += seconds
    renewed = read()
    bench.now += seconds + 1

    assert (within, renewed, read()) == (True, True, False)


def test_an_entry_can_be_read_once_the_response_that_wrote_it_has_begun(bench: Bench) -> None:
    bench.play(Function("slow", lambda request, step: [text("Done.")]), EmulatorSettings(first_byte_s=10))

    def read() -> bool:
        return bool(bench.ask([user(marked(LONG))]).usage.cache_read_input_tokens)

    first = read()
    bench.now += 4
    twin = read()
    bench.now += 6

    assert (first, twin, read()) == (False, False, True)


def test_mixed_lifetimes_are_written_in_two_parts(bench: Bench) -> None:
    system = [marked(SYSTEM, "1h")]

    first = split(bench.ask([user(marked(LONG), text("Go."))], system=system).usage)
    second = split(bench.ask([user(marked(LONG), text("Go."))], system=system).usage)

    fresh, read, written_5m, written_1h = first
    assert (fresh > 0, read, written_5m > 1_000, written_1h > 1_000) == (True, 0, True, True)
    assert second == (fresh, written_5m + written_1h, 0, 0)


def test_the_long_lived_part_outlives_the_short_lived_one(bench: Bench) -> None:
    system = [marked(SYSTEM, "1h")]
    _, _, written_5m, written_1h = split(bench.ask([user(marked(LONG))], system=system).usage)
    bench.now += 301

    assert split(bench.ask([user(marked(LONG))], system=system).usage) == (0, written_1h, written_5m, 0)


def test_automatic_caching_moves_with_the_conversation(bench: Bench) -> None:
    automatic = {"type": "ephemeral"}
    first = bench.ask([user(text(LONG))], cache_control=automatic).usage

    second = bench.ask([user(text(LONG)), assistant(text("Done.")), user(text("Go on."))], cache_control=automatic).usage

    assert split(first)[0] == split(second)[0] == 0
    assert second.cache_read_input_tokens == first.cache_creation_input_tokens


def test_automatic_caching_adds_nothing_to_a_block_that_is_marked_alike(bench: Bench) -> None:
    marks = [marked(f"{i} {LONG}") for i in range(4)]

    assert split(bench.ask([user(*marks)], cache_control={"type": "ephemeral"}).usage)[0] == 0


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"system": [marked("other " + SYSTEM)]}, 0),
        ({"tools": [{"name": "look", "input_schema": {"type": "object"}}]}, 0),
        ({"model": "claude-haiku-5-5"}, 0),
        ({"workspace_id": "wrkspc_2"}, 0),
        ({"tool_choice": {"type": "none"}}, "system"),
        ({"thinking": {"type": "between_tools"}}, "system"),
        ({"output_config": {"effort": "low"}}, "system"),
        ({"max_tokens": 5, "metadata": {"user_id": "u"}, "stop_sequences": ["x"]}, "all"),
    ],
)
def test_what_changes_decides_what_stays_cached(bench: Bench, change: Json, kept: Any) -> None:
    body: Json = {"system": [marked(SYSTEM)]}
    bench.ask([user(marked(LONG))], **body)
    whole = split(bench.ask([user(marked(LONG))], **body).usage)[1]

    usage = bench.ask([user(marked(LONG))], **body | change).usage

    read = usage.cache_read_input_tokens or 0
    assert (read == 0, 0 < read < whole, read == whole) == (kept == 0, kept == "system", kept == "all")


def test_the_two_speeds_of_a_model_share_no_cache(bench: Bench) -> None:
    bench.ask([user(marked(LONG))], model="claude-opus-5-5")

    usage = bench.ask([user(marked(LONG))], model="claude-opus-5-5", speed="fast").usage

    assert usage.cache_read_input_tokens == 0


def test_how_thinking_is_displayed_is_nothing_to_the_cache(bench: Bench) -> None:
    bench.ask([user(marked(LONG))], thinking={"type": "adaptive"})

    usage = bench.ask([user(marked(LONG))], thinking={"type": "adaptive", "display": "omitted"}).usage

    assert usage.cache_creation_input_tokens == 0


def test_every_token_of_a_prompt_is_billed_once(bench: Bench) -> None:
    messages: list[Any] = []
    for i in range(12):
        messages += [user(marked(f"{i} {LONG}", "5m"))]
        body: Json = {"system": [marked(SYSTEM, "1h")], "cache_control": {"type": "ephemeral"}} if i % 2 else {}
        bare = [m | {"content": [{k: v for k, v in b.items() if k != "cache_control"} for b in m["content"]]} for m in messages]
        asked = [*bare[:-1], messages[-1]]
        counted = bench.sdk().messages.count_tokens(
            model="claude-sonnet-5-5", messages=asked, **{k: v for k, v in body.items() if k == "system"}
        )
        assert sum(split(bench.ask(asked, **body).usage)) == counted.input_tokens
        messages += [assistant(text("Done."))]
        bench.now += 100 * i


def test_expired_entries_are_swept(bench: Bench) -> None:
    for i in range(SWEEP_EVERY - 1):
        bench.ask([user(marked(f"{i} {LONG}"))])
    held = bench.emulator.report()["cache_entries"]
    bench.now += 301
    bench.ask([user(marked(LONG))])

    assert (held, bench.emulator.report()["cache_entries"]) == (SWEEP_EVERY - 1, 1)
