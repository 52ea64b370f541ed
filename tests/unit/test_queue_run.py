"""One session as a worker runs it: where it may be stopped, and what is told of it."""

import json
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from agentloop import queue_run
from agentloop.core.state import State
from agentloop.engine import Interrupted
from agentloop.errors import SessionHeld, SessionLost, StoreUnavailable, UnknownModel
from agentloop.operation import Metrics
from agentloop.queue_run import here
from agentloop.sessions import Sessions
from agentloop.testing import NOON, given, started
from agentloop.types.events import Event, SessionEnded
from agentloop.types.jobs import Job
from agentloop.types.queues import Ran
from agentloop.unattended import Watcher, between_steps
from agentloop.workspace import Settings
from tests.e2e.workplace import workspace

_JOB = Job(session_id="s", agent="assistant", prompt="Count.", name="assistant")


def _never() -> None:
    return None


def test_a_session_runs_to_its_outcome(tmp_path: Path) -> None:
    ran = here(_JOB, workspace(tmp_path), Settings(provider="scripted"), _never)

    assert ran is not None
    assert (ran.outcome, ran.until) == ("completed", None)
    assert ran.cost_usd is not None
    assert ran.cost_usd > 0


def test_a_session_in_a_process_of_its_own_tells_the_same(tmp_path: Path) -> None:
    folder = workspace(tmp_path)
    one = here(_JOB, folder, Settings(provider="scripted"), _never)

    other = queue_run.in_a_process(_JOB.model_copy(update={"session_id": "t"}), folder, _never)

    assert other == one


def test_a_process_that_dies_tells_nothing(tmp_path: Path) -> None:
    folder = workspace(tmp_path)
    (folder / "tools" / "example.py").write_text("import os\nos._exit(3)\n")

    assert queue_run.in_a_process(_JOB, folder, _never) is None


def test_a_session_in_a_process_of_its_own_stops_when_it_is_told_to(tmp_path: Path) -> None:
    ran = queue_run.in_a_process(_JOB, workspace(tmp_path), lambda: "cancel")

    assert ran is not None
    assert ran.outcome == "interrupted"


def test_a_signal_to_the_whole_group_is_not_the_death_of_a_session_in_a_process_of_its_own(tmp_path: Path) -> None:
    folder = workspace(tmp_path)
    tool = "import os, signal\nfor one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n    os.kill(os.getpid(), one)\n"
    (folder / "tools" / "group.py").write_text(tool)

    ran = queue_run.in_a_process(_JOB, folder, _never)

    assert ran is not None
    assert ran.outcome == "completed"


def test_a_process_of_a_session_ends_whatever_thread_a_tool_leaves_behind(tmp_path: Path) -> None:
    folder = workspace(tmp_path)
    tool = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=False).start()\n"
    (folder / "tools" / "leaky.py").write_text(tool)
    ran: list[Ran | None] = []

    waiting = threading.Thread(target=lambda: ran.append(queue_run.in_a_process(_JOB, folder, _never)), daemon=True)
    waiting.start()
    waiting.join(60)

    assert [r.outcome for r in ran if r is not None] == ["completed"]


def test_what_the_worker_says_to_a_session_is_not_the_standard_input_of_its_tools(tmp_path: Path) -> None:
    folder = workspace(tmp_path)
    tool = "import subprocess\nassert subprocess.run(['cat'], capture_output=True, timeout=5).stdout == b''\n"
    (folder / "tools" / "reading.py").write_text(tool)

    ran = queue_run.in_a_process(_JOB, folder, _never)

    assert ran is not None
    assert ran.outcome == "completed"


def test_what_a_session_in_a_process_of_its_own_did_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Metrics()
    monkeypatch.setattr(queue_run, "METRICS", counted)
    folder = workspace(tmp_path)
    run = queue_run.runner(folder, Settings(provider="scripted"))

    first = run(_JOB, _never, alone=True)
    run(_JOB, _never, alone=True)

    assert first is not None
    assert counted.value("sessions", outcome="completed") == 1
    assert counted.value("cost_usd") == first.cost_usd
    assert counted.value("turns") > 1


@pytest.mark.parametrize("outcome", ["refused", "failed", "budget_exceeded", "completed", "provider_unavailable"])
def test_a_session_that_ended_before_its_worker_died_is_not_asked_once_more(outcome: str, tmp_path: Path) -> None:
    folder, settings = workspace(tmp_path), Settings(provider="scripted")
    with Sessions(folder / "sessions").log("s") as log:
        for body in (started(session_id="s"), given("Count."), SessionEnded.model_validate({"outcome": outcome})):
            log.append(body, NOON)

    ended = queue_run.ended_since(_JOB, folder, settings, NOON)

    assert ended is not None
    assert (ended.outcome, ended.cost_usd) == (outcome, Decimal(0))
    assert (folder / "sessions" / "s" / "report.md").exists()
    assert queue_run.ended_since(_JOB, folder, settings, NOON + timedelta(seconds=1)) is None


@pytest.mark.parametrize("outcome", ["interrupted", "sleeping", "waiting_for_approval", None])
def test_a_session_that_goes_on_has_not_ended(outcome: str | None, tmp_path: Path) -> None:
    folder, settings = workspace(tmp_path), Settings(provider="scripted")
    assert queue_run.ended_since(_JOB, folder, settings, NOON) is None
    with Sessions(folder / "sessions").log("s") as log:
        log.append(started(session_id="s"), NOON)
        if outcome is not None:
            log.append(SessionEnded.model_validate({"outcome": outcome}), NOON)

    assert queue_run.ended_since(_JOB, folder, settings, NOON) is None


@pytest.mark.parametrize("stop_at", range(12))
def test_wherever_a_session_is_stopped_nothing_is_left_open(stop_at: int, tmp_path: Path) -> None:
    asked = iter(range(100))
    folder = workspace(tmp_path)

    ran = here(_JOB, folder, Settings(provider="scripted"), lambda: "SIGTERM" if next(asked) >= stop_at else None)
    went_on = here(_JOB, folder, Settings(provider="scripted"), _never)

    lines = [json.loads(line)["body"] for line in (folder / "sessions" / "s" / "log.jsonl").read_text().splitlines()]
    kinds = [b["type"] for b in lines]
    assert ran.outcome in ("interrupted", "completed")
    assert went_on.outcome == "completed"
    assert "model_failed" not in kinds
    assert {b["outcome"] for b in lines if b["type"] == "tool_finished"} <= {"ok", "error"}
    assert kinds.count("tool_started") == kinds.count("tool_finished") == 2


def test_a_stop_is_raised_once(tmp_path: Path) -> None:
    seen: list[str] = []
    watcher = Watcher(lambda: "SIGTERM")

    def observe(event: Event, state: State) -> None:
        try:
            watcher(event, state)
        except Interrupted as e:
            assert between_steps(state)
            seen.append(e.signal)

    from agentloop.agents import find_agent
    from agentloop.api import Agent

    folder = workspace(tmp_path)
    Agent(find_agent(folder, "prompts", "assistant"), workspace=folder, on_event=observe).run("Count.")

    assert seen == ["SIGTERM"]


@pytest.mark.parametrize(
    ("error", "outcome", "later"),
    [
        (SessionHeld("held"), "try_later", True),
        (StoreUnavailable("away"), "try_later", True),
        (SessionLost("lost"), "interrupted", False),
        (UnknownModel("no such model"), "failed", False),
        (ZeroDivisionError("a bug"), "failed", False),
        (Interrupted("SIGTERM"), "interrupted", False),
    ],
)
def test_what_goes_wrong_is_said_and_not_raised(
    error: BaseException, outcome: str, later: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def failing(*args: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(queue_run, "run_job", failing)

    ran = here(_JOB, tmp_path, Settings(), _never)

    assert (ran.outcome, ran.until is not None) == (outcome, later)


def test_what_came_of_a_run_is_the_same_behind_a_pipe() -> None:
    ran = Ran("sleeping", "until the morning", Decimal("0.0000001"), datetime(2026, 11, 23, 6, tzinfo=UTC))

    assert queue_run._read(json.loads(json.dumps(queue_run._written(ran)))) == ran
    assert queue_run._read(json.loads(json.dumps(queue_run._written(Ran("failed"))))) == Ran("failed")
