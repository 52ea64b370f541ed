"""What the engine's client makes of a network that is not there, of lines that break, fall silent or drip, and of streams
that are not what they should be: the rows A20, A21 and S01 to S08, over real sockets where it is about sockets."""

import json
import socket
import threading
import time
from collections.abc import Callable

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentloop.adapters.messages_api import MessagesApi, Patience
from agentloop.types.base import Json
from agentloop.types.request import Failure, Reply
from tests.emulator.raw_server import HEAD, Answer, dripping, ended, serving, silent, torn

BODY = b'{"model":"claude-test","messages":[],"max_tokens":10,"stream":true}'
IMPATIENT = Patience(attempts=2, idle_s=0.3, connect_s=2, attempt_s=1.0)
USAGE: Json = {"input_tokens": 10, "output_tokens": 1}
START: Json = {"type": "message_start", "message": {"id": "msg_1", "model": "claude-test", "usage": USAGE}}
CALL: Json = {"type": "tool_use", "id": "c", "name": "pay", "input": {}}
EVENTS: list[Json] = [
    START,
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "I pay \u4e16. "}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": CALL},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"amount": 10}'}},
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}},
    {"type": "message_stop"},
]


def line(event: Json) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


WHOLE = b"".join(map(line, EVENTS))
CONTENT = ({"type": "text", "text": "I pay \u4e16. "}, {**CALL, "input": {"amount": 10}})


def asked(base_url: str, patience: Patience = IMPATIENT) -> list[Failure | Reply]:
    """One request over the SDK's own client."""
    return list(MessagesApi(api_key="k", base_url=base_url, patience=patience, sleep=lambda s: None).ask(BODY))


def failed(base_url: str, patience: Patience = IMPATIENT) -> list[Failure]:
    found = asked(base_url, patience)
    assert all(isinstance(f, Failure) for f in found), found
    return [f for f in found if isinstance(f, Failure)]


# A20


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def refused(monkeypatch: pytest.MonkeyPatch) -> str:
    return f"http://127.0.0.1:{free_port()}"


def unknown_host(monkeypatch: pytest.MonkeyPatch) -> str:
    def nobody(*of: object, **about: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    return "http://api.invalid"


@pytest.mark.parametrize("where", [refused, unknown_host])
def test_a_server_that_is_not_there_is_tried_so_often_and_has_billed_nothing(
    where: Callable[[pytest.MonkeyPatch], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = failed(where(monkeypatch))

    assert [(f.kind, f.attempt, f.retry_in_s is None) for f in found] == [("unavailable", 1, False), ("unavailable", 2, True)]
    assert not any(f.possibly_billed for f in found)


def test_a_server_that_speaks_no_tls_is_tried_so_often() -> None:
    with serving(ended(b"220 mail.example ESMTP\r\n"), reads=False) as url:
        found = failed(url.replace("http:", "https:"))

    assert [f.kind for f in found] == ["unavailable"] * 2
    assert not any(f.possibly_billed for f in found)


@pytest.mark.parametrize("target", ["http://api.invalid", "https://api.invalid"])
def test_a_proxy_that_wants_a_password_is_told(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"

    def proxy(client: socket.socket, over: threading.Event) -> None:
        client.sendall(answer)

    with serving(proxy, reads=False) as url:
        monkeypatch.setenv("HTTP_PROXY", url)
        monkeypatch.setenv("HTTPS_PROXY", url)
        found = failed(target)

    assert [f.kind for f in found] == ["unavailable"] * 2
    assert all("407" in f.message for f in found)


# A21, S01, S06, S07


SILENT: dict[str, Answer] = {
    "no answer at all": silent(b""),
    "half a head": silent(HEAD[:20]),
    "no event": silent(HEAD),
    "half a reply": silent(HEAD + WHOLE[:-40]),
}


@pytest.mark.parametrize("kind", SILENT)
def test_a_line_that_falls_silent_is_given_up_and_may_have_been_billed(kind: str) -> None:
    with serving(SILENT[kind]) as url:
        found = failed(url)

    assert [(f.kind, f.possibly_billed) for f in found] == [("unavailable", True)] * 2


DRIPPING: dict[str, Answer] = {
    "in its head": dripping(HEAD[:-2], 0.02, then=b"x"),
    "in its body": dripping(HEAD, 0.0, then=b":"),
    "in an event": dripping(HEAD + WHOLE[:-60], 0.0, then=b" "),
    "pings": dripping(HEAD, 0.0, then=b"event: ping\ndata: {}\n\n"),
}


@pytest.mark.parametrize("kind", DRIPPING)
def test_a_line_that_drips_for_ever_is_given_up_when_the_time_of_the_attempt_is_over(kind: str) -> None:
    patience = IMPATIENT.model_copy(update={"attempts": 1, "idle_s": 5.0, "attempt_s": 0.4})
    began = time.monotonic()

    with serving(slowly(DRIPPING[kind])) as url:
        (found,) = failed(url, patience)

    assert "not whole after 0.4 seconds" in found.message
    assert found.possibly_billed
    assert time.monotonic() - began < 3


def test_a_server_that_does_not_take_the_request_in_is_given_up() -> None:
    patience = IMPATIENT.model_copy(update={"attempts": 1, "idle_s": 30.0, "attempt_s": 0.4})

    def idle(client: socket.socket, over: threading.Event) -> None:
        over.wait(20)

    large = b'{"model":"m","messages":"' + b"x" * 20_000_000 + b'"}'

    with serving(idle, reads=False) as url:
        api = MessagesApi(api_key="k", base_url=url, patience=patience)
        (found,) = api.ask(large)

    assert isinstance(found, Failure)
    assert "not whole after" in found.message


@pytest.mark.parametrize("length", [0, 1, 60, len(WHOLE) // 2, len(WHOLE) - 20])
def test_a_connection_that_is_reset_commits_nothing_and_counts_what_was_said(length: int) -> None:
    with serving(torn(HEAD + WHOLE[:length])) as url:
        found = failed(url)

    assert [(f.kind, f.possibly_billed) for f in found] == [("unavailable", True)] * 2
    if length > len(line(START)):
        assert all(f.usage is not None and f.usage.input_tokens == 10 for f in found)


# S02, S03, S08: whatever is done to a stream


@pytest.mark.parametrize("length", range(0, len(WHOLE) - 3, 7))
def test_a_stream_that_ends_anywhere_before_its_end_is_no_reply(length: int) -> None:
    assert all(isinstance(a, Failure) and a.kind == "not_an_answer" for a in streamed(WHOLE[:length]))


def test_a_stream_is_read_the_same_however_the_network_cuts_it() -> None:
    with serving(dripping(HEAD + WHOLE, 0.0)) as url:
        (reply,) = asked(url)

    assert isinstance(reply, Reply)
    assert reply.content == CONTENT


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """The stream with events lost, doubled, exchanged or replaced, or with other bytes in it."""
    events = list(map(line, EVENTS))
    for _ in range(draw(st.integers(1, 3))):
        i, j = draw(st.integers(0, len(events) - 1)), draw(st.integers(0, len(events) - 1))
        match draw(st.sampled_from(["lose", "double", "exchange", "byte", "new", "junk"])):
            case "lose" if len(events) > 1:
                del events[i]
            case "double":
                events.insert(j, events[i])
            case "exchange":
                events[i], events[j] = events[j], events[i]
            case "byte":
                at = draw(st.integers(0, len(events[i]) - 1))
                events[i] = events[i][:at] + bytes([draw(st.integers(0, 255))]) + events[i][at + 1 :]
            case "new":
                events.insert(j, line({"type": draw(st.sampled_from(["weather", "content_block_pause"])), "index": 0}))
            case _:
                events[i] = draw(
                    st.sampled_from([b"data: {\n\n", b"data: [1]\n\n", b"data: null\n\n", b"\xff\xfe\n\n", b"data:\n\n"])
                )
    return b"".join(events)


@settings(max_examples=300, deadline=None)
@given(data=mangled())
def test_a_mangled_stream_is_a_failure_or_the_whole_reply_of_one_message(data: bytes) -> None:
    """Never another exception; never a call with half an input; never two messages in one."""
    (answer,) = streamed(data)

    if isinstance(answer, Reply):
        assert b"message_stop" in data
        assert answer.stop_reason
        assert data.count(b'"type": "message_start"') <= 1
        assert all(
            isinstance(b["input"], dict) or b"partial_json" in data for b in answer.content if b.get("type") == "tool_use"
        )
    else:
        assert answer.kind in ("not_an_answer", "unavailable")


def streamed(data: bytes) -> list[Failure | Reply]:
    """What the SDK's client makes of these bytes with status 200, without a socket."""
    headers = {"content-type": "text/event-stream", "request-id": "req_1"}
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, headers=headers, content=data))
    http = httpx2.Client(transport=transport)
    patience = Patience(attempts=1)
    return list(MessagesApi(api_key="k", http_client=http, patience=patience, sleep=lambda s: None).ask(BODY))


def slowly(answer: Answer) -> Answer:
    """At a pace that leaves the machine in peace."""

    def paced(client: socket.socket, over: threading.Event) -> None:
        answer(client, _Paced(over))

    return paced


class _Paced(threading.Event):
    def __init__(self, over: threading.Event) -> None:
        super().__init__()
        self._over = over

    def wait(self, timeout: float | None = None) -> bool:
        return self._over.wait(max(timeout or 0.0, 0.001))
