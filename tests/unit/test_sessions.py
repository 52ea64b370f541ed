from datetime import timedelta
from pathlib import Path

import pytest

from agentloop.errors import LogDamaged, UnknownSession
from agentloop.sessions import Sessions
from agentloop.testing import NOON, calls_tool, given, says, started
from agentloop.types.events import SessionEnded
from tests.unit.lines import answered, asked, finished


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path / "sessions", fsync="never")


def put(sessions: Sessions, session_id: str, *bodies: object) -> Path:
    with sessions.log(session_id) as log:
        for n, body in enumerate([started(session_id=session_id), given("task"), *bodies]):
            log.append(body, NOON + timedelta(seconds=n))  # type: ignore[arg-type]
    return sessions.folder / session_id / "log.jsonl"


def test_a_log_of_nothing_but_brackets_is_a_row_like_any_other_that_cannot_be_read(sessions: Sessions) -> None:
    put(sessions, "deep").write_bytes(b"[" * 200_000)

    (row,) = sessions.summaries()

    assert (row.session_id, row.agent, row.outcome) == ("deep", "?", "unfinished")


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a\x00b",
        "a\nb",
        "a\n",
        "%2e%2e",
        "..",
        ".",
        "a..b",
        ".hidden",
        "-rf",
        "",
        " ",
        "é",
        "x" * 101,
        "x" * 5_000,
    ],
)
def test_an_id_that_could_be_a_path_is_refused(sessions: Sessions, name: str) -> None:
    for use in (sessions.path, sessions.log, sessions.blobs, sessions.exists, sessions.find, sessions.events):
        with pytest.raises(UnknownSession, match="is not a session id") as error:
            use(name)

        assert len(str(error.value)) < 400
        assert "\n" not in str(error.value)
        assert "\x00" not in str(error.value)


@pytest.mark.parametrize("name", ["atlas-20260105-120000-ab12", "A", "7", "a.b_c-d", "x" * 100])
def test_an_ordinary_id_is_a_folder_of_its_own(sessions: Sessions, name: str) -> None:
    assert sessions.path(name) == sessions.folder / name


def test_a_new_id_tells_agent_and_time(sessions: Sessions) -> None:
    new = sessions.new_id("Atlas the shop keeper!", NOON)

    assert new.startswith("Atlas-the-shop-keeper-20260105-120000-")
    assert sessions.path(new).parent == sessions.folder


@pytest.mark.parametrize("agent", ["", "../..", "é", "..", "x" * 500, "-", "a/b\n", "a..b", "_x", "x" * 59 + ".."])
def test_a_new_id_is_an_id_whatever_the_agent_is_called(sessions: Sessions, agent: str) -> None:
    assert sessions.path(sessions.new_id(agent, NOON)).parent == sessions.folder


def test_two_sessions_of_one_second_have_two_ids(sessions: Sessions) -> None:
    assert len({sessions.new_id("atlas", NOON) for _ in range(20)}) == 20


def test_a_session_is_found_by_its_id(sessions: Sessions) -> None:
    put(sessions, "atlas-1")
    put(sessions, "atlas-12")

    assert sessions.find("atlas-1") == "atlas-1"


def test_a_session_is_found_by_the_start_of_its_id(sessions: Sessions) -> None:
    put(sessions, "atlas-20260105")
    put(sessions, "bo-20260105")

    assert sessions.find("at") == "atlas-20260105"


def test_an_ambiguous_start_is_told_with_the_candidates(sessions: Sessions) -> None:
    put(sessions, "atlas-1")
    put(sessions, "atlas-2")

    with pytest.raises(UnknownSession, match=r"session 'atlas' is ambiguous in .*did you mean atlas-1, atlas-2\?"):
        sessions.find("atlas")


def test_an_unknown_id_is_told_with_the_nearest(sessions: Sessions) -> None:
    put(sessions, "atlas-20260105")

    with pytest.raises(UnknownSession, match=r"'atlsa-20260105' does not exist in .*did you mean atlas-20260105\?"):
        sessions.find("atlsa-20260105")


def test_where_there_are_no_sessions_the_command_that_lists_them_is_told(sessions: Sessions) -> None:
    with pytest.raises(UnknownSession, match="'agentloop sessions list' shows those that exist"):
        sessions.find("atlas")


def test_the_events_of_a_session_are_read(sessions: Sessions) -> None:
    put(sessions, "atlas")

    assert [e.body.type for e in sessions.events("atlas")] == ["session_started", "input_given"]


def test_the_events_of_a_session_are_read_one_by_one(sessions: Sessions) -> None:
    path = put(sessions, "atlas")
    stream = sessions.stream("atlas")
    path.write_bytes(path.read_bytes() + b"no event\n")

    assert next(stream).body.type == "session_started"
    with pytest.raises(LogDamaged):
        list(stream)


def test_a_session_without_a_log_is_no_fresh_start(sessions: Sessions) -> None:
    with pytest.raises(UnknownSession, match=r"has no log in .*nothing can be resumed from it"):
        sessions.events("atlas")


def test_an_empty_log_is_no_fresh_start(sessions: Sessions) -> None:
    put(sessions, "atlas").write_bytes(b"")

    with pytest.raises(UnknownSession, match="has no log"):
        sessions.events("atlas")


def test_a_log_that_holds_no_whole_line_is_no_fresh_start(sessions: Sessions) -> None:
    path = put(sessions, "atlas")
    path.write_bytes(path.read_bytes()[:50])

    with pytest.raises(UnknownSession, match="has no log"):
        sessions.events("atlas")


def test_a_damaged_log_is_told(sessions: Sessions) -> None:
    path = put(sessions, "atlas")
    path.write_bytes(path.read_bytes().replace(b"task", b"tusk"))

    with pytest.raises(LogDamaged):
        sessions.events("atlas")


def test_sessions_are_listed_by_their_ids(sessions: Sessions) -> None:
    for name in ("b", "a", "c"):
        put(sessions, name)
    (sessions.folder / "empty").mkdir()
    (sessions.folder / "note.txt").write_text("not a session")

    assert list(sessions.ids()) == ["a", "b", "c"]


def test_no_folder_is_no_sessions(sessions: Sessions) -> None:
    assert list(sessions.summaries()) == []


def test_a_row_tells_what_a_session_was_and_how_it_ended(sessions: Sessions) -> None:
    path = put(sessions, "atlas", asked(), answered(says("Done.")), SessionEnded(outcome="completed"))

    (row,) = sessions.summaries()

    assert row._asdict() == {
        "session_id": "atlas",
        "agent": "test",
        "model": "claude-test",
        "started_at": "2026-01-05T12:00:00.000000Z",
        "events": 5,
        "outcome": "completed",
        "bytes": path.stat().st_size,
    }


def test_a_session_that_has_not_ended_is_unfinished(sessions: Sessions) -> None:
    put(sessions, "atlas")

    assert [(r.outcome, r.events) for r in sessions.summaries()] == [("unfinished", 2)]


def test_a_torn_last_line_does_not_hide_the_line_before_it(sessions: Sessions) -> None:
    path = put(sessions, "atlas", SessionEnded(outcome="completed"))
    path.write_bytes(path.read_bytes() + b'{"seq":3,"at":"2026')

    assert [(r.outcome, r.events) for r in sessions.summaries()] == [("completed", 3)]


def test_a_very_long_last_line_is_counted(sessions: Sessions) -> None:
    put(sessions, "atlas", asked(), answered(calls_tool("c", "look")), finished("c", "x" * 300_000))

    assert [r.events for r in sessions.summaries()] == [5]


def test_listing_does_not_read_whole_logs(sessions: Sessions) -> None:
    """Twenty gigabytes of nothing between the two ends, which take no room on the disk."""
    path = put(sessions, "atlas", SessionEnded(outcome="completed"))
    *lines, last = path.read_bytes().splitlines(keepends=True)
    with path.open("wb") as file:
        file.write(b"".join(lines))
        file.seek(20_000_000_000)
        file.write(b"\n" + last)

    assert [(r.agent, r.outcome) for r in sessions.summaries()] == [("test", "completed")]


@pytest.mark.parametrize(
    "data", [b"[]\n", b'{"body": 3}\n', b'{"seq": "x", "body": []}\n', b"\x00\xff\n", b'{"body": {"prefix": 7}}\n']
)
def test_a_log_that_is_none_does_not_hide_the_others(sessions: Sessions, data: bytes) -> None:
    put(sessions, "bad").write_bytes(data)
    put(sessions, "good")

    assert [(r.session_id, r.agent) for r in sessions.summaries()] == [("bad", "?"), ("good", "test")]
