import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agentloop import Agent
from agentloop.cli import cli
from agentloop.core import wire
from agentloop.core.prewarming import prewarming, request
from agentloop.core.stream import StreamBroken, whole
from agentloop.testing import EmulatedApi, card
from agentloop.types.base import Json
from agentloop.types.request import Prefix
from agentloop.types.usage import Ttl
from tests.unit.lines import unit_card

PROMPT = "---\nmodel: claude-sonnet-5-5\n---\n" + "You keep the books of a shop, and you keep them well.\n" * 100


def test_each_of_the_sessions_writes_or_one_request_does_and_each_reads() -> None:
    """3*1.25*8,000 against 1.25*8,000 + 3*0.1*8,000 and the 3 tokens of the message."""
    plan = prewarming(unit_card(), 8_000, "5m", 3)

    assert (plan.cold_usd, plan.warmed_usd, plan.pays) == (Decimal("0.03"), Decimal("0.012403"), True)
    assert plan.arithmetic == (
        "a prefix of 8,000 tokens, 3 sessions together: written once and read 0.0124 < written by each 0.0300 USD"
    )


@pytest.mark.parametrize(("sessions", "tokens"), [(1, 8_000), (5, 511)])
def test_it_does_not_pay_for_one_session_or_for_a_prefix_that_is_not_cached(sessions: int, tokens: int) -> None:
    plan = prewarming(card(), tokens, "5m", sessions)

    assert not plan.pays
    assert " ≤ " in plan.arithmetic


@pytest.mark.parametrize(("ttl", "control"), [("5m", {"type": "ephemeral"}), ("1h", {"type": "ephemeral", "ttl": "1h"})])
def test_the_request_is_the_prefix_of_a_session_with_a_mark_at_its_end(ttl: Ttl, control: Json) -> None:
    prefix = Prefix(model="claude-sonnet-5-5", system="You count.", effort="low")

    body = json.loads(wire.body(request(prefix, ttl)))

    assert body["system"] == [{"type": "text", "text": "You count.", "cache_control": control}]
    assert (body["max_tokens"], body["output_config"], "stream" in body) == (0, {"effort": "low"}, False)


def test_a_reply_in_one_piece_is_read_as_one_that_streams_is() -> None:
    usage = {"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 7}
    content = [{"type": "text", "text": "hi"}]
    message = {"type": "message", "id": "m", "model": "x", "content": content, "stop_reason": "end_turn"}

    made = whole({**message, "usage": usage}, "req", 10)

    assert (made.content, made.stop_reason, made.request_id) == (tuple(content), "end_turn", "req")
    assert (made.usage.prompt_tokens, made.usage.output_tokens, made.usage_estimated) == (10, 2, False)


@pytest.mark.parametrize("data", [[], "<html>", {}, {"type": "error"}, {"type": "message", "content": []}])
def test_what_is_no_message_is_no_reply(data: Any) -> None:
    with pytest.raises(StreamBroken):
        whole(data, None, 10)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "books.md").write_text(PROMPT)
    return tmp_path


def warm(workspace: Path, api: EmulatedApi | None, *options: str) -> tuple[int, str]:
    where = ["--base-url", api.url] if api is not None else []
    command = ["prefix", "warm", "books", "--workspace", str(workspace), *where, *options]
    done = CliRunner().invoke(cli, command, env={"ANTHROPIC_API_KEY": "emulator"})
    return (2 if done.exception is not None else 0), done.output + str(done.exception or "")


def test_a_session_that_starts_afterwards_reads_the_whole_prefix(workspace: Path, emulator: EmulatedApi) -> None:
    code, said = warm(workspace, emulator, "--sessions", "3")
    [warming] = emulator.requests()
    books = Agent("prompts/books.md", workspace=workspace, base_url=emulator.url, environment={"ANTHROPIC_API_KEY": "emulator"})

    books.run("How much did we earn?")

    [_, turn] = emulator.requests()
    assert code == 0
    assert turn["cache_read_input_tokens"] == warming["ephemeral_5m_input_tokens"] > 1_000
    assert f"billed: {warming['ephemeral_5m_input_tokens']:,} tokens written for 5m, 0 read" in said
    assert f"{Decimal(warming['cost_usd']):.4f} USD" in said


def test_what_does_not_pay_is_not_sent_unless_it_is_forced(workspace: Path, emulator: EmulatedApi) -> None:
    refused = warm(workspace, emulator, "--sessions", "1")
    sent_then = len(emulator.requests())
    forced = warm(workspace, emulator, "--sessions", "1", "--force")

    assert (refused[0], sent_then, forced[0], len(emulator.requests())) == (2, 0, 0, 1)
    assert "does not pay" in refused[1]
    assert "--force" in refused[1]


def test_the_same_as_json(workspace: Path, emulator: EmulatedApi) -> None:
    code, said = warm(workspace, emulator, "--ttl", "1h", "--json")

    data = json.loads(said)
    [line] = emulator.requests()
    assert (code, data["pays"], data["sent"], data["ttl"]) == (0, True, True, "1h")
    assert data["usage"]["ephemeral_1h_input_tokens"] == line["ephemeral_1h_input_tokens"] > 1_000
    assert Decimal(data["cost_usd"]) == Decimal(line["cost_usd"])


def test_the_scripted_model_has_no_cache_that_could_be_shared(workspace: Path) -> None:
    code, said = warm(workspace, None, "--provider", "scripted")

    assert code == 2
    assert "--base-url" in said


def test_a_prefix_that_changes_from_run_to_run_is_not_warmed(workspace: Path, emulator: EmulatedApi) -> None:
    (workspace / "prompts" / "books.md").write_text(PROMPT + "Today is 2026-11-22.\n")

    code, said = warm(workspace, emulator)

    assert (code, emulator.requests()) == (2, [])
    assert "2026-11-22" in said
