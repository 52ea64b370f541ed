import hashlib
from datetime import timedelta
from pathlib import Path

from agentloop.plan.history import MOST, against, history
from agentloop.sessions import Sessions
from agentloop.testing import NOON, calls_tool, given, says, started
from agentloop.types.events import Body, RawResult, SessionEnded
from agentloop.types.usage import Usage
from tests.unit.lines import answered, asked, finished, used

WHOLE = b"found " * 2_000
DIGEST = hashlib.sha256(WHOLE).hexdigest()
HUNDRED = used(written=10_000, output=100)


def ran(
    folder: Path,
    name: str,
    day: int = 0,
    outcome: str = "completed",
    by: str = "api",
    usage: Usage = HUNDRED,
    agent: str = "test",
) -> None:
    """A session of two turns, on a day."""
    start = started(session_id=name).model_copy(update={"played_by": by, "agent": agent})
    lines: list[Body] = [
        start,
        given("task"),
        asked(),
        answered(calls_tool("c0", "look").model_copy(update={"usage": usage})),
        finished("c0", "short", raw=RawResult(digest=DIGEST, bytes=12_000, tokens=4_000)),
        asked(2),
        answered(says("Done.").model_copy(update={"usage": usage}), 2),
        SessionEnded.model_validate({"outcome": outcome}),
    ]
    sessions = Sessions(folder, fsync="never")
    assert sessions.blobs(name).put(WHOLE) == DIGEST
    with sessions.log(name) as log:
        for second, line in enumerate(lines):
            log.append(line, NOON + timedelta(days=day, seconds=second))


def ids(folder: Path, by: str = "api", agent: str = "test") -> list[str]:
    return [p.session_id for p in history(Sessions(folder), agent, by).past]


def test_the_newest_sessions_of_the_agent_count(tmp_path: Path) -> None:
    for day in range(MOST + 2):
        ran(tmp_path, f"s{day:02d}", day)
    ran(tmp_path, "other", 99, agent="another")

    assert ids(tmp_path) == [f"s{day:02d}" for day in range(MOST + 1, 1, -1)]


def test_sessions_that_came_to_no_end_count_only_where_none_did(tmp_path: Path) -> None:
    ran(tmp_path, "stopped", outcome="budget_exceeded")
    alone = ids(tmp_path)
    ran(tmp_path, "whole", day=1)

    assert alone == ["stopped"]
    assert ids(tmp_path) == ["whole"]


def test_a_play_does_not_count_where_a_model_has_worked(tmp_path: Path) -> None:
    ran(tmp_path, "played", by="script:desk")
    before = ids(tmp_path)
    ran(tmp_path, "worked", day=1)

    assert before == ["played"]
    assert ids(tmp_path) == ["worked"]
    assert ids(tmp_path, by="script:other") == ["played"]


def test_what_a_play_used_teaches_nothing_of_the_model(tmp_path: Path) -> None:
    ran(tmp_path, "played", by="script:desk")

    assert history(Sessions(tmp_path), "test", "api").learned == {}


def test_whole_results_are_found_under_the_name_that_the_session_has_now(tmp_path: Path) -> None:
    ran(tmp_path, "first")
    (tmp_path / "first").rename(tmp_path / "moved")

    (found,) = history(Sessions(tmp_path), "test", "api").past

    assert found.session_id == "moved"
    assert len(str(found.recording.results["c0"]["content"])) == len(WHOLE)


def test_a_session_is_held_against_those_before_it(tmp_path: Path) -> None:
    for day, output in enumerate((100, 100, 5_000)):
        ran(tmp_path, f"s{day}", day, usage=used(written=10_000, output=output))

    last, first = (against(Sessions(tmp_path), name) for name in ("s2", "s0"))

    assert last.forecast.sessions == ("s1", "s0")
    assert not last.within
    assert last.of_expected is not None
    assert last.of_expected > 1.5
    assert first.forecast.basis == "defaults"


def test_what_was_completed_later_does_not_hide_what_came_before(tmp_path: Path) -> None:
    ran(tmp_path, "stopped", outcome="budget_exceeded")
    ran(tmp_path, "now", day=1, outcome="budget_exceeded")
    ran(tmp_path, "later", day=2)

    assert against(Sessions(tmp_path), "now").forecast.sessions == ("stopped",)
