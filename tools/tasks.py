"""The list of open tasks, one line each, in tasks.md."""

import re
from datetime import date
from hashlib import sha256
from threading import Lock

from agentloop import current_call, tool
from agentloop.rooted import read_text, write_text

TASKS = "tasks.md"
_LINE = re.compile(r"- \[([ x])\] (\d+)\. (.*)")
_DUE = re.compile(r"\d{4}-\d{2}-\d{2}")
_WRITING = Lock()
"""Parallel calls of one turn change the list one after the other."""


@tool(effect="idempotent")
def add_task(text: str, due: str | None = None) -> str:
    """Add a task for a person to the end of the task list; returns its number.

    Args:
        text: What is to be done and by whom, in one line that is understood without this session.
        due: The day it is due, as YYYY-MM-DD; leave out where there is none.
    """
    if due is not None:
        _refuse_unless_day(due)
    words = " ".join(text.split())
    if not words:
        raise ValueError("text is empty; say what is to be done")
    # The mark is the same for every run of this call, so a call that is repeated after a crash finds its own line.
    mark = f"<!-- {sha256(current_call().idempotency_key.encode()).hexdigest()[:12]} -->"
    with _WRITING:
        lines = _lines()
        if (standing := next((line for line in lines if line.endswith(mark)), None)) is None:
            number = max(_numbers(lines), default=0) + 1
            standing = f"- [ ] {number}. {words}{f' (due {due})' if due else ''} {mark}"
            _write([*lines, standing])
    return f"On the list: {standing.removesuffix(mark).strip()}"


@tool(effect="idempotent")
def finish_task(number: int) -> str:
    """Mark a task of the list as done.

    Args:
        number: The task's number, as it stands in tasks.md.
    """
    with _WRITING:
        lines = _lines()
        at = next((i for i, line in enumerate(lines) if _number(line) == number), None)
        if at is None:
            raise ValueError(f"there is no task {number}; the tasks are {', '.join(map(str, _numbers(lines))) or 'none'}")
        if lines[at].startswith("- [x]"):
            return f"Task {number} was done already."
        lines[at] = lines[at].replace("- [ ]", "- [x]", 1)
        _write(lines)
    return f"Task {number} is done."


def _lines() -> list[str]:
    try:
        return read_text(current_call().root, TASKS).splitlines()
    except FileNotFoundError:
        return ["# Tasks", ""]


def _write(lines: list[str]) -> None:
    write_text(current_call().root, TASKS, "\n".join(lines) + "\n")


def _number(line: str) -> int | None:
    parts = _LINE.fullmatch(line)
    return int(parts[2]) if parts is not None else None


def _numbers(lines: list[str]) -> list[int]:
    return [n for n in map(_number, lines) if n is not None]


def _refuse_unless_day(due: str) -> None:
    try:
        if not _DUE.fullmatch(due):
            raise ValueError
        date.fromisoformat(due)
    except ValueError:
        raise ValueError(f"due is '{due}'; write a day as YYYY-MM-DD") from None
