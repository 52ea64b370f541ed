import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from agentloop.prior import MOST_SESSIONS, Whose, prior
from agentloop.sessions import Sessions
from agentloop.testing import NOON, calls_tool, given, says, started
from agentloop.types.events import Body
from agentloop.types.past import PastSession, Prior
from tests.unit.lines import answered, asked, finished

NOW = NOON + timedelta(days=1)
DIGEST = started().prefix_digest
OURS = b', "body": {"agent": "test", "played_by": "api", "prefix_digest": "0"}}\n'


def ran(
    folder: Path, name: str, gaps_s: tuple[float, ...] = (10.0,), ago_s: float = 3_600, agent: str = "test", by: str = "api",
    digest: str = DIGEST,
) -> None:  # fmt: skip
    """A session that started so long ago, with these gaps between its requests."""
    start = started(session_id=name).model_copy(update={"played_by": by, "agent": agent, "prefix_digest": digest})
    at = NOW - timedelta(seconds=ago_s)
    with Sessions(folder, fsync="never").log(name) as log:

        def write(body: Body) -> None:
            log.append(body, at)

        write(start)
        write(given("task"))
        for turn, gap in enumerate(gaps_s, 1):
            write(asked(turn))
            write(answered(calls_tool(f"c{turn}", "look"), turn))
            write(finished(f"c{turn}", 'a text that says "model_requested"'))
            at += timedelta(seconds=gap)
        write(asked(len(gaps_s) + 1))
        write(answered(says("Done."), len(gaps_s) + 1))


def found(folder: Path, schedule: str = "", digest: str = DIGEST, now: datetime = NOW) -> Prior | None:
    return prior(Sessions(folder), Whose("test", "api", digest, now, schedule))


def test_where_nothing_has_been_nothing_is_known(tmp_path: Path) -> None:
    assert found(tmp_path / "sessions") is None


def test_a_session_says_how_many_of_its_gaps_each_life_outlives(tmp_path: Path) -> None:
    ran(tmp_path, "one", (10.0, 300.0, 301.0, 3_601.0), ago_s=10_000)

    known = found(tmp_path)

    assert known is not None
    assert known.sessions == (PastSession(gaps=4, within_5m=2, within_1h=3),)


def test_a_request_that_was_made_again_is_one_turn(tmp_path: Path) -> None:
    ran(tmp_path, "one", (10.0,))
    with Sessions(tmp_path, fsync="never").log("one") as log:
        log.append(asked(2), NOW - timedelta(seconds=3_000))

    known = found(tmp_path)

    assert known is not None
    assert known.sessions[0].gaps == 1
    assert known.starts_s == (3_000.0,)


def test_the_newest_sessions_count(tmp_path: Path) -> None:
    for hour in range(1, MOST_SESSIONS + 4):
        ran(tmp_path, f"s{MOST_SESSIONS + 4 - hour}", (10.0,) * hour, ago_s=3_600 * (MOST_SESSIONS + 4 - hour))

    known = found(tmp_path)

    assert known is not None
    assert [s.gaps for s in known.sessions] == [8, 7, 6, 5, 4]
    assert len(known.starts_s) == MOST_SESSIONS


def test_sessions_of_other_agents_and_plays_say_nothing(tmp_path: Path) -> None:
    ran(tmp_path, "other", agent="another")
    ran(tmp_path, "played", by="script:desk")

    assert found(tmp_path) is None


def test_starts_are_counted_from_the_last_request_of_the_session_before(tmp_path: Path) -> None:
    ran(tmp_path, "one", (100.0,), ago_s=5_000)
    ran(tmp_path, "two", (10.0, 10.0), ago_s=1_000)

    known = found(tmp_path)

    assert known is not None
    assert known.starts_s == (980.0, 3_900.0)


def test_sessions_that_overlap_share_at_once(tmp_path: Path) -> None:
    ran(tmp_path, "one", (900.0,), ago_s=800)

    known = found(tmp_path)

    assert known is not None
    assert known.starts_s == (0.0,)


def test_a_session_with_another_prefix_shares_nothing(tmp_path: Path) -> None:
    ran(tmp_path, "before", digest="f" * 64)

    known = found(tmp_path)

    assert known is not None
    assert (len(known.sessions), known.starts_s) == (1, ())


def test_what_starts_later_has_not_been(tmp_path: Path) -> None:
    ran(tmp_path, "tomorrow", ago_s=-3_600)

    assert found(tmp_path) is None


def test_a_schedule_announces_the_next_start(tmp_path: Path) -> None:
    assert found(tmp_path, "*/20 * * * *") == Prior(next_start_s=1_200.0)
    assert found(tmp_path, "0 8 * * *") is None


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\n",
        b"{",
        b"[1]\n",
        b"null\n",
        b'{"body": 3}\n',
        b"\xff\xfe\n",
        b'{"at": "soon", "body": {"agent": "test"}}\n',
        b"[" * 200_000,
        b'{"at": "0001-01-01T00:00:00+14:00"' + OURS,
        b'{"at": "2026-01-01T00:00:00Z"' + OURS + b'{"body": {"type": "model_requested", "turn": Infinity}}\n',
    ],
)
def test_a_log_that_cannot_be_read_counts_as_none(tmp_path: Path, broken: bytes) -> None:
    ran(tmp_path, "whole")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "log.jsonl").write_bytes(broken)

    known = found(tmp_path)

    assert known is not None
    assert len(known.sessions) == 1


def test_a_line_that_is_cut_off_is_passed_over(tmp_path: Path) -> None:
    ran(tmp_path, "one", (10.0, 400.0))
    log = tmp_path / "one" / "log.jsonl"
    log.write_bytes(log.read_bytes() + b'{"seq": 99, "at": "2026", "body": {"type": "model_requested"')

    known = found(tmp_path)

    assert known is not None
    assert known.sessions[0].gaps == 2


def test_of_a_huge_log_the_end_is_read(tmp_path: Path) -> None:
    ran(tmp_path, "one", (400.0, 10.0))
    log = tmp_path / "one" / "log.jsonl"
    first, *lines = log.read_bytes().splitlines(keepends=True)
    late = [line for line in lines if json.loads(line)["body"].get("turn") == 3]
    log.write_bytes(b"".join([first, *lines[:-2], b"x" * 5_000_000 + b"\n", *late]))

    known = found(tmp_path)

    assert known is not None
    assert known.sessions[0].gaps == 0
