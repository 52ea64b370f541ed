import json
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

import anthropic
import httpx2
import pytest
from freezegun import freeze_time

from agentloop.adapters import messages_api
from agentloop.adapters.messages_api import MessagesApi, Patience
from agentloop.errors import ConfigError
from agentloop.testing import card
from agentloop.types.base import Json
from agentloop.types.request import Failure, Reply
from agentloop.types.usage import ModelCard
from tests.unit.lines import used

KEY = "sk-ant-canary-0123456789"
BODY = b'{"model":"claude-test","messages":[],"max_tokens":10,"stream":true}'
SSE = {"content-type": "text/event-stream; charset=utf-8", "request-id": "req_1"}
START: Json = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "claude-test", "usage": {"input_tokens": 10, "output_tokens": 1}},
}
TEXT: list[Json] = [
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Good day."}},
    {"type": "content_block_stop", "index": 0},
]
STOP: Json = {"type": "message_stop"}

Answer = httpx2.Response | Exception | Callable[[], httpx2.Response]


def ends(stop_reason: str | None = "end_turn") -> Json:
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": {"output_tokens": 7}}


def sse(*events: Json) -> bytes:
    return b"".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events)


WHOLE = sse(START, *TEXT, ends(), STOP)


class Bytes(httpx2.SyncByteStream):
    """A response body in pieces; an exception among them is raised in its place."""

    def __init__(self, pieces: Sequence[bytes | Exception] | Iterator[bytes]) -> None:
        self._pieces = pieces
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        self.closed = True


def stream(*pieces: bytes | Exception) -> httpx2.Response:
    return httpx2.Response(200, headers=SSE, stream=Bytes(pieces))


def good() -> httpx2.Response:
    return stream(WHOLE)


def error(
    status: int, kind: str = "", message: str = "It went wrong.", code: str | None = None, **headers: str
) -> httpx2.Response:
    told: Json = {"type": kind, "message": message} | ({"details": {"error_code": code}} if code else {})
    named = {k.replace("_", "-"): v for k, v in headers.items()}
    return httpx2.Response(status, headers=named, json={"type": "error", "error": told, "request_id": "req_9"})


class Api:
    """A client whose server gives these answers in turn, the last one again when they run out."""

    def __init__(self, *answers: Answer, patience: Patience | None = None, card_of: object = None) -> None:
        self.requests: list[httpx2.Request] = []
        self.slept: list[float] = []
        self._answers = list(answers)
        self.client = MessagesApi(
            api_key=KEY,
            http_client=httpx2.Client(transport=httpx2.MockTransport(self._answer)),
            patience=patience,
            sleep=self.slept.append,
            **({"card_of": card_of} if card_of else {}),  # type: ignore[arg-type]
        )

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx2.Response) else answer()

    def ask(self) -> list[Failure | Reply]:
        return list(self.client.ask(BODY))

    def reply(self) -> Reply:
        last = self.ask()[-1]
        assert isinstance(last, Reply), last
        return last

    def failures(self) -> list[Failure]:
        return [a for a in self.ask() if isinstance(a, Failure)]


def failure(*answers: Answer, **options: object) -> Failure:
    """The only failure of a request that is not tried again."""
    api = Api(*answers, **options)  # type: ignore[arg-type]
    (found,) = api.failures()
    assert (found.retry_in_s, len(api.requests), api.slept) == (None, 1, [])
    return found


def retried(*answers: Answer) -> Failure:
    """The failure of a first attempt, after which the second one succeeded."""
    api = Api(*answers, good)
    first, second = api.ask()
    assert isinstance(first, Failure)
    assert isinstance(second, Reply)
    assert len(api.requests) == 2
    assert api.slept == [first.retry_in_s]
    return first


def test_a_request_is_answered_with_the_whole_reply() -> None:
    api = Api(good)

    assert api.ask() == [
        Reply(
            message_id="msg_1",
            model="claude-test",
            content=({"type": "text", "text": "Good day."},),
            stop_reason="end_turn",
            usage=used(10, output=7),
            request_id="req_1",
        )
    ]


def test_the_body_is_sent_byte_for_byte() -> None:
    api = Api(good)

    api.ask()

    (request,) = api.requests
    assert (request.content, request.method, request.url.path) == (BODY, "POST", "/v1/messages")
    assert request.headers["content-type"] == "application/json"


def test_the_key_goes_into_the_header_and_nowhere_else() -> None:
    api = Api(good)

    api.ask()

    (request,) = api.requests
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in str(request.url)


# A01


def test_a_rate_limit_is_waited_out_for_as_long_as_the_server_asks() -> None:
    first = retried(error(429, "rate_limit_error", retry_after="7"))

    assert (first.kind, first.status, first.attempt, first.retry_in_s) == ("unavailable", 429, 1, 7.0)


def test_each_attempt_sends_the_same_bytes() -> None:
    api = Api(error(429, "rate_limit_error", retry_after="1"), error(529, "overloaded_error"), good)

    api.ask()

    assert [r.content for r in api.requests] == [BODY] * 3


def test_milliseconds_are_taken_before_seconds() -> None:
    assert retried(error(429, "rate_limit_error", retry_after="7", retry_after_ms="1500")).retry_in_s == 1.5


@freeze_time("2026-01-05 12:00:00")
def test_a_date_to_wait_for_is_understood() -> None:
    busy = error(429, "rate_limit_error", retry_after="Mon, 05 Jan 2026 12:00:30 GMT")

    assert retried(busy).retry_in_s == 30.0


@pytest.mark.parametrize("nonsense", ["soon", "", "Mon, 99 Foo 2026"])
def test_a_wait_that_is_none_is_replaced_by_backoff(nonsense: str) -> None:
    wait = retried(error(429, "rate_limit_error", retry_after=nonsense)).retry_in_s

    assert wait is not None
    assert 0 <= wait <= 1


def test_the_attempts_are_limited_over_all_layers_together() -> None:
    api = Api(error(429, "rate_limit_error", retry_after="1"), patience=Patience(attempts=3))

    failures = api.failures()

    assert len(api.requests) == 3
    assert [(f.attempt, f.retry_in_s) for f in failures] == [(1, 1.0), (2, 1.0), (3, None)]
    assert api.slept == [1.0, 1.0]


def test_the_waiting_is_limited_in_all() -> None:
    api = Api(error(429, "rate_limit_error", retry_after="7"), patience=Patience(total_wait_s=20))

    assert [f.retry_in_s for f in api.failures()] == [7.0, 7.0, None]  # a third wait would make 21 seconds
    assert api.slept == [7.0, 7.0]


@pytest.mark.parametrize("seconds", ["121", "86400", "inf"])
def test_a_server_that_asks_for_a_longer_wait_than_is_reasonable_is_unavailable(seconds: str) -> None:
    found = failure(error(429, "rate_limit_error", message="Slow down.", retry_after=seconds))

    assert found.kind == "unavailable"
    assert found.message == f"the server asks for {float(seconds):g} seconds of waiting: Slow down."


# A02, A03


@pytest.mark.parametrize(
    "answer",
    [
        error(429, "rate_limit_error", code="enforced_spend_limit_reached"),
        error(402, "billing_error"),
        error(400, "invalid_request_error", message="Your credit balance is too low to access the API."),
        error(400, "invalid_request_error", message="You have reached your specified API usage limits."),
        error(429, "rate_limit_error", code="enforced_spend_limit_reached", x_should_retry="true"),
        httpx2.Response(402, text="<html>Payment required</html>"),
    ],
    ids=["code", "402", "credit", "own limit", "though told to retry", "402 without a body"],
)
def test_a_spend_limit_is_not_tried_again(answer: httpx2.Response) -> None:
    assert failure(answer).kind == "spend_limit"


# A04


@pytest.mark.parametrize(
    ("status", "kind"), [(500, "api_error"), (502, ""), (503, ""), (504, "timeout_error"), (529, "overloaded_error")]
)
def test_trouble_of_the_server_is_tried_again(status: int, kind: str) -> None:
    first = retried(error(status, kind))

    assert (first.kind, first.status) == ("unavailable", status)


def test_a_burst_of_trouble_is_survived() -> None:
    burst = [error(s) for s in (529, 500, 502, 503, 504, 529, 529)]
    api = Api(*burst, good)

    *failures, reply = api.ask()

    assert [f.status for f in failures if isinstance(f, Failure)] == [529, 500, 502, 503, 504, 529, 529]
    assert isinstance(reply, Reply)


def test_a_burst_longer_than_the_patience_ends_as_unavailable() -> None:
    api = Api(error(529, "overloaded_error"))

    failures = api.failures()

    assert (len(api.requests), [f.attempt for f in failures]) == (8, list(range(1, 9)))
    assert (failures[-1].kind, failures[-1].retry_in_s) == ("unavailable", None)


def test_the_waits_grow_with_jitter_up_to_a_cap() -> None:
    api = Api(error(529, "overloaded_error"), patience=Patience(attempts=12, longest_wait_s=16))

    api.ask()

    assert all(0 <= wait <= min(2**n, 16) for n, wait in enumerate(api.slept))
    assert len(set(api.slept)) > 1


def test_a_server_that_worked_too_long_may_have_billed_it() -> None:
    assert retried(error(504, "timeout_error")).possibly_billed
    assert not retried(error(529, "overloaded_error")).possibly_billed


# A05


@pytest.mark.parametrize("status", [429, 500, 529])
def test_a_server_that_says_not_to_retry_is_obeyed(status: int) -> None:
    assert failure(error(status, x_should_retry="false")).kind == "unavailable"


def test_a_server_that_says_to_retry_is_obeyed() -> None:
    assert retried(error(400, "invalid_request_error", x_should_retry="true")).kind == "invalid_request"


# A06


@pytest.mark.parametrize(("status", "kind"), [(401, "authentication_error"), (403, "permission_error"), (401, ""), (403, "")])
def test_a_key_that_is_refused_is_not_tried_again_and_its_setting_is_named(status: int, kind: str) -> None:
    found = failure(error(status, kind, message="invalid key"))

    assert found.kind == "unauthorized"
    assert "ANTHROPIC_API_KEY" in found.message


# A07


def test_a_model_that_is_not_there_is_named() -> None:
    found = failure(error(404, "not_found_error", message="model: claude-test"))

    assert (found.kind, found.message) == ("model_not_found", "model 'claude-test' is not there: model: claude-test")


# A08


@pytest.mark.parametrize("hint", [{}, {"x_should_retry": "true"}])
def test_a_request_that_is_too_large_is_never_sent_again(hint: dict[str, str]) -> None:
    found = failure(error(413, "request_too_large", message="Too large.", **hint))

    assert (found.kind, found.message) == ("request_too_large", f"the request of {len(BODY)} bytes was too large: Too large.")


def test_a_request_over_the_size_that_the_api_takes_is_not_sent_at_all() -> None:
    api = Api(good)
    body = b"x" * (messages_api.MOST_REQUEST_BYTES + 1)

    (found,) = api.client.ask(body)

    assert isinstance(found, Failure)
    assert (api.requests, found.kind, found.retry_in_s, found.possibly_billed) == ([], "request_too_large", None, False)
    assert "33,554,433 bytes" in found.message


# A09, A10


@pytest.mark.parametrize("hint", [{}, {"x_should_retry": "true"}])
def test_a_prompt_that_is_too_long_is_known_and_not_sent_again(hint: dict[str, str]) -> None:
    told = "prompt is too long: 208310 tokens > 200000 maximum"

    found = failure(error(400, "invalid_request_error", message=told, **hint))

    assert (found.kind, found.message) == ("prompt_too_long", told)


@pytest.mark.parametrize(
    "answer",
    [
        error(400, "invalid_request_error", message="messages.1: bad"),
        error(422, "invalid_request_error"),
        httpx2.Response(400, text="<html>Bad request</html>"),
        httpx2.Response(422, text=""),
    ],
    ids=["400", "422", "400 without a body", "422 without a body"],
)
def test_a_request_that_the_server_does_not_accept_is_not_sent_again(answer: httpx2.Response) -> None:
    assert failure(answer).kind == "invalid_request"


# A11


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(200, headers={"content-type": "text/html"}, text="<html>Please log in</html>"),
        httpx2.Response(200, headers={"content-type": "application/json"}, json={"id": "msg_1", "content": []}),
        httpx2.Response(200),
        httpx2.Response(200, headers=SSE, content=b""),
        httpx2.Response(204),
    ],
    ids=["HTML", "JSON", "nothing", "an empty stream", "204"],
)
def test_what_is_no_answer_of_the_api_is_tried_again(answer: httpx2.Response) -> None:
    first = retried(answer)

    assert (first.kind, first.usage) == ("not_an_answer", None)


def test_what_came_instead_of_an_answer_is_told() -> None:
    page = httpx2.Response(200, headers={"content-type": "text/html"}, text="<html>")

    assert retried(page).message == ("not an API answer: expected an event stream, found text/html (a proxy or login page?)")


def test_a_proxy_that_never_lets_a_request_through_is_given_up() -> None:
    api = Api(lambda: httpx2.Response(200, headers={"content-type": "text/html"}, text="<html>"), patience=Patience(attempts=3))

    assert [f.kind for f in api.failures()] == ["not_an_answer"] * 3


# A12


def test_unknown_blocks_fields_and_stop_reasons_are_kept() -> None:
    novel = {"type": "hologram", "z": 1, "a": [2, {"deep": None}]}
    start = {"type": "content_block_start", "index": 0, "content_block": novel, "new": True}
    events = sse(START, start, {"type": "content_block_stop", "index": 0}, ends("astonished"), STOP)

    reply = Api(stream(events)).reply()

    assert json.dumps(reply.content[0]) == json.dumps(novel)
    assert reply.stop_reason == "astonished"


def test_thinking_and_its_signature_are_kept_byte_for_byte() -> None:
    signature = "EqQBCgIYAhIM+/==\u00e9"
    events = sse(
        START,
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm\u2026 \n\t"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": signature}},
        {"type": "content_block_stop", "index": 0},
        *[{**e, "index": 1} for e in TEXT],
        ends(),
        STOP,
    )

    # cut into single bytes: nothing depends on how the network divides it
    reply = Api(stream(*(bytes([b]) for b in events))).reply()

    assert reply.content[0] == {"type": "thinking", "thinking": "Hm\u2026 \n\t", "signature": signature}


# A19


def test_a_reply_without_usage_is_estimated_and_says_so() -> None:
    start: Json = {"type": "message_start", "message": {"id": "msg_1", "model": "claude-test"}}
    events = sse(start, *TEXT, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, STOP)

    reply = Api(stream(events)).reply()

    assert reply.usage_estimated
    assert reply.usage.input_tokens == len(BODY) // 2


CARDS: dict[str, ModelCard] = {
    "claude-test": card(),
    "claude-test-20260105": card(),
    "claude-other": card(id="claude-other"),
}


@pytest.mark.parametrize(
    ("answered", "priced_by"),
    [("claude-test", None), ("claude-test-20260105", None), ("claude-other", "claude-other"), ("x", None)],
)
def test_a_reply_is_priced_by_the_model_that_answered(answered: str, priced_by: str | None) -> None:
    start = {**START, "message": {**START["message"], "model": answered}}
    api = Api(stream(sse(start, *TEXT, ends(), STOP)), card_of=CARDS.get)

    reply = api.reply()

    assert (reply.model, reply.priced_by.id if reply.priced_by else None) == (answered, priced_by)


# A20


@pytest.mark.parametrize(
    "trouble",
    [httpx2.ConnectError("refused"), httpx2.ConnectError("Name or service not known"), httpx2.ProxyError("407")],
    ids=["refused", "DNS", "proxy"],
)
def test_a_server_that_is_not_reached_is_tried_again_and_has_billed_nothing(trouble: Exception) -> None:
    first = retried(trouble)

    assert (first.kind, first.possibly_billed, first.status) == ("unavailable", False, None)


def test_a_server_that_is_never_reached_is_unavailable() -> None:
    api = Api(httpx2.ConnectError("refused"), patience=Patience(attempts=4))

    assert [(f.kind, f.retry_in_s is None) for f in api.failures()] == [("unavailable", False)] * 3 + [("unavailable", True)]


# A21


@pytest.mark.parametrize(
    ("trouble", "billed"),
    [
        (httpx2.ReadTimeout("no answer"), True),
        (httpx2.WriteTimeout("stuck"), True),
        (httpx2.RemoteProtocolError("closed"), True),
        (httpx2.ConnectTimeout("no connection"), False),
    ],
)
def test_an_attempt_that_the_server_may_have_worked_on_is_possibly_billed(trouble: Exception, billed: bool) -> None:
    assert retried(trouble).possibly_billed is billed


# S01 to S08


def test_a_connection_that_breaks_in_mid_stream_is_tried_again_and_what_it_used_is_counted() -> None:
    first = retried(stream(sse(START, *TEXT), httpx2.ReadError("Connection reset by peer")))

    assert (first.kind, first.usage, first.possibly_billed) == ("unavailable", used(10, output=1), True)


@pytest.mark.parametrize(
    "events",
    [[START], [START, *TEXT], [START, *TEXT, ends()], [START, *TEXT[:2]], [START, *TEXT, ends(None), STOP]],
    ids=["at the start", "before the stop reason", "before message_stop", "in a block", "stop reason null"],
)
def test_a_stream_that_ends_early_is_a_failure_and_no_shorter_reply(events: list[Json]) -> None:
    first = retried(stream(sse(*events)))

    assert (first.kind, first.error_type, first.possibly_billed) == ("not_an_answer", "stream_broken", True)


def test_a_tool_call_whose_stream_ended_is_no_tool_call_even_if_it_parses() -> None:
    call = {"type": "tool_use", "id": "c", "name": "pay", "input": {}}
    events = [
        START,
        {"type": "content_block_start", "index": 0, "content_block": call},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"amount": 10}'}},
    ]

    assert retried(stream(sse(*events))).kind == "not_an_answer"


def in_stream(kind: str, message: str = "Overloaded", **details: str) -> Json:
    return {"type": "error", "error": {"type": kind, "message": message, "details": details or None}}


@pytest.mark.parametrize("kind", ["overloaded_error", "api_error", "rate_limit_error", "timeout_error", "something_new"])
def test_trouble_told_inside_the_stream_is_tried_again_whatever_the_status_was(kind: str) -> None:
    first = retried(stream(sse(START, in_stream(kind))))

    assert (first.kind, first.error_type, first.status, first.usage) == ("unavailable", kind, 200, used(10, output=1))


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (in_stream("invalid_request_error", "bad"), "invalid_request"),
        (in_stream("invalid_request_error", "prompt is too long: 2 tokens > 1 maximum"), "prompt_too_long"),
        (in_stream("authentication_error", "no"), "unauthorized"),
        (in_stream("rate_limit_error", error_code="enforced_spend_limit_reached"), "spend_limit"),
    ],
)
def test_a_refusal_told_inside_the_stream_is_not_tried_again(event: Json, kind: str) -> None:
    assert failure(stream(sse(START, event))).kind == kind


@pytest.mark.parametrize("data", ["{}", "[]", '"no"', '{"error": "no"}', '{"error": {"type": 7}}'])
def test_an_error_event_of_another_shape_is_trouble_of_the_server(data: str) -> None:
    assert retried(stream(sse(START), f"event: error\ndata: {data}\n\n".encode())).kind == "unavailable"


def test_a_stream_that_falls_silent_is_given_up_and_tried_again() -> None:
    first = retried(stream(sse(START), httpx2.ReadTimeout("no byte for 120 seconds")))

    assert (first.kind, first.error_type, first.possibly_billed) == ("unavailable", "ReadTimeout", True)


def dripping(piece: bytes) -> httpx2.Response:
    """A stream of small pieces that goes on for far longer than an attempt may take."""
    return httpx2.Response(200, headers=SSE, stream=Bytes(piece for _ in range(3_000_000)))


@pytest.mark.parametrize("piece", [b": \n", b"x", b"event: ping\ndata: {}\n\n"], ids=["comments", "one long line", "pings"])
def test_a_stream_that_drips_for_ever_is_given_up_at_the_deadline(piece: bytes) -> None:
    api = Api(dripping(piece), patience=Patience(attempts=1, attempt_s=0.05))

    (found,) = api.failures()

    assert (found.kind, found.message) == ("not_an_answer", "the reply was not whole after 0.05 seconds")


def test_a_stream_of_more_bytes_than_any_reply_has_is_given_up() -> None:
    piece = b": " + b"x" * 1_000_000 + b"\n"
    api = Api(dripping(piece), patience=Patience(attempts=1))

    (found,) = api.failures()

    assert (found.kind, found.message) == ("not_an_answer", "the reply has more than 67,108,864 bytes")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (sse(START) + b"event: x\ndata: {broken\n\n", "not_an_answer"),
        (sse(START) + b'event: x\ndata: {"type": "\xff"}\n\n', "unavailable"),
        (sse(START, START), "not_an_answer"),
        (sse(START, TEXT[1]), "not_an_answer"),
        (sse(START, TEXT[2]), "not_an_answer"),
        (sse(*TEXT, ends(), STOP), "not_an_answer"),
        (sse(START) + b"event: x\ndata: [1]\n\n", "not_an_answer"),
        (sse(START) + b"event: x\ndata: " + b"[" * 100_000 + b"\n\n", "not_an_answer"),
        (sse(START) + b'event: x\ndata: {"type": "message_delta", "delta": {"n": NaN}}\n\n', "not_an_answer"),
    ],
    ids=["JSON", "UTF-8", "two starts", "delta", "stop", "no start", "list", "nested", "NaN"],
)
def test_a_stream_out_of_order_is_a_failure_that_is_tried_again(data: bytes, kind: str) -> None:
    assert retried(stream(data)).kind == kind


def test_unknown_events_and_pings_are_ignored() -> None:
    events = sse(START, {"type": "ping"}, {"type": "weather", "sky": "blue"}, *TEXT, ends(), STOP)

    assert Api(stream(events)).reply().content[0]["text"] == "Good day."


def test_the_usage_of_a_delta_takes_the_place_of_the_first() -> None:
    delta = {**ends(), "usage": {"input_tokens": 12, "output_tokens": 40, "cache_read_input_tokens": 100}}

    assert Api(stream(sse(START, *TEXT, delta, STOP))).reply().usage == used(12, read=100, output=40)


def test_the_reason_for_a_cache_miss_is_kept() -> None:
    miss = {"type": "tools_changed", "cache_missed_input_tokens": 100}
    start = {**START, "message": {**START["message"], "diagnostics": {"cache_miss_reason": miss}}}

    assert Api(stream(sse(start, *TEXT, ends(), STOP))).reply().cache_miss == miss


@pytest.mark.parametrize("pieces", [[WHOLE], [sse(START), httpx2.ReadError("reset")], [sse(START, START)]])
def test_a_response_is_closed_however_it_ends(pieces: list[bytes | Exception]) -> None:
    body = Bytes(pieces)

    Api(httpx2.Response(200, headers=SSE, stream=body), good).ask()

    assert body.closed


# the key


@pytest.mark.parametrize("key", [None, "", " sk", "sk\n", "'sk'", 'sk"', "s k", "sk-\u00e9"])
def test_a_key_that_cannot_be_one_is_refused_at_once_and_not_printed(key: str | None) -> None:
    with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY") as raised:
        MessagesApi(api_key=key)

    assert not key or not key.strip() or key not in str(raised.value)


@pytest.mark.parametrize(
    "answer",
    [
        error(401, "authentication_error", message=f"invalid key: {KEY}"),
        error(500, "api_error", message=f"header Authorization: Bearer {KEY}", x_should_retry="false"),
        stream(sse(START, in_stream("invalid_request_error", f"what is {KEY}?"))),
    ],
    ids=["status", "server", "stream"],
)
def test_a_key_that_the_server_repeats_is_in_no_message(answer: httpx2.Response) -> None:
    assert KEY not in failure(answer).model_dump_json()


def test_a_key_in_an_exception_of_the_network_is_in_no_message() -> None:
    assert KEY not in retried(httpx2.LocalProtocolError(f"Illegal header value b'Bearer {KEY}'")).model_dump_json()


# the SDK


def test_the_retries_of_the_sdk_are_off() -> None:
    api = Api(error(529, "overloaded_error"), patience=Patience(attempts=1))

    api.ask()

    assert len(api.requests) == 1


@pytest.mark.parametrize("version", ["1.99.0", "2.11.9", "3.0.0"])
def test_another_sdk_than_the_tested_ones_is_refused_with_both_versions(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anthropic, "__version__", version)

    with pytest.raises(ConfigError, match=rf"the anthropic SDK is {version}; agentloop works with 2\.12 and later 2\.x"):
        MessagesApi(api_key=KEY)


def test_a_long_message_of_the_server_is_shortened() -> None:
    found = failure(error(400, "invalid_request_error", message="x" * 10_000))

    assert len(found.message) == messages_api.MESSAGE_CHARS


def test_what_a_request_cost_is_the_same_however_often_it_was_tried() -> None:
    """Attempts that never reached the model have cost nothing."""
    api = Api(error(529, "overloaded_error"), error(429, "rate_limit_error"), good)

    *failures, reply = api.ask()

    assert all(isinstance(f, Failure) and f.usage is None and not f.possibly_billed for f in failures)
    assert isinstance(reply, Reply)
    assert Decimal(reply.usage.output_tokens) == 7
