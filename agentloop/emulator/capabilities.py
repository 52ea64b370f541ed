"""What the Models API says a model can do.

Thinking, effort and compaction differ between models. The rest holds for every model that still answers, as far as the
API's documentation tells them apart. https://platform.claude.com/docs/en/api/models/retrieve
"""

from agentloop.types.base import Json
from agentloop.types.usage import ModelCard, ModelTraits

_ALL_MODELS = ("batch", "citations", "code_execution", "image_input", "pdf_input", "structured_outputs")
_SERVER_TOOLS = ("code_execution", "web_search")
_CLEARING = ("clear_thinking_20251015", "clear_tool_uses_20250919")
_THINKING = ("adaptive", "between_tools", "disabled", "enabled")
_EFFORTS = ("low", "medium", "high")
_EFFORT_WITHOUT_DEFAULT = ("claude-mythos-preview",)
_WITHOUT_MAX = ("claude-opus-4-5-20251101",)
_WITHOUT_XHIGH = (*_WITHOUT_MAX, *_EFFORT_WITHOUT_DEFAULT, "claude-opus-4-6", "claude-sonnet-4-6")
"""https://platform.claude.com/docs/en/build-with-claude/effort"""


def capabilities(card: ModelCard, traits: ModelTraits, assumed_to_compact: bool) -> Json | None:
    """What a model supports; None where it is retired. `assumed_to_compact` stands for models of which it is not known."""
    if traits.status == "retired":
        return None
    compacts = assumed_to_compact if traits.compacts_on_demand is None else traits.compacts_on_demand
    # A model that does not think takes `disabled` too.
    thinking = traits.thinking_types or ("disabled",)
    return {
        **{name: _supported(True) for name in _ALL_MODELS},
        "compaction": _group({"summarize": compacts}),
        "context_management": _group({**dict.fromkeys(_CLEARING, True), "compact_20260112": compacts}),
        "effort": _group(_efforts(card, traits)),
        "server_tools": _group(dict.fromkeys(_SERVER_TOOLS, True)),
        "thinking": {
            **_supported(bool(traits.thinking_types)),
            "types": {name: _supported(name in thinking) for name in _THINKING},
        },
    }


def _efforts(card: ModelCard, traits: ModelTraits) -> dict[str, bool]:
    able = traits.default_effort is not None or card.id in _EFFORT_WITHOUT_DEFAULT
    higher = {"max": able and card.id not in _WITHOUT_MAX, "xhigh": able and card.id not in _WITHOUT_XHIGH}
    return dict.fromkeys(_EFFORTS, able) | higher


def _group(members: dict[str, bool]) -> Json:
    return {**_supported(any(members.values())), **{name: _supported(able) for name, able in members.items()}}


def _supported(able: bool) -> Json:
    return {"supported": able}
