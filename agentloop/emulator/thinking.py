"""Which ways of thinking a model takes. https://platform.claude.com/docs/en/build-with-claude/thinking"""

from agentloop.emulator.answers import invalid
from agentloop.types.base import Json
from agentloop.types.usage import ModelTraits

EFFORTS = ("low", "medium", "high", "xhigh", "max")
_MIN_BUDGET = 1_024
_FIELDS: dict[str, tuple[str, ...]] = {
    "adaptive": ("type", "display"),
    "between_tools": ("type",),
    "disabled": ("type",),
    "enabled": ("type", "budget_tokens", "display"),
}


def check(body: Json, traits: ModelTraits) -> None:
    """Raise ApiError where the request's `thinking` or effort is not the model's."""
    asked: Json = body.get("thinking") or {}
    if body.get("thinking") is not None:
        _check_kind(asked, traits)
        _check_fields(asked)
    if asked.get("type") == "enabled":
        _check_budget(asked, body)
    _check_effort(body, asked, traits)


def _check_kind(asked: Json, traits: ModelTraits) -> None:
    kind = str(asked.get("type"))
    if kind not in _FIELDS:
        expected = ", ".join(f"'{k}'" for k in _FIELDS)
        raise invalid(f"thinking: Input tag '{kind}' found using 'type' does not match any of the expected tags: {expected}")
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


def _check_fields(asked: Json) -> None:
    kind = asked["type"]
    for name in asked:
        if name not in _FIELDS[kind]:
            raise invalid(f"thinking.{kind}.{name}: Extra inputs are not permitted")
    if asked.get("display") not in (None, "summarized", "omitted"):
        raise invalid(f"thinking.{kind}.display: Input should be 'summarized' or 'omitted'")


def _check_budget(asked: Json, body: Json) -> None:
    budget = asked.get("budget_tokens")
    if budget is None:
        raise invalid("thinking.enabled.budget_tokens: Field required")
    if not isinstance(budget, int) or budget < _MIN_BUDGET:
        raise invalid(f"thinking.enabled.budget_tokens: Input should be greater than or equal to {_MIN_BUDGET}")
    if budget >= body.get("max_tokens", budget + 1):
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise invalid("Thinking may not be enabled when tool_choice forces tool use.")


def _check_effort(body: Json, asked: Json, traits: ModelTraits) -> None:
    effort = (body.get("output_config") or {}).get("effort")
    if effort is None:
        return
    if effort not in EFFORTS:
        raise invalid("output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'")
    # Documented for the models that think by default and may be told not to.
    off = asked.get("type") in ("disabled", "between_tools") and traits.thinking_default == "adaptive"
    if off and effort in ("xhigh", "max"):
        raise invalid(
            f"output_config.effort '{effort}' is not supported when thinking is disabled on this model. "
            "Use effort 'high' or below, or enable thinking."
        )
