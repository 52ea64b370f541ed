"""What a model takes besides thinking: sampling, how much it may answer, its speeds, places and ways of choosing tools."""

from agentloop.emulator import betas
from agentloop.emulator.answers import invalid
from agentloop.emulator.schema import SAMPLING
from agentloop.emulator.strict import Unverified
from agentloop.types.base import Json
from agentloop.types.usage import ModelCard, ModelTraits

_FAST_IN_PREVIEW = ("claude-opus-5", "claude-opus-4-8")
_FAST_WITHOUT_EFFECT = ("claude-opus-4-6",)


def check_sampling(body: Json, traits: ModelTraits, unverified: Unverified) -> None:
    """Raise ApiError for sampling parameters that the model does not take."""
    for name in SAMPLING:
        if body.get(name) is not None and not traits.sampling_params:
            unverified.note(9, "which models refuse sampling parameters whatever the version")
            raise invalid(f"`{name}` is deprecated for this model.")
    # https://github.com/anthropics/anthropic-sdk-python/issues/893
    if body.get("temperature") is not None and not 0 <= body["temperature"] <= 1:
        raise invalid("temperature: range: 0..1")


def check_stop_sequences(body: Json) -> None:
    """Raise ApiError for a stop sequence that is empty, or blank. https://github.com/BerriAI/litellm/issues/3286"""
    for sequence in body.get("stop_sequences") or ():
        if not sequence:
            raise invalid("stop_sequences: each stop sequence must be non-empty")
        if not sequence.strip():
            raise invalid("stop_sequences: each stop sequence must contain non-whitespace")


def most_output(card: ModelCard, traits: ModelTraits, asked: frozenset[str], in_batch: bool) -> int:
    """How many tokens a model may answer: more in a batch, with its beta header."""
    longer = traits.batch_output_tokens if in_batch and betas.LONG_OUTPUT in asked else None
    return longer or card.max_output_tokens


def check_max_tokens(body: Json, card: ModelCard, most: int) -> None:
    """Raise ApiError where `max_tokens` is out of bounds, or 0 together with something that needs an answer."""
    asked = body["max_tokens"]
    if asked < 0:
        raise invalid("max_tokens: Input should be greater than or equal to 0")
    if asked > most:
        limit = f"which is the maximum allowed number of output tokens for {card.id}"
        raise invalid(f"max_tokens: {asked} > {most}, {limit}")
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
    return '`tool_choice` "tool" and "any"' if forces_tools(body) else None


def check_speed(body: Json, card: ModelCard, asked: frozenset[str], unverified: Unverified) -> None:
    """Raise ApiError for a speed that the model does not run at, or whose beta header is missing."""
    if body.get("speed") != "fast" or card.id in _FAST_WITHOUT_EFFECT:
        return
    if not card.fast_prices:
        unverified.note(17, "the words that refuse `speed` on a model without fast mode")
        raise invalid(f"'{card.id}' does not support the `speed` parameter.")
    if card.id in _FAST_IN_PREVIEW and betas.FAST_MODE not in asked:
        raise invalid("speed: Extra inputs are not permitted")


def check_place(body: Json, card: ModelCard, unverified: Unverified) -> None:
    """Raise ApiError where a model from before the 4.6 generation is asked to run in a place."""
    if body.get("inference_geo") and card.geo_multiplier is None:
        unverified.note(40, "the words that refuse `inference_geo` before the 4.6 generation")
        raise invalid(f"'{card.id}' does not support the `inference_geo` parameter.")


def check_tool_choice(body: Json, traits: ModelTraits) -> None:
    """Raise ApiError for a choice of tools that the model, or the list of tools, does not allow."""
    choice = body.get("tool_choice")
    if choice is None:
        return
    if forces_tools(body) and not traits.forced_tool_choice:
        raise invalid('tool_choice: type "tool" and "any" are not supported for this model.')
    names = [tool.get("name") for tool in body.get("tools") or []]
    if choice["type"] != "none" and not names and not body.get("mcp_servers"):
        raise invalid("tool_choice: tool_choice may only be specified while providing tools.")
    if choice["type"] == "tool" and choice["name"] not in names:
        raise invalid(f"tool_choice: Tool '{choice['name']}' not found in provided tools")


def forces_tools(body: Json) -> bool:
    """Whether the model must call a tool."""
    return (body.get("tool_choice") or {}).get("type") in ("any", "tool")
