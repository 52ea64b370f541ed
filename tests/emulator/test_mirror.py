"""A pass-through to another API: what it passes on, what it keeps, and what it finds to be other than forecast."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic

from agentloop.adapters.model_table import Model
from agentloop.emulator import Answer, Emulator, EmulatorSettings, Function, Pause, Playbook, recorded
from agentloop.emulator.faults import Faults
from agentloop.emulator.mirror import Mirror
from agentloop.emulator.server import running
from agentloop.emulator.transport import BASE_URL, client
from agentloop.errors import ConfigError
from agentloop.types.base import Json
from agentloop.types.blocks import text, tool_use
from tests.emulator.conftest import MODEL, MODELS

SECRET = "sk-ant-api03-only-passed-on"
ASKED: dict[str, Any] = {"model": MODEL, "max_tokens": 10_000, "cache_control": {"type": "ephemeral"}}


class Mirrored:
    """An emulator, a mirror in front of it, and the SDK in front of the mirror."""

    def __init__(self, upstream: Mapping[str, Model] = MODELS, faults: Faults | None = None, **mirror: Any) -> None:
        self.now = 1_795_300_000.0
        script = Function(
            "test", lambda request, step: [text(f"Answer {step}. " * 50), tool_use(f"toolu_{step}", "t", {"a": 1})]
        )
        self.emulator = Emulator(script, upstream, clock=lambda: self.now, faults=faults or Faults())
        http = client(self.emulator, lambda seconds: None)
        self.mirror = Mirror(BASE_URL, MODELS, client=http, clock=lambda: self.now, **mirror)
        self.sdk = Anthropic(api_key=SECRET, base_url=BASE_URL, http_client=client(self.mirror), max_retries=0)

    def talk(self, turns: int, words: int = 300, **asked: Any) -> list[Any]:
        """A conversation whose every turn extends the one before it, streamed and whole in turns."""
        messages: list[Any] = [{"role": "user", "content": "word " * words}]
        said = []
        for turn in range(turns):
            request = ASKED | {"messages": list(messages), **asked}
            if turn % 2:
                with self.sdk.messages.stream(**request) as stream:
                    reply = stream.get_final_message()
            else:
                reply = self.sdk.messages.create(**request)
            self.now += 20
            said.append(reply)
            messages.append({"role": "assistant", "content": [b.to_dict() for b in reply.content]})
            results = [
                {"type": "tool_result", "tool_use_id": b.id, "content": "seen"} for b in reply.content if b.type == "tool_use"
            ]
            messages.append({"role": "user", "content": results})
        return said

    def lines(self) -> list[Json]:
        requests: list[Json] = self.mirror.report()["requests"]
        return requests


def changed(**card: Any) -> dict[str, Model]:
    """The table of models with another card for the one that is asked."""
    row = MODELS[MODEL]
    return MODELS | {MODEL: row._replace(card=row.card.model_copy(update=card))}


def test_in_front_of_an_api_of_equal_rules_nothing_differs() -> None:
    mirrored = Mirrored()

    mirrored.talk(6)

    assert [line["differences"] for line in mirrored.lines()] == [{}] * 6
    totals = mirrored.mirror.report()["totals"]
    assert (totals["requests"], totals["differing"]) == (6, 0)
    assert totals["forecast_usd"] == totals["actual_usd"] == mirrored.emulator.report()["totals"]["cost_usd"]
    assert any(line["actual"]["cache_read_input_tokens"] for line in mirrored.lines())


def test_another_minimum_is_named_with_both_figures() -> None:
    mirrored = Mirrored(changed(min_cacheable_tokens=100_000))

    mirrored.talk(3, words=1_000)

    first, second, _ = mirrored.lines()
    written = first["forecast"]["ephemeral_5m_input_tokens"]
    assert first["differences"]["ephemeral_5m_input_tokens"] == {"forecast": written, "actual": 0, "by": -written}
    assert first["differences"]["input_tokens"]["by"] == written > 1_000
    assert second["differences"]["cache_read_input_tokens"]["actual"] == 0
    assert mirrored.mirror.report()["totals"]["differing"] == 3


def test_what_the_difference_costs_is_named_in_dollars() -> None:
    mirrored = Mirrored(changed(tool_system_tokens=1_000))
    tools: Any = [{"name": "t", "input_schema": {"type": "object"}}]
    [_] = mirrored.talk(1, tools=tools)

    [line] = mirrored.lines()

    own = MODELS[MODEL].card
    more = 1_000 - own.tool_system_tokens
    assert line["differences"]["ephemeral_5m_input_tokens"]["by"] == more
    assert Decimal(line["differences"]["cost_usd"]["by"]) == more * own.prices[0].cache_write_5m / 1_000_000
    totals = mirrored.mirror.report()["totals"]
    assert Decimal(totals["actual_usd"]) - Decimal(totals["forecast_usd"]) == Decimal(line["differences"]["cost_usd"]["by"])


def test_what_only_one_of_the_two_refuses_is_named() -> None:
    other = MODELS[MODEL]
    strict = MODELS | {MODEL: other._replace(traits=other.traits.model_copy(update={"system_messages": False}))}
    mirrored = Mirrored(strict)
    messages: Any = [{"role": "user", "content": "Hello."}, {"role": "system", "content": "Be kind."}]

    with pytest.raises(anthropic.BadRequestError):
        mirrored.sdk.messages.create(**ASKED, messages=messages)

    [line] = mirrored.lines()
    assert line["differences"] == {"status": {"forecast": 200, "actual": 400}}
    assert "system" in line["error"]


def test_what_both_refuse_is_no_difference() -> None:
    mirrored = Mirrored()

    with pytest.raises(anthropic.BadRequestError):
        mirrored.sdk.messages.create(model=MODEL, max_tokens=10, messages=[])

    [line] = mirrored.lines()
    assert (line["status"], line["differences"]) == (400, {})


def test_a_request_that_failed_leaves_nothing_in_the_forecast_either() -> None:
    mirrored = Mirrored(faults=Faults.of({"request": 1, "fault": 529}, {"request": 3, "fault": "cut_stream"}))
    with pytest.raises(anthropic.OverloadedError):
        mirrored.talk(1, words=1_000)

    mirrored.talk(1, words=1_000)
    with mirrored.sdk.messages.stream(**ASKED, messages=[{"role": "user", "content": "word " * 1_000}]) as stream:
        stream.get_final_message()

    failed, answered, cut = mirrored.lines()
    assert (failed["status"], failed["differences"]) == (529, {})
    assert (answered["differences"], cut["differences"]) == ({}, {})
    assert cut["error"] == "the stream ended before the reply did"
    assert cut["actual"]["cache_read_input_tokens"] > 1_000


def test_the_answer_is_the_same_to_the_byte_and_so_are_its_headers() -> None:
    body = json.dumps(ASKED | {"messages": [{"role": "user", "content": "Hello."}], "stream": True}).encode()
    headers = {
        "authorization": f"Bearer {SECRET}",
        "anthropic-version": "2026-10-21",
        "connection": "close, x-hop",
        "x-hop": "1",
    }

    def asked(handler: Any) -> tuple[int, dict[str, str], bytes]:
        answer: Answer = handler.handle("POST", "/v1/messages?beta=true", headers, body)
        return answer.status, dict(answer.headers), b"".join(c for c in answer.chunks if isinstance(c, bytes))

    through, direct = asked(Mirrored().mirror), asked(Mirrored().emulator)

    assert through == direct


def test_headers_of_one_connection_are_not_passed_on() -> None:
    seen: list[httpx2.Headers] = []

    def upstream(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers)
        return httpx2.Response(418, headers={"x-kept": "1", "keep-alive": "timeout=5"}, content=b"{}")

    mirror = Mirror("https://api.example/base/", MODELS, client=httpx2.Client(transport=httpx2.MockTransport(upstream)))

    given = {"x-api-key": SECRET, "connection": "x-hop", "x-hop": "1", "te": "x", "host": "here", "x-emulator-token": "t"}
    answer = mirror.handle("GET", "/v1/models", given, b"")

    assert (answer.status, answer.headers["x-kept"]) == (418, "1")
    assert "keep-alive" not in answer.headers
    [headers] = seen
    assert (headers["x-api-key"], headers["host"]) == (SECRET, "api.example")
    assert not {"x-hop", "te", "x-emulator-token"} & set(headers)


def test_a_key_is_passed_on_and_kept_nowhere() -> None:
    from tests.emulator.reachable import strings_of

    mirrored = Mirrored()
    mirrored.talk(2)

    assert SECRET not in json.dumps(mirrored.mirror.report()) + repr(vars(mirrored.mirror))
    assert SECRET not in repr(mirrored.mirror.recording("r"))
    mirrored.sdk.close()
    assert not [s for s in strings_of(mirrored.mirror) if SECRET in s]


def test_an_api_that_cannot_be_reached_is_an_error_that_names_no_secret() -> None:
    mirror = Mirror("http://127.0.0.1:1", MODELS)
    sdk = Anthropic(api_key=SECRET, base_url=BASE_URL, http_client=client(mirror), max_retries=0)

    with pytest.raises(anthropic.InternalServerError, match="could not be reached") as refused:
        sdk.messages.create(**ASKED, messages=[{"role": "user", "content": "Hello."}])

    assert SECRET not in str(refused.value)


def test_the_replies_can_be_played_again(tmp_path: Path) -> None:
    file = BytesIO()
    mirrored = Mirrored(recorded=lambda reply: recorded.write(file, reply))
    said = mirrored.talk(4)
    path = tmp_path / "replies.jsonl"
    path.write_bytes(file.getvalue())

    for recording in (mirrored.mirror.recording("again"), recorded.load(path)):
        again = Mirrored()
        again.emulator = Emulator(recording, MODELS)
        again.sdk = Anthropic(api_key="k", base_url=BASE_URL, http_client=client(again.emulator), max_retries=0)
        played = again.talk(4)

        assert [m.content for m in played] == [m.content for m in said]
        assert [m.usage.output_tokens for m in played] == [m.usage.output_tokens for m in said]


@pytest.mark.parametrize("line", ["nothing", '{"content": "words"}', '{"content": [1]}', "[]"])
def test_a_file_that_holds_no_replies_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_text(f'{{"content": []}}\n{line}\n', "utf-8")

    with pytest.raises(ConfigError, match="line 2 holds no reply"):
        recorded.load(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        recorded.load(tmp_path / "missing")


def test_a_stream_passes_as_it_comes(tmp_path: Path) -> None:
    """The first events arrive while the mirrored API is still silent in the middle of its stream."""
    passed: list[str] = []

    class Slow:
        def handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
            def chunks() -> Iterator[bytes | Pause]:
                yield b'event: message_start\ndata: {"type":"message_start"}\n\n'
                yield Pause(0.5)
                passed.append("second half")
                yield b"event: ping\ndata: {}\n\n"

            return Answer(200, {"content-type": "text/event-stream"}, chunks())

    with running(Slow()) as upstream, running(Mirror(upstream, MODELS)) as url:
        headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
        with httpx2.stream("POST", f"{url}/v1/messages", headers=headers, json=ASKED) as response:
            arriving = response.iter_bytes()
            first = next(arriving)
            early = list(passed)
            rest = b"".join(arriving)

    assert b"message_start" in first
    assert early == []
    assert (b"ping" in rest, passed) == (True, ["second half"])


def test_over_http_a_mirror_with_a_token_asks_for_it_in_a_header_of_its_own() -> None:
    playbook = Playbook.from_data({"name": "hello", "steps": [{"say": "Hello."}]})
    with (
        running(Emulator(playbook, MODELS, settings=EmulatorSettings())) as upstream,
        running(Mirror(upstream, MODELS), token="open") as url,
    ):
        own = {"x-emulator-token": "open"}
        hello: Any = ASKED | {"messages": [{"role": "user", "content": "Hello."}]}
        with Anthropic(api_key=SECRET, base_url=url, max_retries=0, default_headers=own) as sdk:
            assert sdk.messages.create(**hello).stop_reason == "end_turn"
        with Anthropic(api_key="open", base_url=url, max_retries=0) as sdk, pytest.raises(anthropic.AuthenticationError):
            sdk.messages.create(**hello)
        report = httpx2.get(f"{url}/emulator/report", headers=own).json()

    assert [line["differences"] for line in report["requests"]] == [{}]


def mirrored(content_type: str, body: bytes) -> tuple[bytes, Json]:
    """What passes of an answer, and the line of the report."""
    answering = httpx2.MockTransport(
        lambda request: httpx2.Response(200, headers={"content-type": content_type}, stream=httpx2.ByteStream(body))
    )
    mirror = Mirror(BASE_URL, MODELS, client=httpx2.Client(transport=answering))
    asked = json.dumps(ASKED | {"messages": [{"role": "user", "content": "Hello."}]}).encode()
    answer = mirror.handle("POST", "/v1/messages", {"x-api-key": "k", "anthropic-version": "2026-10-21"}, asked)
    passed = b"".join(chunk for chunk in answer.chunks if isinstance(chunk, bytes))
    return passed, mirror.report()["requests"][0]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/event-stream", b"data: [1]\n\n"),
        ("text/event-stream", b'data: "x"\n\n'),
        ("text/event-stream", b"data: " + b"[" * 100_000 + b"\n\n"),
        ("text/event-stream", b'data: {"type": "error", "error": "x"}\n\n'),
        ("application/json", b"[1]"),
        ("application/json", b"[" * 100_000),
        ("application/json", b'{"content": "x", "stop_reason": "end_turn", "usage": {}}'),
        ("application/json", b'{"content": [null], "stop_reason": "end_turn", "usage": {}}'),
        ("application/json", b'{"content": [], "stop_reason": "end_turn", "usage": null}'),
    ],
)
def test_what_is_no_answer_of_the_api_passes_all_the_same(content_type: str, body: bytes) -> None:
    passed, line = mirrored(content_type, body)

    assert passed == body
    assert line["error"].startswith("not an answer of the API")


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_stream_is_read_whatever_stands_in_its_text(newline: bytes) -> None:
    """U+2028 and its like end a line in some places, but not in a stream of events."""
    said = "a\u2028b\u0085c"
    usage = {"input_tokens": 7, "output_tokens": 1, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    opened = {"id": "msg", "model": MODEL, "role": "assistant", "content": [], "usage": usage}
    events: list[Json] = [
        {"type": "message_start", "message": opened},
        {"type": "content_block_start", "index": 0, "content_block": text("")},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": said}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    ]
    stream = "".join(f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n" for e in events).encode()

    _, line = mirrored("text/event-stream", stream.replace(b"\n", newline))

    assert (line["error"], line["actual"]["input_tokens"]) == (None, 7)


@pytest.mark.parametrize("fault", ["reset", "reset_mid_stream"])
def test_a_connection_that_breaks_behind_the_mirror_breaks_before_it(fault: str) -> None:
    """It is no error of the mirror's own making, in a process and over HTTP."""
    playbook = Playbook.from_data({"name": "hello", "steps": [{"say": "Hello. " * 200}]})
    faults = Faults.of({"requests": [1, 2], "fault": fault})
    hello: Any = ASKED | {"messages": [{"role": "user", "content": "Hello."}], "stream": True}
    broken = (httpx2.TransportError, anthropic.APIConnectionError, anthropic.InternalServerError)
    with running(Emulator(playbook, MODELS, faults=faults)) as upstream:
        mirror = Mirror(upstream, MODELS)
        with running(mirror) as url:
            for sdk in (
                Anthropic(api_key=SECRET, base_url=url, max_retries=0),
                Anthropic(api_key=SECRET, base_url=BASE_URL, http_client=client(mirror), max_retries=0),
            ):
                with sdk, pytest.raises(broken) as raised:
                    list(sdk.messages.create(**hello))
                if isinstance(raised.value, anthropic.InternalServerError):
                    assert (fault, raised.value.status_code) == ("reset", 502)


@pytest.mark.parametrize("arrived", [b"", b"5\r\nevent\r\n"])
def test_an_answer_that_breaks_off_is_no_answer_of_the_mirrors_own(arrived: bytes) -> None:
    """Its headers came, and then nothing, or not all: the client sees a broken connection, never an error 500."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        connection.recv(65_536)
        connection.sendall(head + arrived)
        connection.close()

    with listener, running(Mirror(f"http://127.0.0.1:{listener.getsockname()[1]}", MODELS)) as url:
        upstream = threading.Thread(target=answer)
        upstream.start()
        with pytest.raises(httpx2.RemoteProtocolError):
            httpx2.post(f"{url}/v1/messages", headers={"x-api-key": "k"}, json=ASKED)
        upstream.join()


def test_what_one_client_is_given_to_keep_is_not_sent_for_another() -> None:
    seen: list[str | None] = []

    def answering(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers.get("cookie"))
        return httpx2.Response(200, headers={"set-cookie": "session=1; Path=/"}, stream=httpx2.ByteStream(b"{}"))

    mirror = Mirror(BASE_URL, MODELS, client=httpx2.Client(transport=httpx2.MockTransport(answering)))
    for own in ({}, {}, {"cookie": "own=1"}):
        list(mirror.handle("GET", "/v1/models", own, b"").chunks)

    assert seen == [None, None, "own=1"]


def watching(seen: list[bytes]) -> Mirror:
    """A mirror that writes down where it would have asked."""

    def answering(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.url.host.encode() + request.url.raw_path)
        return httpx2.Response(200, stream=httpx2.ByteStream(b"{}"))

    return Mirror(BASE_URL, MODELS, client=httpx2.Client(transport=httpx2.MockTransport(answering)))


@pytest.mark.parametrize("target", ["@evil.example/v1/messages", "http://evil.example/v1/messages", ".evil.example/", "*"])
def test_a_target_that_is_no_path_goes_nowhere(target: str) -> None:
    seen: list[bytes] = []

    answer = watching(seen).handle("POST", target, {"x-api-key": SECRET}, b"{}")

    assert (answer.status, seen) == (404, [])


def test_a_path_passes_as_it_was_escaped() -> None:
    seen: list[bytes] = []

    with running(watching(seen)) as url:
        httpx2.get(f"{url}/v1/files/a%2Fb%3Fc?d=%20")

    assert seen == [b"emulator/v1/files/a%2Fb%3Fc?d=%20"]
