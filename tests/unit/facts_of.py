"""A result cut to facts, for the tests of each kind."""

from typing import Any

from agentloop.policies import ByKind
from agentloop.types.blocks import Call
from agentloop.types.tools import FactsSettings

FAMILY = "claude-4.7-plus"
HANDLE = "0123456789abcdef" * 4
NOTE = 'left out; recall(handle="0123456789ab") gives any of them back]'


def facts(content: str, given: Any = None, settings: FactsSettings | None = None, at_most: int = 300) -> list[str]:
    """The lines that the model is shown."""
    policy = ByKind(over_tokens=50, share=1.0, growth=1.0, at_most_tokens=at_most)
    shown = policy.shown(Call("c", "look_up", given), content, "facts", HANDLE, FAMILY, settings).content
    assert isinstance(shown, str)
    return shown.split("\n")
