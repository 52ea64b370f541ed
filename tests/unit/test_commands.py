"""Running programs: only allowed ones, without a shell, and with nothing left running."""

import os
import subprocess
import sys
import time
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from agentloop import commands
from agentloop.adapters.plugins import load_tools
from agentloop.commands import COMMANDS_FILE, COMMANDS_VARIABLE, Ran, run
from agentloop.tooling import CurrentCall, Registry, answering

PYTHON = sys.executable
TOOL = Registry(load_tools(Path(__file__).parents[2] / "tools")).tools["run_command"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    return folder


def python(root: Path, program: str, *arguments: str, **options: Any) -> Ran:
    return run(PYTHON, ["-c", program, *arguments], root, [PYTHON], **options)


def run_command(root: Path, program: str, arguments: list[str]) -> str:
    def call() -> str:
        answering(CurrentCall("session", "call", "key", root))
        return str(TOOL.sdk.call({"program": program, "arguments": arguments}))

    return copy_context().run(call)


def test_a_program_is_run_in_the_root_and_its_output_is_shown(root: Path) -> None:
    ran = python(root, "import os, sys; print(os.getcwd()); print('oh', file=sys.stderr); sys.exit(3)")

    assert ran == Ran(3, f"{os.path.realpath(root)}\n", "oh\n", 0)


# SEC19


@pytest.mark.parametrize("argument", ["; rm -rf .", "$(touch mine)", "`touch mine`", "| cat", "-n", "--help", "a b", "*", ""])
def test_an_argument_is_handed_over_as_it_is(root: Path, argument: str) -> None:
    ran = python(root, "import sys; print(ascii(sys.argv[1:]))", argument)

    assert ran.out == f"{[argument]!a}\n"
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    "program",
    ["rm", "-c", "echo; rm", "$(echo)", "./echo", "bin/echo", "../echo", "", "echo\x00", "ECHO", "/bin/sh", "sh -c true"],
)
def test_a_program_that_is_not_on_the_list_is_refused(root: Path, program: str) -> None:
    (root / "bin").mkdir()
    for place in (root / "echo", root / "bin" / "echo", root.parent / "echo"):
        place.write_text("#!/bin/sh\ntouch mine\n")
        place.chmod(0o755)

    with pytest.raises(ValueError, match="not a program that may be run; allowed: echo"):
        run(program, [], root, ["echo"])

    assert not (root / "mine").exists()


def test_a_program_is_judged_by_the_place_where_it_is_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = os.environ["PATH"]
    echo = commands.found("echo", ["echo"], root)
    fake = root / "bin" / "echo"
    fake.parent.mkdir()
    fake.symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", os.pathsep.join([str(fake.parent), "", ".", "bin", usual]))

    assert commands.found("echo", ["echo"], root) == commands.found(echo, ["echo"], root) == echo
    with pytest.raises(ValueError, match="not a program that may be run"):
        commands.found(str(fake), ["echo"], root)
    assert str(root) not in commands.plain_environment(root)["PATH"]


def test_another_name_of_an_allowed_program_is_not_allowed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to(PYTHON)  # one program that goes by many names does different things under each

    with pytest.raises(ValueError, match="not a program that may be run"):
        run(str(tmp_path / "sh"), [], root, [PYTHON])


def test_without_a_list_nothing_is_run_and_the_way_to_allow_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COMMANDS_VARIABLE, raising=False)

    with pytest.raises(ValueError, match=rf"(?s)allowed: none.*{COMMANDS_FILE}.*{COMMANDS_VARIABLE}"):
        run_command(root, "echo", ["hello"])


def test_the_tool_runs_what_the_list_allows(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COMMANDS_VARIABLE, raising=False)
    (root / COMMANDS_FILE).write_text("echo\n")

    assert run_command(root, "echo", ["hello", "$HOME"]) == "[exit code 0]\nhello $HOME"
    assert TOOL.effect == "once"


def test_a_program_that_cannot_be_started_is_an_error(root: Path) -> None:
    broken = root.parent / "broken"
    broken.write_bytes(b"\x7fELF nothing")
    broken.chmod(0o755)

    with pytest.raises(ValueError, match=r"broken' cannot be run: "):
        run(str(broken), [], root, [str(broken)])
    with pytest.raises(ValueError, match="NUL"):
        run("echo", ["a\x00b"], root, ["echo"])


# SEC20


def test_a_program_sees_three_variables_and_no_key(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "AGENTLOOP_MODEL", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD_NOT", "PYTHONSTARTUP", "ENV"):
        monkeypatch.setenv(name, "canary-canary")

    ran = run("env", [], root, ["env"])

    names = {line.partition("=")[0] for line in ran.out.splitlines()}
    assert names == {"PATH", "LANG", "HOME"}
    assert f"HOME={os.path.realpath(root)}" in ran.out.splitlines()
    assert "canary" not in ran.out


def test_a_program_inherits_no_open_file_and_its_input_is_empty(root: Path) -> None:
    with open(root.parent / "secret", "w+") as secret:
        os.set_inheritable(secret.fileno(), True)
        ran = python(root, "import os, sys; print(len(sys.stdin.read()), sorted(map(int, os.listdir('/dev/fd')))[:3])")
        inherited = python(root, f"import os; os.fstat({secret.fileno()})")

    assert ran.out == "0 [0, 1, 2]\n"
    assert inherited.code == 1


# T04


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be buried does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()
    return bool(state) and not state.startswith("Z")


def gone(pid: int) -> bool:
    until = time.monotonic() + 2
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not alive(pid)


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", deaf])
print(os.getpid(), child.pid, flush=True)
time.sleep(float(sys.argv[1]))
"""


def test_a_tree_that_ignores_the_request_to_end_is_killed_whole(root: Path) -> None:
    began = time.monotonic()

    ran = python(root, STUBBORN, "60", limit_s=0.5, grace_s=0.05)

    assert ran.code is None
    assert time.monotonic() - began < 2
    assert [gone(int(pid)) for pid in ran.out.split()] == [True, True]


def test_grandchildren_that_hold_the_pipes_are_not_waited_for(root: Path) -> None:
    began = time.monotonic()

    ran = python(root, STUBBORN, "0")

    assert (ran.code, len(ran.out.split())) == (0, 2)
    assert time.monotonic() - began < 2
    assert gone(int(ran.out.split()[1]))


def test_a_grandchild_that_left_the_group_and_holds_the_pipes_is_not_waited_for(root: Path) -> None:
    began = time.monotonic()

    ran = python(
        root,
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1.5)'],"
        " start_new_session=True); print(p.pid)",
    )

    assert ran.code == 0
    assert time.monotonic() - began < 1.4


def test_a_program_that_closes_its_output_is_still_waited_for_and_still_ended(root: Path) -> None:
    quiet = "import os, time; os.close(1); os.close(2); time.sleep(float({0})); os._exit(4)"

    assert python(root, quiet.format("0.05")).code == 4
    assert python(root, quiet.format("60"), limit_s=0.2, grace_s=0.5).code is None


def test_what_was_said_before_the_time_was_up_is_shown(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = python(root, "import time; print('begun', flush=True); time.sleep(60)", limit_s=0.3)

    assert (ran.code, ran.out) == (None, "begun\n")


def test_no_group_is_left_on_the_list_of_those_under_way(root: Path) -> None:
    python(root, "pass")

    assert not commands._RUNNING


def test_a_process_that_ends_takes_its_programs_with_it(root: Path) -> None:
    engine = f"""
import sys, threading, time
from pathlib import Path
from agentloop import commands
child = "import os, sys, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
work = lambda: commands.run(sys.executable, ["-c", child], Path({str(root)!r}), [sys.executable])
threading.Thread(target=work, daemon=True).start()
while not (Path({str(root)!r}, "pid").exists() and Path({str(root)!r}, "pid").read_text()):
    time.sleep(0.01)
"""
    subprocess.run([sys.executable, "-c", engine], check=True, timeout=20)

    assert gone(int((root / "pid").read_text()))


# T05


def test_output_without_end_is_bounded_and_counted(root: Path) -> None:
    ran = run("yes", [], root, ["yes"], limit_s=0.2)

    assert ran.code is None
    assert len(ran.out) == commands.MOST_BYTES
    assert ran.dropped > 0


def test_a_program_with_much_to_say_ends_by_itself(root: Path) -> None:
    ran = python(root, "import sys; sys.stdout.write('x' * 3_000_000); sys.stderr.write('y' * 9)", most_bytes=1_000)

    assert (ran.code, len(ran.out) + len(ran.err), ran.dropped) == (0, 1_000, 2_999_009)


def test_bytes_that_are_no_text_are_replaced(root: Path) -> None:
    assert python(root, "import sys; sys.stdout.buffer.write(b'caf\\xe9')").out == "caf\ufffd"
