"""Rules 9 to 16: what the API refuses of a conversation and its tools, and which thinking and lengths a model takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic
import pytest

from agentloop.adapters.model_table import models
from agentloop.emulator import EmulatorSettings, Function
from agentloop.emulator.conversation import MAX_MESSAGES
from agentloop.types.base import Json
from agentloop.types.blocks import text, tool_result, tool_use
from tests.emulator.rules.asking import assistant, user

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

MODEL = "claude-sonnet-5-5"
OLD = "claude-haiku-4-5"
OLDER_VERSION = "2023-06-01"
TOOL: Json = {"name": "look", "input_schema": {"type": "object"}}
DOCUMENT: Json = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}
CITATION: Json = {
    "type": "char_location",
    "cited_text": "a",
    "document_index": 0,
    "document_title": None,
    "start_char_index": 0,
    "end_char_index": 1,
}
EXTRA = "Extra inputs are not permitted"
ANSWER_IN_THE_NEXT = "Each `tool_use` block must have a corresponding `tool_result` block in the next message."
CALL_IN_THE_LAST = "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
UNANSWERED = "`tool_use` ids were found without `tool_result` blocks immediately after"
HELLO = [user(text("Hello."))]
SYSTEM = {"role": "system", "content": "Be brief."}
CURRENT = sorted({row.card.id for row in models().values() if row.traits.status != "retired"})


def send(bench: Bench, version: str = "2026-10-21", betas: str = "", counting: bool = False, **body: Any) -> Any:
    """Send a body as it is, through the SDK."""
    asked = {"model": MODEL, "messages": HELLO} | ({} if counting else {"max_tokens": 1_000}) | body
    headers = {"anthropic-version": version} | ({"anthropic-beta": betas} if betas else {})
    sdk = bench.sdk().messages
    if counting:
        return sdk.count_tokens(model=MODEL, messages=[], extra_body=asked, extra_headers=headers)
    return sdk.create(model=MODEL, max_tokens=1_000, messages=[], extra_body=asked, extra_headers=headers)


def refusal(bench: Bench, **sent: Any) -> str:
    with pytest.raises(anthropic.BadRequestError) as refused:
        send(bench, **sent)
    error: Any = refused.value.body
    assert error["error"]["type"] == "invalid_request_error"
    return str(error["error"]["message"])


@pytest.mark.parametrize("counting", [False, True])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"temperature": 1.0}, f"temperature: {EXTRA}"),
        ({"top_p": 1.0}, f"top_p: {EXTRA}"),
        ({"top_k": 5}, f"top_k: {EXTRA}"),
        (
            {"messages": [*HELLO, assistant(DOCUMENT), *HELLO]},
            "messages.1.content.0: `document` blocks are not permitted in `assistant` messages",
        ),
        (
            {"messages": [user(text("a") | {"citations": [CITATION]})]},
            f"messages.0.content.0.text.citations: {EXTRA}",
        ),
    ],
)
def test_rule_09_the_newer_version_drops_sampling_and_two_leniencies(
    bench: Bench, body: Json, words: str, counting: bool
) -> None:
    """What the version of October 2026 no longer takes is refused, in counting too; the older version takes it."""
    if counting and "messages" not in body:
        body = {"model": OLD} | body
    assert refusal(bench, counting=counting, **body) == words
    if not counting:
        older: Json = {"version": OLDER_VERSION, "model": OLD} | body
        assert send(bench, **older).stop_reason == "end_turn"


def test_rule_09_newer_models_take_no_sampling_under_any_version(bench: Bench) -> None:
    """Opus 4.7 and everything after it refuse the sampling parameters whatever version is named."""
    words = refusal(bench, version=OLDER_VERSION, model="claude-opus-4-7", temperature=1.0)

    assert words == "`temperature` is deprecated for this model."


@pytest.mark.parametrize("temperature", [-1, 1.01, 7])
def test_rule_09_where_sampling_is_taken_it_has_its_range(bench: Bench, temperature: float) -> None:
    """A temperature is from 0 to 1."""
    words = refusal(bench, version=OLDER_VERSION, model=OLD, temperature=temperature)

    assert words == "temperature: range: 0..1"
    assert send(bench, version=OLDER_VERSION, model=OLD, temperature=1).stop_reason == "end_turn"


@pytest.mark.parametrize(("sequence", "words"), [("", "be non-empty"), ("\n", "contain non-whitespace")])
def test_rule_11_a_stop_sequence_says_something(bench: Bench, sequence: str, words: str) -> None:
    """An empty or blank one is refused, as an empty or blank text is."""
    assert refusal(bench, stop_sequences=["END", sequence]) == f"stop_sequences: each stop sequence must {words}"


def test_rule_10_messages_of_one_role_merge_but_errors_name_the_callers_places(bench: Bench) -> None:
    """Neighbours of one role are one turn for every rule of position; paths count the messages as they were sent."""
    calls = [assistant(tool_use("x", "look", {})), assistant(tool_use("y", "look", {}))]
    answers = [user(tool_result("x", "a")), user(tool_result("y", "b"))]

    assert send(bench, messages=[*HELLO, *HELLO, *calls, *answers, *HELLO]).stop_reason == "end_turn"
    assert refusal(bench, messages=[*HELLO, *HELLO, *calls, answers[0]]) == (
        f"messages.3: {UNANSWERED}: y. {ANSWER_IN_THE_NEXT}"
    )
    assert refusal(bench, messages=[*HELLO, *calls, *answers, user(tool_result("z", "c"))]).startswith(
        "messages.5.content.0: unexpected `tool_use_id` found"
    )


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "messages: at least one message is required"),
        ([user()], "messages.0: all messages must have non-empty content except for the optional final assistant message"),
        ([user(text(""))], "messages: text content blocks must be non-empty"),
        ([user(text(" \n"))], "messages: text content blocks must contain non-whitespace text"),
        ([assistant(text("a")), *HELLO], 'messages: first message must use the "user" role'),
    ],
)
def test_rule_11_a_conversation_has_messages_with_content_and_begins_with_the_user(
    bench: Bench, messages: list[Json], words: str
) -> None:
    """There is a message, each has content, each text says something, and the user's is the first."""
    assert refusal(bench, messages=messages) == words


def test_rule_11_a_system_prompt_has_no_empty_texts(bench: Bench) -> None:
    """A text block of the system prompt says something; no prompt at all is fine."""
    assert refusal(bench, system=[text("")]) == "system: text content blocks must be non-empty"
    assert [send(bench, system=s).stop_reason for s in ("", [], [text("Be kind.")])] == ["end_turn"] * 3


def test_rule_11_who_opens_a_conversation_is_a_setting(bench: Bench) -> None:
    """An assistant that opens is refused by default, and taken where the settings say so."""
    bench.play(Function("test", lambda request, step: [text("Done.")]), EmulatorSettings(user_first=False))

    assert send(bench, messages=[assistant(text("a")), *HELLO]).stop_reason == "end_turn"


def test_rule_11_a_conversation_has_at_most_100_000_messages(bench: Bench) -> None:
    """One message too many is refused with both numbers."""
    words = refusal(bench, messages=[{"role": "user", "content": "a"}] * (MAX_MESSAGES + 1))

    assert words == "messages: List should have at most 100000 items after validation, not 100001"


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (
            [*HELLO, assistant(tool_use("x", "look", {}), tool_use("y", "look", {})), *HELLO],
            f"messages.1: {UNANSWERED}: x, y. {ANSWER_IN_THE_NEXT}",
        ),
        (
            [*HELLO, assistant(tool_use("x", "look", {})), user(text("a"), tool_result("x", "b"))],
            f"messages.1: {UNANSWERED}: x. {ANSWER_IN_THE_NEXT}",
        ),
        (
            [*HELLO, assistant(text("a")), user(tool_result("x", "b"))],
            f"messages.2.content.0: unexpected `tool_use_id` found in `tool_result` blocks: x. {CALL_IN_THE_LAST}",
        ),
        (
            [*HELLO, assistant(tool_use("x", "look", {})), user(tool_result("x", "a"), tool_result("x", "b"))],
            "messages.2.content.1: each tool_use must have a single result. Found multiple `tool_result` blocks with id: x",
        ),
        (
            [*HELLO, assistant({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}), *HELLO],
            "messages.1.content.0: `web_search` tool use with id `srvtoolu_1` was found without a corresponding "
            "`web_search_tool_result` block",
        ),
    ],
)
def test_rule_12_every_call_has_its_one_result_in_the_next_message_before_any_text(
    bench: Bench, messages: list[Json], words: str
) -> None:
    """Calls and results pair up across neighbouring turns; anything open, unexpected, doubled or late is refused."""
    assert refusal(bench, messages=messages) == words


def test_rule_12_a_server_call_may_wait_for_a_later_response(bench: Bench) -> None:
    """A call that the API runs itself may lack its result while the turn is still to be gone on with."""
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    paused = [*HELLO, assistant(search)]
    beside = [*HELLO, assistant(search, tool_use("x", "look", {})), user(tool_result("x", "a"))]

    assert [send(bench, messages=m).stop_reason for m in (paused, beside)] == ["end_turn"] * 2


@pytest.mark.parametrize("model", CURRENT)
def test_rule_13_only_older_models_go_on_from_words_of_the_assistant(bench: Bench, model: str) -> None:
    """A last message of the assistant is refused on every model from 4.6 on, and by Mythos Preview."""
    sent: Any = {"model": model, "messages": [*HELLO, assistant(text("It is"))]}

    if model.endswith(("4-5-20251101", "4-5-20250929", "4-5-20251001")):
        assert send(bench, **sent).stop_reason == "end_turn"
    else:
        assert refusal(bench, **sent) == (
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([SYSTEM, *HELLO], 'messages.0: a message with the "system" role must follow a user message'),
        (
            [*HELLO, assistant(text("a")), SYSTEM],
            'messages.2: a message with the "system" role must follow a user message',
        ),
        (
            [*HELLO, SYSTEM, *HELLO],
            'messages.1: a message with the "system" role must be last or precede an assistant message',
        ),
    ],
)
def test_rule_14_a_system_message_follows_the_user_and_comes_last_or_before_the_assistant(
    bench: Bench, messages: list[Json], words: str
) -> None:
    """Where a system message may not stand inside a conversation, it is refused."""
    assert refusal(bench, messages=messages) == words


def test_rule_14_neighbouring_system_messages_merge_and_results_of_tools_count_as_the_users(bench: Bench) -> None:
    """Two in a row are one; the results of tools, the client's or the API's own, may come before one."""
    call, result = assistant(tool_use("x", "look", {})), user(tool_result("x", "a"))
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    searched = assistant({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}, found)

    for messages in ([*HELLO, SYSTEM, SYSTEM], [*HELLO, call, result, SYSTEM, assistant(text("a")), *HELLO]):
        assert send(bench, messages=messages).stop_reason == "end_turn"
    assert send(bench, messages=[*HELLO, searched, SYSTEM]).stop_reason == "end_turn"


@pytest.mark.parametrize("model", CURRENT)
def test_rule_14_only_some_models_take_system_messages(bench: Bench, model: str) -> None:
    """Fable and Mythos from 5 on, Opus from 4.8 on, Sonnet 5.5 and Haiku 5.5 take them; the others do not."""
    takes = ("claude-fable-5", "claude-mythos-5", "claude-opus-5", "claude-opus-4-8", "claude-sonnet-5-5", "claude-haiku-5-5")

    if model.startswith(takes):
        assert send(bench, model=model, messages=[*HELLO, SYSTEM]).stop_reason == "end_turn"
    else:
        assert refusal(bench, model=model, messages=[*HELLO, SYSTEM]).startswith('messages: Unexpected role "system".')


@pytest.mark.parametrize("name", ["", "look up", "x" * 129])
def test_rule_15_a_tools_name_has_up_to_128_plain_characters(bench: Bench, name: str) -> None:
    """Letters, digits, underscores and hyphens, 128 at most: anything else is refused with the pattern."""
    words = refusal(bench, tools=[TOOL | {"name": name}])

    assert words == "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
    assert send(bench, tools=[TOOL | {"name": "x" * 128}]).stop_reason == "end_turn"


def test_rule_15_how_long_a_name_may_be_is_a_setting(bench: Bench) -> None:
    """The documentation prints 64, errors say 128: the settings decide."""
    bench.play(Function("test", lambda request, step: [text("Done.")]), EmulatorSettings(max_tool_name=64))

    assert refusal(bench, tools=[TOOL | {"name": "x" * 65}]).endswith("'^[a-zA-Z0-9_-]{1,64}$'")


def test_rule_15_tools_have_different_names_and_a_choice_names_one_of_them(bench: Bench) -> None:
    """Names are unique; a forced tool exists; no choice is made where there are no tools."""
    forced: Json = {"model": OLD, "tools": [TOOL], "tool_choice": {"type": "tool", "name": "see"}}

    assert refusal(bench, tools=[TOOL, TOOL]) == "tools: Tool names must be unique."
    assert refusal(bench, **forced) == "tool_choice: Tool 'see' not found in provided tools"
    assert refusal(bench, tool_choice={"type": "auto"}).startswith("tool_choice: tool_choice may only be specified")
    assert send(bench, **forced | {"tool_choice": {"type": "tool", "name": "look"}}).stop_reason == "end_turn"


@pytest.mark.parametrize("counting", [False, True])
@pytest.mark.parametrize("model", CURRENT)
def test_rule_15_newest_models_cannot_be_made_to_call_a_tool(bench: Bench, model: str, counting: bool) -> None:
    """Forcing any tool, or one, is refused on the 5.5 line without Haiku and on Fable and Mythos from 5.1 on."""
    refuses = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5-", "claude-mythos-5-")
    sent: Any = {"model": model, "tools": [TOOL], "tool_choice": {"type": "any"}, "counting": counting}

    if model.startswith(refuses):
        assert refusal(bench, **sent) == 'tool_choice: type "tool" and "any" are not supported for this model.'
    else:
        assert send(bench, **sent)


@pytest.mark.parametrize("model", CURRENT)
def test_rule_16_max_tokens_has_the_bounds_of_the_model(bench: Bench, model: str) -> None:
    """The model's maximum is taken, one more is refused with both numbers, and less than nothing is too."""
    most = models()[model].card.max_output_tokens

    assert send(bench, model=model, max_tokens=most).stop_reason == "end_turn"
    assert refusal(bench, model=model, max_tokens=most + 1) == (
        f"max_tokens: {most + 1} > {most}, which is the maximum allowed number of output tokens for {model}"
    )
    assert refusal(bench, model=model, max_tokens=-1) == "max_tokens: Input should be greater than or equal to 0"


_INSTEAD = 'Use "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
_REFUSED = {
    "adaptive": "adaptive thinking is not supported on this model",
    "between_tools": '"thinking.type.between_tools" is not supported for this model.',
    "disabled": f'"thinking.type.disabled" is not supported for this model. {_INSTEAD}',
    "enabled": f'"thinking.type.enabled" is not supported for this model. {_INSTEAD}',
}
_OLDEST = {"enabled", "disabled"}
_TAKEN = {
    "claude-haiku-5-5": {"adaptive", "disabled"},
    "claude-opus-4-5-20251101": _OLDEST,
    "claude-opus-4-6": {"adaptive", *_OLDEST},
    "claude-opus-4-7": {"adaptive", "disabled"},
    "claude-opus-4-8": {"adaptive", "disabled"},
    "claude-opus-5": {"adaptive", "disabled"},
    "claude-sonnet-4-5-20250929": _OLDEST,
    "claude-sonnet-4-6": {"adaptive", *_OLDEST},
    "claude-sonnet-5": {"adaptive", "disabled"},
    "claude-sonnet-5-5": {"adaptive", "between_tools"},
    "claude-haiku-4-5-20251001": _OLDEST,
    "claude-mythos-preview": {"adaptive", "enabled"},
}
"""The others think adaptively, always."""


@pytest.mark.parametrize("kind", sorted(_REFUSED))
@pytest.mark.parametrize("model", CURRENT)
def test_rule_16_each_model_takes_its_own_types_of_thinking(bench: Bench, model: str, kind: str) -> None:
    """A type of thinking that is not the model's is refused in the words that say what to send instead."""
    sent: Any = {"model": model, "max_tokens": 4_000, "thinking": {"type": kind}}
    if kind == "enabled":
        sent["thinking"]["budget_tokens"] = 2_000

    if kind in _TAKEN.get(model, {"adaptive"}):
        assert send(bench, **sent).stop_reason == "end_turn"
    elif (model, kind) == ("claude-sonnet-5-5", "disabled"):
        assert refusal(bench, **sent) == (
            'To turn thinking off on this model, send "thinking": {"type": "between_tools"} instead of '
            '{"type": "disabled"}. The model does not think before responding. The short updates it writes between tool '
            "calls come back as thinking blocks."
        )
    else:
        assert refusal(bench, **sent) == _REFUSED[kind]
