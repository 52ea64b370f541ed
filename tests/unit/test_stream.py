import json
from typing import Any

import pytest

from agentloop.core.stream import StreamBroken, StreamedReply, read_usage
from agentloop.types.base import Json
from agentloop.types.request import Reply
from agentloop.types.usage import Iteration, Usage
from tests.unit.lines import used

START: Json = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 10, "output_tokens": 1}},
}
STOP: Json = {"type": "message_stop"}


def block(index: int, first: Json, *deltas: Json) -> list[Json]:
    """The events of one content block."""
    return [
        {"type": "content_block_start", "index": index, "content_block": first},
        *({"type": "content_block_delta", "index": index, "delta": d} for d in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def says(words: str, index: int = 0) -> list[Json]:
    return block(index, {"type": "text", "text": ""}, {"type": "text_delta", "text": words})


def calls(written: str, index: int = 0) -> list[Json]:
    first = {"type": "tool_use", "id": "c", "name": "look", "input": {}}
    return block(index, first, *({"type": "input_json_delta", "partial_json": p} for p in (written[:3], written[3:])))


def end(stop_reason: str | None = "end_turn", **usage: object) -> list[Json]:
    told = {"output_tokens": 7, **usage}
    return [{"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": told}, STOP]


def put_together(*parts: Any) -> Reply:
    streamed = StreamedReply()
    for part in parts:
        for event in part if isinstance(part, list) else [part]:
            streamed.feed(event)
    return streamed.reply("req_1", 1_000)


def test_a_reply_is_put_together_from_its_deltas() -> None:
    reply = put_together(START, says("Good ") + says("day.", 1), end())

    assert [b["text"] for b in reply.content] == ["Good ", "day."]
    assert (reply.message_id, reply.model, reply.stop_reason, reply.request_id) == ("msg_1", "m", "end_turn", "req_1")


def test_the_input_of_a_tool_call_is_the_json_that_its_deltas_make() -> None:
    reply = put_together(START, calls('{"z": 1, "a": [true, null]}'), end("tool_use"))

    assert list(reply.content[0]["input"].items()) == [("z", 1), ("a", [True, None])]


def test_a_tool_call_without_deltas_has_the_input_it_started_with() -> None:
    first = {"type": "tool_use", "id": "c", "name": "look", "input": {}}

    assert put_together(START, block(0, first), end("tool_use")).content == (first,)


def test_thinking_and_its_signature_are_kept_as_they_came() -> None:
    thinking = block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Hm.\r\n"},
        {"type": "signature_delta", "signature": "EqQB/+=="},
    )

    reply = put_together(START, thinking, end())

    assert reply.content == ({"type": "thinking", "thinking": "Hm.\r\n", "signature": "EqQB/+=="},)


def test_a_block_of_an_unknown_kind_is_kept_with_what_its_unknown_deltas_add() -> None:
    novel = block(0, {"type": "hologram", "z": 1, "a": {"deep": []}}, {"type": "hologram_delta", "angle": 3})

    reply = put_together(START, novel, end())

    assert json.dumps(reply.content[0]) == '{"type": "hologram", "z": 1, "a": {"deep": []}, "angle": 3}'


def test_citations_are_collected() -> None:
    cited = block(0, {"type": "text", "text": "x"}, *({"type": "citations_delta", "citation": {"n": n}} for n in (1, 2)))

    assert put_together(START, cited, end()).content[0]["citations"] == [{"n": 1}, {"n": 2}]


def test_events_of_an_unknown_kind_are_ignored() -> None:
    assert put_together(START, {"type": "weather", "sky": "blue"}, says("x"), end()).content[0]["text"] == "x"


def test_the_usage_of_the_last_delta_takes_the_place_of_the_first() -> None:
    start = {**START, "message": {**START["message"], "usage": {"input_tokens": 10, "output_tokens": 1}}}

    reply = put_together(start, says("x"), end(output_tokens=40, input_tokens=12))

    assert reply.usage == used(12, output=40)


def test_both_lifetimes_are_read_from_the_start_of_the_stream() -> None:
    told = {
        "input_tokens": 1,
        "output_tokens": 1,
        "cache_read_input_tokens": 2,
        "cache_creation_input_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4},
    }

    assert read_usage(told) == used(1, read=2, written=3, hour=4, output=1)


def test_written_tokens_without_a_lifetime_count_as_five_minutes() -> None:
    assert read_usage({"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 7}) == used(1, 0, 7, 0, 1)


def test_of_written_tokens_those_for_an_hour_are_not_for_five_minutes() -> None:
    told = {"cache_creation_input_tokens": 7, "cache_creation": {"ephemeral_1h_input_tokens": 4}}

    assert read_usage({"input_tokens": 1, "output_tokens": 1, **told}) == used(1, written=3, hour=4, output=1)


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        {"input_tokens": None, "output_tokens": 1},
        {"input_tokens": -1, "output_tokens": 1},
        {"input_tokens": "10", "output_tokens": 1},
        {"input_tokens": True, "output_tokens": 1},
        {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": "many"},
        {"input_tokens": 1, "output_tokens": 1, "cache_creation": "many"},
        {"input_tokens": 1, "output_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": -4}},
    ],
)
def test_usage_that_is_no_usage_is_replaced_by_an_upper_estimate_that_says_so(told: object) -> None:
    start = {"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": told}}
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}

    reply = put_together(start, says("x" * 100), stop, STOP)

    # half the 1,000 bytes of the body; half of [{"type":"text","text":"xx…"}], 127 bytes
    assert (reply.usage_estimated, reply.usage) == (True, used(500, output=63))


@pytest.mark.parametrize("told", [None, {}, {"output_tokens": None}, {"input_tokens": 10}], ids=str)
def test_output_that_was_never_counted_is_estimated_and_says_so(told: object) -> None:
    """The figure at the start of a stream counts what is there at its start: nearly nothing."""
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": told}

    reply = put_together(START, says("x" * 100), stop, STOP)

    assert (reply.usage_estimated, reply.usage) == (True, used(10, output=63))


def test_a_prompt_without_a_token_was_not_counted() -> None:
    start = {"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 0}}}

    reply = put_together(start, says("x" * 100), end(output_tokens=0))

    assert (reply.usage_estimated, reply.usage) == (True, used(500, output=63))


def test_fields_that_are_new_are_kept_as_they_came() -> None:
    message = {**START["message"], "weather": {"sky": "blue", "at": [1, None]}, "container": None}
    message["usage"] = {**message["usage"], "moon_tokens": 3}
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "mood": "good"}, "usage": {"output_tokens": 7}}

    reply = put_together({"type": "message_start", "message": message}, says("x"), stop, STOP)

    assert reply.unread == {"weather": {"sky": "blue", "at": [1, None]}, "mood": "good", "usage": {"moon_tokens": 3}}
    assert put_together(START, says("x"), end()).unread is None


def test_a_service_tier_of_another_shape_is_not_a_reason_to_lose_the_usage() -> None:
    told = read_usage({"input_tokens": 1, "output_tokens": 2, "service_tier": 3})

    assert told is not None
    assert told.prompt_tokens == 1


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([], id="nothing"),
        pytest.param([says("x"), end()], id="no start"),
        pytest.param([START, says("x")], id="cut before the last delta"),
        pytest.param([START, says("x"), end()[:1]], id="cut before message_stop"),
        pytest.param([START, says("x"), end(None)], id="stop reason null"),
        pytest.param([START, says("x"), STOP], id="no stop reason"),
        pytest.param([START, says("x")[:-1], end()], id="a block never closed"),
        pytest.param([START, calls('{"a": 1}')[:-1], STOP], id="cut in a tool call whose JSON parses so far"),
        pytest.param([START, calls('{"a": '), end("tool_use")], id="the input of a call is half an object"),
        pytest.param([START, calls('{"a": NaN}'), end("tool_use")], id="the input of a call holds NaN"),
        pytest.param([START, calls("[" * 100_000), end("tool_use")], id="the input of a call is nested without end"),
        pytest.param([START, START, says("x"), end()], id="a second start"),
        pytest.param([START, says("x") + says("y"), end()], id="a block started twice"),
        pytest.param([START, says("x")[1:], end()], id="a delta for a block never opened"),
        pytest.param([START, says("x"), says("x")[2:], end()], id="a block closed twice"),
        pytest.param([START, says("x")[:1], says("y"), end()], id="a block started while it is open"),
        pytest.param([[1, 2]], id="an event that is a list"),
        pytest.param(["hello"], id="an event that is a text"),
        pytest.param([{"type": "message_start"}], id="a start without a message"),
        pytest.param([{"type": "message_start", "message": "hello"}], id="a message that is a text"),
        pytest.param([START, {"type": "message_delta", "delta": "done"}], id="a delta that is a text"),
        pytest.param([START, {"type": "content_block_start", "index": [], "content_block": {}}], id="an index that is a list"),
        pytest.param([START, says("x"), block("1", {"type": "text"}), end()], id="an index that is a text"),  # type: ignore[arg-type]
        pytest.param([START, block(0, {"type": "text"}), end()], id="a text block without text"),
        pytest.param([START, block(0, {"type": "tool_use", "id": "c", "input": {}}), end()], id="a call without a name"),
        pytest.param([START, block(0, {"type": "text"}, {"type": "text_delta"}), end()], id="a text delta without text"),
    ],
)
def test_a_stream_that_is_not_one_whole_reply_is_broken(parts: list[Any]) -> None:
    with pytest.raises(StreamBroken):
        put_together(*parts)


def test_a_cut_off_tool_call_of_a_truncated_reply_is_kept_without_its_half_input() -> None:
    reply = put_together(START, calls('{"a": '), end("max_tokens"))

    assert reply.content == ({"type": "tool_use", "id": "c", "name": "look", "input": {}},)


def test_the_reason_for_a_cache_miss_is_kept() -> None:
    miss = {"type": "system_changed", "cache_missed_input_tokens": 100}
    start = {**START, "message": {**START["message"], "diagnostics": {"cache_miss_reason": miss}}}

    assert put_together(start, says("x"), end()).cache_miss == miss


@pytest.mark.parametrize("diagnostics", [None, {}, {"cache_miss_reason": None}, "pending", {"cache_miss_reason": "later"}])
def test_no_reason_for_a_miss_is_no_reason(diagnostics: object) -> None:
    start = {**START, "message": {**START["message"], "diagnostics": diagnostics}}

    assert put_together(start, says("x"), end()).cache_miss is None


def test_what_was_counted_before_a_stream_broke_is_known() -> None:
    streamed = StreamedReply()

    streamed.feed(START)

    assert streamed.usage_seen == used(10, output=1)


def test_text_that_utf_8_cannot_carry_is_mended_and_other_text_is_left_alone() -> None:
    reply = put_together(START, says("half a pair: \ud83d"), says("as it\r\nwas", 1), end())

    assert [b["text"] for b in reply.content] == ["half a pair: ?", "as it\r\nwas"]


def test_text_that_utf_8_cannot_carry_is_estimated_too_where_nothing_was_counted() -> None:
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}

    assert put_together(START, says("half a pair: \ud83d"), stop, STOP).usage_estimated


def test_how_a_request_was_run_is_part_of_its_usage() -> None:
    told = {"input_tokens": 1, "output_tokens": 2, "service_tier": "batch", "speed": "fast", "inference_geo": "us"}
    searches = {"server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 1}}

    assert read_usage(told | searches) == used(1, output=2).model_copy(
        update={"service_tier": "batch", "speed": "fast", "inference_geo": "us", "web_search_requests": 3}
    )


def test_the_calls_that_one_request_made_are_part_of_its_usage() -> None:
    summary = {"type": "compaction", "input_tokens": 7, "output_tokens": 2, "cache_creation_input_tokens": 5}
    told = {"input_tokens": 0, "output_tokens": 0, "iterations": [summary]}

    found = read_usage(told)

    expected = Iteration(type="compaction", input_tokens=7, output_tokens=2, ephemeral_5m_input_tokens=5)
    assert found == Usage(iterations=(expected,))


@pytest.mark.parametrize(
    "told",
    [{"iterations": [{"input_tokens": -1}]}, {"iterations": ["no"]}, {"server_tool_use": {"web_search_requests": "many"}}],
)
def test_usage_that_cannot_be_billed_is_none(told: Json) -> None:
    assert read_usage({"input_tokens": 1, "output_tokens": 1, **told}) is None
