"""Replies in a file, one JSON object a line: what a mirror has seen, to be played again."""

import json
from pathlib import Path
from typing import IO

from agentloop.emulator.script import Recording, ScriptedReply
from agentloop.errors import ConfigError
from agentloop.types.base import compact


def write(file: IO[bytes], reply: ScriptedReply) -> None:
    """Append one reply, and see that it is written."""
    file.write(compact(reply._asdict()) + b"\n")
    file.flush()


def load(path: Path | str) -> Recording:
    """The replies in a file as a script. Raises ConfigError, naming file and line."""
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as e:
        raise ConfigError(f"recording {path} cannot be read: {e}") from e
    return Recording("recorded", tuple(_reply(line, f"recording {path}, line {i}") for i, line in enumerate(lines, 1)))


def _reply(line: bytes, where: str) -> ScriptedReply:
    try:
        fields = json.loads(line)
        reply = ScriptedReply(**fields | {"content": tuple(fields["content"])})
        if not all(isinstance(b, dict) and isinstance(b.get("type"), str) for b in reply.content):
            raise TypeError("content is a list of blocks")
        return reply
    except (ValueError, TypeError, KeyError) as e:
        raise ConfigError(f"{where} holds no reply ({type(e).__name__}); a mirror's --record writes such files") from e
