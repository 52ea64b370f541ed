"""Clients that we did not write, unchanged, against the emulator on a port. `make e2e` installs them into `.e2e/`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agentloop.emulator import EmulatorSettings
from agentloop.testing import EmulatedApi

INSTALLED = Path(os.environ.get("AGENTLOOP_E2E") or Path(__file__).parents[2] / ".e2e").resolve()
CLIENTS = Path(__file__).parent / "clients"
STRICT = EmulatorSettings(strict=True)

pytestmark = pytest.mark.clients


@pytest.fixture
def api(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Iterator[EmulatedApi]:
    """An emulator whose bill is printed when the test is over."""
    api = EmulatedApi(settings=STRICT)
    yield api
    with capsys.disabled():
        print(f"\n{request.node.name}: {api.bill()}")
    api.close()


def run(command: list[str | Path], folder: Path, **environment: str) -> Any:
    """The JSON that a client prints last, run without any of this machine's settings."""
    folder.joinpath("home").mkdir()
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "LANG": "C.UTF-8", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")[-2_000:]
    return json.loads(done.stdout.decode().splitlines()[-1])


def installed(relative: str) -> Path:
    """A file of an installed client. Skips the test where it is not there."""
    path = INSTALLED / relative
    if not path.exists():
        pytest.skip(f"{path} is not installed: make e2e")
    return path


def test_pydantic_ai_holds_a_cached_conversation_with_tools_and_counts_the_same_dollars(
    api: EmulatedApi, tmp_path: Path
) -> None:
    python = installed("venv/bin/python")
    rules = [
        {"when": "How is the weather", "say": "I look.", "call": [{"weather": {"city": "Prague"}}]},
        {"when": "sunny", "say": "It is sunny in Prague."},
    ]
    api.play({"name": "weather", "rules": rules, "default": {"say": "A hat."}}, STRICT)

    said = run([python, CLIENTS / "pydantic_ai_session.py", api.url], tmp_path)

    bill = api.bill()
    assert said["outputs"] == ["It is sunny in Prague.", "A hat."]
    assert (said["requests"], said["cache_read_tokens"]) == (bill.requests, bill.cache_read_input_tokens) != (3, 0)
    assert Decimal(said["cost_usd"]) == bill.cost_usd


def claude(api: EmulatedApi, folder: Path, *arguments: str) -> Any:
    """What the `claude` command line says in print mode."""
    if shutil.which("node") is None:
        pytest.skip("the claude command line needs node")
    environment = {
        "ANTHROPIC_BASE_URL": api.url,
        "ANTHROPIC_API_KEY": "sk-ant-emulator",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    command: list[str | Path] = [installed("node_modules/.bin/claude"), "-p", *arguments, "--output-format", "json"]
    return run(command, folder, **environment)


def billed(said: Any) -> Decimal:
    """The dollars that the command line counts in binary fractions."""
    return Decimal(str(said["total_cost_usd"])).quantize(Decimal("1e-12"))


def test_the_claude_command_line_gets_its_answer_and_counts_the_same_dollars(api: EmulatedApi, tmp_path: Path) -> None:
    api.play({"name": "hello", "default": {"say": "Hello from the playbook."}}, STRICT)

    said = claude(api, tmp_path, "Say hello.")

    assert (said["is_error"], said["result"]) == (False, "Hello from the playbook.")
    assert billed(said) == api.bill().cost_usd > 0


def test_the_claude_command_line_runs_the_tools_that_a_playbook_calls(api: EmulatedApi, tmp_path: Path) -> None:
    tmp_path.joinpath("note.txt").write_text("the word is heron\n")
    note = str(tmp_path / "note.txt")
    rules = [
        {"when": "What is the word", "say": "I look.", "call": [{"Read": {"file_path": note}}]},
        {"when": "the word is heron", "say": "Once more.", "call": [{"Bash": {"command": "cat note.txt | wc -w"}}]},
        {"when": "^4", "say": "It is heron, one of four."},
    ]
    api.play({"name": "note", "rules": rules, "default": {"say": "I am lost."}}, STRICT)

    said = claude(api, tmp_path, "What is the word?", "--allowedTools", "Read,Bash")

    bill = api.bill()
    assert (said["result"], said["num_turns"], bill.requests) == ("It is heron, one of four.", 3, 3)
    assert said["usage"]["cache_read_input_tokens"] == bill.cache_read_input_tokens > 10_000
    assert billed(said) == bill.cost_usd
