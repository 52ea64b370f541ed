from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent

from agentloop.emulator import EmulatorSettings, Function, ScriptedReply
from agentloop.types.blocks import text, tool_use

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

ASKED: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 10_000,
    "messages": [{"role": "user", "content": "word " * 1_000}],
    "cache_control": {"type": "ephemeral", "ttl": "1h"},
}
THINKING = {"type": "thinking", "thinking": "Hm. " * 400, "signature": "signed"}
OMITTED = {"type": "thinking", "thinking": "", "signature": "signed"}
CALL = tool_use("toolu_1", "search", {"query": "žluťoučký kůň 🐎 " * 100, "limit": 3})


def streamed(bench: Bench) -> Message:
    with bench.sdk().messages.stream(**ASKED) as stream:
        return stream.get_final_message()


def events(bench: Bench) -> list[RawMessageStreamEvent]:
    return list(bench.sdk().messages.create(**ASKED, stream=True))


@pytest.mark.parametrize(
    "content",
    [
        [text("Short.")],
        [text("Long 🐎 " * 1_000), CALL],
        [THINKING, text("So."), CALL, tool_use("toolu_2", "now", {})],
        [OMITTED, text("So.")],
        [{"type": "redacted_thinking", "data": "x"}, text("So.")],
        [],
    ],
)
def test_a_stream_adds_up_to_the_message_that_is_sent_whole(bench: Bench, content: list[dict[str, Any]]) -> None:
    bench.play(Function("test", lambda request, step: content))
    whole = bench.sdk().messages.create(**ASKED)
    bench.play(Function("test", lambda request, step: content))

    message = streamed(bench)

    assert message.to_dict(exclude_unset=False) == whole.to_dict(exclude_unset=False)


def test_all_of_the_input_is_counted_when_a_stream_starts(bench: Bench) -> None:
    bench.play(Function("test", lambda request, step: [text("Long " * 1_000)]))

    start, *_, delta, _ = events(bench)

    assert start.type == "message_start"
    assert start.message.usage.cache_creation is not None
    assert start.message.usage.cache_creation.ephemeral_1h_input_tokens > 1_000
    assert start.message.usage.output_tokens == 1
    assert delta.type == "message_delta"
    assert delta.usage.cache_creation_input_tokens == start.message.usage.cache_creation_input_tokens
    assert delta.usage.output_tokens > 1_000


def test_a_call_opens_empty_and_its_input_comes_in_pieces_of_json(bench: Bench) -> None:
    bench.play(Function("test", lambda request, step: [CALL]))

    _, opened, *pieces, _, _, _ = events(bench)

    assert opened.type == "content_block_start"
    assert opened.content_block.type == "tool_use"
    assert opened.content_block.input == {}
    assert [p.type for p in pieces] == ["content_block_delta"] * len(pieces)
    assert len(pieces) == 3
    assert pieces[0].delta.partial_json == ""  # type: ignore[union-attr]


def test_the_signature_is_the_last_that_comes_of_a_thought(bench: Bench) -> None:
    bench.play(Function("test", lambda request, step: [OMITTED, text("So.")]))

    _, _, thought, signature, stop, *_ = events(bench)

    assert [thought.delta.type, signature.delta.type] == ["thinking_delta", "signature_delta"]  # type: ignore[union-attr]
    assert stop.type == "content_block_stop"


def test_a_refusal_says_what_it_is_about_at_the_end_of_the_stream(bench: Bench) -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": None}
    bench.play(Function("test", lambda request, step: ScriptedReply((text("No."),), "refusal", stop_details=details)))

    message = streamed(bench)

    assert message.stop_reason == "refusal"
    assert message.stop_details is not None
    assert message.stop_details.category == "cyber"


def test_a_stream_has_one_ping_in_it(bench: Bench) -> None:
    with bench.sdk().messages.with_streaming_response.create(**ASKED, stream=True) as response:
        lines = list(response.iter_lines())

    assert lines.count("event: ping") == 1
    assert lines[-3:-1] == ["event: message_stop", 'data: {"type":"message_stop"}']


def test_a_slow_first_byte_is_waited_for(bench: Bench) -> None:
    bench.play(Function("test", lambda request, step: [text("So.")]), EmulatorSettings(first_byte_s=2.5))

    streamed(bench)

    assert bench.slept == [2.5]
