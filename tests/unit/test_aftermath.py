"""What an unattended session leaves behind: its report, and a notice."""

import json
import os
import stat
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from agentloop.core.state import State
from agentloop.errors import AgentLoopError, SessionHeld, UsageError
from agentloop.operation.reports import JSON, MARKDOWN, RunReport, run_report, write
from agentloop.sessions import Sessions
from agentloop.testing import NOON, FixedClock, calls_tool, events, given, says, started
from agentloop.types.events import CallHeld, Event, SessionEnded
from agentloop.types.jobs import Job
from agentloop.types.limits import Limits
from agentloop.types.tools import ToolCard
from agentloop.unattended import run_job
from agentloop.workspace import Settings, configuration
from tests.e2e.workplace import workspace
from tests.unit.lines import answered, asked, failed, finished, started_call

JOB = Job(session_id="s", agent="assistant", prompt="Count.", name="daily")
SAID = 'import sys; open(sys.argv[1], "a").write(sys.stdin.read() + "\\n")'


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before = os.umask(0)
    yield workspace(tmp_path)
    os.umask(before)


def settings_of(folder: Path, **changes: object) -> Settings:
    return configuration(folder, environment={}).settings.model_copy(update={"fsync": "never", **changes})


def telling(folder: Path, *kinds: str) -> Settings:
    import sys

    return settings_of(
        folder, notify_command=(sys.executable, "-c", SAID, str(folder / "said")), notify_on=kinds or ("failure", "budget")
    )


def notices(folder: Path) -> list[dict[str, object]]:
    path = folder / "said"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_run_leaves_its_report_beside_the_log_for_its_owner_only(folder: Path) -> None:
    result = run_job(JOB, folder, settings_of(folder), FixedClock())

    session = folder / "sessions" / "s"
    report = RunReport.model_validate_json((session / JSON).read_text())
    page = (session / MARKDOWN).read_text()
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (session, *session.rglob("*"))}
    assert result.outcome == "completed"
    assert report == run_report(Sessions(folder / "sessions").stream("s"), str(session / "log.jsonl"))
    assert (report.task, report.outcome, report.money.cost_usd) == ("Count.", "completed", result.cost)
    assert page.startswith("# s: completed\n")
    assert {n: oct(m) for n, m in modes.items() if m != (0o700 if n in ("s", "blobs") else 0o600)} == {}
    assert stat.S_IMODE((folder / "sessions").stat().st_mode) == 0o700
    assert not [p for p in session.iterdir() if p.name.startswith(".")]


def test_a_budget_that_is_reached_is_told_once_however_often_the_session_is_started(folder: Path) -> None:
    settings = telling(folder)
    job = JOB.model_copy(update={"max_budget_usd": Decimal("0.0001")})

    for _ in range(3):
        run_job(job, folder, settings, FixedClock())

    (told,) = notices(folder)
    database = folder / ".agentloop" / "operation.sqlite"
    assert (told["kind"], told["subject"], told["outcome"], told["schedule"]) == ("budget", "s", "budget_exceeded", "daily")
    assert "--max-budget-usd" in str(told["next_step"])
    assert told["report"] == str(folder / "sessions" / "s" / MARKDOWN)
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700


def test_a_run_that_could_not_begin_is_told_and_its_error_goes_on(folder: Path) -> None:
    with pytest.raises(UsageError, match="no agent 'nobody'"):
        run_job(JOB.model_copy(update={"agent": "nobody"}), folder, telling(folder), FixedClock())

    (told,) = notices(folder)
    assert (told["kind"], told["outcome"]) == ("failure", "error")
    assert "no agent 'nobody'" in str(told["summary"])


def test_a_session_that_another_process_holds_is_nobodys_failure(folder: Path) -> None:
    with Sessions(folder / "sessions").log("s") as log:
        log.append(started(session_id="s"), NOON)
        with pytest.raises(SessionHeld):
            run_job(JOB, folder, telling(folder), FixedClock())

    assert notices(folder) == []


def test_a_report_that_cannot_be_written_and_a_notice_that_cannot_be_given_end_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agentloop.operation.aftermath.write", full)
    settings = settings_of(folder, notify_command=("/missing/program",), notify_on=("success",))

    assert run_job(JOB, folder, settings, FixedClock()).outcome == "completed"


def test_an_observer_that_fails_keeps_no_other_from_knowing(folder: Path) -> None:
    from agentloop.operation.metrics import METRICS

    def fails(event: Event, state: State) -> None:
        raise AgentLoopError("no")

    before = METRICS.value("sessions", agent="assistant", outcome="completed")
    result = run_job(JOB.model_copy(update={"session_id": "t"}), folder, settings_of(folder), FixedClock(), fails)

    assert result.outcome == "completed"
    assert METRICS.value("sessions", agent="assistant", outcome="completed") == before + 1


def test_a_webhook_that_must_not_be_is_refused_before_anything_is_spent(folder: Path) -> None:
    with pytest.raises(UsageError, match="expected https://"):
        run_job(JOB, folder, settings_of(folder, notify_webhook="http://hooks.example/x"), FixedClock())

    assert not (folder / "sessions" / "s").exists()


@pytest.mark.parametrize("name", ["notify_webhook", "notify_command", "notify_on", "listen_token", "otel", "otel_content"])
def test_a_project_does_not_choose_who_is_told_what(tmp_path: Path, name: str) -> None:
    (tmp_path / "agentloop.toml").write_text(f'{name} = "x"\n')

    with pytest.raises(UsageError, match=f"'{name}' is not taken from a project's file"):
        configuration(tmp_path, environment={})


def test_what_opens_something_is_not_shown(tmp_path: Path) -> None:
    environment = {
        "AGENTLOOP_LISTEN_TOKEN": "token-1",
        "AGENTLOOP_NOTIFY_WEBHOOK": "https://h/secret",
        "AGENTLOOP_DATABASE_URL": "postgresql://me:pw@h/d",
        "AGENTLOOP_NOTIFY_COMMAND": "mail -s 'agent loop' me@example.org",
        "AGENTLOOP_NOTIFY_ON": "silence,budget",
    }

    found = configuration(tmp_path, environment=environment)

    shown = {s.name: s.value for s in found.listed()}
    assert {shown[n] for n in ("listen_token", "notify_webhook", "database_url")} == {"configured"}
    assert found.settings.listen_token == "token-1"
    assert found.settings.notify_command == ("mail", "-s", "agent loop", "me@example.org")
    assert found.settings.notify_on == ("silence", "budget")


# what the report says


def test_a_report_begins_with_what_somebody_has_to_look_at() -> None:
    log = events(
        started(tool_cards=[ToolCard(name="pay", effect="once"), ToolCard(name="look", effect="read")],
                limits=Limits(max_budget_usd=Decimal("0.01"))),
        given("Pay."), asked(), failed("unavailable", retry_in_s=4.0), answered(calls_tool("c1", "pay", amount=3)),
        started_call("c1", "pay"), finished("c1", "unknown", name="pay", is_error=True, outcome="unknown"),
        asked(2), answered(calls_tool("c2", "pay", amount=9), 2),
        CallHeld(turn=2, call_id="c2", name="pay", reason="not granted"),
        SessionEnded(outcome="waiting_for_approval", detail="1 call waits"),
    )  # fmt: skip

    report = run_report(log, "log.jsonl")

    assert [(e.call_id, e.outcome) for e in report.effects] == [("c1", "unknown")]
    (waiting,) = report.waiting
    assert (waiting.tool, waiting.input, waiting.approve) == ("pay", '{"amount":9}', "agentloop approve test c2")
    assert report.faults.waited_s == 4.0
    assert report.money.left_usd == Decimal("0.01") - report.money.cost_usd
    assert report.next_step.startswith("First check 1 call of unknown outcome")
    assert report.exit_code == 4


def test_the_page_names_what_waits_before_what_was_done() -> None:
    from agentloop.operation.pages import markdown

    log = events(
        started(tool_cards=[ToolCard(name="pay", effect="once")]), given("Pay."), asked(), answered(calls_tool("c1", "pay")),
        CallHeld(turn=1, call_id="c1", name="pay", reason="not granted"), SessionEnded(outcome="waiting_for_approval"),
    )  # fmt: skip

    page = markdown(run_report(log))

    assert page.index("agentloop approve test c1") < page.index("## What it was to do") < page.index("## What it cost")


def test_a_session_that_sleeps_says_until_when() -> None:
    body = SessionEnded.model_validate({"outcome": "sleeping", "until": "2026-01-06T07:30:00Z"})

    assert "at 2026-01-06 07:30 UTC" in run_report(events(started(), given("x"), body)).next_step


def test_a_report_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = run_report(events(started(), given("x"), asked(), answered(says("done")), SessionEnded(outcome="completed")))
    write(report, tmp_path, lambda text: text, "first")

    def broken(*args: object) -> None:
        raise OSError(5, "I/O error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="I/O"):
        write(report, tmp_path, lambda text: text, "second")

    assert (tmp_path / MARKDOWN).read_text() == "first"
    assert sorted(p.name for p in tmp_path.iterdir()) == [JSON, MARKDOWN]
