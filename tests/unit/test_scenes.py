"""Where the tools of a scene's session work."""

import os
import stat
from pathlib import Path

import pytest

from agentloop import example, scenes
from agentloop.agents import find_agent
from tests.e2e.workplace import workspace


def test_the_folders_of_a_scene_are_their_owners_alone_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = workspace(tmp_path)
    monkeypatch.setitem(example.SCENES, "empty", lambda place: None)
    prompt = folder / "prompts" / "assistant.md"
    prompt.write_text(prompt.read_text().replace("---\n", "---\nscene: empty\n", 1))
    agent = find_agent(folder, "prompts", "assistant")

    before = os.umask(0)
    try:
        place = scenes.folder(agent, folder, "s")
    finally:
        os.umask(before)

    modes = [stat.S_IMODE(p.stat().st_mode) for p in (place, place.parent, place.parent.parent)]
    assert modes == [0o700] * 3
