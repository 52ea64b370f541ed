"""Workers as processes: what they take, what stops them, and what becomes of their sessions when they die."""

import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agentloop.sessions import Sessions
from agentloop.types.events import SessionEnded, SessionResumed, ToolFinished
from tests.e2e.fleet import Fleet, Trace, fleet
from tests.e2e.workplace import agentloop

pytestmark = pytest.mark.slow


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as one:
        yield one


def test_a_worker_drains_the_queue_in_order_of_priority(tmp_path: Path) -> None:
    with fleet(tmp_path, queues="[queues.default]\nper_worker = 1\n") as made:
        for i, priority in enumerate((5, 0, 1, 5)):
            made.submit(f"s{i}", "short", priority=priority)

        worker = made.start("--drain")

        assert worker.wait(60) == 0
        assert [t.session for t in made.traces() if t.did == "send"] == ["s1", "s2", "s0", "s3"]
        assert {q.outcome for q in made.queue.runs()} == {"completed"}


def test_the_sessions_of_a_killed_worker_are_ended_by_another_and_no_effect_is_doubled(tmp_path: Path) -> None:
    with fleet(tmp_path, pace_s=0.3) as made:
        for i in range(4):
            made.submit(f"s{i}")
        victim = made.start(machine="first")
        made.wait(lambda: len({t.session for t in made.traces()}) == 4)
        victim.send_signal(signal.SIGKILL)
        victim.wait()

        assert made.start("--drain", machine="second").wait(60) == 0

        assert {q.outcome for q in made.queue.runs()} == {"completed"}
        [taken] = made.logged("worker_taken_over")
        assert sorted(taken["runs"]) == ["s0", "s1", "s2", "s3"]  # type: ignore[call-overload]
        assert_effects_are_whole(made, [f"s{i}" for i in range(4)])


def test_a_session_that_had_ended_when_its_worker_died_is_not_run_once_more(tmp_path: Path) -> None:
    kills = "sh -c 'kill -9 $PPID'"  # a notice is given between the session's end and the queue's knowing it
    with fleet(tmp_path, queues="max_turns = 2\n", AGENTLOOP_NOTIFY_COMMAND=kills) as made:
        made.submit("s")
        assert made.start(machine="first").wait(60) == -signal.SIGKILL
        assert made.standing("s") == "running"

        assert made.start("--drain", machine="second").wait(60) == 0

        bodies = [e.body for e in Sessions(tmp_path / "sessions").events("s")]
        assert made.runs()["s"].outcome == "max_turns"
        assert [b.outcome for b in bodies if isinstance(b, SessionEnded)] == ["max_turns"]
        assert not [b for b in bodies if isinstance(b, SessionResumed)]
        made.queue.again("s")
        assert made.start("--drain", machine="third").wait(60) == 0
        assert [b for b in Sessions(tmp_path / "sessions").events("s") if isinstance(b.body, SessionResumed)]


@pytest.mark.parametrize("name", ["a/b", "../../x", "x" * 300, "a\nb", ""])
def test_a_workers_name_is_part_of_no_path(name: str, tmp_path: Path) -> None:
    with fleet(tmp_path):
        done = agentloop(tmp_path, "worker", "--drain", "--name", name)

    assert done.code == 2
    assert "is no name for a worker" in done.err


@pytest.mark.parametrize(
    ("file", "command"),
    [("queue", "queue list"), ("operation", "worker --drain"), ("schedules", "cron list"), ("schedules", "notify check")],
)
def test_a_damaged_database_is_said_with_what_to_do_and_is_no_bug(file: str, command: str, tmp_path: Path) -> None:
    with fleet(tmp_path):
        (tmp_path / ".agentloop" / f"{file}.sqlite").write_text("this is no database")
        done = agentloop(tmp_path, *command.split())

    assert done.code in (2, 75)
    assert "file is not a database" in done.err
    assert "put " in done.err
    assert "internal error" not in done.err


def test_a_priority_that_the_queue_cannot_keep_is_refused(tmp_path: Path) -> None:
    with fleet(tmp_path):
        done = agentloop(tmp_path, "queue", "submit", "busy", "-p", "Go.", "--priority", str(2**31))

    assert done.code == 2


def test_a_worker_whose_database_does_not_answer_says_what_to_do(tmp_path: Path) -> None:
    with fleet(tmp_path):
        done = agentloop(tmp_path, "worker", AGENTLOOP_DATABASE_URL="postgresql://127.0.0.1:1/none")

    assert done.code == 2
    assert "does not answer" in done.err
    assert "check AGENTLOOP_DATABASE_URL" in done.err
    assert "internal error" not in done.err


def test_a_worker_that_is_told_to_stop_gives_its_sessions_back_between_two_steps(tmp_path: Path) -> None:
    with fleet(tmp_path, pace_s=0.5) as made:
        made.submit("s")
        first = made.start(machine="first")
        made.wait(lambda: bool(made.traces()))
        first.send_signal(signal.SIGTERM)

        assert first.wait(30) == 143
        assert made.standing("s") == "queued"
        assert made.start("--drain", machine="second").wait(60) == 0

        bodies = [e.body for e in Sessions(tmp_path / "sessions").events("s")]
        [stopped, ended] = [b for b in bodies if isinstance(b, SessionEnded)]
        assert (stopped.outcome, stopped.detail.split(";")[0], ended.outcome) == (
            "interrupted", "stopped by SIGTERM", "completed")  # fmt: skip
        assert sum(isinstance(b, SessionResumed) for b in bodies) == 1
        assert not [b for b in bodies if isinstance(b, ToolFinished) and b.outcome != "ok"]
        assert set(Counter(t.key for t in made.traces() if t.did == "send").values()) == {1}
        assert made.logged("worker_taken_over") == []


def test_a_cancelled_session_is_interrupted_and_can_be_run_again(tmp_path: Path) -> None:
    with fleet(tmp_path, pace_s=0.7) as made:
        made.submit("s")
        worker = made.start()
        made.wait(lambda: bool(made.traces()))

        assert made.queue.cancel("s")
        sessions = Sessions(tmp_path / "sessions")
        made.wait(lambda: isinstance(sessions.events("s")[-1].body, SessionEnded))

        ended = sessions.events("s")[-1].body
        assert isinstance(ended, SessionEnded)
        assert (ended.outcome, ended.detail) == ("interrupted", "stopped by cancel; 'agentloop resume s' goes on")
        assert made.standing("s") == "cancelled"
        made.queue.again("s")
        made.wait(lambda: made.standing("s#2") == "done")
        assert made.runs()["s#2"].outcome == "completed"
        assert worker.poll() is None


def test_a_session_that_ends_its_process_at_each_start_is_held_and_its_neighbours_are_not(made: Fleet) -> None:
    """P12."""
    made.submit("bad", "fatal")
    for i in range(3):
        made.submit(f"good{i}")

    for _ in range(5):
        if made.start("--drain").wait(60) == 0:
            break

    runs = made.runs()
    assert runs["bad"].standing == "held"
    assert runs["bad"].crashes == 3
    assert runs["bad"].detail.startswith("its process died 3 times in a row after ")
    assert {runs[f"good{i}"].outcome for i in range(3)} == {"completed"}
    assert made.queue.submit(_job("bad")).new is False
    assert made.start("--drain").wait(60) == 0
    assert sum(t.did == "crash" for t in made.traces()) == 3


def test_a_held_session_is_tried_again_when_it_is_released(tmp_path: Path) -> None:
    with fleet(tmp_path, queues="[queues.default]\nheld_after = 1\n") as made:
        made.submit("bad", "fatal")
        worker = made.start()
        made.wait(lambda: made.standing("bad") == "held")

        assert made.queue.release("bad")

        made.wait(lambda: sum(t.did == "crash" for t in made.traces()) == 2 and made.standing("bad") == "held")
        assert worker.poll() is None


def test_a_paused_queue_starts_nothing_until_it_is_resumed(made: Fleet) -> None:
    made.queue.pause("default")
    made.submit("s", "short")
    assert made.start("--drain").wait(60) == 0
    assert (made.standing("s"), made.traces()) == ("queued", [])

    made.queue.resume("default")
    assert made.start("--drain").wait(60) == 0

    assert made.runs()["s"].outcome == "completed"


def test_a_worker_takes_only_from_the_queues_it_was_given(tmp_path: Path) -> None:
    with fleet(tmp_path, queues="[queues.mail]\n[queues.shop]\n") as made:
        made.submit("a", "short", queue="mail")
        made.submit("b", "short", queue="shop")

        assert made.start("--queue", "mail", "--drain").wait(60) == 0

        assert (made.standing("a"), made.standing("b")) == ("done", "queued")


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_twenty_jobs_at_once_keep_to_five_at_a_time_and_all_finish(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A22."""
    url = request.getfixturevalue("new_postgres_url") if store == "postgres" else None
    with fleet(tmp_path, url, queues="[queues.default]\nconcurrency = 5\nper_worker = 4\npoll_s = 0.1\n", pace_s=0.4) as made:
        for i in range(20):
            made.submit(f"s{i:02}", "short")

        workers = [made.start("--drain", machine=m) for m in ("one", "two")]

        assert [w.wait(90) for w in workers] == [0, 0]
        assert {q.outcome for q in made.queue.runs()} == {"completed"}
        assert most_at_once(made.traces()) <= 5
        waits = sorted(t.at for t in made.traces() if t.did == "send in")
        order = [t.session for t in made.traces() if t.did == "send in"]
        assert max(abs(order.index(f"s{i:02}") - i) for i in range(20)) < 5  # nobody is overtaken by more than are at work
        assert len(waits) == 20


def test_an_agent_keeps_to_its_own_limit_and_others_go_past_it(tmp_path: Path) -> None:
    queues = "[queues.default]\nper_worker = 6\nper_agent = 1\npoll_s = 0.1\n"
    with fleet(tmp_path, queues=queues, pace_s=0.4) as made:
        for i in range(4):
            made.submit(f"short{i}", "short")
        made.submit("busy")

        assert made.start("--drain").wait(60) == 0

        traces = made.traces()
        assert most_at_once([t for t in traces if t.session != "busy"]) == 1
        first_of_busy = min(t.at for t in traces if t.session == "busy")
        assert first_of_busy < max(t.at for t in traces if t.session != "busy")
        assert {q.outcome for q in made.queue.runs()} == {"completed"}


def test_sessions_are_started_no_faster_than_the_rate(tmp_path: Path) -> None:
    with fleet(tmp_path, queues="[queues.default]\nstarts_per_minute = 3\npoll_s = 0.1\n") as made:
        for i in range(6):
            made.submit(f"s{i}", "short")
        made.start()
        made.wait(lambda: sum(q.standing == "done" for q in made.queue.runs()) == 3)

        soon = datetime.now(UTC) + timedelta(seconds=3)
        made.wait(lambda: datetime.now(UTC) > soon)

        assert Counter(q.standing for q in made.queue.runs()) == {"done": 3, "queued": 3}


def test_a_session_that_somebody_else_runs_is_tried_again_later(made: Fleet) -> None:
    log = Sessions(made.folder / "sessions").log("s")
    with log:
        made.submit("s", "short")
        made.start()
        made.wait(lambda: made.standing("s#2") == "delayed")

    made.wait(lambda: made.standing("s#2") == "done")
    assert (made.runs()["s"].outcome, made.runs()["s#2"].outcome) == ("try_later", "completed")


def test_a_session_that_waits_for_an_answer_is_ended_by_whichever_worker_is_there_when_it_comes(made: Fleet) -> None:
    prompt = made.folder / "prompts" / "short.md"
    prompt.write_text(prompt.read_text().replace("grants: [put, send]\n", ""))
    made.submit("s", "short")
    assert made.start("--drain", machine="first").wait(60) == 0
    assert (made.runs()["s"].outcome, made.traces()) == ("waiting_for_approval", [])

    said = agentloop(made.folder, "approve", "s")
    assert said.out.endswith("s#2 is queued\n")
    assert made.start("--drain", machine="second").wait(60) == 0

    assert made.runs()["s#2"].outcome == "completed"
    assert sum(t.did == "send" for t in made.traces()) == 1


def test_a_job_whose_agent_is_gone_fails_and_says_so(made: Fleet) -> None:
    made.submit("s", "nobody")

    assert made.start("--drain").wait(60) == 0

    assert made.runs()["s"].outcome == "failed"
    assert "nobody" in made.runs()["s"].detail


def assert_effects_are_whole(made: Fleet, sessions: list[str]) -> None:
    """Each call of a `once` tool had its effect once, or is on record as unknown; the others at least once."""
    effects = Counter(t.key for t in made.traces() if t.did == "send")
    assert set(effects.values()) <= {1}
    store = Sessions(made.folder / "sessions")
    for session_id in sessions:
        finished = [e.body for e in store.events(session_id) if isinstance(e.body, ToolFinished)]
        assert [b.name for b in finished] == ["look", "put", "send", "look", "send", "put"]
        for body in finished:
            key = f"{session_id}:{body.call_id}"
            if body.name == "send":
                assert body.outcome == "unknown" or effects[key] == 1
            else:
                assert body.outcome == "ok"


def most_at_once(traces: list[Trace]) -> int:
    """How many calls were under way together, at most."""
    running = most = 0
    for _, step in sorted((t.at, 1 if t.did.endswith(" in") else -1) for t in traces):
        running += step
        most = max(most, running)
    return most


def _job(session_id: str):  # type: ignore[no-untyped-def]
    from agentloop.types.jobs import Job

    return Job(session_id=session_id, agent="fatal", prompt="Do it.", name="fatal")
