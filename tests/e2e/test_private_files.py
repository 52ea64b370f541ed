"""What a session leaves on the disk is its owner's alone (SEC01, SEC02), and no key is shown anywhere (SEC33, SEC34)."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agentloop.adapters.model_table import models
from agentloop.emulator import Emulator
from agentloop.emulator.playbook import Playbook
from agentloop.emulator.server import running
from tests.e2e.workplace import PLAIN, Ran, agentloop, workspace

KEY = "sk-ant-canary-0123456789"
CODE = {"__pycache__"}


def under(umask: int, folder: Path, *arguments: str, **environment: str) -> Ran:
    done = subprocess.run(
        [sys.executable, "-m", "agentloop", *arguments], cwd=folder, env={**PLAIN, **environment}, stdin=subprocess.DEVNULL,
        capture_output=True, check=False, umask=umask,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def everything(folder: Path) -> set[Path]:
    return {p for p in folder.rglob("*") if not CODE & set(p.parts)}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_are_their_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    folder = workspace(tmp_path / "w")
    settings = folder / "agentloop.toml"
    settings.write_text(settings.read_text() + 'log_file = "run.log"\nlog_level = "debug"\nworkspace_total_usd = 5\n')
    tool = folder / "tools" / "example.py"
    tool.write_text(tool.read_text().replace("    return f", "    return text * 400\n    return f"))
    before = everything(tmp_path)

    done = [
        under(umask, folder, *command.split())
        for command in (
            "run assistant --session-id s -q", "run assistant --session-id t -q --max-turns 1 --unattended",
            "sessions export s taken", "budget show", "report s --json", "cron list", "queue list", "resume t -q --max-turns 9",
        )
    ]  # fmt: skip

    made = everything(tmp_path) - before
    names = {p.name for p in made}
    assert [d.code for d in done if d.code not in (0, 2, 3)] == []
    assert {"log.jsonl", "run.log", "blobs", "taken", "sessions", ".agentloop"} <= names
    assert any(n.endswith(".sqlite") for n in names)
    assert [p for p in made if p.is_file() and stat.S_IMODE(p.stat().st_mode) & 0o177] == []
    assert [p for p in made if p.is_dir() and stat.S_IMODE(p.stat().st_mode) != 0o700] == []


def test_nothing_is_written_through_a_link_that_lies_in_wait(tmp_path: Path) -> None:
    folder = workspace(tmp_path / "w")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (folder / "sessions" / "s").mkdir(parents=True)
    (folder / "sessions" / "s" / "log.jsonl").symlink_to(victim)
    (folder / ".agentloop" / "started").mkdir(parents=True)
    (folder / ".agentloop" / "started" / "t").symlink_to(victim)

    waits = agentloop(folder, "run", "assistant", "--session-id", "s", "-q")
    marked = agentloop(folder, "run", "assistant", "--session-id", "t", "-q")

    assert victim.read_text() == "precious"
    assert waits.code != 0
    assert "Traceback" not in waits.err + marked.err


TEMPORARY = """
import os, sys
fixed = []
def hook(event, args):
    if event == "open" and str(args[0]).startswith(os.environ["TMPDIR"]) and (args[2] or 0) & os.O_CREAT:
        fixed.append((args[0], bool(args[2] & os.O_EXCL)))
sys.addaudithook(hook)
from agentloop.cli import main
sys.argv = ["agentloop", *sys.argv[1:]]
try:
    main()
finally:
    print(fixed, file=sys.stderr)
"""


@pytest.mark.parametrize("command", ["run assistant -q", "prefix check assistant", "report s", "sessions export s out"])
def test_no_temporary_file_has_a_name_that_can_be_known_before(tmp_path: Path, command: str) -> None:
    folder = workspace(tmp_path / "w")
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o777)
    agentloop(folder, "run", "assistant", "--session-id", "s", "-q")

    def used() -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", TEMPORARY, *command.split()], cwd=folder, env={**PLAIN, "TMPDIR": str(shared)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        subprocess.run(["rm", "-rf", str(folder / "out")], check=True)
        opened = eval(done.stderr.strip().splitlines()[-1])
        assert all(exclusive for _, exclusive in opened)
        return {name for name, _ in opened}

    assert used().isdisjoint(used())
    assert list(shared.iterdir()) == []


# SEC33, SEC34


def test_with_everything_logged_there_is_no_key_and_no_prompt_in_it(tmp_path: Path) -> None:
    folder = workspace(tmp_path)
    settings = folder / "agentloop.toml"
    settings.write_text(settings.read_text() + 'log_file = "run.log"\nlog_level = "debug"\n')
    play = Playbook.from_data({"name": "p", "steps": [{"say": "The words of the model."}]})
    loud = {"ANTHROPIC_LOG": "debug", "HTTPX_LOG_LEVEL": "trace", "HTTPCORE_LOG_LEVEL": "trace", "ANTHROPIC_API_KEY": KEY}

    with running(Emulator(play, models())) as url:
        where = ["--provider", "anthropic", "--base-url", url]
        ran = agentloop(folder, "run", "assistant", "-p", "The words of the user.", "--session-id", "s", *where, **loud)

    told = ran.err + (folder / "run.log").read_text()
    assert ran.code == 0
    assert KEY not in told + ran.out
    assert "The words of" not in told
    assert "careful assistant" not in told
    assert KEY.encode() not in (folder / "sessions" / "s" / "log.jsonl").read_bytes()
    assert all(isinstance(json.loads(line), dict) for line in (folder / "run.log").read_text().splitlines())


@pytest.mark.parametrize("command", ["doctor", "doctor --json", "config show", "config show --json"])
def test_of_a_key_only_that_it_is_there_is_shown(tmp_path: Path, command: str) -> None:
    folder = workspace(tmp_path)

    shown = agentloop(folder, *command.split(), ANTHROPIC_API_KEY=KEY, AGENTLOOP_LISTEN_TOKEN=KEY)

    for part in (KEY, KEY[-4:], KEY[:10]):
        assert part not in shown.out + shown.err
    assert "configured" in shown.out
