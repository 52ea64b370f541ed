"""Two machines, four workers, one PostgreSQL, and a worker that dies every two seconds."""

import signal
import statistics
import time
from collections import Counter
from pathlib import Path

import pytest

from agentloop.stores import store_of
from agentloop.types.events import ModelRequested, SessionEnded, ToolFinished
from agentloop.types.queues import session_of
from tests.e2e.fleet import Fleet, Killed, fleet

pytestmark = pytest.mark.slow
SESSIONS = 50
KILL_EVERY_S = 2.0
MOST_KILLS = 12
_QUEUE = "[queues.default]\nper_worker = 4\npoll_s = 0.2\n"


def test_fifty_sessions_end_whole_while_a_worker_dies_every_two_seconds(new_postgres_url: str, tmp_path: Path) -> None:
    with fleet(tmp_path, new_postgres_url, queues=_QUEUE, pace_s=0.3) as made:
        for i in range(SESSIONS):
            made.submit(f"s{i:02}")
        for machine in ("one", "two") * 2:
            made.start(machine=machine)

        killed = _killing(made)

        last = {q.session_id: q for q in sorted(made.queue.runs(), key=lambda q: session_of(q.run))}
        assert len(last) == SESSIONS
        assert [q for q in last.values() if (q.standing, q.outcome) != ("done", "completed")] == []
        unknown = _assert_each_effect_once(made)
        took = made.take_over_s(killed)
        assert len(killed) >= 3
        assert took, "no worker died with a session"
        print(f"{len(killed)} kills, {len(took)} take-overs: median {statistics.median(took):.2f} s, longest {max(took):.2f} s")
        print(f"{unknown} effects reported unknown; {[q.detail for q in made.queue.runs() if q.outcome == 'try_later']}")
        assert statistics.median(took) < 5
        assert max(took) < 30


def test_a_worker_that_was_only_paused_changes_nothing_when_it_wakes(new_postgres_url: str, tmp_path: Path) -> None:
    """A machine that sleeps keeps its lock while its connection lives; its sessions wait for it, and nobody runs them twice."""
    with fleet(tmp_path, new_postgres_url, queues=_QUEUE, pace_s=0.5) as made:
        made.submit("s")
        first = made.start(machine="one")
        made.wait(lambda: bool(made.traces()))
        first.send_signal(signal.SIGSTOP)
        made.start(machine="two")
        time.sleep(4)
        assert made.logged("worker_taken_over") == []
        first.send_signal(signal.SIGCONT)

        made.wait(lambda: made.standing("s") == "done")
        assert set(Counter(t.key for t in made.traces() if t.did == "send").values()) == {1}


def test_a_worker_that_was_thought_dead_and_is_not_writes_nothing_more(new_postgres_url: str, tmp_path: Path) -> None:
    """Its connections are cut while it sleeps: its lock is gone, its sessions are taken over, and then it wakes."""
    with fleet(tmp_path, new_postgres_url, queues=_QUEUE, pace_s=0.5) as made:
        made.submit("s")
        first = made.start(machine="one")
        made.wait(lambda: any(t.did == "put in" for t in made.traces()))
        first.send_signal(signal.SIGSTOP)
        _cut_every_connection(new_postgres_url)
        made.start(machine="two")
        made.wait(lambda: bool(made.logged("worker_taken_over")))
        made.wait(lambda: any(t.pid != first.pid for t in made.traces()))
        first.send_signal(signal.SIGCONT)

        made.wait(lambda: made.runs()["s"].standing == "done")
        made.wait(lambda: all(q.standing == "done" for q in made.queue.runs()))

        assert set(Counter(t.key for t in made.traces() if t.did == "send").values()) == {1}
        events = store_of(tmp_path, made.settings).events("s")
        assert [e.seq for e in events] == list(range(len(events)))
        assert sum(isinstance(e.body, SessionEnded) and e.body.outcome == "completed" for e in events) == 1


def _killing(made: Fleet) -> list[Killed]:
    killed: list[Killed] = []
    next_kill = time.monotonic() + 2 * KILL_EVERY_S
    deadline = time.monotonic() + 150
    while not all(q.standing == "done" for q in made.queue.runs()):
        assert time.monotonic() < deadline, [q for q in made.queue.runs() if q.standing != "done"]
        if time.monotonic() > next_kill and len(killed) < MOST_KILLS:
            next_kill = time.monotonic() + KILL_EVERY_S
            if (one := made.kill_one()) is not None:
                killed.append(one)
        time.sleep(0.2)
    return killed


def _assert_each_effect_once(made: Fleet) -> int:
    """Every call of a `once` tool had its effect exactly once, or is on record as unknown; how many are unknown."""
    effects = Counter(t.key for t in made.traces() if t.did == "send")
    assert set(effects.values()) == {1}
    store, unknown = store_of(made.folder, made.settings), 0
    for i in range(SESSIONS):
        events = store.events(f"s{i:02}")
        finished = [e.body for e in events if isinstance(e.body, ToolFinished)]
        assert [b.name for b in finished] == ["look", "put", "send", "look", "send", "put"]
        assert isinstance(events[-1].body, SessionEnded)
        assert len({e.body.digest for e in events if isinstance(e.body, ModelRequested)}) == 7
        for body in finished:
            once = body.name == "send" and body.outcome != "unknown"
            assert body.outcome == "ok" or body.name == "send"
            assert not once or effects[f"s{i:02}:{body.call_id}"] == 1
            unknown += body.outcome == "unknown"
    return unknown


def _cut_every_connection(url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
