"""The example businesses that scripted sessions work in."""

from collections.abc import Callable
from pathlib import Path

from agentloop.example.business import write_business

SCENES: dict[str, Callable[[Path], None]] = {"atlas": write_business}
"""What an agent's front matter names as its `scene`: writes the files of a scratch workspace."""
