from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentloop.emulator import EmulatorSettings, Function
from agentloop.types.base import Json
from agentloop.types.blocks import text

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

LONG = "word " * 1_000
MODEL = "claude-sonnet-5-5"
TOOL: Json = {"name": "look", "input_schema": {"type": "object"}}


def user(value: str) -> Json:
    return {"role": "user", "content": [text(value) | {"cache_control": {"type": "ephemeral"}}]}


def body(previous: str | None) -> Json:
    return {"system": "Be kind.", "tools": [TOOL], "diagnostics": {"previous_message_id": previous}}


def reason(bench: Bench, messages: list[Json], **asked: Any) -> Any:
    diagnostics = bench.ask(messages, **asked).to_dict()["diagnostics"]
    return diagnostics and diagnostics["cache_miss_reason"]  # type: ignore[index]


def test_there_is_nothing_to_report_of_a_request_that_extends_the_last_one(bench: Bench) -> None:
    messages = [user(LONG)]
    first = bench.ask(messages, **body(None))
    extended = [*messages, {"role": "assistant", "content": "Done."}, user("Go on.")]

    assert first.diagnostics is None
    assert reason(bench, extended, **body(first.id)) is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": "claude-haiku-5-5"}, "model_changed"),
        ({"tools": [TOOL | {"description": "Looks."}]}, "tools_changed"),
        ({"tools": []}, "tools_changed"),
        ({"system": "Be brief."}, "system_changed"),
        ({"system": "Be brief.", "tools": []}, "tools_changed"),
        ({"messages": [user("other " + LONG)]}, "messages_changed"),
    ],
)
def test_the_first_level_that_differs_is_named_with_what_it_cost(bench: Bench, change: Json, expected: str) -> None:
    first = bench.ask([user(LONG)], **body(None))

    found = reason(bench, **{"messages": [user(LONG)]} | body(first.id) | change)

    assert found["type"] == expected
    assert found["cache_missed_input_tokens"] == first.usage.cache_creation_input_tokens


def test_another_speed_counts_as_another_model(bench: Bench) -> None:
    first = bench.ask([user(LONG)], model="claude-opus-5-5", **body(None))

    assert reason(bench, [user(LONG)], model="claude-opus-5-5", speed="fast", **body(first.id))["type"] == "model_changed"


def test_a_shorter_history_is_a_changed_one(bench: Bench) -> None:
    longer = bench.ask([user(LONG), {"role": "assistant", "content": "Done."}, user("Go on.")], **body(None))

    assert reason(bench, [user(LONG)], **body(longer.id))["type"] == "messages_changed"


@pytest.mark.parametrize("change", [{"tool_choice": {"type": "none"}}, {"output_config": {"effort": "low"}}])
def test_other_parameters_leave_the_diagnosis_unavailable(bench: Bench, change: Json) -> None:
    first = bench.ask([user(LONG)], **body(None))

    assert reason(bench, [user(LONG)], **body(first.id) | change) == {"type": "unavailable"}


def test_another_context_management_leaves_it_unavailable_too(bench: Bench) -> None:
    first = bench.ask([user(LONG)], **body(None))
    asked: Any = {"messages": [user(LONG)], "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}
    headers = {"anthropic-beta": "context-management-2025-06-27"}

    reply = bench.sdk().messages.create(
        model=MODEL, max_tokens=10, messages=[], extra_headers=headers, extra_body=asked | body(first.id)
    )

    assert reply.to_dict()["diagnostics"] == {"cache_miss_reason": {"type": "unavailable"}}


def test_a_message_whose_request_asked_for_no_diagnostics_is_not_found(bench: Bench) -> None:
    first = bench.ask([user(LONG)])

    assert reason(bench, [user(LONG)], **body(first.id)) == {"type": "previous_message_not_found"}


def test_only_so_many_messages_are_remembered(bench: Bench) -> None:
    settings = EmulatorSettings(remembered_messages=2)
    bench.play(Function("test", lambda request, step: [text("Done.")]), settings)
    ids: list[str | None] = [None]
    for _ in range(3):
        ids.append(bench.ask([user(LONG)], **body(ids[-1])).id)

    assert reason(bench, [user(LONG)], **body(ids[1])) == {"type": "previous_message_not_found"}


def test_sessions_that_share_a_script_do_not_disturb_each_other(bench: Bench) -> None:
    one = bench.ask([user("one " + LONG)], **body(None))
    bench.ask([user("two " + LONG)], **body(None))

    assert reason(bench, [user("one " + LONG)], **body(one.id)) is None


def test_a_stream_brings_the_diagnosis_when_it_starts(bench: Bench) -> None:
    first = bench.ask([user(LONG)], **body(None))
    asked: Any = {"model": "claude-sonnet-5-5", "max_tokens": 100, "messages": [user("other")], **body(first.id)}

    start = next(iter(bench.sdk().messages.create(**asked, stream=True)))

    assert start.message.diagnostics.cache_miss_reason.type == "messages_changed"
