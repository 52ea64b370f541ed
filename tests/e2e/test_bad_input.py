"""What a person gets wrong: a documented exit code, at most three lines, nothing spent, nothing written over."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.workplace import Ran, agentloop, workspace

Spoil = Callable[[Path], object]


def prompt(text: str | bytes) -> Spoil:
    return lambda w: (w / "prompts" / "spoiled.md").write_bytes(text.encode() if isinstance(text, str) else text)


def tool_module(text: str) -> Spoil:
    return lambda w: (w / "tools" / "spoiled.py").write_text(text)


def settings(line: str) -> Spoil:
    path = "agentloop.toml"
    return lambda w: (w / path).write_text("# first line\n" + line + "\n")


def nothing(w: Path) -> None:
    return None


def twin(w: Path) -> None:
    (w / "tools" / "spoiled.py").write_text((w / "tools" / "example.py").read_text())


CASES: dict[str, tuple[Spoil, list[str], int, list[str]]] = {
    "no key": (nothing, ["run", "assistant", "--provider", "anthropic"], 2, ["ANTHROPIC_API_KEY", "scripted"]),
    "unknown model": (nothing, ["run", "assistant", "--model", "claude-sonet-5-5"], 2, ["claude-sonnet-5-5"]),
    "empty prompt": (prompt(""), ["run", "spoiled"], 2, ["spoiled.md", "empty"]),
    "prompt of white space": (prompt(" \n\t\n"), ["run", "spoiled"], 2, ["spoiled.md", "empty"]),
    "binary prompt": (prompt(b"\x7fELF\x00\x01"), ["run", "spoiled"], 2, ["spoiled.md", "binary"]),
    "prompt in UTF-16": (prompt("You".encode("utf-16")), ["run", "spoiled"], 2, ["UTF-16", "UTF-8"]),
    "prompt in Latin-1": (prompt(b"one\ntwo \xe9\n"), ["run", "spoiled"], 2, ["line 2", "0xe9"]),
    "prompt of 10 MB": (prompt("a" * 10_000_000), ["run", "spoiled"], 2, ["10,000,000"]),
    "front matter that is not YAML": (
        prompt("---\nname: a\ntools: [x\n---\nHi\n"),
        ["run", "spoiled"],
        2,
        ["spoiled.md, line"],
    ),
    "front matter without an end": (prompt("---\nname: a\nHi\n"), ["run", "spoiled"], 2, ["line 1", "---"]),
    "unknown key in front matter": (
        prompt("---\nname: a\nmax_turn: 3\n---\nHi\n"),
        ["run", "spoiled"],
        2,
        ["line 3", "max_turns"],
    ),
    "volatile prompt": (
        prompt("---\nname: a\nplaybook: assistant.playbook.yaml\n---\nHi\nIt is 2026-01-05.\n"),
        ["run", "spoiled"],
        5,
        ["line 2", "2026-01-05", "allow_volatile"],
    ),
    "tool with a syntax error": (tool_module("x = 1\ndef (:\n"), ["run", "assistant"], 2, ["spoiled.py, line 2"]),
    "tool with an import error": (
        tool_module("\nimport not_there\n"),
        ["run", "assistant"],
        2,
        ["spoiled.py, line 2", "not_there"],
    ),
    "tool module that exits": (
        tool_module("import sys\nsys.exit(0)\n"),
        ["run", "assistant"],
        2,
        ["spoiled.py, line 2", "SystemExit"],
    ),
    "two tools with one name": (twin, ["run", "assistant"], 2, ["spoiled.py:", "example.py:"]),
    "TOML that is none": (settings("provider = = 1"), ["run", "assistant"], 2, ["agentloop.toml", "line 2"]),
    "unknown setting": (settings("polcy = 'rent'"), ["run", "assistant"], 2, ["line 2", "policy"]),
    "setting of the wrong type": (settings("max_turns = 'many'"), ["run", "assistant"], 2, ["line 2", "max_turns"]),
    "budget that is no number": (settings("max_budget_usd = nan"), ["run", "assistant"], 2, ["line 2", "max_budget_usd"]),
    "negative budget": (settings("max_budget_usd = -1"), ["run", "assistant"], 2, ["line 2", "max_budget_usd"]),
    "project that redirects the API": (settings("base_url = 'http://x'"), ["run", "assistant"], 2, ["line 2", "base_url"]),
    "unknown session": (nothing, ["resume", "nobody"], 2, ["nobody", "sessions list"]),
    "session id that is a path": (nothing, ["report", "../../etc"], 2, ["../../etc", "not a session id"]),
    "unknown agent": (nothing, ["run", "asistant"], 2, ["asistant", "'assistant'"]),
    "empty task": (nothing, ["run", "assistant", "-p", " "], 2, ["empty"]),
    "flag out of range": (nothing, ["run", "assistant", "--max-turns", "0"], 2, ["--max-turns"]),
    "unknown command": (nothing, ["rum"], 2, ["rum"]),
    "init over what exists": (nothing, ["init", "."], 2, ["exists already"]),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_told_in_a_few_lines_before_anything_happens(case: str, tmp_path: Path) -> None:
    spoil, arguments, code, named = CASES[case]
    folder = workspace(tmp_path)
    spoil(folder)
    before = contents(folder)

    ran = agentloop(folder, *arguments)

    assert ran.code == code, ran.err
    assert all(n in ran.err for n in named), ran.err
    assert message_lines(ran) <= (5 if case == "unknown command" else 3), ran.err
    assert "Traceback" not in ran.err
    assert contents(folder) == before


def test_a_key_with_a_line_end_is_found_and_never_shown(tmp_path: Path) -> None:
    ran = agentloop(workspace(tmp_path), "run", "assistant", "--provider", "anthropic", ANTHROPIC_API_KEY="sk-secret-123\n")

    assert ran.code == 2
    assert "secret" not in ran.err + ran.out


def test_an_unknown_session_names_those_that_are_near(tmp_path: Path) -> None:
    folder = workspace(tmp_path)
    agentloop(folder, "run", "assistant", "--session-id", "morning-1")
    agentloop(folder, "run", "assistant", "--session-id", "morning-2")

    unknown, ambiguous = agentloop(folder, "report", "mornin-1"), agentloop(folder, "report", "morning")

    assert (unknown.code, ambiguous.code) == (2, 2)
    assert "morning-1" in unknown.err
    assert "morning-1, morning-2" in ambiguous.err


def test_a_damaged_log_is_reported_with_its_line_and_left_alone(tmp_path: Path) -> None:
    folder = workspace(tmp_path)
    agentloop(folder, "run", "assistant", "--session-id", "s")
    log = folder / "sessions" / "s" / "log.jsonl"
    lines = log.read_bytes().split(b"\n")
    lines[4] = lines[4].replace(b"a", b"b", 1)
    log.write_bytes(b"\n".join(lines))
    damaged = log.read_bytes()

    tried = [agentloop(folder, c, "s") for c in ("report", "resume", "replay")]
    exported = agentloop(folder, "sessions", "export", "s", "rescued", "--whole-lines")

    assert [t.code for t in tried] == [1, 1, 1]
    assert all("line 5" in t.err and message_lines(t) <= 3 for t in tried)
    assert log.read_bytes() == damaged
    assert exported.code == 0
    assert (folder / "rescued" / "log.jsonl").read_bytes() == b"\n".join(lines[:4]) + b"\n"


def test_a_file_of_ones_own_may_redirect_the_api(tmp_path: Path) -> None:
    folder = workspace(tmp_path)
    own = tmp_path / "home" / ".config" / "agentloop"
    own.mkdir(parents=True)
    (own / "config.toml").write_text("base_url = 'http://127.0.0.1:1'\n")

    shown = agentloop(folder, "config", "show", HOME=str(tmp_path / "home"))

    assert shown.code == 0
    assert "http://127.0.0.1:1" in shown.out


def message_lines(ran: Ran) -> int:
    return len(ran.err.strip().split("\n"))


def contents(folder: Path) -> dict[str, bytes]:
    ours = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {str(p.relative_to(folder)): p.read_bytes() for p in ours}


@pytest.mark.parametrize("arguments", [(), ("--turn", "1"), ("--json",)])
def test_a_session_that_never_got_an_answer_has_nothing_to_explain(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    folder = workspace(tmp_path)
    agentloop(folder, "run", "assistant", "--session-id", "poor", "--max-budget-usd", "0", "-q")

    ran = agentloop(folder, "explain", "poor", *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert "session 'poor' has no answered turn" in ran.err
