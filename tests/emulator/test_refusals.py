"""What the API refuses, and its words for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic
import pytest

from agentloop.types.base import Json
from agentloop.types.blocks import text, tool_result, tool_use

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

FIVE_MINUTES = {"type": "ephemeral"}
ONE_HOUR = {"type": "ephemeral", "ttl": "1h"}
TOOL: Json = {"name": "look", "input_schema": {"type": "object"}}
DOCUMENT: Json = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}
OLD = "claude-haiku-4-5"
CITATION: Json = {
    "type": "char_location",
    "cited_text": "a",
    "document_index": 0,
    "document_title": None,
    "start_char_index": 0,
    "end_char_index": 1,
}


def user(*content: Any) -> Json:
    return {"role": "user", "content": [text(c) if isinstance(c, str) else c for c in content]}


def assistant(*content: Any) -> Json:
    return user(*content) | {"role": "assistant"}


def call(*ids: str) -> Json:
    return assistant(*(tool_use(i, "look", {}) for i in ids))


def results(*ids: str) -> Json:
    return user(*(tool_result(i, "seen") for i in ids))


def marked(value: str, control: Json = FIVE_MINUTES) -> Json:
    return text(value) | {"cache_control": control}


def refusal(bench: Bench, **body: Any) -> str:
    with pytest.raises(anthropic.BadRequestError) as refused:
        bench.ask(**body)
    error: Any = refused.value.body
    assert error["error"]["type"] == "invalid_request_error"
    return str(error["error"]["message"])


ANSWER_IN_THE_NEXT = "Each `tool_use` block must have a corresponding `tool_result` block in the next message."
CALL_IN_THE_LAST = "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
UNANSWERED = "`tool_use` ids were found without `tool_result` blocks immediately after"
UNEXPECTED = "unexpected `tool_use_id` found in `tool_result` blocks"
EMPTY = "all messages must have non-empty content except for the optional final assistant message"
PREFILL = "This model does not support assistant message prefill. The conversation must end with a user message."


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([user("a"), call("x", "y"), user("b")], f"messages.1: {UNANSWERED}: x, y. {ANSWER_IN_THE_NEXT}"),
        ([user("a"), call("x", "y"), results("x")], f"messages.1: {UNANSWERED}: y. {ANSWER_IN_THE_NEXT}"),
        ([user("a"), call("x")], f"messages.1: {UNANSWERED}: x. {ANSWER_IN_THE_NEXT}"),
        ([user("a"), call("x"), user("b", tool_result("x", "c"))], f"messages.1: {UNANSWERED}: x. {ANSWER_IN_THE_NEXT}"),
        ([user("a"), user("b"), assistant("c"), call("x"), user("d")], f"messages.3: {UNANSWERED}: x. {ANSWER_IN_THE_NEXT}"),
        ([results("x")], f"messages.0.content.0: {UNEXPECTED}: x. {CALL_IN_THE_LAST}"),
        ([user("a"), call("x"), results("x", "z")], f"messages.2.content.1: {UNEXPECTED}: z. {CALL_IN_THE_LAST}"),
        (
            [user("a"), call("x"), results("x"), results("x")],
            "messages.3.content.0: each tool_use must have a single result. Found multiple `tool_result` blocks with id: x",
        ),
        ([user("a"), call("x", "x"), results("x")], "messages.1.content.1: `tool_use` ids must be unique"),
        (
            [user("a"), call("x"), results("x"), call("x"), results("x")],
            "messages.3.content.0: `tool_use` ids must be unique",
        ),
        ([user("a", tool_use("x", "look", {}))], "messages.0: `tool_use` blocks can only be in `assistant` messages"),
        (
            [user("a"), assistant(tool_result("x", "b")), user("c")],
            "messages.1: `tool_result` blocks can only be in `user` messages",
        ),
        ([user("a"), assistant("b")], PREFILL),
        ([assistant("a"), user("b")], 'messages: first message must use the "user" role'),
        ([{"role": "user", "content": ""}], f"messages.0: {EMPTY}"),
        ([user("a"), assistant(), user("b")], f"messages.1: {EMPTY}"),
        ([user("")], "messages: text content blocks must be non-empty"),
        ([user("a", " \n")], "messages: text content blocks must contain non-whitespace text"),
        ([user(marked(""))], "messages.0.content.0.text: cache_control cannot be set for empty text blocks"),
        ([{"role": "robot", "content": "a"}], "messages.0.role: Input should be 'user', 'assistant' or 'system'"),
        ([{"role": "user"}], "messages.0.content: Field required"),
        ([{"role": "user", "content": 7}], "messages.0.content: Input should be a valid list"),
        ([{"role": "user", "content": "a", "name": "b"}], "messages.0.name: Extra inputs are not permitted"),
        ([user(text("a") | {"colour": "red"})], "messages.0.content.0.text.colour: Extra inputs are not permitted"),
        (
            [user("a"), assistant({"type": "thinking", "thinking": "", "signature": ""}, "b"), user("c")],
            "messages.1.content.0.thinking: each thinking block must contain thinking",
        ),
        (
            [
                user("a"),
                assistant({"type": "thinking", "thinking": "t", "signature": "s", "cache_control": FIVE_MINUTES}),
                user("c"),
            ],
            "messages.1.content.0.thinking.cache_control: Extra inputs are not permitted",
        ),
        (
            [{"role": "system", "content": "a"}, user("b")],
            'messages.0: a message with the "system" role must follow a user message',
        ),
        (
            [user("a"), {"role": "system", "content": "b"}, user("c")],
            'messages.1: a message with the "system" role must be last or precede an assistant message',
        ),
        (
            [user("a"), assistant("b"), {"role": "system", "content": "c"}],
            'messages.2: a message with the "system" role must follow a user message',
        ),
        (
            [user("a"), assistant(DOCUMENT), user("b")],
            "messages.1.content.0: `document` blocks are not permitted in `assistant` messages",
        ),
        (
            [user(text("a") | {"citations": [CITATION]})],
            "messages.0.content.0.text.citations: Extra inputs are not permitted",
        ),
    ],
)
def test_a_conversation_that_breaks_a_rule_is_refused(bench: Bench, messages: list[Json], words: str) -> None:
    assert refusal(bench, messages=messages) == words


def test_a_conversation_needs_a_message(bench: Bench) -> None:
    with pytest.raises(anthropic.BadRequestError, match="messages: at least one message is required"):
        bench.sdk().messages.create(model="claude-sonnet-5-5", max_tokens=10, messages=[])


@pytest.mark.parametrize(
    "messages",
    [
        [user("a"), user("b"), assistant("c"), assistant("d"), user("e")],
        [user("a"), call("x"), call("y"), results("x"), results("y"), user("b")],
        [user("a"), {"role": "system", "content": "b"}, assistant("c"), user("d"), {"role": "system", "content": "e"}],
        [user("a"), assistant({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})],
    ],
)
def test_messages_of_one_role_in_a_row_are_one_turn(bench: Bench, messages: list[Json]) -> None:
    assert bench.ask(messages).stop_reason == "end_turn"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"max_tokens": -1}, "max_tokens: Input should be greater than or equal to 0"),
        (
            {"max_tokens": 128_001},
            "max_tokens: 128001 > 128000, which is the maximum allowed number of output tokens for claude-sonnet-5-5",
        ),
        ({"max_tokens": "7"}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": True}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": 0, "stream": True}, "max_tokens: 0 is not supported together with `stream`"),
        ({"n": 2}, "n: Extra inputs are not permitted"),
        ({"compaction": {"type": "summarize"}}, "compaction: Extra inputs are not permitted"),
        ({"temperature": 1.0}, "temperature: Extra inputs are not permitted"),
        ({"top_k": 5}, "top_k: Extra inputs are not permitted"),
        ({"system": 7}, "system: Input should be a valid list"),
        ({"output_config": {"task_budget": {}}}, "output_config.task_budget: Extra inputs are not permitted"),
        ({"tools": [TOOL, TOOL]}, "tools: Tool names must be unique."),
        (
            {"tools": [TOOL | {"name": "look up"}]},
            "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
        ),
        ({"tools": [{"name": "look"}]}, "tools.0.custom.input_schema: Field required"),
        ({"tools": [TOOL | {"run": "x"}]}, "tools.0.custom.run: Extra inputs are not permitted"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "any"}},
            'tool_choice: type "tool" and "any" are not supported for this model.',
        ),
        (
            {"model": OLD, "tools": [TOOL], "tool_choice": {"type": "tool", "name": "see"}},
            "tool_choice: Tool 'see' not found in provided tools",
        ),
        ({"tool_choice": {"type": "auto"}}, "tool_choice: tool_choice may only be specified while providing tools."),
        (
            {"thinking": {"type": "disabled"}},
            'To turn thinking off on this model, send "thinking": {"type": "between_tools"} instead of {"type": "disabled"}. '
            "The model does not think before responding. The short updates it writes between tool calls come back as "
            "thinking blocks.",
        ),
        (
            {"model": "claude-opus-5-5", "thinking": {"type": "disabled"}},
            '"thinking.type.disabled" is not supported for this model. '
            'Use "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.',
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2_000}},
            '"thinking.type.enabled" is not supported for this model. '
            'Use "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.',
        ),
        ({"model": OLD, "thinking": {"type": "adaptive"}}, "adaptive thinking is not supported on this model"),
        (
            {"model": "claude-haiku-5-5", "thinking": {"type": "between_tools"}},
            '"thinking.type.between_tools" is not supported for this model.',
        ),
        (
            {"thinking": {"type": "adaptive", "block_binding": {}}},
            "thinking.adaptive.block_binding: Extra inputs are not permitted",
        ),
        (
            {"model": OLD, "thinking": {"type": "enabled", "budget_tokens": 10}},
            "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
        ),
        (
            {"model": OLD, "thinking": {"type": "enabled", "budget_tokens": 2_000}},
            "`max_tokens` must be greater than `thinking.budget_tokens`.",
        ),
        (
            {"thinking": {"type": "between_tools"}, "output_config": {"effort": "xhigh"}},
            "output_config.effort 'xhigh' is not supported when thinking is disabled on this model. "
            "Use effort 'high' or below, or enable thinking.",
        ),
        (
            {"model": "claude-sonnet-4-6", "messages": [user("a"), {"role": "system", "content": "b"}]},
            'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, '
            'not "system" as an input message role.',
        ),
        (
            {"messages": [user(*(marked(str(i)) for i in range(5)))]},
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
        (
            {"messages": [user(*(marked(str(i)) for i in range(4)), "last")], "cache_control": FIVE_MINUTES},
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
        (
            {"tools": [TOOL | {"cache_control": FIVE_MINUTES}], "system": [marked("a", ONE_HOUR)]},
            "system.0.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. "
            "Note that blocks are processed in the following order: `tools`, `system`, `messages`.",
        ),
        (
            {"messages": [user(marked("a", ONE_HOUR))], "cache_control": FIVE_MINUTES},
            "Top-level cache_control has ttl='5m' but the target block already has cache_control with ttl='1h'",
        ),
        (
            {"messages": [user(marked("a", {"type": "ephemeral", "ttl": "1d"}))]},
            "messages.0.content.0.text.cache_control.ephemeral.ttl: Input should be '5m' or '1h'",
        ),
    ],
)
def test_a_request_that_breaks_a_rule_is_refused(bench: Bench, body: Json, words: str) -> None:
    assert refusal(bench, **body) == words


def test_a_prompt_longer_than_the_window_is_refused_with_both_sizes(bench: Bench) -> None:
    prompt = "word " * 200_000

    words = refusal(bench, model=OLD, messages=[user(prompt)])

    assert words == "prompt is too long: 210007 tokens > 200000 maximum"


def test_an_older_model_goes_on_from_an_assistant_message(bench: Bench) -> None:
    assert bench.ask([user("a"), assistant("b")], model=OLD).stop_reason == "end_turn"


def test_the_older_api_version_takes_sampling_parameters_where_the_model_does(bench: Bench) -> None:
    sdk = bench.sdk().with_options(default_headers={"anthropic-version": "2023-06-01"})
    asked: Any = {"max_tokens": 10, "messages": [user("a")], "extra_body": {"temperature": 1.0}}

    taken = sdk.messages.create(model=OLD, **asked)

    assert taken.stop_reason == "end_turn"
    with pytest.raises(anthropic.BadRequestError, match="`temperature` is deprecated for this model"):
        sdk.messages.create(model="claude-opus-4-7", **asked)


def test_counting_runs_the_same_checks(bench: Bench) -> None:
    with pytest.raises(anthropic.BadRequestError, match="unexpected `tool_use_id`"):
        bench.sdk().messages.count_tokens(model="claude-sonnet-5-5", messages=[results("x")])  # type: ignore[list-item]
