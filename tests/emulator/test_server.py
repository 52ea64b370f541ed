from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from anthropic import Anthropic

from agentloop.emulator import Function
from agentloop.emulator.server import application, running, serve
from agentloop.errors import ConfigError
from agentloop.types.blocks import text

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

HELLO: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 10_000,
    "messages": [{"role": "user", "content": "Hello."}],
}


def test_a_client_talks_to_it_over_a_port(bench: Bench) -> None:
    bench.play(Function("test", lambda request, step: [text("Long 🐎 " * 1_000)]))

    with running(bench.emulator) as url, Anthropic(api_key="k", base_url=url, max_retries=0) as sdk:
        whole = sdk.messages.create(**HELLO)
        with sdk.messages.stream(**HELLO) as stream:
            streamed = stream.get_final_message()
        listed = sdk.models.list()

    assert streamed.to_dict()["content"] == whole.to_dict()["content"]
    assert len(listed.data) == 20


def test_threads_share_one_account(bench: Bench) -> None:
    with (
        running(bench.emulator) as url,
        Anthropic(api_key="k", base_url=url, max_retries=0) as sdk,
        ThreadPoolExecutor(8) as pool,
    ):
        replies = list(pool.map(lambda _: sdk.messages.create(**HELLO), range(24)))

    assert len(bench.lines()) == len(replies) == 24
    assert len({line["request_id"] for line in bench.lines()}) == 24


def test_it_is_gone_when_the_block_ends(bench: Bench) -> None:
    with running(bench.emulator) as url:
        pass

    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/emulator/report")
    assert "emulator" not in {t.name for t in threading.enumerate()}


def test_a_body_that_is_too_large_is_refused_over_http(bench: Bench) -> None:
    with running(bench.emulator) as url:
        answer = httpx2.post(f"{url}/v1/messages", headers={"x-api-key": "k"}, content=b" " * (33 * 1024 * 1024))

    assert answer.status_code == 413


def test_an_address_that_others_can_reach_needs_a_token(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="give it a token"):
        serve(bench.emulator, host="0.0.0.0")


def test_a_port_that_is_taken_is_named(bench: Bench) -> None:
    with running(bench.emulator) as url, pytest.raises(ConfigError, match="choose another port"):
        serve(bench.emulator, port=int(url.rsplit(":", 1)[1]))


def test_with_a_token_every_request_must_carry_it(bench: Bench) -> None:
    app: Any = application(bench.emulator, token="secret")
    statuses = []

    async def ask(headers: dict[str, str]) -> None:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://emulator") as client:
            statuses.append((await client.get("/emulator/report", headers=headers)).status_code)

    asyncio.run(ask({}))
    asyncio.run(ask({"x-api-key": "wrong"}))
    asyncio.run(ask({"authorization": "Bearer secret"}))

    assert statuses == [401, 401, 200]
