"""docs/batch.md, followed to the letter: its commands run without a key, and what they leave is what it says."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.e2e.workplace import agentloop

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```$", DOC, re.M | re.S) for line in block.splitlines()]
JOBS = {"tickets": 12, "documents": 5, "records": 6}


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command was given, in its order."""
    place = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "agentloop" / "example" / "batches", place / "agentloop" / "example" / "batches")
    for line in COMMANDS:
        words = shlex.split(line, comments=True)
        match words[0]:
            case "cp":
                shutil.copytree(place / words[2], place / words[3])
            case "cd":
                place = place / words[1]
            case _:
                ran = agentloop(place, *words[1:])
                assert ran.code == 0, (line, ran.out, ran.err)
    return place


def test_every_command_is_one_that_a_reader_can_give() -> None:
    assert {line.split()[0] for line in COMMANDS} == {"cp", "cd", "agentloop"}
    assert {line.split()[2] for line in COMMANDS if line.startswith("agentloop")} >= {"submit", "status", "collect", "list"}


@pytest.mark.parametrize("job", JOBS)
def test_each_job_of_the_example_gives_every_row_an_answer(followed: Path, job: str) -> None:
    listed = {row["name"]: row for row in json.loads(agentloop(followed, "batch", "list", "--json").out)}

    assert (listed[job]["status"], listed[job]["outcomes"]) == ("ended", {"succeeded": JOBS[job]})
    assert listed[job]["played_by"] == f"script:{job}"
    assert listed[job]["ratio_to_live"] == 0.5


def test_a_row_that_did_not_fit_the_schema_was_asked_again(followed: Path) -> None:
    shown = json.loads(agentloop(followed, "batch", "status", "tickets", "--json").out)

    assert shown["asked_again"] == 1
    assert len(shown["batches"]) == 2


def test_a_run_of_a_playbook_is_carried_on_by_other_processes_and_asks_nothing_twice(followed: Path) -> None:
    asked = ("documents.jsonl", "--template", "documents.md", "--name", "again", "--retry", "live")
    sent = agentloop(followed, "batch", "submit", *asked, "--json")
    seen = agentloop(followed, "batch", "status", "again", "--json")
    cancelled = agentloop(followed, "batch", "cancel", "again")
    got = agentloop(followed, "batch", "collect", "again", "--json")
    twice = agentloop(followed, "batch", "collect", "again", "--json")

    assert json.loads(sent.out)["status"] == "processing"
    assert json.loads(seen.out)["at_the_api"][0]["counts"]["succeeded"] == 5
    assert cancelled.code == 0, cancelled.err
    assert json.loads(got.out) == json.loads(twice.out)
    assert json.loads(got.out)["outcomes"] == {"succeeded": 5}


def test_without_a_playbook_nobody_plays_and_the_next_step_is_said(followed: Path) -> None:
    ran = agentloop(followed, "batch", "submit", "documents.jsonl", "-p", "{{text}}")

    assert ran.code == 2
    assert "--playbook FILE" in ran.err


def test_what_a_playbook_played_is_another_run_than_what_the_api_answers(followed: Path) -> None:
    asked = (
        "batch",
        "submit",
        "documents.jsonl",
        "--template",
        "documents.md",
        "--name",
        "documents",
        "--provider",
        "anthropic",
    )

    ran = agentloop(followed, *asked, ANTHROPIC_API_KEY="any")

    assert ran.code == 2
    assert "asks something else" in ran.err
