"""What models, tools and files say reaches a terminal as text: nothing in it moves the cursor, sets a title or turns a line."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from agentloop.sessions import Sessions
from agentloop.testing import NOON, calls_tool, says
from agentloop.testing import given as said
from agentloop.testing import started as begun
from agentloop.types.events import CallHeld, Compacted, Decision, RawResult, SessionEnded
from agentloop.types.tools import ToolCard
from tests.e2e.workplace import agentloop, workspace
from tests.unit.lines import answered, asked, failed, finished, started_call

BAD = "x\x1b[2J\x1b]0;title\x07\x9b31m\u202ecba\u2028\rover\x00"
UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    workspace(tmp_path)
    start = begun(session_id="s", system=BAD, tool_cards=[ToolCard(name="look", effect="once")])
    prefix = start.prefix.model_copy(update={"model": f"m{BAD}"})
    reply = calls_tool("c1", f"look{BAD}", note=BAD)
    bodies = [
        start.model_copy(update={"agent": BAD, "prefix": prefix, "played_by": BAD}), said(BAD), asked(),
        failed("unavailable", retry_in_s=1.0, error_type=BAD, message=BAD),
        answered(reply.model_copy(update={"model": BAD, "cache_miss": {"type": BAD}})), started_call("c1", f"look{BAD}"),
        finished("c1", BAD, name=f"look{BAD}", is_error=True, outcome="unknown",
                 raw=RawResult(digest="0" * 64, bytes=9, tokens=9, extractor=BAD, left_out=BAD)),
        Compacted(keep_from=1, segment=BAD, decision=Decision(keep_from=1, reason=BAD)),
        asked(2), answered(calls_tool("c2", "look", note=BAD), 2), CallHeld(turn=2, call_id="c2", name=BAD, reason=BAD),
        finished("c2", BAD), asked(3), answered(says(BAD), 3), SessionEnded(outcome="failed", detail=BAD),
    ]  # fmt: skip
    with Sessions(tmp_path / "sessions").log("s") as log:
        for n, body in enumerate(bodies):
            log.append(body, NOON + timedelta(seconds=n))  # type: ignore[arg-type]
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "sessions list", "sessions list --json", "sessions show s", "sessions show s --json", "report s", "report s --turns",
        "report s --json", "report s --format markdown", "report s --format json", "explain s", "explain s --turn 1",
        "explain s --json", "replay s", "resume s", "sessions prune --older-than 0 --outcome any --dry-run", "approve s c2",
    ],
)  # fmt: skip
def test_no_command_that_shows_a_session_obeys_what_stands_in_it(folder: Path, command: str) -> None:
    ran = agentloop(folder, *command.split())

    assert "Traceback" not in ran.err
    assert ran.out or ran.err
    assert UNSAFE.findall(ran.out) == []
    assert UNSAFE.findall(ran.err) == []
    if "--json" in command or command.endswith("json"):
        assert "x\x1b[2J" in json.dumps(json.loads(ran.out), ensure_ascii=False) or "\\u001b" in json.dumps(json.loads(ran.out))
