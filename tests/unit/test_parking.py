"""A session that sleeps ends, and goes on when its time has come."""

from datetime import timedelta
from pathlib import Path

import pytest

from agentloop.core.folding import fold
from agentloop.policies import recorded
from agentloop.replay import replay
from agentloop.testing import NOON
from agentloop.types.events import ToolFinished
from tests.unit.unattended_of import Desk, script

TOOLS = "tools: [sleep_until]\n"
LATER = (NOON + timedelta(hours=8)).isoformat()


def sleeper(tmp_path: Path) -> Desk:
    (tmp_path / "tools").mkdir()
    desk = Desk(tmp_path)
    desk.write_prompt("grants: [note]\n", TOOLS)
    return desk


def test_a_session_sleeps_without_a_process_and_wakes_at_its_time(tmp_path: Path) -> None:
    desk = sleeper(tmp_path)
    played = script([("note", {"text": "1"}), ("sleep_until", {"time": LATER})], [("note", {"text": "2"})])

    asleep = desk.agent(played).run("Go.", session_id="s")
    log = tmp_path / "sessions" / "s" / "log.jsonl"
    before = log.read_bytes()
    early = desk.agent(played).resume("s")
    unchanged = log.read_bytes() == before
    desk.clock.at = NOON + timedelta(hours=8, seconds=1)
    awake = desk.agent(played).resume("s")

    assert (asleep.outcome, asleep.until) == ("sleeping", NOON + timedelta(hours=8))
    assert (early.outcome, unchanged) == ("sleeping", True)
    assert (awake.outcome, desk.done) == ("completed", ["note 1", "note 2"])
    events = desk.agent(played).sessions.events("s")
    said = [e.body.content for e in events if isinstance(e.body, ToolFinished) and e.body.name == "sleep_until"]
    assert "20:00" in str(said)
    assert replay(events, recorded(fold(events).policies).policies()).same


@pytest.mark.parametrize("time", ["yesterday", "2026-01-05", "2026-01-05T18:00:00", "", None, 7, "9" * 400])
def test_a_time_that_is_none_is_an_error_and_no_sleep(tmp_path: Path, time: object) -> None:
    desk = sleeper(tmp_path)

    assert desk.agent(script([("sleep_until", {"time": time})])).run("Go.", session_id="s").outcome == "completed"


def test_a_time_that_has_passed_is_no_sleep(tmp_path: Path) -> None:
    desk = sleeper(tmp_path)
    gone = (NOON - timedelta(days=1)).isoformat()

    assert desk.agent(script([("sleep_until", {"time": gone})])).run("Go.", session_id="s").outcome == "completed"


def test_the_wait_does_not_count_against_the_wall_time(tmp_path: Path) -> None:
    desk = sleeper(tmp_path)
    played = script([("sleep_until", {"time": LATER})], [("note", {"text": "2"})])
    desk.agent(played, max_wall_s=600).run("Go.", session_id="s")
    desk.clock.at = NOON + timedelta(hours=9)

    assert desk.agent(played, max_wall_s=600).resume("s").outcome == "completed"


def test_an_agent_that_does_not_name_the_tool_does_not_have_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    assert desk.agent(script([("sleep_until", {"time": LATER})])).run("Go.", session_id="s").outcome == "completed"
