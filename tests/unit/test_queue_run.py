"""One session as a worker runs it: where it may be stopped, and what is told of it."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from agentloop import queue_run
from agentloop.core.state import State
from agentloop.engine import Interrupted
from agentloop.errors import SessionHeld, SessionLost, StoreUnavailable, UnknownModel
from agentloop.queue_run import Watcher, between_steps, here
from agentloop.types.events import Event
from agentloop.types.jobs import Job
from agentloop.types.queues import Ran
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
