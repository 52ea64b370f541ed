"""Logs far longer than any session was: written directly, small turns, cut every fifty, so that the view stays small."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from agentloop.adapters.jsonl_log import JsonlLog
from agentloop.testing import NOON, given, reply, started
from agentloop.types import blocks
from agentloop.types.events import Body, Compacted, Decision, ModelReplied, ModelRequested, SessionEnded, ToolFinished
from agentloop.types.usage import Usage

CUT_EVERY, KEPT = 50, 6


def long_log(workspace: Path, session_id: str, turns: int) -> Path:
    """The log of so many turns in a workspace folder, a second between two events; returns its path."""
    at = NOON
    with JsonlLog(workspace / "sessions" / session_id, fsync="never") as log:
        for body in _bodies(session_id, turns):
            log.append(body, at)
            at += timedelta(seconds=1)
        return log.path


def _bodies(session_id: str, turns: int) -> Iterator[Body]:
    yield started(session_id=session_id)
    yield given("Look at every place.")
    for turn in range(1, turns + 1):
        yield ModelRequested(turn=turn, digest="0" * 64, body_bytes=4_000, max_tokens=1_000)
        call = blocks.tool_use(f"call-{turn}", "look", {"place": turn})
        usage = Usage(input_tokens=10, cache_read_input_tokens=900, ephemeral_5m_input_tokens=90, output_tokens=20)
        answer = reply(blocks.text(f"Now place {turn}."), call, message_id=f"msg_{turn}", usage=usage)
        yield ModelReplied(turn=turn, reply=answer)
        yield ToolFinished(turn=turn, call_id=f"call-{turn}", name="look", content=f"place {turn} is empty")
        if turn % CUT_EVERY == 0:
            decision = Decision(keep_from=turn - KEPT, reason="it is time")
            yield Compacted(keep_from=turn - KEPT, segment=f"Places up to {turn - KEPT} were empty.", decision=decision)
    yield SessionEnded(outcome="max_turns")
