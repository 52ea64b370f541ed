"""Rules 17 to 23: fields that are unknown or need a header, marks that are misplaced, and what warming a cache excludes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentloop.emulator.betas import FIELDS, VALUES
from agentloop.emulator.shapes import shapes
from agentloop.types.base import Json
from agentloop.types.blocks import text, tool_result, tool_use
from tests.emulator.rules.asking import LONG, assistant, marked, user
from tests.emulator.rules.test_validation_rules import EXTRA, HELLO, OLD, TOOL, refusal, send

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

FIVE_MINUTES = {"type": "ephemeral"}
ONE_HOUR = {"type": "ephemeral", "ttl": "1h"}
CLOSED: Json = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
MCP: Json = {"type": "url", "name": "s", "url": "https://example.com"}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"n": 2}, "n"),
        ({"store": True}, "store"),
        ({"messages": [user(text("a") | {"colour": "red"})]}, "messages.0.content.0.text.colour"),
        ({"messages": [{"role": "user", "content": "a", "name": "b"}]}, "messages.0.name"),
        ({"system": [text("a") | {"colour": "red"}]}, "system.0.colour"),
        ({"tools": [TOOL | {"run": "x"}]}, "tools.0.custom.run"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search", "run": 1}]}, "tools.0.web_search_20250305.run"),
        ({"tools": [TOOL], "tool_choice": {"type": "auto", "name": "look"}}, "tool_choice.auto.name"),
        ({"metadata": {"user": "u"}}, "metadata.user"),
        ({"output_config": {"colour": "red"}}, "output_config.colour"),
        ({"diagnostics": {"id": None}}, "diagnostics.id"),
        (
            {"messages": [user({"type": "image", "source": {"type": "url", "url": "https://example.com", "size": 1}})]},
            "messages.0.content.0.image.source.url.size",
        ),
        (
            {"messages": [user(text("a") | {"cache_control": FIVE_MINUTES | {"scope": "x"}})]},
            "messages.0.content.0.text.cache_control.ephemeral.scope",
        ),
    ],
)
def test_rule_17_what_is_unknown_is_named_by_its_path(bench: Bench, body: Json, path: str) -> None:
    """A field that has no place in a request is refused at any depth, in counting (which takes fewer fields) too."""
    assert refusal(bench, **body) == f"{path}: {EXTRA}"
    if path.partition(".")[0] not in ("metadata", "diagnostics"):
        assert refusal(bench, counting=True, **body) == f"{path}: {EXTRA}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"stop_sequences": "x"}, "stop_sequences: Input should be a valid list"),
        ({"stream": 1}, "stream: Input should be a valid boolean"),
        ({"service_tier": "batch"}, "service_tier: Input should be 'auto' or 'standard_only'"),
        ({"speed": "slow"}, "speed: Input should be 'fast' or 'standard'"),
        ({"messages": "Hello."}, "messages: Input should be a valid list"),
        ({"messages": [{"content": "Hello."}]}, "messages.0.role: Field required"),
        ({"messages": [user({"text": "a"})]}, "messages.0.content.0.type: Field required"),
        ({"messages": [user({"type": "image"})]}, "messages.0.content.0.image.source: Field required"),
        ({"system": None}, "system: Input should be a valid list"),
        ({"tools": [{"name": "look", "input_schema": {}}]}, "tools.0.custom.input_schema.type: Field required"),
        ({"tool_choice": "auto"}, "tool_choice: Input should be a valid dictionary or object to extract fields from"),
        (
            {"output_config": {"task_budget": {"type": "tokens", "total": 19_999}}, "betas": "task-budgets-2026-03-13"},
            "output_config.task_budget.total: Input should be greater than or equal to 20000",
        ),
        (
            {"messages": [user({"type": "image", "source": {"type": "base64", "data": "", "media_type": "image/bmp"}})]},
            "messages.0.content.0.image.source.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or "
            "'image/webp'",
        ),
    ],
)
def test_rule_17_what_has_the_wrong_type_is_told_the_right_one(bench: Bench, body: Json, words: str) -> None:
    """A value that is missing, or is not what its field takes, is refused in words that name the field."""
    assert refusal(bench, **body) == words


@pytest.mark.parametrize(
    ("beta", "body", "words"),
    [
        ("context-management-2025-06-27", {"context_management": {"edits": []}}, f"context_management: {EXTRA}"),
        ("mcp-client-2025-11-20", {"mcp_servers": [MCP]}, f"mcp_servers: {EXTRA}"),
        (
            "task-budgets-2026-03-13",
            {"output_config": {"task_budget": {"type": "tokens", "total": 20_000}}},
            f"output_config.task_budget: {EXTRA}",
        ),
        (
            "mid-conversation-system-clear-at-2026-08-21",
            {"messages": [*HELLO, {"role": "system", "content": "a", "clear_at": "next_user_message"}]},
            f"messages.1.clear_at: {EXTRA}",
        ),
        ("server-side-fallback-2026-07-01", {"fallbacks": [{"model": OLD}]}, f"fallbacks: {EXTRA}"),
        ("fast-mode-2026-02-01", {"model": "claude-opus-5", "speed": "fast"}, f"speed: {EXTRA}"),
        (
            "computer-use-2025-01-24",
            {
                "model": OLD,
                "tools": [{"type": "computer_20250124", "name": "computer", "display_width_px": 9, "display_height_px": 9}],
            },
            "tools.0: Input tag 'computer_20250124' found using 'type' does not match any of the expected tags: ",
        ),
    ],
)
def test_rule_17_a_beta_opens_its_fields_and_tools(bench: Bench, beta: str, body: Json, words: str) -> None:
    """Without its header a beta's field is unknown, and its tool no tool; with it they are taken."""
    assert refusal(bench, **body).startswith(words)
    assert send(bench, betas=f"something-else-2026-01-01,{beta}", **body).stop_reason == "end_turn"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"speed": "fast"}, "'claude-sonnet-5-5' does not support the `speed` parameter."),
        ({"model": "claude-opus-4-7", "speed": "fast"}, "'claude-opus-4-7' does not support the `speed` parameter."),
        (
            {
                "model": "claude-opus-5-5",
                "betas": "computer-use-2025-11-24",
                "tools": [{"type": "computer_20251124", "name": "computer", "display_width_px": 9, "display_height_px": 9}],
            },
            "'claude-opus-5-5' does not support tool types: computer_20251124. Did you mean one of computer_toolset_20260801?",
        ),
        (
            {"tools": [TOOL | {"defer_loading": True}]},
            "At least one tool must have defer_loading=false. All tools cannot be deferred.",
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false",
        ),
        (
            {
                "tools": [
                    TOOL | {"name": f"t{i}", "strict": True, "input_schema": CLOSED | {"required": ["a"]}} for i in range(21)
                ]
            },
            "Schema is too complex for compilation.",
        ),
        (
            {
                "tools": [TOOL | {"name": f"t{i}", "strict": True, "input_schema": CLOSED} for i in range(5)]
                + [
                    TOOL
                    | {
                        "strict": True,
                        "input_schema": CLOSED | {"properties": {f"p{i}": {"type": "string"} for i in range(20)}},
                    }
                ]
            },
            "Schema is too complex for compilation.",
        ),
    ],
)
def test_rule_17_what_a_model_or_a_grammar_cannot_do_is_refused(bench: Bench, body: Json, words: str) -> None:
    """Fields that are known may still ask for what the model does not have, or for more than can be compiled."""
    assert refusal(bench, **body) == words


def test_rule_17_what_models_and_grammars_can_do_is_taken(bench: Bench) -> None:
    """Opus 4.6 runs fast requests at standard speed; 20 strict tools with 24 optional parameters compile."""
    wide = CLOSED | {"properties": {f"p{i}": {"type": "string"} for i in range(24)}}
    tools = [TOOL | {"strict": True, "input_schema": wide}]
    tools += [TOOL | {"name": f"t{i}", "strict": True, "input_schema": CLOSED | {"required": ["a"]}} for i in range(19)]

    assert send(bench, model="claude-opus-4-6", speed="fast").stop_reason == "end_turn"
    assert send(bench, tools=tools).stop_reason == "end_turn"


@pytest.mark.parametrize(("automatic", "explicit", "found"), [(False, 5, 5), (True, 4, 5), (True, 5, 6)])
def test_rule_18_more_than_four_breakpoints_are_counted_and_refused(
    bench: Bench, automatic: bool, explicit: int, found: int
) -> None:
    """The four slots are those of tools, system and messages together, and automatic caching takes one."""
    body: Json = {
        "tools": [marked(TOOL)],
        "system": [marked("a")],
        "messages": [user(*(marked(str(i)) for i in range(explicit - 2)), text("last"))],
    } | ({"cache_control": FIVE_MINUTES} if automatic else {})

    assert refusal(bench, **body) == f"A maximum of 4 blocks with cache_control may be provided. Found {found}."


def test_rule_18_marks_inside_a_result_are_counted_too(bench: Bench) -> None:
    """A mark on a block in the content of a tool result is one of the four."""
    call, result = assistant(tool_use("x", "look", {})), user(tool_result("x", [marked(str(i)) for i in range(5)]))

    assert refusal(bench, messages=[*HELLO, call, result]).endswith("Found 5.")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"tools": [marked(TOOL)], "system": [marked("a", "1h")]}, "system.0"),
        ({"system": [marked("a")], "messages": [user(text("b"), marked("c", "1h"))]}, "messages.0.content.1"),
        ({"tools": [marked(TOOL), marked(TOOL | {"name": "see"}, "1h")]}, "tools.1"),
        ({"tools": [marked(TOOL)], "cache_control": ONE_HOUR}, ""),
    ],
)
def test_rule_19_an_hour_after_five_minutes_is_refused_at_its_path(bench: Bench, body: Json, path: str) -> None:
    """In the order of tools, system and messages, no longer lifetime follows a shorter one."""
    at = f"{path}.cache_control" if path else "cache_control"

    assert refusal(bench, **body) == (
        f"{at}.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. "
        "Note that blocks are processed in the following order: `tools`, `system`, `messages`."
    )


def test_rule_20_empty_text_and_thinking_cannot_be_marked(bench: Bench) -> None:
    """A mark on a text without characters is refused, and a thinking block has no such field."""
    thinking = {"type": "thinking", "thinking": "a", "signature": "b", "cache_control": FIVE_MINUTES}

    assert refusal(bench, messages=[user(marked(""))]) == (
        "messages.0.content.0.text: cache_control cannot be set for empty text blocks"
    )
    assert refusal(bench, messages=[*HELLO, assistant(thinking), *HELLO]) == (
        f"messages.1.content.0.thinking.cache_control: {EXTRA}"
    )


def test_rule_21_automatic_caching_joins_an_equal_mark_and_refuses_another(bench: Bench) -> None:
    """On a last block that is marked already, the same lifetime changes nothing, even with four marks; another is refused."""
    four = [user(*(marked(f"{i} {LONG}") for i in range(4)))]
    alone = send(bench, messages=four).usage

    joined = send(bench, messages=four, cache_control=FIVE_MINUTES).usage
    words = refusal(bench, messages=[user(marked("a", "1h"))], cache_control=FIVE_MINUTES)

    assert joined.cache_read_input_tokens == alone.cache_creation_input_tokens
    assert words == "Top-level cache_control has ttl='5m' but the target block already has cache_control with ttl='1h'"


def test_rule_21_automatic_caching_walks_back_to_a_block_that_can_be_marked(bench: Bench) -> None:
    """Behind the last block that can be marked nothing is cached; where none can, nothing is refused either."""
    call = assistant(tool_use("x", "look", {}))
    short = send(bench, messages=[user(text("Hello."))], cache_control=FIVE_MINUTES).usage
    whole = send(bench, messages=[user(text(LONG)), call, user(tool_result("x", "a"))], cache_control=FIVE_MINUTES).usage

    assert (short.cache_creation_input_tokens, short.cache_read_input_tokens) == (0, 0)
    assert whole.input_tokens == 0
    assert whole.cache_creation_input_tokens > 1_000


def test_rule_22_no_output_at_all_warms_the_cache(bench: Bench) -> None:
    """With `max_tokens: 0` the prompt is written, nothing is said, and the next request reads it."""
    sent: Any = {"messages": [user(marked(LONG))]}

    warmed = send(bench, max_tokens=0, **sent)
    read = send(bench, **sent).usage

    assert (warmed.content, warmed.stop_reason, warmed.usage.output_tokens) == ([], "max_tokens", 0)
    assert read.cache_read_input_tokens == warmed.usage.cache_creation_input_tokens > 1_000


@pytest.mark.parametrize(
    ("body", "clash"),
    [
        ({"stream": True}, "`stream`"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2_000}}, '"thinking.type.enabled"'),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": CLOSED}}},
            "`output_config.format`",
        ),
        ({"tools": [TOOL], "tool_choice": {"type": "any"}}, '`tool_choice` "tool" and "any"'),
    ],
)
def test_rule_22_what_needs_an_answer_cannot_be_warmed(bench: Bench, body: Json, clash: str) -> None:
    """Streams, budgets for thinking, formats and forced tools are refused together with `max_tokens: 0`."""
    assert refusal(bench, model=OLD, max_tokens=0, **body) == f"max_tokens: 0 is not supported together with {clash}"


def test_rule_23_a_prompt_above_the_window_is_refused_with_both_sizes(bench: Bench) -> None:
    """One token more than the window holds is too many, and nothing is billed for it."""
    words = refusal(bench, model=OLD, messages=[user(text("word " * 200_000))])

    assert words == "prompt is too long: 210007 tokens > 200000 maximum"
    assert bench.emulator.report()["totals"]["requests"] == 0


def test_rule_17_every_beta_has_fields_or_values_that_need_it() -> None:
    """What the tables of betas name is in the shapes of requests: no header opens something that is not there."""
    known = shapes()
    named = [(name, field) for name, field in FIELDS if name != "Request"]
    literals = {
        str(v)
        for shape in known.values()
        for kind in (*shape.required.values(), *shape.optional.values())
        for v in _values(kind)
    }

    assert all(field in known["Create"].optional for name, field in FIELDS if name == "Request")
    assert all(field in known[name].optional for name, field in named)
    assert set(VALUES) <= literals | {"compaction"}


def _values(kind: Any) -> tuple[Any, ...]:
    if not isinstance(kind, tuple):
        return ()
    return kind[1:] if kind[0] == "lit" else tuple(v for inner in kind[1:] for v in _values(inner))
