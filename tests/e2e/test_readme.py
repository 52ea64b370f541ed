"""The README, followed to the letter."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentloop.adapters.model_table import models
from agentloop.emulator.app import Emulator
from agentloop.emulator.playbook import Playbook
from agentloop.emulator.server import running
from tests.e2e.workplace import PLAIN, agentloop

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)([^\n]*)\n(.*?)^```$", README, re.M | re.S)
FILES = {info.strip().removeprefix("file="): text for _, info, text in BLOCKS if "file=" in info}
COMMANDS = [line for lang, _, text in BLOCKS if lang == "sh" for line in text.splitlines()]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which every step of the README was taken, in its order."""
    place = tmp_path_factory.mktemp("readme")
    for lang, info, text in BLOCKS:
        if "file=" in info:
            (place / info.strip().removeprefix("file=")).write_text(text)
        for line in text.splitlines() if lang == "sh" else ():
            words = shlex.split(line)
            if words[0] == "cd":
                place = place / words[1]
            else:
                ran = agentloop(place, *words[1:])
                assert ran.code == 0, (line, ran.err)
    return place


def test_every_command_is_one_of_ours() -> None:
    assert all(line.startswith(("agentloop ", "cd ")) for line in COMMANDS)


def test_the_tool_of_the_readme_is_used(followed: Path) -> None:
    sessions = sorted((followed / "sessions").iterdir())

    shown = [agentloop(followed, "sessions", "show", s.name).out for s in sessions]

    assert any('← stock: {"sku":"DRN-02","pieces":14}' in text for text in shown)


def test_the_python_of_the_readme_runs_against_the_emulator(followed: Path) -> None:
    code = next(text for lang, info, text in BLOCKS if lang == "python" and "run" in info)
    playbook = Playbook.load(followed / "prompts" / "assistant.playbook.yaml")

    with running(Emulator(playbook, models())) as url:
        done = subprocess.run(
            [sys.executable, "-c", code.replace("http://127.0.0.1:8377", url)],
            cwd=followed,
            env={**PLAIN, "ANTHROPIC_API_KEY": "any"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.stdout.startswith("There are 14. 0.0"), done.stderr


def test_the_emulator_of_the_readme_answers_its_client(followed: Path) -> None:
    serving, client = next(text for lang, _, text in BLOCKS if lang == "console").splitlines()
    environment, command = client.split(" agentloop ", 1)
    python = [sys.executable, "-m", "agentloop"]

    with subprocess.Popen(
        [*python, *shlex.split(serving)[1:], "--port", "0"], cwd=followed, env=PLAIN, stderr=subprocess.PIPE, text=True
    ) as emulator:
        assert emulator.stderr is not None
        url = next(line.split()[-1] for line in emulator.stderr if line.startswith("listening on"))
        settings = dict(pair.split("=", 1) for pair in environment.replace("http://127.0.0.1:8377", url).split())
        ran = agentloop(followed, *shlex.split(command), "-p", "How many DRN-02 are there?", **settings)
        report = agentloop(followed, "emulator", "--report", "--port", url.rsplit(":", 1)[1])
        emulator.terminate()

    assert "There are 14." in ran.out, ran.err
    assert report.out.startswith("2 requests"), report.err


def test_the_fixture_of_the_readme_passes(followed: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_bill.py"]
    ran = subprocess.run(command, cwd=followed, env=PLAIN, capture_output=True, text=True, timeout=60, check=False)

    assert "1 passed" in ran.stdout, ran.stdout


def test_the_bill_in_the_readme_is_the_bill_of_make_run(tmp_path: Path) -> None:
    for name in ("prompts", "tools", "agentloop.toml"):
        source = ROOT / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)

    ran = agentloop(tmp_path, "run", "atlas", "--session-id", "atlas-example")

    printed = next(text for lang, _, text in BLOCKS if lang == "text")
    assert "automatic caching" in printed
    assert printed.strip() in ran.out, ran.out[-2500:]


def test_the_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)

    assert [link for link in links if not (ROOT / link).exists()] == []
