"""agentloop: autonomous Claude agents in long unattended sessions, and the bill that says what they cost."""

__version__ = "0.1.0"
