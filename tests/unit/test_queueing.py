"""What can be asked of the queue, without a worker."""

import builtins
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from agentloop import queueing
from agentloop.adapters.dbos_queue import opening
from agentloop.adapters.dbos_queue.client import DbosQueue
from agentloop.errors import ConfigError, UsageError
from agentloop.queueing import SessionQueue
from agentloop.types.jobs import Job
from agentloop.types.queues import QueueSettings, run_id, session_of
from agentloop.workspace import Settings, configuration

_QUEUES = {"mail": QueueSettings(concurrency=2, per_worker=8, per_agent=5, starts_per_minute=30), "default": QueueSettings()}


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest) -> Settings:
    url = request.getfixturevalue("new_postgres_url") if request.param == "postgres" else None
    return Settings(queues=_QUEUES, database_url=url)


@pytest.fixture
def queue(settings: Settings, tmp_path: Path) -> Iterator[SessionQueue]:
    with queueing.opened(tmp_path, settings) as opened:
        yield opened


def _job(session_id: str, agent: str = "atlas", priority: int = 0) -> Job:
    return Job(session_id=session_id, agent=agent, prompt="Go.", name=agent, priority=priority)


def test_a_session_that_is_queued_twice_is_there_once(queue: SessionQueue) -> None:
    first, second = queue.submit(_job("s")), queue.submit(_job("s"))

    assert (first.new, second.new) == (True, False)
    assert [q.run for q in queue.runs()] == ["s"]


def test_a_session_is_not_queued_again_by_its_claim_once_it_is_over(queue: SessionQueue) -> None:
    queue.submit(_job("s"))
    queue.cancel("s")

    assert not queue.submit(_job("s")).new
    assert [q.standing for q in queue.runs()] == ["cancelled"]


def test_another_run_of_a_session_waits_once(queue: SessionQueue) -> None:
    queue.submit(_job("s"))
    queue.cancel("s")

    again, twice = queue.again("s"), queue.submit(_job("s"), again=True)

    assert (again, twice.new) == (("s", "s#2", True), False)
    assert {q.run: q.standing for q in queue.runs()} == {"s": "cancelled", "s#2": "queued"}


def test_a_run_that_waits_for_its_time_comes_forward_when_it_is_wanted_sooner(queue: SessionQueue) -> None:
    later, soon = datetime(2031, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
    queue.submit(_job("s"), not_before=later)

    queue.again("s", not_before=soon)
    assert [(q.standing, q.not_before) for q in queue.runs()] == [("delayed", soon)]
    queue.again("s", not_before=later)
    assert [q.not_before for q in queue.runs()] == [soon]
    queue.again("s")

    [run] = queue.runs()
    assert run.not_before is not None
    assert run.not_before <= datetime.now(UTC) + timedelta(seconds=1)


def test_a_session_that_never_came_cannot_be_queued_again_cancelled_or_released(queue: SessionQueue) -> None:
    assert queue.again("s") is None
    assert not queue.cancel("s")
    assert not queue.release("s")


def test_sessions_whose_names_begin_alike_are_not_mistaken_for_each_other(queue: SessionQueue) -> None:
    for session_id in ("s", "s-1", "s_1", "sx1"):
        queue.submit(_job(session_id))

    queue.cancel("s_1")

    assert {q.run: q.standing for q in queue.runs()} == {"s": "queued", "s-1": "queued", "s_1": "cancelled", "sx1": "queued"}


def test_what_an_older_version_queued_is_brought_forward_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = datetime(2030, 1, 1, tzinfo=UTC)
    with queueing.opened(tmp_path, Settings()) as queue:
        assert isinstance(queue, DbosQueue)
        with monkeypatch.context() as before:
            before.setattr(opening, "VERSION", "log-0")
            queue.submit(_job("old", priority=3))
            queue.submit(_job("late"), not_before=later)
        queue.submit(_job("new"))

        assert sorted(queue.bring_forward()) == ["late", "old"]
        assert queue.bring_forward() == []

        runs = {q.run: (q.standing, q.priority, q.not_before) for q in queue.runs(all_=False)}
        assert runs == {"new": ("queued", 0, None), "old#2": ("queued", 3, None), "late#2": ("delayed", 0, later)}


def test_a_queue_that_is_paused_stays_paused_until_it_is_resumed(queue: SessionQueue) -> None:
    before = {q.name: q for q in queue.states()}
    queue.pause("mail")
    paused = {q.name: q for q in queue.states()}
    queue.resume("mail")

    assert {name: q.paused for name, q in paused.items()} == {"default": False, "mail": True}
    assert {q.name: q for q in queue.states()} == before


def test_limits_that_contradict_each_other_hold_as_the_narrower_one(queue: SessionQueue) -> None:
    mail = next(q for q in queue.states() if q.name == "mail")

    assert (mail.concurrency, mail.per_worker, mail.per_agent, mail.starts_per_minute) == (2, 2, 2, 30)


def test_an_unknown_queue_is_refused_by_name(queue: SessionQueue) -> None:
    with pytest.raises(UsageError, match=r"no queue 'post'; there is default, mail\n.*\[queues.post\]"):
        queue.submit(_job("s"), "post")


def test_how_much_is_in_a_queue_is_counted(queue: SessionQueue) -> None:
    for i in range(3):
        queue.submit(_job(f"s{i}"), "mail", not_before=datetime(2030, 1, 1, tzinfo=UTC) if i else None)

    assert {q.name: (q.queued, q.running) for q in queue.states()} == {"default": (0, 0), "mail": (3, 0)}


def test_the_queue_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    with queueing.opened(tmp_path, Settings()) as opened:
        opened.submit(_job("s"))

        modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / ".agentloop").iterdir()}
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
    assert "queue.sqlite" in modes


def test_without_its_engine_the_queue_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refusing(name: str, *args: Any, **more: Any) -> Any:
        if name == "dbos":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", refusing)

    with pytest.raises(ConfigError, match=r"pip install 'agentloop\[durable\]'"), queueing.opened(tmp_path, Settings()):
        pass


def test_a_database_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    settings = Settings(database_url="postgresql://me:hush-hush@127.0.0.1:1/none")

    with pytest.raises(ConfigError, match="does not answer") as e, queueing.opened(tmp_path, settings):
        pass
    assert "hush-hush" not in str(e.value)


def test_queues_are_set_up_in_the_settings_file(tmp_path: Path) -> None:
    (tmp_path / "agentloop.toml").write_text("[queues.mail]\nconcurrency = 5\nper_agent = 1\n")

    queues = queueing.queues_of(configuration(tmp_path, environment={}).settings)

    assert queues == {"default": QueueSettings(), "mail": QueueSettings(concurrency=5, per_agent=1)}


@pytest.mark.parametrize(("line", "named"), [("concurency = 5", "queues.mail.concurency"), ("per_worker = 0", "per_worker"),
                                             ("poll_s = nan", "poll_s")])  # fmt: skip
def test_a_wrong_limit_is_named(line: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "agentloop.toml").write_text(f"[queues.mail]\n{line}\n")

    with pytest.raises(ConfigError, match=named):
        configuration(tmp_path, environment={})


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", fullmatch=True), st.integers(1, 10_000))
def test_a_run_tells_its_session_and_its_number(session_id: str, part: int) -> None:
    assert session_of(run_id(session_id, part)) == (session_id, part)


@tried(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["claim", "again", "cancel", "later"]), max_size=12))
def test_whatever_is_asked_at_most_one_run_of_a_session_waits(wishes: list[str]) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder, queueing.opened(Path(folder), Settings()) as queue:
        for wish in wishes:
            match wish:
                case "claim":
                    queue.submit(_job("s"))
                case "again":
                    queue.submit(_job("s"), again=True)
                case "later":
                    queue.submit(_job("s"), again=True, not_before=datetime(2030, 1, 1, tzinfo=UTC))
                case _:
                    queue.cancel("s")
            waiting = [q for q in queue.runs() if q.standing in ("queued", "delayed")]
            assert len(waiting) <= 1
            assert bool(waiting) or wish in ("cancel", "claim")
