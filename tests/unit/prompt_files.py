"""Prompt files for the tests, and what is said of wrong ones."""

from pathlib import Path

import pytest

from agentloop.errors import AgentLoopError


def prompt(root: Path, text: str | bytes, name: str = "atlas.md") -> Path:
    (root / "prompts").mkdir(exist_ok=True)
    path = root / "prompts" / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refused(kind: type[AgentLoopError], what: object, *arguments: object) -> str:
    with pytest.raises(kind) as error:
        what(*arguments)  # type: ignore[operator]
    assert len(str(error.value).splitlines()) <= 3
    return str(error.value)
