"""A run that is told to stop, whose terminal goes away, or that meets a bug: what it leaves, and how it ends."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentloop.core.folding import fold
from agentloop.sessions import Sessions
from agentloop.types.events import Event, SessionEnded, ToolFinished
from tests.e2e.workplace import PLAIN, agentloop, workspace

TOOL = '''
import time
from pathlib import Path
from agentloop import current_call, tool

@tool(effect="{effect}")
def act(seconds: float) -> str:
    """Do something that takes a while."""
    root = current_call().root
    with (root / "acts").open("a") as file:
        file.write("begun\\n")
    time.sleep(seconds)
    with (root / "acts").open("a") as file:
        file.write("done\\n")
    return "it is done"
'''
PLAYBOOK = """
name: assistant
steps:
  - {{say: I act., call: [act: {{seconds: {seconds}}}]}}
  - {{say: All is done.}}
"""


def acting(folder: Path, seconds: float, effect: str = "once") -> Path:
    """A workspace whose agent calls one slow tool."""
    made = workspace(folder / "workspace")
    (made / "tools" / "example.py").write_text(TOOL.format(effect=effect))
    (made / "prompts" / "assistant.playbook.yaml").write_text(PLAYBOOK.format(seconds=seconds))
    return made


def started(folder: Path, *options: str, **how: object) -> "subprocess.Popen[bytes]":
    """A run in a process of its own, at work in its tool."""
    command = [sys.executable, "-m", "agentloop", "run", "assistant", "--session-id", "s", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | how
    process = subprocess.Popen(command, cwd=folder, env=PLAIN, **pipes)  # type: ignore[call-overload]
    give_up = time.monotonic() + 30
    while not (folder / "acts").exists() and time.monotonic() < give_up:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    time.sleep(0.2)  # by now the session waits for it
    return process  # type: ignore[no-any-return]


def events(folder: Path) -> list[Event]:
    return Sessions(folder / "sessions").events("s")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_run_that_is_told_to_stop_lets_an_effect_come_to_its_end_and_goes_on_later(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    folder = acting(tmp_path, seconds=1.0)
    process = started(folder)

    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    stopped = events(folder)
    resumed = agentloop(folder, "resume", "s", "-q")

    assert process.returncode == code, err
    assert isinstance(last := stopped[-1].body, SessionEnded)
    assert (last.outcome, f"stopped by {number.name}" in last.detail) == ("interrupted", True)
    assert [(e.body.outcome, e.body.content) for e in stopped if isinstance(e.body, ToolFinished)] == [("ok", "it is done")]
    assert (resumed.code, resumed.out.strip()) == (0, "All is done.")
    assert (folder / "acts").read_text().split() == ["begun", "done"]


def test_a_tool_that_only_reads_is_not_waited_for(tmp_path: Path) -> None:
    folder = acting(tmp_path, seconds=60, effect="read")
    process = started(folder)

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=9)

    assert process.returncode == 143
    assert fold(events(folder)).outcome == "interrupted"
    assert not [e for e in events(folder) if isinstance(e.body, ToolFinished)]


def test_a_second_signal_ends_the_process_at_once_and_the_session_still_loads(tmp_path: Path) -> None:
    folder = acting(tmp_path, seconds=60)
    process = started(folder)

    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=9)
    resumed = agentloop(folder, "resume", "s", "-q")

    assert process.returncode == -signal.SIGTERM
    assert [e.body.outcome for e in events(folder) if isinstance(e.body, ToolFinished)] == ["unknown"]
    assert (resumed.code, (folder / "acts").read_text().split()) == (0, ["begun"])


@pytest.mark.parametrize("output_format", ["text", "json", "stream-json"])
@pytest.mark.parametrize(("turns", "code"), [("20", 0), ("1", 3)])
def test_a_reader_that_goes_away_changes_neither_the_session_nor_its_exit_code(
    tmp_path: Path, output_format: str, turns: str, code: int
) -> None:
    folder = acting(tmp_path, seconds=0.3)
    process = started(folder, "--output-format", output_format, "--max-turns", turns)

    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.wait(timeout=30)

    assert fold(events(folder)).outcome == {0: "completed", 3: "max_turns"}[code]
    assert process.returncode == code, err
    assert b"Traceback" not in err
    assert agentloop(folder, "report", "s").code == 0


def test_a_run_without_standard_output_runs(tmp_path: Path) -> None:
    folder = acting(tmp_path, seconds=0)
    command = f"exec {sys.executable} -m agentloop run assistant --session-id s >&-"

    done = subprocess.run(["sh", "-c", command], cwd=folder, env=PLAIN, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)

    assert (done.returncode, b"internal error" in done.stderr) == (0, False), done.stderr
    assert fold(events(folder)).outcome == "completed"


# P11


BUG = """
import sys
from agentloop.cli import main
from agentloop.engine import loop

def buggy(*args):
    raise KeyError("no such thing: " + "sk-ant-hushhush-12345678")

loop.{broken} = buggy
sys.argv = ["agentloop", "run", "assistant", "--session-id", "s", "-p", "a task with sk-ant-hushhush-12345678"]
main()
"""


@pytest.mark.parametrize("broken", ["decide", "perform", "evolve"])
def test_a_bug_in_the_engine_saves_the_session_and_leaves_a_report_without_secrets(tmp_path: Path, broken: str) -> None:
    folder = acting(tmp_path, seconds=0)
    environment = {**PLAIN, "ANTHROPIC_API_KEY": "sk-ant-hushhush-12345678", "TMPDIR": str(tmp_path), "OTHER": "of no concern"}

    program = [sys.executable, "-c", BUG.format(broken=broken)]
    done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    (bundle,) = tmp_path.glob("agentloop-crash-*.txt")
    said = bundle.read_text()
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-3:]
    assert last[0].startswith("internal error: KeyError: ")
    assert str(bundle) in last[1]
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    assert "hushhush" not in said + done.stderr
    assert "of no concern" not in said
    assert re.search(r"^agentloop \d.*\npython 3.*\nanthropic \d", said)
    assert "in buggy" in said
    resumed = agentloop(folder, "resume", "s", "-q", "--max-budget-usd", "5")  # the lost attempt may have been billed
    assert (resumed.code, resumed.out.strip()) == (0, "All is done.")


def test_an_internal_error_has_its_own_file_each_time(tmp_path: Path) -> None:
    folder = acting(tmp_path, seconds=0)
    environment = {**PLAIN, "TMPDIR": str(tmp_path)}

    for _ in range(2):
        subprocess.run([sys.executable, "-c", BUG.format(broken="decide")], cwd=folder, env=environment, capture_output=True)

    assert len(list(tmp_path.glob("agentloop-crash-*.txt"))) == 2
    assert os.listdir(folder / "sessions") == ["s"]
