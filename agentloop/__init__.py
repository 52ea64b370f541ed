"""agentloop: autonomous Claude agents in long unattended sessions, and the bill that says what they cost."""

from agentloop.tooling import CurrentCall, Tool, current_call, tool

__version__ = "0.1.0"
__all__ = ["CurrentCall", "Tool", "current_call", "tool"]
