"""The shell: does what the core decides, and writes down what came of it."""

from agentloop.engine.loop import Shell, run
from agentloop.engine.recovery import Interrupted

__all__ = ["Interrupted", "Shell", "run"]
