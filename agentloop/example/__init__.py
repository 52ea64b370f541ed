"""The example businesses that scripted sessions work in."""

from collections.abc import Callable
from pathlib import Path

from agentloop.example.business import write_business
from agentloop.example.overnight import write_next_day

SCENES: dict[str, Callable[[Path], None]] = {"atlas": write_business, "atlas-next-day": write_next_day}
"""What an agent's front matter names as its `scene`: writes the files of a scratch workspace."""
