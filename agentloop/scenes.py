"""Where a session's tools work when its agent names a scene: a folder of its own, made once."""

import shutil
import tempfile
from pathlib import Path

from agentloop.agents import AgentFile
from agentloop.errors import ConfigError
from agentloop.example import SCENES

WORKPLACE = ".agentloop"
"""Where a workspace keeps what can be made again."""


def folder(agent: AgentFile, workspace: Path, session_id: str) -> Path:
    """The folder of a session's scene; it is there whole or not at all. Raises ConfigError where there is no such scene."""
    assert agent.scene is not None
    if agent.scene not in SCENES:
        raise ConfigError(f"{agent.path}: no scene '{agent.scene}'; there are {', '.join(SCENES)}")
    place = workspace / WORKPLACE / "scenes" / session_id
    if not place.exists():
        for each in (place.parent.parent, place.parent):  # mkdir gives its mode to the last folder only
            each.mkdir(parents=True, mode=0o700, exist_ok=True)
        making = Path(tempfile.mkdtemp(dir=place.parent, prefix=".making-"))
        try:
            SCENES[agent.scene](making)
            making.rename(place)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
    return place.resolve()
