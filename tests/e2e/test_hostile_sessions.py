"""A session's file from elsewhere: looked at, it does nothing; taken up, nothing in it is run unless somebody says so."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentloop.core.folding import fold
from agentloop.sessions import Sessions
from agentloop.types.events import InputGiven, SessionResumed, SessionStarted, ToolFinished
from tests.e2e.workplace import PLAIN, Ran, agentloop, workspace

AUDITED = """
import os, sys
target = sys.argv.pop(1)
seen = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
FORBIDDEN = ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.fork",
             "os.posix_spawn", "pickle.find_class", "ctypes.dlopen", "os.rename", "os.remove", "os.mkdir", "os.symlink")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

def hook(event, args):
    told = None
    if event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
        writes = (isinstance(args[1], str) and set(args[1]) & set("wax+")) or (args[2] or 0) & WRITES
        told = os.fspath(args[0]) if writes and args[0] != os.devnull else None
    elif event in FORBIDDEN:
        told = next((a for a in args if isinstance(a, (str, bytes))), event)
    if told is not None:
        told = os.path.abspath(os.fsdecode(told))
        if not target or not told.startswith(target):
            os.write(seen, f"{event} {told}\\n".encode())

from agentloop.cli import main
import agentloop.api, agentloop.cli.sessions, agentloop.cli.bills, agentloop.cli.explaining, agentloop.cli.whatif
sys.dont_write_bytecode = True
sys.addaudithook(hook)
main()
"""


def audited(folder: Path, *arguments: str, target: str = "") -> tuple[Ran, list[str]]:
    """A command, and what it did outside of `target` besides reading."""
    seen = folder.parent / "seen"
    seen.unlink(missing_ok=True)
    inside = str(folder / target) if target else ""
    command = [sys.executable, "-c", AUDITED, inside, str(seen), *arguments]
    done = subprocess.run(command, cwd=folder, env=PLAIN, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode()), seen.read_text().splitlines()


TOOL = '''
from agentloop import current_call, tool

@tool(effect="{effect}")
def act(note: str) -> str:
    """Do something."""
    with (current_call().root / "acts").open("a") as file:
        file.write(note + "\\n")
    return "it is done"
'''
PLAYBOOK = """
name: assistant
steps:
  - {say: I act., call: [act: {note: now}]}
  - {say: All is done.}
"""


def home(folder: Path, effect: str = "once") -> Path:
    """A workspace whose agent has a tool with an effect."""
    made = workspace(folder)
    (made / "tools" / "example.py").write_text(TOOL.format(effect=effect))
    (made / "prompts" / "assistant.playbook.yaml").write_text(PLAYBOOK)
    return made


def lines_until(log: Path, last: str) -> bytes:
    """The lines of a log up to the first of this kind."""
    lines = log.read_bytes().splitlines(keepends=True)
    end = next(i for i, line in enumerate(lines) if f'"type":"{last}"'.encode() in line)
    return b"".join(lines[: end + 1])


@pytest.fixture
def from_elsewhere(tmp_path: Path) -> Path:
    """A workspace into which somebody has put a session that was stopped before its call ran."""
    there, here = home(tmp_path / "there"), home(tmp_path / "here")
    agentloop(there, "run", "assistant", "--session-id", "s", "-q", "--max-budget-usd", "1000", "--max-turns", "77")
    shutil.copytree(there / "sessions", here / "sessions")
    (here / "sessions" / "s" / "log.jsonl").write_bytes(lines_until(there / "sessions" / "s" / "log.jsonl", "model_replied"))
    return here


# SEC05


def test_a_pending_call_of_a_session_from_elsewhere_is_not_run_before_somebody_says_so(from_elsewhere: Path) -> None:
    log = from_elsewhere / "sessions" / "s" / "log.jsonl"
    before = log.read_bytes()

    refused = agentloop(from_elsewhere, "resume", "s", "-q")
    again = agentloop(from_elsewhere, "run", "assistant", "--session-id", "s", "-q", "--unattended")

    assert (refused.code, again.code) == (2, 2)
    assert "act" in refused.err
    assert "--trust" in refused.err
    assert len(refused.err.strip().splitlines()) <= 3
    assert log.read_bytes() == before
    assert not (from_elsewhere / "acts").exists()

    trusted = agentloop(from_elsewhere, "resume", "s", "-q", "--trust")

    assert (trusted.code, trusted.out.strip()) == (0, "All is done.")
    assert (from_elsewhere / "acts").read_text() == "now\n"


def test_the_limits_of_a_session_from_elsewhere_are_those_of_here(from_elsewhere: Path) -> None:
    log = from_elsewhere / "sessions" / "s" / "log.jsonl"
    log.write_bytes(lines_until(log, "input_given"))

    agentloop(from_elsewhere, "resume", "s", "-q")

    state = fold(Sessions(from_elsewhere / "sessions").events("s"))
    assert state.outcome == "completed"
    assert state.limits.max_budget_usd is not None
    assert state.limits.max_budget_usd < 1000
    assert state.limits.max_turns != 77


def test_a_session_of_here_goes_on_by_itself_with_its_own_limits(tmp_path: Path) -> None:
    here = home(tmp_path)
    agentloop(here, "run", "assistant", "--session-id", "s", "-q", "--max-turns", "77")
    log = here / "sessions" / "s" / "log.jsonl"
    (here / "acts").unlink()
    log.write_bytes(lines_until(log, "model_replied"))

    resumed = agentloop(here, "resume", "s", "-q")

    events = Sessions(here / "sessions").events("s")
    assert resumed.code == 0
    assert (here / "acts").read_text() == "now\n"
    assert fold(events).limits.max_turns == 77
    assert not any(isinstance(e.body, SessionResumed) for e in events)


def test_a_mark_that_a_session_brings_along_is_none(from_elsewhere: Path) -> None:
    session = from_elsewhere / "sessions" / "s"
    shutil.copytree(from_elsewhere.parent / "there" / ".agentloop", session / ".agentloop")
    shutil.copytree(session / ".agentloop", from_elsewhere / "sessions" / ".agentloop")

    assert agentloop(from_elsewhere, "resume", "s", "-q").code == 2


# SEC04


LOOKING = ["sessions list", "sessions list --json", "sessions show s", "sessions show s --json", "report s", "report s --json",
           "explain s", "explain s --turn 1", "explain s --json", "replay s"]  # fmt: skip


@pytest.mark.parametrize("command", LOOKING)
def test_looking_at_a_session_reads_and_does_nothing_else(from_elsewhere: Path, command: str) -> None:
    (from_elsewhere / "tools" / "evil.py").write_text("open('was-loaded', 'w').close()\n")

    ran, did = audited(from_elsewhere, *command.split())

    assert (ran.code, did) == (0, [])
    assert not (from_elsewhere / "was-loaded").exists()


def test_an_export_writes_into_its_target_alone(from_elsewhere: Path) -> None:
    (from_elsewhere / "exports").mkdir()

    ran, did = audited(from_elsewhere, "sessions", "export", "s", "exports/s", target="exports")

    assert (ran.code, did) == (0, [])
    assert (from_elsewhere / "exports" / "s" / "log.jsonl").exists()


# SEC03


def hostile(kind: str) -> bytes:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, ("open('was-run', 'w').close()",))

    tagged = (
        '{"seq":0,"at":"2026-01-05T12:00:00Z","body":{"type":"session_started","py/object":"os.system","__class__":"os"}}\n'
    )
    return {
        "pickle": pickle.dumps(Evil()),
        "YAML tags": b"!!python/object/apply:os.system ['touch was-run']\n",
        "class markers": tagged.encode(),
        "UTF-16": tagged.encode("utf-16"),
        "UTF-7": tagged.encode("utf-7"),
        "Latin-1": b'{"seq":0,"caf\xe9":1}\n',
        "JSON with NaN": b'{"seq":NaN}\n',
    }[kind] + b"\n{}\n"


@pytest.mark.parametrize("kind", ["pickle", "YAML tags", "class markers", "UTF-16", "UTF-7", "Latin-1", "JSON with NaN"])
@pytest.mark.parametrize("command", ["report s", "replay s", "sessions show s", "import s.jsonl"])
def test_what_is_no_log_is_refused_and_nothing_in_it_is_made_or_run(tmp_path: Path, kind: str, command: str) -> None:
    folder = home(tmp_path / "w")
    (folder / "sessions" / "s").mkdir(parents=True)
    (folder / "sessions" / "s" / "log.jsonl").write_bytes(hostile(kind))
    (folder / "s.jsonl").write_bytes(hostile(kind))

    ran, did = audited(folder, *command.split())

    assert ran.code in (1, 2)
    assert did == []
    assert len(ran.err.strip().splitlines()) <= 3
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("file", ["prompts/assistant.md", "prompts/assistant.playbook.yaml"])
def test_tags_in_a_yaml_file_make_no_object(tmp_path: Path, file: str) -> None:
    folder = home(tmp_path / "w")
    tag = "name: !!python/object/apply:os.system ['touch was-run']\n"
    (folder / file).write_text(f"---\n{tag}---\nYou answer.\n" if file.endswith("md") else tag)

    ran = agentloop(folder, "run", "assistant", "--session-id", "s")

    assert ran.code == 2
    assert not (folder / "was-run").exists()
    assert not (folder / "sessions").exists()


# SEC24


TEMPLATES = "{x.__class__} {x[0]} {{x}} {0!r:{1}} %s %(x)s ${HOME} $HOME {{ 7*7 }} {% x %} <%= x %> `id` \\x41 \\u0041 #{x}"


def test_template_code_is_plain_text_from_prompt_to_request(tmp_path: Path) -> None:
    folder = home(tmp_path)
    (folder / "tools" / "example.py").write_text(TOOL.format(effect="once").replace('"it is done"', repr(TEMPLATES)))
    prompt = folder / "prompts" / "assistant.md"
    prompt.write_text(prompt.read_text() + f"\n{TEMPLATES}\n")

    ran = agentloop(folder, "run", "assistant", "--session-id", "s", "-p", TEMPLATES)
    shown = agentloop(folder, "sessions", "show", "s")

    events = Sessions(folder / "sessions").events("s")
    start = events[0].body
    assert ran.code == 0
    assert isinstance(start, SessionStarted)
    assert start.prefix.system.endswith(f"\n{TEMPLATES}\n")
    assert [b["text"] for e in events if isinstance(e.body, InputGiven) for b in e.body.content] == [TEMPLATES]
    assert [e.body.content for e in events if isinstance(e.body, ToolFinished)] == [TEMPLATES]
    assert TEMPLATES in shown.out
    assert json.dumps(TEMPLATES) in agentloop(folder, "sessions", "show", "s", "--json").out
