"""Rules 1, 4 to 8 and 65, and who may reach an emulator."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2
import pytest
import structlog
from anthropic import Anthropic

from agentloop.emulator import Answer, EmulatorSettings, Function
from agentloop.emulator.faults import Faults
from agentloop.emulator.server import running, serve
from agentloop.emulator.settings import BUILD, SCALE, START, RateLimits
from agentloop.errors import ConfigError
from agentloop.types.blocks import text
from tests.emulator.reachable import strings_of

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

MODEL = "claude-sonnet-5-5"
HELLO: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "Hello."}]}
COUNTED: dict[str, Any] = {"model": MODEL, "messages": HELLO["messages"]}
ITEMS: Any = [{"custom_id": "a", "params": HELLO}]
HEADERS = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
SECRET = "sk-ant-api03-never-to-be-seen"
MB = 1024 * 1024
REMAINING = "anthropic-ratelimit-{}-remaining"


def bytes_of(answer: Answer) -> bytes:
    return b"".join(c for c in answer.chunks if isinstance(c, bytes))


def limited(bench: Bench, **limits: int) -> None:
    bench.play(Function("test", lambda request, step: [text("Done.")]), EmulatorSettings(limits=RateLimits(**limits)))


def test_rule_01_every_endpoint_answers_the_sdk(bench: Bench) -> None:
    """Messages, counting, batches from making to deleting, and models are all there."""
    sdk = bench.sdk()
    said = sdk.messages.create(**HELLO)
    counted = sdk.messages.count_tokens(**COUNTED)
    batch = sdk.messages.batches.create(requests=ITEMS)
    canceled = sdk.messages.batches.cancel(batch.id)
    bench.now += 600
    ended = sdk.messages.batches.retrieve(batch.id)
    lines = list(sdk.messages.batches.results(batch.id))
    listed = list(sdk.messages.batches.list())
    deleted = sdk.messages.batches.delete(batch.id)
    models = sdk.models.list()
    model = sdk.models.retrieve(MODEL)

    assert (said.type, counted.input_tokens > 0, canceled.processing_status) == ("message", True, "canceling")
    assert (ended.processing_status, len(lines), [b.id for b in listed]) == ("ended", 1, [batch.id])
    assert (deleted.id, model.id) == (batch.id, MODEL)
    assert MODEL in {m.id for m in models}


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/messages"), ("POST", "/v1/models"), ("PUT", "/v1/messages/batches"), ("GET", "/v2/x")]
)
def test_rule_01_anything_else_is_not_found(bench: Bench, method: str, path: str) -> None:
    """Other paths and methods are 404 in the API's shape."""
    answer = bench.emulator.handle(method, path, HEADERS, b"")

    assert answer.status == 404
    assert json.loads(bytes_of(answer))["error"]["type"] == "not_found_error"


def test_rule_04_every_response_has_a_request_id_of_its_own(bench: Bench) -> None:
    """Answers and refusals of every endpoint name their request; no two have the same name."""
    asked = [
        ("POST", "/v1/messages", HEADERS, json.dumps(HELLO)),
        ("POST", "/v1/messages", HEADERS, "{"),
        ("POST", "/v1/messages", {}, "{}"),
        ("POST", "/v1/messages/count_tokens", HEADERS, json.dumps(COUNTED)),
        ("GET", "/v1/messages/batches", HEADERS, ""),
        ("GET", "/v1/models", HEADERS, ""),
        ("GET", "/nothing", HEADERS, ""),
        ("GET", "/emulator/report", {}, ""),
    ]

    answers = [bench.emulator.handle(m, path, headers, body.encode()) for m, path, headers, body in asked]

    assert len({a.headers["request-id"] for a in answers}) == len(asked)
    assert all(a.headers["anthropic-organization-id"] == "org_emulator" for a in answers)
    assert all(a.headers["anthropic-workspace-id"] == "wrkspc_emulator" for a in answers)


def test_rule_04_an_error_repeats_its_request_id(bench: Bench) -> None:
    """The SDK's exception, the header and the body tell the same id, and the workspace."""
    with pytest.raises(anthropic.BadRequestError) as refused:
        bench.ask(max_tokens=-1)

    error = refused.value
    assert isinstance(error.body, dict)
    assert error.request_id == error.body["request_id"] == error.response.headers["request-id"]
    assert error.workspace_id == "wrkspc_emulator"


def test_rule_05_headers_tell_what_is_left_of_each_limit(bench: Bench) -> None:
    """Requests, input, output and both together: limit, what remains, when it is full again."""
    limited(bench, requests_per_minute=60, input_tokens_per_minute=6_000, output_tokens_per_minute=600)

    raw = bench.sdk().messages.with_raw_response.create(**HELLO)

    usage = raw.parse().usage
    told = {n.removeprefix("anthropic-ratelimit-"): v for n, v in raw.headers.items() if n.startswith("anthropic-ratelimit-")}
    assert (told["requests-limit"], told["requests-remaining"]) == ("60", "59")
    assert (told["input-tokens-limit"], told["input-tokens-remaining"]) == ("6000", str(6_000 - usage.input_tokens))
    assert (told["output-tokens-limit"], told["output-tokens-remaining"]) == ("600", str(600 - usage.output_tokens))
    assert told["tokens-limit"] == "6600"
    assert int(told["tokens-remaining"]) == 6_600 - usage.input_tokens - usage.output_tokens
    assert datetime.fromisoformat(told["requests-reset"]).timestamp() == bench.now + 1


def test_rule_05_what_is_read_from_the_cache_does_not_count_as_input(bench: Bench) -> None:
    """Only fresh and written tokens are taken from the input limit."""
    limited(bench, input_tokens_per_minute=60_000)
    asked = HELLO | {"messages": [{"role": "user", "content": "word " * 3_000}], "cache_control": {"type": "ephemeral"}}

    first = bench.sdk().messages.with_raw_response.create(**asked)
    second = bench.sdk().messages.with_raw_response.create(**asked)

    usage = second.parse().usage
    taken = [60_000 - int(r.headers["anthropic-ratelimit-input-tokens-remaining"]) for r in (first, second)]
    assert usage.cache_read_input_tokens
    assert taken[0] > 3_000
    assert taken[1] - taken[0] == usage.input_tokens


@pytest.mark.parametrize(
    "limits", [{"requests_per_minute": 2}, {"input_tokens_per_minute": 10}, {"output_tokens_per_minute": 2}]
)
def test_rule_05_above_a_limit_a_request_is_refused_until_the_bucket_fills(bench: Bench, limits: dict[str, int]) -> None:
    """The refusal says how long to wait; it costs nothing, and after that long the next request is let in."""
    limited(bench, **limits)
    while int(bench.sdk().messages.with_raw_response.create(**HELLO).headers[REMAINING.format(kind_of(limits))]):
        assert len(bench.lines()) < 10

    with pytest.raises(anthropic.RateLimitError) as refused:
        bench.ask()
    wait, lines = int(refused.value.response.headers["retry-after"]), len(bench.lines())
    bench.now += wait - 1
    with pytest.raises(anthropic.RateLimitError):
        bench.ask()
    bench.now += 1
    bench.ask()

    assert refused.value.type == "rate_limit_error"
    assert len(bench.lines()) == lines + 1
    assert wait >= 1


def kind_of(limits: dict[str, int]) -> str:
    return next(iter(limits)).removesuffix("_per_minute").replace("_", "-")


def test_rule_05_limits_hold_for_each_model_and_for_counting_alone(bench: Bench) -> None:
    """What one model has used up is there for another; counting has a bucket of its own."""
    limited(bench, requests_per_minute=1, counts_per_minute=2)
    bench.ask()

    bench.ask(model="claude-opus-5-5")
    bench.sdk().messages.count_tokens(**COUNTED)
    bench.sdk().messages.count_tokens(**COUNTED)

    with pytest.raises(anthropic.RateLimitError):
        bench.ask()
    with pytest.raises(anthropic.RateLimitError):
        bench.sdk().messages.count_tokens(**COUNTED)


def test_rule_05_the_tiers_are_settings(bench: Bench) -> None:
    """Start, Build and Scale grow in every limit; without a tier nothing is ever in the way."""
    for low, high in ((START, BUILD), (BUILD, SCALE), (SCALE, RateLimits())):
        assert all(getattr(low, f) < getattr(high, f) for f in ("requests_per_minute", "input_tokens_per_minute"))
    for _ in range(200):
        bench.ask()
    assert len(bench.lines()) == 200


def test_rule_06_a_request_above_32_megabytes_is_too_large(bench: Bench) -> None:
    """One byte too many is 413; the SDK says so with a class of its own."""
    padded = "x" * (32 * MB - 200)
    fits = json.dumps(HELLO | {"system": "x"} | {"metadata": {"user_id": padded}}).encode()
    with pytest.raises(anthropic.APIStatusError) as refused:
        bench.ask(system="x" * (32 * MB + 1))

    assert (refused.value.status_code, refused.value.type) == (413, "request_too_large")
    assert bench.emulator.handle("POST", "/v1/messages", HEADERS, fits).status != 413


def test_rule_06_a_body_that_is_too_large_is_not_kept(bench: Bench) -> None:
    """Over HTTP, a body that says that it is too large, or turns out to be, is refused while it is read."""

    def pieces() -> Iterator[bytes]:
        for _ in range(34):
            yield b" " * MB

    with running(bench.emulator) as url:
        said = httpx2.post(f"{url}/v1/messages", headers=HEADERS, content=b" " * (33 * MB))
        unsaid = httpx2.post(f"{url}/v1/messages", headers=HEADERS, content=pieces())
        batch = httpx2.post(f"{url}/v1/messages/batches", headers=HEADERS, content=b" " * (33 * MB))

    assert [a.status_code for a in (said, unsaid, batch)] == [413, 413, 400]
    assert said.json()["request_id"] == said.headers["request-id"]


def test_rule_07_an_error_has_the_shape_of_the_api(bench: Bench) -> None:
    """Type, message and request id; a machine-readable code where there is one."""
    bench.play(Function("test", lambda r, s: [text("x")]), faults=Faults.of({"request": 1, "fault": "spend_limit"}))
    with pytest.raises(anthropic.RateLimitError) as spent:
        bench.ask()
    with pytest.raises(anthropic.NotFoundError) as missing:
        bench.ask(model="claude-unknown-1")

    assert spent.value.error_code == "enforced_spend_limit_reached"
    assert isinstance(missing.value.body, dict)
    assert set(missing.value.body) == {"type", "error", "request_id"}
    assert missing.value.body["type"] == "error"
    assert set(missing.value.body["error"]) == {"type", "message"}


def test_rule_65_the_same_requests_at_the_same_times_get_the_same_bytes(bench: Bench) -> None:
    """Answers, streams, batches, faults and the report are equal to the byte for the same seed and clock."""
    body = json.dumps(HELLO | {"system": "word " * 1_000, "cache_control": {"type": "ephemeral"}}).encode()
    streamed = json.dumps(HELLO | {"stream": True}).encode()
    batch = json.dumps({"requests": [{"custom_id": f"i{i}", "params": HELLO} for i in range(40)]}).encode()

    def transcript(seed: int) -> list[Any]:
        bench.now = 1_795_300_000.0
        faults = Faults.of({"share": 0.3, "fault": 529}, {"share": 0.2, "fault": "cut_stream"}, seed=seed)
        emulator = bench.play(Function("t", lambda r, s: [text("Ä" * 3_000)]), EmulatorSettings(seed=seed), faults)
        said = []
        for asked in [body, streamed, b"{}", body] * 5:
            said.append(emulator.handle("POST", "/v1/messages", HEADERS, asked))
            bench.now += 7
        made = emulator.handle("POST", "/v1/messages/batches", HEADERS, batch)
        bench.now += 600
        id = json.loads(bytes_of(made))["id"]
        said += [emulator.handle("GET", f"/v1/messages/batches/{id}/results", HEADERS, b"")]
        said += [emulator.handle("GET", "/emulator/report", {}, b"")]
        return [(a.status, dict(a.headers), bytes_of(a)) for a in said]

    assert transcript(3) == transcript(3)
    assert transcript(3) != transcript(4)


def test_a_key_that_a_client_sends_is_kept_nowhere(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bench.play(
        Function("test", lambda request, step: [text("Done.")]),
        faults=Faults.of({"request": 2, "fault": 401}, {"request": 3, "fault": "error_event"}),
    )
    with structlog.testing.capture_logs() as logged:
        sdk = bench.sdk(SECRET)
        sdk.messages.create(**HELLO)
        with pytest.raises(anthropic.AuthenticationError) as refused:
            sdk.messages.create(**HELLO)
        with pytest.raises(anthropic.APIStatusError):
            list(sdk.messages.create(**HELLO, stream=True))
        batch = sdk.messages.batches.create(requests=ITEMS)
        bench.now += 600
        sdk.messages.batches.retrieve(batch.id)
        bench.emulator.handle("POST", "/v1/messages", {"x-api-key": SECRET}, b"{}")

    assert SECRET not in json.dumps(bench.emulator.report())
    assert SECRET not in repr(bench.emulator) + repr(vars(bench.emulator)) + str(refused.value.body)
    assert SECRET not in "".join(map(str, logged))
    emulator_logs = [r for r in caplog.records if not r.name.startswith(("anthropic", "httpcore2", "httpx2"))]
    assert SECRET not in "".join(r.getMessage() for r in emulator_logs)
    assert not [value for value in strings_of(bench.emulator) if SECRET in value]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org"])
def test_an_address_that_others_can_reach_is_refused_without_a_token(bench: Bench, host: str) -> None:
    with pytest.raises(ConfigError, match="give it a token"):
        serve(bench.emulator, host)


def test_the_report_is_open_on_loopback_and_asks_for_the_token_where_there_is_one(bench: Bench) -> None:
    with running(bench.emulator) as url:
        opened = httpx2.get(f"{url}/emulator/report")
    with running(bench.emulator, token="sesame") as url:
        closed = httpx2.get(f"{url}/emulator/report")
        wrong = httpx2.get(f"{url}/emulator/report", headers={"x-emulator-token": "wrong"})
        own = httpx2.get(f"{url}/emulator/report", headers={"x-emulator-token": "sesame"})

    assert [r.status_code for r in (opened, closed, wrong, own)] == [200, 401, 401, 200]
    assert own.json()["totals"]["requests"] == 0
    assert "request-id" in closed.headers


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 200), ("localhost:8377", 200), ("[::1]:8377", 200), ("evil.example", 403), ("evil.example:8377", 403)],
)
def test_a_request_that_names_a_foreign_host_is_refused_on_loopback(bench: Bench, host: str, status: int) -> None:
    with running(bench.emulator) as url:
        answer = httpx2.get(f"{url}/emulator/report", headers={"host": host})

    assert answer.status_code == status


def test_with_a_token_the_sdk_sends_it_as_its_key(bench: Bench) -> None:
    with running(bench.emulator, token="open") as url:
        with Anthropic(api_key="open", base_url=url, max_retries=0) as sdk:
            assert sdk.messages.create(**HELLO).stop_reason == "end_turn"
        with Anthropic(api_key="shut", base_url=url, max_retries=0) as sdk, pytest.raises(anthropic.AuthenticationError):
            sdk.messages.create(**HELLO)


def test_rule_05_a_compaction_takes_the_tokens_of_its_iteration(bench: Bench) -> None:
    """Its top-level usage is zero; the limits are not spared for that."""
    limited(bench, input_tokens_per_minute=6_000, output_tokens_per_minute=600)
    talk: Any = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi."}, *HELLO["messages"]]

    raw = bench.sdk().beta.messages.with_raw_response.create(
        model=MODEL, max_tokens=100, messages=talk, compaction={"type": "summarize"}, betas=["compact-2026-09-04"]
    )

    used = raw.parse().usage.iterations or []
    assert [u.type for u in used] == ["compaction"]
    assert raw.headers[REMAINING.format("input-tokens")] == str(6_000 - used[0].input_tokens)
    assert raw.headers[REMAINING.format("output-tokens")] == str(600 - used[0].output_tokens)
