"""Whether the API would take a request, and in which words it refuses it.

In this order: shape, rules of the model, caching, conversation. The texts are the API's own where they are documented or
have been reported; clients match them, so they are kept to the letter.
"""

from collections.abc import Mapping
from typing import Literal

from agentloop.emulator import (
    breakpoints,
    catalogue,
    compacting,
    conversation,
    editing,
    json_schemas,
    model_rules,
    schema,
    thinking,
    threads,
    tool_changes,
    tool_rules,
)
from agentloop.emulator.answers import invalid
from agentloop.emulator.catalogue import ModelRow
from agentloop.emulator.settings import EmulatorSettings
from agentloop.emulator.strict import Unverified
from agentloop.types.base import Json
from agentloop.types.usage import ModelCard

ApiVersion = Literal["2023-06-01", "2026-10-21"]
VERSIONS: tuple[ApiVersion, ...] = ("2023-06-01", "2026-10-21")
DEFAULTS = EmulatorSettings()


def check(
    body: Json,
    models: Mapping[str, ModelRow],
    version: ApiVersion = "2026-10-21",
    betas: frozenset[str] = schema.NO_BETAS,
    *,
    counting: bool = False,
    in_batch: bool = False,
    settings: EmulatorSettings = DEFAULTS,
    unverified: Unverified | None = None,
) -> ModelRow:
    """The model that a request asks. Raises ApiError for the first rule that the request breaks.

    `counting`: the request is for `count_tokens`, which takes no `max_tokens`. A system message that only sets the
    effort is given the empty content that it stands for.
    """
    unverified = unverified or Unverified(settings)
    schema.check(body, counting, betas)
    _check_version(body, version)
    for message in body["messages"]:
        message.setdefault("content", [])
    model = catalogue.row(body["model"], models)
    threads.check(body)
    if not counting:
        most = model_rules.most_output(model.card, model.traits, betas, in_batch)
        model_rules.check_max_tokens(body, model.card, most)
    _check_model(body, model, betas, settings, unverified)
    breakpoints.check(body, unverified)
    conversation.check_prompt(body.get("system"))
    editing.check(body, thinking.is_on(body, model.traits))
    compacting.check(body, betas, model.traits, settings, unverified, counting=counting)
    conversation.check(compacting.conversation(body), model.traits, settings.user_first, unverified)
    return model


def check_length(prompt_tokens: int, card: ModelCard) -> None:
    """Raise ApiError where a prompt does not fit the model's window."""
    if prompt_tokens > card.context_window:
        raise invalid(f"prompt is too long: {prompt_tokens} tokens > {card.context_window} maximum")


def _check_model(
    body: Json,
    model: ModelRow,
    betas: frozenset[str],
    settings: EmulatorSettings,
    unverified: Unverified,
) -> None:
    model_rules.check_sampling(body, model.traits, unverified)
    model_rules.check_stop_sequences(body)
    model_rules.check_speed(body, model.card, betas, unverified)
    model_rules.check_place(body, model.card, unverified)
    thinking.check(body, model.traits)
    tool_rules.check(body, model.card, settings.max_tool_name, unverified)
    tool_changes.check(body, settings.available_tools, unverified)
    model_rules.check_tool_choice(body, model.traits)
    json_schemas.check(body, unverified)


def _check_version(body: Json, version: ApiVersion) -> None:
    """https://platform.claude.com/docs/en/api/migration-2026-10-21"""
    if version == "2023-06-01":
        return
    for name in schema.SAMPLING:
        if name in body:
            raise invalid(f"{name}: Extra inputs are not permitted")
    for i, message in enumerate(body["messages"]):
        content = message.get("content")
        for j, block in enumerate(content if isinstance(content, list) else []):
            if message["role"] == "assistant" and block["type"] == "document":
                raise invalid(f"messages.{i}.content.{j}: `document` blocks are not permitted in `assistant` messages")
            if message["role"] == "user" and block["type"] == "text" and block.get("citations"):
                raise invalid(f"messages.{i}.content.{j}.text.citations: Extra inputs are not permitted")
