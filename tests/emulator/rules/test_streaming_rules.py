"""Rules 46 and 48: what stands in a stream, and in which order."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from anthropic.types import Message, RawMessageDeltaEvent, RawMessageStartEvent, RawMessageStreamEvent

from agentloop.emulator import EmulatorSettings, Function, ScriptedReply
from agentloop.emulator.faults import Faults
from agentloop.types.base import Json
from agentloop.types.blocks import text, tool_use

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

MODEL = "claude-sonnet-5-5"
ASKED: dict[str, Any] = {"model": MODEL, "max_tokens": 10_000, "messages": [{"role": "user", "content": "word " * 1_500}]}
SYSTEM = [{"type": "text", "text": "rule " * 1_500, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
MARKED: dict[str, Any] = ASKED | {"system": SYSTEM, "cache_control": {"type": "ephemeral"}}
CALL = tool_use("toolu_1", "search", {"query": "x" * 1_500, "limit": 3})


def play(bench: Bench, *content: Json, settings: EmulatorSettings | None = None, faults: Faults | None = None) -> None:
    bench.play(Function("test", lambda request, step: list(content)), settings, faults or Faults())


def events(bench: Bench, **asked: Any) -> list[RawMessageStreamEvent]:
    return list(bench.sdk().messages.create(**ASKED | asked, stream=True))


def final(bench: Bench, **asked: Any) -> Message:
    with bench.sdk().messages.stream(**ASKED | asked) as stream:
        return stream.get_final_message()


def wire(bench: Bench, **asked: Any) -> list[tuple[str, Json]]:
    """The events as they stand on the wire, pings too."""
    with bench.sdk().messages.with_streaming_response.create(**ASKED | asked, stream=True) as response:
        whole = "\n".join(response.iter_lines())
    pairs = (block.split("\n", 1) for block in whole.split("\n\n") if block)
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in pairs]


def test_rule_46_the_events_come_in_the_documented_order(bench: Bench) -> None:
    """Message start, ping, each block opened, filled and closed in turn, message delta, message stop."""
    play(bench, text("x" * 1_500), CALL)

    found = wire(bench)

    block = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"]
    call = [*block[:2], *block[1:]]
    assert [name for name, _ in found] == ["message_start", "ping", *block, *call, "message_delta", "message_stop"]
    assert all(data["type"] == name for name, data in found)
    assert [data["index"] for name, data in found if name.startswith("content_block")] == [0] * 4 + [1] * 5


def test_rule_46_the_message_opens_empty_with_all_of_its_input_counted(bench: Bench) -> None:
    """`message_start` has no content, no stop reason, hardly any output, and every figure of the input."""
    play(bench, text("x " * 1_500))

    start = events(bench, **MARKED)[0]

    assert isinstance(start, RawMessageStartEvent)
    opened = start.message
    assert (opened.content, opened.stop_reason, opened.stop_sequence, opened.role) == ([], None, None, "assistant")
    assert opened.usage.output_tokens == 1
    assert opened.usage.cache_creation_input_tokens
    assert opened.usage.service_tier == "standard"


def test_rule_46_lifetimes_of_writes_stand_in_the_message_start_only(bench: Bench) -> None:
    """The split into 5 minutes and 1 hour opens the stream; the delta has their sum."""
    play(bench, text("Done."))

    found = wire(bench, **MARKED)

    started, ended = found[0][1]["message"]["usage"], found[-2][1]["usage"]
    split = started["cache_creation"]
    assert split["ephemeral_1h_input_tokens"] > 1_000
    assert split["ephemeral_5m_input_tokens"] > 1_000
    assert "cache_creation" not in ended
    assert ended["cache_creation_input_tokens"] == sum(split.values())


def test_rule_46_the_usage_of_a_message_delta_is_cumulative(bench: Bench) -> None:
    """Its figures replace those of the start: added to them they would count twice."""
    play(bench, text("x " * 1_500))

    *_, delta, _ = events(bench, **MARKED)
    whole = bench.sdk().messages.create(**MARKED)

    assert isinstance(delta, RawMessageDeltaEvent)
    line = bench.lines()[0]
    assert delta.usage.output_tokens == line["output_tokens"] == whole.usage.output_tokens
    assert delta.usage.input_tokens == line["input_tokens"]


@pytest.mark.parametrize("by", ["setting", "fault"])
def test_rule_46_a_second_message_delta_adds_nothing(bench: Bench, by: str) -> None:
    """The API may report twice; both times the sum so far, and the stop reason with the last."""
    settings = EmulatorSettings(second_message_delta=by == "setting")
    faults = Faults.of({"request": 1, "fault": "second_message_delta"}) if by == "fault" else Faults()
    play(bench, text("x " * 1_500), settings=settings, faults=faults)

    message = final(bench)
    play(bench, text("x " * 1_500), settings=settings, faults=faults)
    first, second = [e for e in events(bench) if isinstance(e, RawMessageDeltaEvent)]

    assert 1 < first.usage.output_tokens < second.usage.output_tokens == message.usage.output_tokens
    assert (first.delta.stop_reason, second.delta.stop_reason, message.stop_reason) == (None, "end_turn", "end_turn")
    assert bench.lines()[0]["output_tokens"] == message.usage.output_tokens


def test_rule_46_the_end_says_why_it_ended(bench: Bench) -> None:
    """Stop reason and its details come with the last delta, not before."""
    details = {"type": "refusal", "category": "cyber", "explanation": None}
    bench.play(Function("test", lambda request, step: ScriptedReply((text("No."),), "refusal", stop_details=details)))

    found = wire(bench)

    assert found[0][1]["message"]["stop_details"] is None
    assert found[-2][1]["delta"] == {"stop_reason": "refusal", "stop_sequence": None, "stop_details": details}


def test_rule_46_events_that_are_not_known_do_no_harm(bench: Bench) -> None:
    """A client ignores them, as documented: the message is the same."""
    play(bench, text("Long. " * 600), CALL)
    plain = final(bench).to_dict()
    play(bench, text("Long. " * 600), CALL, faults=Faults.of({"request": 1, "fault": "unknown_event"}))

    assert final(bench).to_dict() == plain
    assert [f["fault"] for f in bench.emulator.report()["faults"]] == ["unknown_event"]


def test_rule_46_citations_come_as_deltas_behind_the_text(bench: Bench) -> None:
    """A cited text opens without its citations; each of them is a delta."""
    cited = {"type": "char_location", "cited_text": "x", "document_index": 0, "document_title": None,
             "start_char_index": 0, "end_char_index": 1, "file_id": None}  # fmt: skip
    play(bench, text("So.") | {"citations": [cited, cited]})

    opened, *deltas = [d for name, d in wire(bench) if name in ("content_block_start", "content_block_delta")]

    assert opened["content_block"]["citations"] == []
    assert [d["delta"]["type"] for d in deltas] == ["text_delta", "citations_delta", "citations_delta"]


def test_rule_48_diagnostics_come_with_the_message_start(bench: Bench) -> None:
    """Why the cache was missed is said before the first word."""
    play(bench, text("Done."))
    first = bench.sdk().messages.create(**MARKED, diagnostics={"previous_message_id": None})
    bench.now += 60
    changed = MARKED | {"system": "other " * 1_500}

    start = events(bench, **changed, diagnostics={"previous_message_id": first.id})[0]

    assert isinstance(start, RawMessageStartEvent)
    assert start.message.diagnostics is not None
    assert start.message.diagnostics.cache_miss_reason is not None
    assert start.message.diagnostics.cache_miss_reason.type == "system_changed"


def test_rule_48_input_transformations_come_with_the_message_start(bench: Bench) -> None:
    """What was left out of the input is said before the first word, and only there."""
    play(bench, {"type": "thinking", "thinking": "Hm.", "signature": ""}, text("So."))
    betas = ["thinking-binding-controls-2026-08-01"]
    thinking: Any = {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}
    asked: Any = {"model": MODEL, "max_tokens": 1_000, "thinking": thinking, "betas": betas}
    opening: Any = {"role": "user", "content": "Hello."}
    said = bench.sdk().beta.messages.create(**asked, messages=[opening])
    answered: Any = {"role": "assistant", "content": [b.to_dict() for b in said.content]}
    other: Any = {"role": "user", "content": "Hello again."}

    stream = bench.sdk().beta.messages.create(**asked, messages=[other, answered, opening], stream=True)
    start, *rest = list(stream)

    assert start.type == "message_start"
    assert [t.type for t in start.message.input_transformations or []] == ["thinking_dropped"]
    assert not any("input_transformations" in e.to_dict() for e in rest)
