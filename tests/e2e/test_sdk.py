"""The SDK's own ways of holding a conversation, unchanged, against the emulator on a port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic, beta_tool

from agentloop.emulator import EmulatorSettings
from agentloop.testing import EmulatedApi
from agentloop.types.base import Json

MODEL: Any = "claude-sonnet-5-5"
SYSTEM: Any = [{"type": "text", "text": "You keep the books. " * 200, "cache_control": {"type": "ephemeral"}}]
BOOK: Json = {
    "name": "books",
    "steps": [
        {"say": "I add them.", "call": [{"add": {"a": 2, "b": 3}}, {"add": {"a": 10, "b": 20}}]},
        {"say": "And the sum.", "call": [{"add": {"a": 5, "b": 30}}]},
        {"say": "It is 35."},
    ],
}


@pytest.fixture
def api(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Iterator[EmulatedApi]:
    """An emulator whose bill is printed when the test is over."""
    api = EmulatedApi(BOOK, EmulatorSettings(strict=True))
    yield api
    with capsys.disabled():
        print(f"\n{request.node.name}: {api.bill()}")
    api.close()


@pytest.fixture
def sdk(api: EmulatedApi) -> Iterator[Anthropic]:
    """The SDK as anybody makes it."""
    with Anthropic(api_key="emulator", base_url=api.url, max_retries=0) as client:
        yield client


@beta_tool
def add(a: int, b: int) -> str:
    """The sum of two numbers."""
    return str(a + b)


def bodies(api: EmulatedApi) -> list[int]:
    """What each answered request read from the cache."""
    return [line["cache_read_input_tokens"] for line in api.requests()]


def test_a_stream_of_the_sdk_ends_with_the_whole_message_and_its_usage(api: EmulatedApi, sdk: Anthropic) -> None:
    asked: Any = {"model": MODEL, "max_tokens": 1_000, "system": SYSTEM, "messages": [{"role": "user", "content": "Add."}]}

    with sdk.messages.stream(**asked) as stream:
        words = "".join(stream.text_stream)
        message = stream.get_final_message()

    bill = api.bill()
    assert words == "I add them."
    assert [b.name for b in message.content if b.type == "tool_use"] == ["add", "add"]
    assert message.usage.cache_creation_input_tokens == bill.cache_creation_input_tokens > 1_000
    assert message.usage.output_tokens == bill.output_tokens


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("threads", [False, True])
def test_the_tool_runner_of_the_sdk_runs_to_the_end(api: EmulatedApi, sdk: Anthropic, threads: bool, streams: bool) -> None:
    more: Any = {} if threads else {"thread": False}
    runner: Any = sdk.beta.messages.tool_runner(
        model=MODEL,
        max_tokens=1_000,
        system=SYSTEM,
        tools=[add],
        messages=[{"role": "user", "content": "Add."}],
        stream=streams,
        **more,
    )

    last = runner.until_done()

    assert [b.text for b in last.content if b.type == "text"] == ["It is 35."]
    assert api.bill().requests == 3
    assert [read > 0 for read in bodies(api)] == [False, True, True]


def test_a_thread_is_refused_once_in_words_that_the_sdk_understands(api: EmulatedApi, sdk: Anthropic) -> None:
    seen: list[str] = []
    http = httpx2.Client(event_hooks={"response": [lambda r: seen.append(f"{r.status_code} {b'thread' in r.request.content}")]})
    with sdk.with_options(http_client=http) as client:
        client.beta.messages.tool_runner(
            model=MODEL, max_tokens=1_000, tools=[add], messages=[{"role": "user", "content": "Add."}]
        ).until_done()

    assert seen == ["400 True", "200 False", "200 False", "200 False"]


def test_a_batch_of_the_sdk_is_created_awaited_and_read(api: EmulatedApi, sdk: Anthropic) -> None:
    api.play("Done.")
    sdk = sdk.with_options(base_url=api.url)
    params: Any = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "Hello."}]}
    batch = sdk.messages.batches.create(requests=[{"custom_id": f"item-{i}", "params": params} for i in range(5)])

    while batch.processing_status != "ended":
        api.pass_(60)
        batch = sdk.messages.batches.retrieve(batch.id)

    results = {r.custom_id: r.result for r in sdk.messages.batches.results(batch.id)}
    assert sorted(results) == [f"item-{i}" for i in range(5)]
    assert {r.type for r in results.values()} == {"succeeded"}
    assert batch.request_counts.succeeded == api.bill().requests == 5
