"""Notes by topic, under notes/: what should be known in the next session, too."""

import re
from hashlib import sha256
from threading import Lock

from agentloop import current_call, tool
from agentloop.rooted import files_in, read_text, write_text

FOLDER = "notes"
_TOPIC = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_MARK = re.compile(r" <!-- [0-9a-f]{12} -->$", re.MULTILINE)
_WRITING = Lock()
"""Parallel calls of one turn change a topic one after the other."""


@tool(effect="idempotent")
def append_note(topic: str, text: str) -> str:
    """Add a note to a topic, below the notes that are there.

    Args:
        topic: The topic, in small letters, digits and hyphens, such as "supplier-prices".
        text: What to remember, in words that are understood without this session.
    """
    path = _path(topic)
    words = text.strip()
    if not words:
        raise ValueError("text is empty; write what to remember")
    # The mark is the same for every run of this call, so a call that is repeated after a crash finds its own note.
    mark = f" <!-- {sha256(current_call().idempotency_key.encode()).hexdigest()[:12]} -->"
    with _WRITING:
        there = _read(path)
        if mark not in there:
            write_text(current_call().root, path, f"{there or f'# {topic}' + chr(10)}\n{words}{mark}\n")
    return f"Noted under {path}."


@tool(effect="read")
def read_notes(topic: str) -> str:
    """Read the notes of a topic.

    Args:
        topic: The topic, such as "supplier-prices".
    """
    return _MARK.sub("", _read(_path(topic))) or f"There are no notes on '{topic}'. Topics: {', '.join(_topics()) or 'none'}."


def _path(topic: str) -> str:
    if not _TOPIC.fullmatch(topic):
        raise ValueError(f"'{topic}' is no topic; write small letters, digits and hyphens, such as supplier-prices")
    return f"{FOLDER}/{topic}.md"


def _read(path: str) -> str:
    try:
        return read_text(current_call().root, path)
    except FileNotFoundError:
        return ""


def _topics() -> list[str]:
    try:
        found = files_in(current_call().root, FOLDER)
    except FileNotFoundError:
        return []
    return [f.path.removeprefix(f"{FOLDER}/").removesuffix(".md") for f in found if f.path.endswith(".md")]
