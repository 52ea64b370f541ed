"""agentloop: autonomous Claude agents in long unattended sessions, and the bill that says what they cost."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agentloop.version import __version__

if TYPE_CHECKING:
    from agentloop.api import Agent
    from agentloop.result import Result
    from agentloop.tooling import CurrentCall, Tool, current_call, tool
    from agentloop.types.tools import FactsSettings

__all__ = ["Agent", "CurrentCall", "FactsSettings", "Result", "Tool", "__version__", "current_call", "tool"]

_HOMES = {
    "Agent": "agentloop.api",
    "Result": "agentloop.result",
    "CurrentCall": "agentloop.tooling",
    "FactsSettings": "agentloop.types.tools",
    "Tool": "agentloop.tooling",
    "current_call": "agentloop.tooling",
    "tool": "agentloop.tooling",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: `agentloop --help` should not wait for it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'agentloop' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
