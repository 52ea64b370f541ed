"""Which ways of thinking a model takes. https://platform.claude.com/docs/en/build-with-claude/thinking"""

from agentloop.emulator.answers import invalid
from agentloop.types.base import Json
from agentloop.types.usage import ModelTraits

_OFF = ("disabled", "between_tools")


def check(body: Json, traits: ModelTraits) -> None:
    """Raise ApiError where the request's `thinking` or effort is not the model's."""
    asked: Json = body.get("thinking") or {}
    if body.get("thinking") is not None:
        _check_kind(str(asked["type"]), traits)
    if asked.get("type") == "enabled":
        _check_budget(asked, body)
    _check_effort(body, asked, traits)


def is_on(body: Json, traits: ModelTraits) -> bool:
    """Whether the model thinks in its answer to the request."""
    kind = (body.get("thinking") or {}).get("type")
    return kind != "disabled" if kind else str(traits.thinking_default).startswith("adaptive")


def comes_first(body: Json) -> bool:
    """Whether a model that thinks does so before it answers: between its calls alone, where that is asked for."""
    return (body.get("thinking") or {}).get("type") != "between_tools"


def shows_text(body: Json, traits: ModelTraits, otherwise: str | None, is_first: bool) -> bool:
    """Whether the client is shown what the model thinks: older models show it unless told otherwise, newer ones do not.

    `otherwise`: what is shown where the request does not say; None: it depends on the model. `is_first`: nothing of the
    reply came before it; what comes later are updates.
    """
    display = (body.get("thinking") or {}).get("display") or otherwise
    if display is None:
        return "enabled" in traits.thinking_types
    return display == "summarized" or (display == "updates" and not is_first)


def _check_kind(kind: str, traits: ModelTraits) -> None:
    if kind in traits.thinking_types:
        return
    instead = 'Use "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
    match kind:
        case "disabled" if "between_tools" in traits.thinking_types:
            raise invalid(
                'To turn thinking off on this model, send "thinking": {"type": "between_tools"} instead of '
                '{"type": "disabled"}. The model does not think before responding. The short updates it writes between '
                "tool calls come back as thinking blocks."
            )
        case "disabled" | "enabled":
            raise invalid(f'"thinking.type.{kind}" is not supported for this model. {instead}')
        case "adaptive":
            raise invalid("adaptive thinking is not supported on this model")
        case _:
            raise invalid('"thinking.type.between_tools" is not supported for this model.')


def _check_budget(asked: Json, body: Json) -> None:
    budget = int(asked["budget_tokens"])
    if budget >= body.get("max_tokens", budget + 1):
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise invalid("Thinking may not be enabled when tool_choice forces tool use.")


def _check_effort(body: Json, asked: Json, traits: ModelTraits) -> None:
    # Documented for the models that think by default and may be told not to.
    if asked.get("type") not in _OFF or traits.thinking_default != "adaptive":
        return
    effort = (body.get("output_config") or {}).get("effort")
    if effort in ("xhigh", "max"):
        raise invalid(
            f"output_config.effort '{effort}' is not supported when thinking is disabled on this model. "
            "Use effort 'high' or below, or enable thinking."
        )
    in_effect = effort or traits.default_effort
    for i, message in enumerate(body["messages"]):
        changed = (message.get("output_config") or {}).get("effort")
        if changed not in (None, in_effect):
            raise invalid(
                f"messages.{i}: output_config.effort '{changed}' differs from the '{in_effect}' in effect before it; effort "
                f"cannot change when thinking is disabled on this model. Use effort '{in_effect}', or enable thinking."
            )
