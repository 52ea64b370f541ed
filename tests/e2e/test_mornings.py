"""Two mornings of the Atlas example, one after the other, as a person would run them."""

import shutil
from pathlib import Path

import pytest

from agentloop.sessions import Sessions
from agentloop.types import blocks
from agentloop.types.events import ModelReplied, SessionStarted, ToolFinished
from tests.e2e.workplace import agentloop

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which both mornings were run."""
    place = tmp_path_factory.mktemp("mornings")
    shutil.copytree(ROOT / "prompts", place / "prompts")
    shutil.copytree(ROOT / "tools", place / "tools")
    shutil.copy(ROOT / "agentloop.toml", place / "agentloop.toml")
    for agent, session in (("atlas", "tuesday"), ("atlas-next-day", "wednesday")):
        ran = agentloop(place, "run", agent, "--session-id", session)
        assert ran.code == 0, ran.err
        assert f"{session}: completed" in ran.out
    return place


def test_the_second_reads_what_the_first_wrote(place: Path) -> None:
    first, second = (list(Sessions(place / "sessions").events(day)) for day in ("tuesday", "wednesday"))
    said = [call for e in first if isinstance(e.body, ModelReplied) for call in blocks.calls(e.body.reply.content)]
    noted = [c.input["text"].strip() for c in said if c.name == "append_note" and c.input["topic"] == "checkout"]
    answers = [str(e.body.content) for e in second if isinstance(e.body, ToolFinished) and e.body.name == "read_notes"]

    assert len(noted) == 1
    assert any(noted[0] in answer for answer in answers)


def test_both_have_one_prefix_to_the_byte(place: Path) -> None:
    starts = [Sessions(place / "sessions").events(day)[0].body for day in ("tuesday", "wednesday")]

    digests = {start.prefix_digest for start in starts if isinstance(start, SessionStarted)}

    assert len(digests) == 1


def test_both_can_be_replayed(place: Path) -> None:
    for day in ("tuesday", "wednesday"):
        ran = agentloop(place, "replay", day)
        assert ran.code == 0, ran.out + ran.err


def test_without_the_first_the_second_says_what_to_do(tmp_path: Path, place: Path) -> None:
    for name in ("prompts", "tools"):
        shutil.copytree(place / name, tmp_path / name)

    ran = agentloop(tmp_path, "run", "atlas-next-day", "--provider", "scripted")

    assert ran.code == 2
    assert "'agentloop run atlas' makes one" in ran.err
