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


@pytest.mark.parametrize(
    "host", ["127.0.0.1:80@evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1", "127.0.0.1:x"]
)
def test_a_host_that_is_not_this_machines_is_refused_and_so_is_one_that_is_none(bench: Bench, host: str) -> None:
    with running(bench.emulator) as url:
        refused = httpx2.get(f"{url}/emulator/report", headers={"host": host})
        taken = [httpx2.get(f"{url}/emulator/report", headers={"host": h}) for h in ("LocalHost:80", "[::1]:80", "127.0.0.2")]

    assert (refused.status_code, [t.status_code for t in taken]) == (403, [200, 200, 200])


def test_an_empty_token_is_none_and_opens_nothing_to_other_hosts(bench: Bench) -> None:
    with running(bench.emulator, token="") as url:
        answer = httpx2.get(f"{url}/emulator/report", headers={"host": "evil.example"})

    assert answer.status_code == 403


def test_a_header_that_is_sent_twice_is_one_list(bench: Bench) -> None:
    """As some clients send their betas."""
    body = {"model": "claude-sonnet-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello."}]}
    betas = [("anthropic-beta", "context-management-2025-06-27"), ("anthropic-beta", "another-2026-01-01")]
    headers = [("x-api-key", "k"), ("anthropic-version", "2026-10-21"), *betas]
    with running(bench.emulator) as url:
        answer = httpx2.post(f"{url}/v1/messages", headers=headers, json=body | {"context_management": {"edits": []}})

    assert answer.status_code == 200


def test_a_path_with_an_escaped_letter_is_the_same_path_with_and_without_a_port(bench: Bench) -> None:
    headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
    with running(bench.emulator) as url:
        over_http = httpx2.get(f"{url}/v1/models/claude%2Dsonnet-5-5", headers=headers).status_code
    in_process = bench.emulator.handle("GET", "/v1/models/claude%2Dsonnet-5-5", headers, b"").status

    assert (over_http, in_process) == (200, 200)
