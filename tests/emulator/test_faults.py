"""Rule 8: what each planned fault looks like to the SDK. What a session makes of it stands in test_sessions_under_faults.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic
from anthropic.types import Message

from agentloop.emulator import Function
from agentloop.emulator.faults import Faults
from agentloop.emulator.server import running
from agentloop.emulator.transport import BASE_URL, client
from agentloop.types.base import Json
from agentloop.types.blocks import Block, text, tool_use
from tests.emulator.conftest import MODEL

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

HELLO: dict[str, Any] = {"model": MODEL, "max_tokens": 10_000, "messages": [{"role": "user", "content": "word " * 1_500}]}
MARKED = HELLO | {"cache_control": {"type": "ephemeral"}}
WORDS = "Long. " * 1_000
CALL = tool_use("toolu_1", "look", {"at": "x" * 200})


def play(bench: Bench, fault: str | int, *content: Block, **about: Any) -> None:
    """Hit the first request with this fault."""
    said = content or (text(WORDS), CALL)
    bench.play(Function("test", lambda r, s: list(said)), faults=Faults.of({"request": 1, "fault": fault, **about}))


def create(bench: Bench, **asked: Any) -> Message:
    message: Message = bench.sdk().messages.create(**MARKED | asked)
    return message


def stream(bench: Bench, **asked: Any) -> Message:
    with bench.sdk().messages.stream(**MARKED | asked) as streamed:
        return streamed.get_final_message()


def wire(bench: Bench) -> list[Json]:
    """The data of the events that arrive."""
    with bench.sdk().messages.with_streaming_response.create(**MARKED, stream=True) as response:
        return [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]


REFUSALS: list[tuple[str | int, type[anthropic.APIStatusError], str]] = [
    (400, anthropic.BadRequestError, "invalid_request_error"),
    (401, anthropic.AuthenticationError, "authentication_error"),
    (402, anthropic.PaymentRequiredError, "billing_error"),
    (403, anthropic.PermissionDeniedError, "permission_error"),
    (404, anthropic.NotFoundError, "not_found_error"),
    (408, anthropic.RequestTimeoutError, "timeout_error"),
    (409, anthropic.ConflictError, "conflict_error"),
    (413, anthropic.ContentTooLargeError, "request_too_large"),
    (422, anthropic.UnprocessableEntityError, "invalid_request_error"),
    (429, anthropic.RateLimitError, "rate_limit_error"),
    (500, anthropic.InternalServerError, "api_error"),
    (503, anthropic.ServiceUnavailableError, "api_error"),
    (504, anthropic.GatewayTimeoutError, "timeout_error"),
    (529, anthropic.OverloadedError, "overloaded_error"),
    ("spend_limit", anthropic.RateLimitError, "rate_limit_error"),
    ("own_spend_limit", anthropic.BadRequestError, "invalid_request_error"),
]


@pytest.mark.parametrize("ask", [create, stream])
@pytest.mark.parametrize(("fault", "kind", "type"), REFUSALS)
def test_rule_08_an_error_of_the_api_is_one_of_the_sdk(
    bench: Bench, fault: str | int, kind: type[anthropic.APIStatusError], type: str, ask: Callable[[Bench], Message]
) -> None:
    """Each status is an exception of its own; the request was never run, so it wrote nothing and is free."""
    play(bench, fault)

    with pytest.raises(kind) as refused:
        ask(bench)
    ask(bench)

    assert refused.value.type == type
    assert refused.value.request_id
    [line] = bench.lines()  # the first left no line, and no entry to be read
    assert (line["cache_read_input_tokens"], line["request_id"]) == (0, "req_emulator_00000002")


def test_rule_08_a_rate_limit_may_say_how_long_to_wait(bench: Bench) -> None:
    """`retry-after` in seconds, `retry-after-ms`, and `x-should-retry` are sent where they are planned, only there."""
    play(bench, 429, retry_after_s=7, retry_after_ms=250, should_retry=False)
    with pytest.raises(anthropic.RateLimitError) as told:
        create(bench)
    play(bench, 429)
    with pytest.raises(anthropic.RateLimitError) as untold:
        create(bench)

    names = ("retry-after", "retry-after-ms", "x-should-retry")
    assert [told.value.response.headers.get(n) for n in names] == ["7", "250", "false"]
    assert [untold.value.response.headers.get(n) for n in names] == [None] * 3


def test_rule_08_a_spend_limit_has_a_code_and_no_retry_after(bench: Bench) -> None:
    """It is a 429 that keeps failing; only its code tells it from a rate limit."""
    play(bench, "spend_limit")

    with pytest.raises(anthropic.RateLimitError) as refused:
        create(bench)

    assert refused.value.error_code == "enforced_spend_limit_reached"
    assert "retry-after" not in refused.value.response.headers


def test_rule_08_the_sdk_itself_retries_what_it_may(bench: Bench) -> None:
    """With its own retries on, the SDK gets over faults that may be retried and obeys `x-should-retry`."""

    def attempts(*faults: Json) -> tuple[str, int]:
        bench.play(Function("test", lambda r, s: [text("Done.")]), faults=Faults.of(*faults))
        sdk = Anthropic(api_key="k", base_url=BASE_URL, http_client=client(bench.emulator), max_retries=2)
        try:
            outcome = str(sdk.messages.create(**HELLO).stop_reason)
        except anthropic.APIStatusError as e:
            outcome = str(e.status_code)
        return outcome, len(bench.emulator.report()["faults"])

    soon = {"retry_after_ms": 1}
    assert attempts({"request": 1, "fault": 529, **soon}, {"request": 2, "fault": 500, **soon}) == ("end_turn", 2)
    assert attempts({"requests": [1, 2, 3], "fault": 429, **soon}) == ("429", 3)
    assert attempts({"request": 1, "fault": 529, "should_retry": False}) == ("529", 1)
    assert attempts({"request": 1, "fault": 400, "should_retry": True, **soon}) == ("end_turn", 1)


def test_rule_08_a_slow_first_byte_lasts_and_delays_what_can_be_read(bench: Bench) -> None:
    """The answer is whole, but late; what it wrote can be read only once it had begun."""
    play(bench, "slow_first_byte", seconds=40)

    late = create(bench)
    bench.now += 30
    early = create(bench)
    bench.now += 15
    after = create(bench)

    assert bench.slept == [40]
    assert late.stop_reason == "tool_use"
    assert (early.usage.cache_read_input_tokens, bool(after.usage.cache_read_input_tokens)) == (0, True)


@pytest.mark.parametrize("ask", [create, stream])
def test_rule_08_a_stall_in_the_middle_lasts_and_then_goes_on(bench: Bench, ask: Callable[[Bench], Message]) -> None:
    """Half of the answer, nothing for a while, the other half."""
    play(bench, "stall", seconds=90)

    assert ask(bench).stop_reason == "tool_use"
    assert bench.slept == [90]


def test_rule_08_a_stall_is_longer_than_a_client_may_be_willing_to_wait(bench: Bench) -> None:
    """Over HTTP the silence is real: a read timeout ends it."""
    play(bench, "stall", seconds=5)
    with (
        running(bench.emulator) as url,
        Anthropic(api_key="k", base_url=url, max_retries=0, timeout=0.3) as sdk,
        pytest.raises(httpx2.ReadTimeout),
        sdk.messages.stream(**HELLO) as streamed,
    ):
        streamed.get_final_message()

    assert len(bench.lines()) == 1


@pytest.mark.parametrize("over_http", [False, True])
def test_rule_08_a_connection_reset_before_the_first_byte_costs_nothing(bench: Bench, over_http: bool) -> None:
    """The client sees a connection error; the request left no trace."""
    play(bench, "reset")
    if over_http:
        with running(bench.emulator) as url, Anthropic(api_key="k", base_url=url, max_retries=0) as sdk:
            with pytest.raises(anthropic.APIConnectionError):
                sdk.messages.create(**HELLO)
            assert sdk.messages.create(**HELLO).stop_reason == "tool_use"
    else:
        with pytest.raises(anthropic.APIConnectionError):
            create(bench)
        create(bench)

    assert len(bench.lines()) == 1


@pytest.mark.parametrize("over_http", [False, True])
def test_rule_08_a_connection_reset_in_the_middle_is_billed(bench: Bench, over_http: bool) -> None:
    """Some events arrive, then the connection is gone; the output had begun, so it is in the report."""
    play(bench, "reset_mid_stream")
    if over_http:
        with running(bench.emulator) as url, Anthropic(api_key="k", base_url=url, max_retries=0) as sdk:
            events = iter(sdk.messages.create(**HELLO, stream=True))
            with pytest.raises(httpx2.TransportError):
                list(events)
    else:
        events = iter(bench.sdk().messages.create(**HELLO, stream=True))
        assert next(events).type == "message_start"
        with pytest.raises(httpx2.TransportError):
            list(events)

    [line] = bench.lines()
    assert line["output_tokens"] > 1_000


def test_rule_08_an_error_in_a_stream_has_status_200(bench: Bench) -> None:
    """The SDK raises its plain status error, with the type of the error; it is billed, the output had begun."""
    play(bench, "error_event")

    with pytest.raises(anthropic.APIStatusError) as broken:
        stream(bench)

    assert (broken.value.status_code, broken.value.type) == (200, "overloaded_error")
    assert len(bench.lines()) == 1


def test_rule_08_an_error_that_is_not_streamed_has_its_own_status(bench: Bench) -> None:
    """Without a stream the same error is an ordinary refusal."""
    play(bench, "error_event", error_type="api_error")

    with pytest.raises(anthropic.InternalServerError):
        create(bench)

    assert bench.lines() == []


@pytest.mark.parametrize("after", [0.0, 0.5, 1.0])
def test_rule_08_a_stream_cut_before_its_end_has_no_stop_reason(bench: Bench, after: float) -> None:
    """The SDK takes it in silence; the stop reason is missing and the output is that of the start."""
    play(bench, "cut_stream", after=after)

    message = stream(bench)

    assert message.stop_reason is None
    assert message.usage.output_tokens == 1
    assert bench.lines()[0]["output_tokens"] > 1_000


def test_rule_08_a_body_cut_in_the_middle_is_no_json(bench: Bench) -> None:
    """Without a stream, half a body is no answer."""
    play(bench, "cut_stream")

    with pytest.raises((anthropic.APIError, ValueError)):
        create(bench)


def test_rule_08_a_stream_can_end_inside_the_input_of_a_call(bench: Bench) -> None:
    """The last thing that arrives is half of a call's JSON."""
    play(bench, "cut_in_tool_call")

    last = wire(bench)[-1]

    piece = last["delta"]["partial_json"]
    assert piece
    assert not piece.endswith("}")
    with pytest.raises(ValueError, match="Unterminated string"):
        json.loads(piece)


def test_rule_08_html_with_status_200_is_no_answer(bench: Bench) -> None:
    """A page of some network in between: never run, free."""
    play(bench, "html")

    with bench.sdk().messages.with_streaming_response.create(**HELLO) as response:
        assert response.headers["content-type"].startswith("text/html")
        assert "<html>" in response.text()

    assert bench.lines() == []


def test_two_calls_can_have_one_id(bench: Bench) -> None:
    play(bench, "duplicate_tool_ids")

    assert [b.id for b in stream(bench).content if b.type == "tool_use"] == ["toolu_1", "toolu_1"]


def test_an_end_turn_can_be_empty(bench: Bench) -> None:
    play(bench, "empty_end_turn")

    message = create(bench)

    assert (message.content, message.stop_reason, message.usage.output_tokens) == ([], "end_turn", 3)


@pytest.mark.parametrize("category", ["cyber", "bio", None])
def test_a_refusal_can_come_before_any_output_or_after_some(bench: Bench, category: str | None) -> None:
    play(bench, "refusal_before_output", category=category)
    before = create(bench)
    play(bench, "refusal_after_output", category=category)
    after = stream(bench)

    assert (before.content, before.stop_reason) == ([], "refusal")
    assert ([b.type for b in after.content], after.stop_reason) == (["text"], "refusal")
    assert before.stop_details is not None
    assert before.stop_details.category == category


def test_a_turn_can_be_paused_and_is_taken_up_as_it_was(bench: Bench) -> None:
    play(bench, "pause_turn", text("I search."))

    paused = stream(bench)
    going_on: Any = [*MARKED["messages"], {"role": "assistant", "content": [b.to_dict() for b in paused.content]}]
    done = stream(bench, messages=going_on)

    assert (paused.stop_reason, paused.content[1].type) == ("pause_turn", "server_tool_use")
    assert done.stop_reason == "end_turn"


def test_max_tokens_can_cut_a_call_in_the_middle(bench: Bench) -> None:
    play(bench, "max_tokens_in_tool_call")
    events = wire(bench)
    play(bench, "max_tokens_in_tool_call")
    whole = create(bench)

    pieces = [e["delta"]["partial_json"] for e in events if (e.get("delta") or {}).get("type") == "input_json_delta"]
    assert (events[-1]["type"], events[-2]["delta"]["stop_reason"]) == ("message_stop", "max_tokens")
    with pytest.raises(ValueError, match="Unterminated string"):
        json.loads("".join(pieces))
    assert (whole.stop_reason, whole.content[-1].to_dict()["input"]) == ("max_tokens", {})


def test_stop_reasons_and_blocks_can_be_new(bench: Bench) -> None:
    play(bench, "unknown_stop_reason")
    new_reason = stream(bench)
    play(bench, "unknown_block")
    new_block = create(bench)

    assert str(new_reason.stop_reason) == "not_known_yet"
    assert [str(b.type) for b in new_block.content] == ["text", "tool_use", "not_known_yet"]


@pytest.mark.parametrize("endpoint", ["count_tokens", "batches", "models"])
def test_every_endpoint_can_fail(bench: Bench, endpoint: str) -> None:
    bench.play(Function("t", lambda r, s: [text("x")]), faults=Faults.of({"endpoint": endpoint, "request": 2, "fault": 503}))
    ask: dict[str, Callable[[], Any]] = {
        "count_tokens": lambda: bench.sdk().messages.count_tokens(model=MODEL, messages=HELLO["messages"]),
        "batches": lambda: bench.sdk().messages.batches.list(),
        "models": lambda: bench.sdk().models.list(),
    }

    create(bench)
    create(bench)
    ask[endpoint]()
    with pytest.raises(anthropic.ServiceUnavailableError):
        ask[endpoint]()
    ask[endpoint]()
