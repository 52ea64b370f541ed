from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anthropic
import pytest
from anthropic.types import TextBlock

from agentloop.emulator import Answer, EmulatorSettings, Function
from agentloop.types.blocks import text
from tests.emulator.reachable import strings_of

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

HELLO = {"model": "claude-sonnet-5-5", "max_tokens": 10, "messages": [{"role": "user", "content": "Hello."}]}
HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01"}


def body_of(answer: Answer) -> Any:
    return json.loads(b"".join(c for c in answer.chunks if isinstance(c, bytes)))


def test_a_message_comes_back_as_the_script_says_it(bench: Bench) -> None:
    reply = bench.ask()

    assert reply.content == [TextBlock(type="text", text="Done.")]
    assert (reply.stop_reason, reply.id, reply.model) == ("end_turn", "msg_test_0000", "claude-sonnet-5-5")


def test_every_response_has_a_request_id_and_errors_repeat_it(bench: Bench) -> None:
    fine = bench.sdk().messages.with_raw_response.create(**HELLO)  # type: ignore[call-overload]
    with pytest.raises(anthropic.NotFoundError) as refused:
        bench.ask(model="claude-unknown-1")

    assert fine.headers["request-id"] == "req_emulator_00000001"
    assert refused.value.request_id == refused.value.body["request_id"] == "req_emulator_00000002"  # type: ignore[index]


def test_a_request_without_a_key_is_unauthenticated(bench: Bench) -> None:
    answer = bench.emulator.handle("POST", "/v1/messages", {"anthropic-version": "2023-06-01"}, b"{}")

    assert answer.status == 401
    assert body_of(answer)["error"]["type"] == "authentication_error"


@pytest.mark.parametrize("header", [{"X-Api-Key": "k"}, {"Authorization": "Bearer k"}])
def test_a_key_is_taken_from_either_header(bench: Bench, header: dict[str, str]) -> None:
    headers = {"anthropic-version": "2026-10-21", **header}

    assert bench.emulator.handle("POST", "/v1/messages", headers, json.dumps(HELLO).encode()).status == 200


@pytest.mark.parametrize("version", [{}, {"anthropic-version": "2024-01-01"}])
def test_a_missing_or_unknown_api_version_is_refused(bench: Bench, version: dict[str, str]) -> None:
    answer = bench.emulator.handle("POST", "/v1/messages", {"x-api-key": "k", **version}, json.dumps(HELLO).encode())

    assert (answer.status, body_of(answer)["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"a": NaN}', b'{"model": "\\ud800"}', b'{"a": 1e999}', b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(bench: Bench, body: bytes) -> None:
    answer = bench.emulator.handle("POST", "/v1/messages", HEADERS, body)

    assert answer.status == 400
    assert body_of(answer)["error"]["message"].startswith("The request body is not valid JSON")


@pytest.mark.parametrize("depth", [500, 500_000])
def test_a_body_that_is_nested_too_deeply_is_refused_and_no_other(bench: Bench, depth: int) -> None:
    tool = '{"name": "t", "input_schema": {"type": "object", "x": ' + "[" * depth + "]" * depth + "}}"
    body = json.dumps(HELLO)[:-1] + f', "tools": [{tool}]}}'

    assert bench.emulator.handle("POST", "/v1/messages", HEADERS, body.encode()).status == (200 if depth == 500 else 400)


def test_a_body_above_32_megabytes_is_too_large(bench: Bench) -> None:
    answer = bench.emulator.handle("POST", "/v1/messages", HEADERS, b" " * (32 * 1024 * 1024 + 1))

    assert (answer.status, body_of(answer)["error"]["type"]) == (413, "request_too_large")


def test_an_unknown_path_is_not_found(bench: Bench) -> None:
    answer = bench.emulator.handle("GET", "/v1/nothing", HEADERS, b"")

    assert (answer.status, body_of(answer)["error"]["type"]) == (404, "not_found_error")


def test_counting_gives_the_tokens_that_the_request_is_billed_for(bench: Bench) -> None:
    messages: list[Any] = HELLO["messages"]  # type: ignore[assignment]

    counted = bench.sdk().messages.count_tokens(model="claude-sonnet-5-5", system="Be kind.", messages=messages)

    assert counted.input_tokens == bench.ask(messages, system="Be kind.").usage.input_tokens
    assert len(bench.lines()) == 1


def test_the_models_are_listed_newest_first_over_all_pages(bench: Bench) -> None:
    listed = list(bench.sdk().models.list(limit=7))

    assert len(listed) == len({m.id for m in listed}) > 20
    assert [m.created_at for m in listed] == sorted((m.created_at for m in listed), reverse=True)


def test_a_model_can_be_looked_up_by_its_alias(bench: Bench) -> None:
    model = bench.sdk().models.retrieve("claude-haiku-4-5")

    assert (model.id, model.max_input_tokens, model.line) == ("claude-haiku-4-5-20251001", 200_000, "haiku")


def test_a_retired_model_is_in_the_catalogue_but_answers_no_requests(bench: Bench) -> None:
    assert bench.sdk().models.retrieve("claude-opus-4-1").lifecycle == "retired"

    with pytest.raises(anthropic.NotFoundError, match="model: claude-opus-4-1"):
        bench.ask(model="claude-opus-4-1")


def test_the_report_lists_each_request_with_its_cost(bench: Bench) -> None:
    bench.ask()
    bench.ask()

    report = body_of(bench.emulator.handle("GET", "/emulator/report", {}, b""))

    first, second = report["requests"]
    assert (first["number"], second["number"]) == (1, 2)
    assert (first["message_id"], first["time"]) == ("msg_test_0000", "2026-11-21T22:26:40Z")
    assert float(report["totals"]["cost_usd"]) == pytest.approx(float(first["cost_usd"]) + float(second["cost_usd"]))


def test_a_refused_request_costs_nothing(bench: Bench) -> None:
    with pytest.raises(anthropic.BadRequestError):
        bench.ask(max_tokens=-1)

    assert bench.emulator.report()["totals"]["cost_usd"] == "0"


def test_a_reply_longer_than_max_tokens_is_cut_off_and_its_step_is_still_to_come(bench: Bench) -> None:
    cut = bench.ask(max_tokens=1)
    again = bench.ask(diagnostics={"previous_message_id": cut.id})

    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 1)
    assert again.id == "msg_test_0000"


def test_no_output_tokens_at_all_only_warm_the_cache(bench: Bench) -> None:
    warmed = bench.ask([{"role": "user", "content": "word " * 1_000}], max_tokens=0, cache_control={"type": "ephemeral"})

    assert (warmed.content, warmed.stop_reason, warmed.usage.output_tokens) == ([], "max_tokens", 0)
    assert warmed.usage.cache_creation_input_tokens
    assert not warmed.id.endswith("_0000")


def test_the_same_requests_at_the_same_times_get_the_same_bytes(bench: Bench) -> None:
    asked = [json.dumps(HELLO | change).encode() for change in ({}, {"stream": True}, {"max_tokens": -1})]

    def conversation() -> list[tuple[bytes, str]]:
        emulator = bench.play(Function("same", lambda request, step: [text("Ä" * 3_000)]))
        answers = [emulator.handle("POST", "/v1/messages", HEADERS, body) for body in asked]
        return [(b"".join(c for c in a.chunks if isinstance(c, bytes)), repr(a.headers)) for a in answers]

    assert conversation() == conversation()


def test_a_key_is_kept_nowhere(bench: Bench) -> None:
    bench.sdk(api_key="sk-ant-secret").messages.create(**HELLO)  # type: ignore[call-overload]

    assert len(bench.lines()) == 1
    assert not [value for value in strings_of(bench.emulator) if "secret" in value]


ESCAPED = json.dumps(HELLO | {"messages": [{"role": "user", "content": "\ud800"}]})


@pytest.mark.parametrize(
    "body",
    [
        ESCAPED.encode(),
        ESCAPED.encode("utf-16-le"),
        ESCAPED.encode().replace(rb"\ud800", b"\xed\xa0\x80"),
        ESCAPED.encode().replace(rb"\ud800", b"\xff"),
    ],
)
def test_text_that_is_no_unicode_is_refused(bench: Bench, body: bytes) -> None:
    """A lone surrogate as an escape, in another encoding, and as bytes; a byte that is none of UTF-8."""
    answer = bench.emulator.handle("POST", "/v1/messages", HEADERS, body)

    assert answer.status == 400


def test_a_number_of_thousands_of_digits_is_an_answer_and_no_failure(bench: Bench) -> None:
    digits = "9" * 5_000

    pages = [
        bench.emulator.handle("GET", f"/v1/{p}?limit={digits}", HEADERS, b"").status for p in ("models", "messages/batches")
    ]
    reply = bench.ask(diagnostics={"previous_message_id": f"msg_test_{digits}"})

    assert (pages, reply.id) == ([400, 400], "msg_test_0000")


def test_the_capabilities_of_a_model_are_those_by_which_it_answers(bench: Bench) -> None:
    """What a client asks the Models API before it sends: each kind of thinking, compaction, effort."""
    beta = bench.sdk().beta.models

    sonnet, haiku = beta.retrieve("claude-sonnet-5-5").capabilities, beta.retrieve("claude-haiku-4-5").capabilities
    retired = beta.retrieve("claude-opus-4-1").capabilities

    assert sonnet is not None
    assert haiku is not None
    assert retired is None
    assert sonnet.compaction is not None
    assert haiku.compaction is not None
    assert (sonnet.compaction.summarize.supported, haiku.compaction.supported) == (True, False)
    types = sonnet.thinking.types
    assert [types.adaptive.supported, types.between_tools.supported, types.disabled.supported] == [True, True, False]
    assert (haiku.thinking.types.enabled.supported, haiku.thinking.types.adaptive.supported) == (True, False)
    assert sonnet.effort.xhigh is not None
    assert (sonnet.effort.xhigh.supported, haiku.effort.supported) == (True, False)


@pytest.mark.parametrize("assumed", [True, False])
def test_whether_a_model_compacts_that_nobody_knows_of_is_the_setting(bench: Bench, assumed: bool) -> None:
    bench.play(Function("test", lambda request, step: []), EmulatorSettings(compacts_on_demand=assumed))

    found = bench.sdk().beta.models.retrieve("claude-fable-5-2").capabilities

    assert found is not None
    assert found.compaction is not None
    assert found.compaction.supported is assumed
