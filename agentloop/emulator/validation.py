"""Whether the API would take a request, and in which words it refuses it.

In this order: shape, rules of the model, caching, conversation. The texts are the API's own where they are documented or
have been reported; clients match them, so they are kept to the letter.
"""

from collections.abc import Mapping
from typing import Literal

from agentloop.emulator import breakpoints, catalogue, conversation, schema, thinking
from agentloop.emulator.answers import invalid
from agentloop.emulator.catalogue import ModelRow
from agentloop.types.base import Json
from agentloop.types.usage import ModelCard, ModelTraits

ApiVersion = Literal["2023-06-01", "2026-10-21"]
VERSIONS: tuple[ApiVersion, ...] = ("2023-06-01", "2026-10-21")


def check(
    body: Json,
    models: Mapping[str, ModelRow],
    version: ApiVersion = "2026-10-21",
    *,
    counting: bool = False,
    user_first: bool = True,
) -> ModelRow:
    """The model that a request asks. Raises ApiError for the first rule that the request breaks.

    `counting`: the request is for `count_tokens`, which takes no `max_tokens`. `user_first`: the first message must be
    the user's, as older reports have it.
    """
    schema.check(body, counting)
    model = catalogue.row(body["model"], models)
    _check_version(body, version)
    _check_sampling(body, model.traits)
    if not counting:
        _check_max_tokens(body, model.card)
    thinking.check(body, model.traits)
    _check_tools(body, model.traits)
    breakpoints.check(body)
    conversation.check(body["messages"], model.traits, user_first)
    return model


def check_length(prompt_tokens: int, card: ModelCard) -> None:
    """Raise ApiError where a prompt does not fit the model's window."""
    if prompt_tokens > card.context_window:
        raise invalid(f"prompt is too long: {prompt_tokens} tokens > {card.context_window} maximum")


def _check_version(body: Json, version: ApiVersion) -> None:
    """https://platform.claude.com/docs/en/api/migration-2026-10-21"""
    if version == "2023-06-01":
        return
    for name in schema.SAMPLING:
        if name in body:
            raise invalid(f"{name}: Extra inputs are not permitted")
    for i, message in enumerate(body["messages"]):
        for j, block in enumerate(message["content"] if isinstance(message["content"], list) else []):
            if message["role"] == "assistant" and block["type"] == "document":
                raise invalid(f"messages.{i}.content.{j}: `document` blocks are not permitted in `assistant` messages")
            if message["role"] == "user" and block["type"] == "text" and block.get("citations"):
                raise invalid(f"messages.{i}.content.{j}.text.citations: Extra inputs are not permitted")


def _check_sampling(body: Json, traits: ModelTraits) -> None:
    for name in schema.SAMPLING:
        if body.get(name) is not None and not traits.sampling_params:
            raise invalid(f"`{name}` is deprecated for this model.")


def _check_max_tokens(body: Json, card: ModelCard) -> None:
    asked = body["max_tokens"]
    if asked < 0:
        raise invalid("max_tokens: Input should be greater than or equal to 0")
    if asked > card.max_output_tokens:
        limit = f"which is the maximum allowed number of output tokens for {card.id}"
        raise invalid(f"max_tokens: {asked} > {card.max_output_tokens}, {limit}")
    if asked == 0 and (clash := _clash_with_prewarming(body)):
        raise invalid(f"max_tokens: 0 is not supported together with {clash}")


def _clash_with_prewarming(body: Json) -> str | None:
    """https://platform.claude.com/docs/en/build-with-claude/prompt-caching, pre-warming"""
    if body.get("stream"):
        return "`stream`"
    if (body.get("thinking") or {}).get("type") == "enabled":
        return '"thinking.type.enabled"'
    if (body.get("output_config") or {}).get("format"):
        return "`output_config.format`"
    return '`tool_choice` "tool" and "any"' if _forced(body) else None


def _check_tools(body: Json, traits: ModelTraits) -> None:
    names = [tool.get("name") for tool in body.get("tools") or []]
    if len(set(names)) < len(names):
        raise invalid("tools: Tool names must be unique.")
    choice = body.get("tool_choice")
    if choice is None:
        return
    kind = choice.get("type")
    if kind not in ("auto", "any", "tool", "none"):
        expected = "'auto', 'any', 'tool', 'none'"
        raise invalid(f"tool_choice: Input tag '{kind}' found using 'type' does not match any of the expected tags: {expected}")
    if _forced(body) and not traits.forced_tool_choice:
        raise invalid('tool_choice: type "tool" and "any" are not supported for this model.')
    if kind != "none" and not names:
        raise invalid("tool_choice: tool_choice may only be specified while providing tools.")
    if kind == "tool" and choice.get("name") not in names:
        raise invalid(f"tool_choice: Tool '{choice.get('name')}' not found in provided tools")


def _forced(body: Json) -> bool:
    return (body.get("tool_choice") or {}).get("type") in ("any", "tool")
