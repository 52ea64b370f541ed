import json

import pytest

from agentloop.core.cache import Mark, parts_of
from agentloop.testing import card
from agentloop.types.base import Json
from agentloop.types.blocks import text, tool_result, tool_use
from tests.unit.lines import words

BODY: Json = {
    "model": "claude-test",
    "system": [text(words(1_000))],
    "tools": [{"name": "look", "description": words(100), "input_schema": {"type": "object"}}],
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [tool_use("a", "look", {}), tool_use("b", "look", {})]},
        {"role": "user", "content": [tool_result("a", "1"), {**tool_result("b", "2"), "cache_control": {"type": "ephemeral"}}]},
    ],
}


def keys(body: Json) -> list[bytes]:
    return [p.key for p in parts_of(body, card())[0]]


def changed(body: Json) -> list[int]:
    """Which parts differ from those of BODY."""
    return [i for i, (a, b) in enumerate(zip(keys(BODY), keys(body), strict=True)) if a != b]


def test_a_body_is_a_row_of_blocks_tools_before_system_before_messages() -> None:
    parts, marks = parts_of(BODY, card())

    assert [p.run for p in parts] == ["", "", "", "tool_use", "tool_use", "tool_result", "tool_result"]
    assert parts[1].tokens == 1_000
    assert marks == [Mark(6, "5m")]


def test_a_text_is_the_same_as_one_text_block() -> None:
    assert changed({**BODY, "messages": [{"role": "user", "content": [text("hi")]}, *BODY["messages"][1:]]}) == []


def test_a_moved_mark_changes_no_part() -> None:
    moved = json.loads(json.dumps(BODY).replace(', "cache_control": {"type": "ephemeral"}', ""))

    assert changed(moved) == []


def test_the_order_of_keys_in_a_tool_call_matters() -> None:
    def body(arguments: Json) -> Json:
        return {**BODY, "messages": [{"role": "assistant", "content": [tool_use("a", "look", arguments)]}]}

    assert keys(body({"x": 1, "y": 2})) != keys(body({"y": 2, "x": 1}))


@pytest.mark.parametrize(
    "setting",
    [
        {"tool_choice": {"type": "any"}},
        {"thinking": {"type": "adaptive"}},
        {"output_config": {"effort": "low"}},
    ],
)
def test_settings_of_a_request_cost_the_messages_and_keep_tools_and_system(setting: Json) -> None:
    assert changed({**BODY, **setting}) == [2]  # the first message's block: everything behind it hangs on it


@pytest.mark.parametrize("setting", [{"max_tokens": 7}, {"metadata": {"user_id": "u"}}, {"stop_sequences": ["x"]}])
def test_settings_that_are_neutral_change_nothing(setting: Json) -> None:
    assert changed({**BODY, **setting}) == []


def test_how_thinking_is_displayed_is_neutral() -> None:
    shown, hidden = ({**BODY, "thinking": {"type": "adaptive", "display": display}} for display in ("summarized", "omitted"))

    assert keys(shown) == keys(hidden)


def test_the_automatic_mark_stands_on_the_last_block_that_can_carry_one() -> None:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    body = {
        "messages": [{"role": "user", "content": [text("hi"), text("there")]}, {"role": "assistant", "content": [thinking]}],
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
    }

    assert parts_of(body, card())[1] == [Mark(1, "1h")]


def test_the_frame_and_the_prompt_for_tools_are_counted_once() -> None:
    model = card(tool_system_tokens=290)

    with_tools, without = (sum(p.tokens for p in parts_of(b, model)[0]) for b in (BODY, {**BODY, "tools": []}))

    # the tool by itself, without the 6 tokens of the frame that then stands before it
    tool = sum(p.tokens for p in parts_of({"tools": BODY["tools"]}, card())[0]) - 6
    assert with_tools - without == tool + 290


def test_default_settings_are_the_same_as_none() -> None:
    known = card(default_effort="high", thinks_by_default=True)
    default: Json = {
        "output_config": {"effort": "high"},
        "thinking": {"type": "adaptive", "display": "omitted"},
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": False},
    }

    assert parts_of({**BODY, **default}, known) == parts_of(BODY, known)


def test_each_part_knows_where_it_stands() -> None:
    parts, _ = parts_of(BODY, card())

    assert [p.path for p in parts[:4]] == ["tools.0", "system.0", "messages.0.content.0", "messages.1.content.0"]


@pytest.mark.parametrize(
    ("kind", "newer", "older"),
    [("bash_20250124", 325, 244), ("text_editor_20250728", 974, 745), ("computer_toolset_20251124", 4_500, 4_500)],
)
def test_tools_that_the_api_defines_have_documented_sizes(kind: str, newer: int, older: int) -> None:
    def size(family: str) -> int:
        with_tool, without = ({"tools": tools, "system": "x"} for tools in ([{"type": kind, "name": "tool"}], []))
        return sum(
            sum(p.tokens for p in parts_of(b, card(tokenizer=family))[0]) * s for b, s in ((with_tool, 1), (without, -1))
        )

    assert (size("claude-4.7-plus"), size("claude-3-to-4.6")) == (newer, older)


def test_a_tool_that_messages_bring_adds_the_prompt_for_tools_at_the_front() -> None:
    """Where no tool stands there, the first one that is added costs the whole cache once."""
    known = card(tool_system_tokens=286)
    brought = {"role": "system", "content": [{"type": "tool_addition", "tool": {"type": "tool_reference", "name": "look"}}]}
    bare: Json = {"system": "Be kind.", "messages": [{"role": "user", "content": "hi"}]}

    before, _ = parts_of(bare, known)
    after, _ = parts_of({**bare, "messages": [*bare["messages"], brought]}, known)

    assert after[0].key != before[0].key
    assert after[0].tokens == before[0].tokens + 286


def test_an_added_tool_behind_others_leaves_the_front_as_it_is() -> None:
    deferred = {"name": "see", "input_schema": {"type": "object"}, "defer_loading": True}
    brought = {"role": "system", "content": [{"type": "tool_addition", "tool": {"type": "tool_reference", "name": "see"}}]}
    tools = [*BODY["tools"], deferred]

    before, _ = parts_of({**BODY, "tools": tools}, card())
    after, _ = parts_of({**BODY, "tools": tools, "messages": [*BODY["messages"], brought]}, card())

    assert after[: len(before)] == before
    assert after[-1].tokens > 20
