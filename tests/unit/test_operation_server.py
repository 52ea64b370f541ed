"""`/healthz` and `/metrics`: what they say, and to whom."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from agentloop import database as databases
from agentloop import operation
from agentloop.core.folding import begin, evolve
from agentloop.errors import ConfigError
from agentloop.operation import Heart, Metrics, Standing, tables
from agentloop.operation.health import BEATS_MISSED, LEAST_FREE_BYTES, stale_hearts
from agentloop.testing import NOON, calls_tool, events, given, says, started
from agentloop.types.events import SessionEnded, SessionStarted
from agentloop.types.tools import ToolCard
from tests.unit.lines import answered, asked, failed, finished

WELL = Standing(heartbeat_at=NOON, every_s=20, queued={"main": 2}, oldest_queued_at=NOON - timedelta(minutes=1))


@contextmanager
def serving(standing: Callable[[], Standing] = lambda: WELL, token: str | None = None, **more: Any) -> Iterator[httpx2.Client]:
    more = {"now": lambda: NOON, "metrics": Metrics(), **more}
    with (
        operation.serve(standing, "127.0.0.1:0", token, **more) as url,
        httpx2.Client(base_url=url, trust_env=False) as client,
    ):
        yield client


def test_a_process_that_does_its_work_is_well(tmp_path: Path) -> None:
    database = databases.engine(f"sqlite:///{tmp_path / 'x.sqlite'}")

    with serving(database=database, folder=tmp_path) as client:
        answer = client.get("/healthz")

    assert (answer.status_code, answer.json()["status"], answer.json()["reasons"]) == (200, "ok", [])
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".health")) == []


def _standing(**changes: Any) -> Callable[[], Standing]:
    return lambda: Standing(**{"heartbeat_at": NOON, **changes})


def _broken() -> Standing:
    raise RuntimeError("password=123")


@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        (_standing(heartbeat_at=NOON - timedelta(seconds=61), every_s=20), "has not come round for 61 s"),
        (_standing(oldest_queued_at=NOON - timedelta(hours=2)), "has waited for 7200 s"),
        (_broken, "cannot say how it stands: RuntimeError"),
    ],
)
def test_a_process_that_does_not_do_its_work_says_why(standing: Callable[[], Standing], reason: str) -> None:
    with serving(standing) as client:
        answer = client.get("/healthz")

    assert answer.status_code == 503
    assert reason in answer.json()["reasons"][0]
    assert "password" not in answer.text


def test_a_loop_that_is_a_little_late_is_well() -> None:
    late = _standing(heartbeat_at=NOON - timedelta(seconds=20 * BEATS_MISSED), every_s=20)

    with serving(late) as client:
        assert client.get("/healthz").status_code == 200


def test_a_database_that_is_gone_is_a_reason(tmp_path: Path) -> None:
    database = databases.engine("postgresql://somebody:a-password@127.0.0.1:1/none")

    with serving(database=database) as client:
        answer = client.get("/healthz")

    assert answer.status_code == 503
    assert "the database cannot be reached" in answer.text
    assert "a-password" not in answer.text


def test_a_disk_that_cannot_be_written_or_is_full_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(folder=tmp_path / "missing") as client:
        missing = client.get("/healthz")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": LEAST_FREE_BYTES - 1}))
    with serving(folder=tmp_path) as client:
        full = client.get("/healthz")

    assert "the disk cannot be written: No such file" in missing.json()["reasons"][0]
    assert "the disk is nearly full" in full.json()["reasons"][0]
    assert list(tmp_path.iterdir()) == []


# hearts


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("new_postgres_url"))
    return f"sqlite:///{tmp_path / 'operation.sqlite'}"


def test_a_heart_that_stops_beating_is_missed_and_one_that_says_farewell_is_not(url: str) -> None:
    database = databases.engine(url)
    tables.make(database)
    dead, alive, stopped = (Heart(n, every_s=20, database=database) for n in ("dead", "alive", "stopped"))
    for heart in (dead, alive, stopped):
        heart.beat(NOON)
    stopped.stop()

    later = NOON + timedelta(minutes=5)
    alive.beat(later)

    assert [(s.name, s.age_s) for s in stale_hearts(database, later)] == [("dead", 300.0)]
    assert stale_hearts(database, NOON + timedelta(seconds=60)) == []


# metrics


def observed(*bodies: object) -> Metrics:
    counted = Metrics()
    first, *later = events(started(tool_cards=[ToolCard(name="look", effect="read")]), given("task"), *bodies)
    assert isinstance(first.body, SessionStarted)
    state = begin(first.body, first.at)
    counted.observe(first, state)
    for event in later:
        state = evolve(state, event)
        counted.observe(event, state)
    return counted


def test_the_page_says_what_happened_and_how_the_process_stands() -> None:
    counted = observed(
        asked(), failed("unavailable", retry_in_s=1.0), answered(calls_tool("c", "look")), finished("c"),
        finished("d", name="odd"), asked(2), answered(says("done"), 2), SessionEnded(outcome="completed"),
    )  # fmt: skip
    counted.missed("daily", "overlap")

    with serving(metrics=counted) as client:
        lines = client.get("/metrics").text.splitlines()

    for line in (
        'agentloop_sessions_total{agent="test",outcome="completed"} 1.0',
        'agentloop_turns_total{agent="test",model="claude-test"} 2.0',
        'agentloop_attempts_total{agent="test",model="claude-test",result="failed"} 1.0',
        'agentloop_faults_total{agent="test",kind="unavailable"} 1.0',
        'agentloop_tokens_total{agent="test",kind="output",model="claude-test"} 10.0',
        'agentloop_tool_calls_total{agent="test",outcome="ok",tool="look"} 1.0',
        'agentloop_tool_calls_total{agent="test",outcome="ok",tool="unknown"} 1.0',
        'agentloop_due_times_missed_total{reason="overlap",schedule="daily"} 1.0',
        'agentloop_cache_read_share{agent="test",model="claude-test"} 0.0',
        'agentloop_queue_depth{queue="main"} 2.0',
        "agentloop_queue_oldest_seconds 60.0",
    ):
        assert _same_labels(line) in {_same_labels(other) for other in lines}, line


def _same_labels(line: str) -> str:
    name, brace, rest = line.partition("{")
    labels, _, value = rest.rpartition("}")
    return f"{name}{brace}{','.join(sorted(labels.split(',')))}}}{value}" if brace else line


def test_a_counter_with_other_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="is counted by schedule, reason"):
        Metrics().count("due_times_missed", "daily")


# who may ask


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/", "/missing", "/healthz/"])
def test_with_a_token_nothing_answers_without_it(path: str) -> None:
    with serving(token="the-token") as client:
        for headers in (
            {},
            {"authorization": "Bearer the-toke"},
            {"authorization": "the-token"},
            {"authorization": "Bearer té"},
        ):
            given_headers = [(n.encode(), v.encode()) for n, v in headers.items()]
            assert client.get(path, headers=given_headers).status_code == 401
        assert client.get("/healthz", headers={"authorization": "Bearer the-token"}).status_code == 200
        assert client.get("/healthz?token=the-token").status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": "localhost:80@evil.example"}, 400),
        ({"host": "a b"}, 400),
        ({"host": ""}, 400),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "localhost"}, 200),
        ({"host": "[::1]:9464"}, 200),
    ],
)
def test_other_pages_and_other_names_are_refused(headers: dict[str, str], status: int) -> None:
    with serving() as client:
        assert client.get("/healthz", headers=headers).status_code == status


def test_nothing_changes_state_and_nothing_may_be_embedded() -> None:
    with serving() as client:
        answer = client.get("/healthz")
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            assert client.request(method, "/healthz").status_code == 405

    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "192.0.2.1:80", "[::]:0", "example.org:80"])
def test_an_address_that_others_reach_needs_a_token(listen: str) -> None:
    with pytest.raises(ConfigError, match="without a token"), operation.serve(lambda: WELL, listen):
        raise AssertionError("it listens")


@pytest.mark.parametrize("listen", ["", "9464", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", ":9464"])
def test_what_is_no_address_is_said_so(listen: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"), operation.serve(lambda: WELL, listen):
        raise AssertionError("it listens")


def test_times_are_those_of_the_caller() -> None:
    moment = datetime.fromisoformat("2026-03-01T12:00:00+00:00")

    with serving(_standing(heartbeat_at=moment), now=lambda: moment) as client:
        assert client.get("/healthz").json()["at"] == "2026-03-01T12:00:00+00:00"
