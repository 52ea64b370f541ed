"""A session that is made to be killed: slow enough to be hit between any two of its lines.

Run as a program, it reads folders from its standard input, one a line. For each it starts a process that starts the
session there, or carries it on; it prints the process's id, and how it ended. (Importing once saves a second a session.)
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from agentloop.adapters.blob_dir import BlobDir
from agentloop.adapters.jsonl_log import JsonlLog
from agentloop.adapters.toolbox import Toolbox
from agentloop.core import wire
from agentloop.engine import Shell, run
from agentloop.policies import HeadTailMatches, KeepPairs, PolicySettings
from agentloop.testing import FixedClock, card, given, reply
from agentloop.tooling import Registry, current_call, tool
from agentloop.types import blocks
from agentloop.types.events import Body, SessionStarted
from agentloop.types.request import Failure, Prefix, Reply
from agentloop.types.usage import Usage

PACE_S = 0.004
SETTINGS = PolicySettings(compaction=KeepPairs(keep_pairs=1, at_most=2), facts=HeadTailMatches(over_tokens=50, head_lines=2))


def _act(name: str, note: str) -> str:
    """Come in, have an effect, go out: a line in a file for each of the first two."""
    call = current_call()
    for file in ("entered", "effects"):
        with (call.root / file).open("a") as out:
            out.write(f"{name} {call.idempotency_key}\n")
        time.sleep(PACE_S)
    return "\n".join(f"{i} {name} of {note}" for i in range(60))


@tool(effect="read")
def look(note: str) -> str:
    """Look something up."""
    return _act("look", note)


@tool(effect="idempotent")
def put(note: str) -> str:
    """Put something where it belongs."""
    return _act("put", note)


@tool(effect="once")
def send(note: str) -> str:
    """Send something to somebody."""
    return _act("send", note)


TOOLS = Registry([look, put, send])
REPLIES = (("look", "look"), ("put",), ("send",), ("look", "send", "put"), ())


class Model:
    """Answers by the position that the request names."""

    def ask(self, body: bytes) -> Iterator[Failure | Reply]:
        """The reply at that position."""
        before = json.loads(body)["diagnostics"]["previous_message_id"]
        k = int(before.removeprefix("msg_")) + 1 if before else 0
        calls = [blocks.tool_use(f"toolu_{k}_{i}", name, {"note": f"{k}.{i}"}) for i, name in enumerate(REPLIES[k])]
        time.sleep(PACE_S)
        usage = Usage(input_tokens=len(body) // 3, output_tokens=20)
        yield reply(blocks.text(f"Step {k}."), *calls, message_id=f"msg_{k}", usage=usage)


def started() -> SessionStarted:
    """The first line of the session's log."""
    prefix = Prefix(model="claude-test", system="You are killed now and then.", tools=TOOLS.definitions)
    return SessionStarted(
        session_id="session",
        agent="killable",
        prefix=prefix,
        prefix_digest=wire.prefix_digest(prefix),
        card=card(),
        tools=TOOLS.cards,
        policies=SETTINGS.data(),
        played_by="test",
    )


def main(folder: Path) -> None:
    """Carry the session in this folder on to its end."""
    clock = FixedClock()
    toolbox = Toolbox(TOOLS, session_id="session", root=folder)
    with JsonlLog(folder / "session") as log:
        bodies: list[Body] = [started(), given("Do it all.")]
        for i, body in enumerate(bodies):
            if len(list(log.events())) == i:
                log.append(body, clock.now())
                time.sleep(PACE_S)
        blobs = BlobDir(folder / "session" / "blobs")
        run(log, Shell(Model(), toolbox, blobs, clock, lambda event, state: time.sleep(PACE_S)), SETTINGS.policies())


def nursery() -> None:
    """A process for each line of the standard input."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            main(Path(line.rstrip("\n")))
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    nursery()
