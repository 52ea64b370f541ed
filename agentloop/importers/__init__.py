"""Recordings made elsewhere: which format a file has, and the sessions in it."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from agentloop.errors import ImportRefused
from agentloop.importers import anthropic_messages, claude_code, neutral
from agentloop.importers.recording import Recording
from agentloop.types.base import Json, parsed, plain_json

__all__ = ["Recording", "read"]

LONGEST_LINE = 64 * 1024 * 1024
MOST_BYTES = 4 * 1024**3
"""What a compressed file may unpack to."""


def read(path: Path) -> Iterator[Recording]:
    """The sessions of a file: the neutral trace format (JSONL, one session a line, `.gz` too), one
    `{"system", "tools", "messages"}` object, or a Claude Code transcript (JSONL, one event a line).

    Raises ImportRefused, naming file and line, for what is none of these.
    """
    if not path.is_file():
        raise ImportRefused(f"{path} is not a file; name a recording (.json, .jsonl, .jsonl.gz)")
    try:
        first = next(_lines(path), None)
        if first is None:
            raise ImportRefused(f"{path} is empty")
        yield from _sessions(path, first)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as e:
        raise ImportRefused(f"{path} cannot be read: {e}") from e


def _sessions(path: Path, first: tuple[int, str]) -> Iterator[Recording]:
    try:
        head = parsed(first[1])
    except ValueError:
        yield _one_object(path)
        return
    if isinstance(head, dict) and "messages" in head and "id" in head:
        for number, line in _lines(path):
            yield neutral.recording(_object(path, number, line), f"{path}, line {number}")
    elif isinstance(head, dict) and "messages" in head:
        yield _one_object(path)
    elif isinstance(head, dict) and ("type" in head or "sessionId" in head):
        events, torn = _events(path)
        yield claude_code.recording(events, path.name.removesuffix(".gz").rpartition(".")[0], str(path), torn)
    else:
        raise _unknown(path)


def _events(path: Path) -> tuple[list[Json], int]:
    """The events of a transcript, and how many lines are none: a program that is killed leaves torn lines behind."""
    events, torn = [], 0
    for number, line in _lines(path):
        try:
            events.append(_object(path, number, line))
        except ImportRefused:
            torn += 1
    return events, torn


def _one_object(path: Path) -> Recording:
    with _opened(path) as file:
        text = file.read(LONGEST_LINE + 1)
    if len(text) > LONGEST_LINE:
        raise ImportRefused(f"{path} is over {LONGEST_LINE:,} characters")
    try:
        data = plain_json(parsed(text))
    except ValueError as e:
        raise ImportRefused(f"{path} is not JSON: {e}") from e
    if not isinstance(data, dict) or not isinstance(data.get("messages"), list):
        raise _unknown(path)
    return anthropic_messages.recording(data, path.name.removesuffix(".gz").rpartition(".")[0], str(path))


def _unknown(path: Path) -> ImportRefused:
    return ImportRefused(
        f"{path} is no recording that agentloop knows: expected sessions with 'id' and 'messages' a line, one object with "
        "'messages', or a Claude Code transcript\nsee docs/import.md for the formats"
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers; no longer than what memory should hold."""
    read_so_far = 0
    with _opened(path) as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            read_so_far += len(line)
            if len(line) > LONGEST_LINE:
                raise ImportRefused(f"{path}, line {number} is over {LONGEST_LINE:,} characters")
            if read_so_far > MOST_BYTES:
                raise ImportRefused(f"{path} unpacks to more than {MOST_BYTES:,} characters")
            if line.strip():
                yield number, line


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def _object(path: Path, number: int, line: str) -> Json:
    try:
        data: Any = plain_json(parsed(line))
    except ValueError as e:
        raise ImportRefused(f"{path}, line {number} is not JSON: {e}") from e
    if not isinstance(data, dict):
        raise ImportRefused(f"{path}, line {number} is not an object")
    return data
