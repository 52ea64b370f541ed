"""Notices: once, to the right place, without harm to what they tell of."""

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from agentloop import database as databases
from agentloop.adapters.notices import ATTEMPTS, Command, NotGiven, Webhook
from agentloop.errors import ConfigError
from agentloop.operation import tables
from agentloop.operation.metrics import Metrics
from agentloop.operation.notices import KINDS, MOST_TRIES, Notice, Notifier, Way, of_session
from agentloop.operation.reports import run_report
from agentloop.testing import NOON, events, given, started
from agentloop.types.events import CallHeld, SessionEnded
from agentloop.workspace import NoticeKind
from tests.unit.lines import answered, asked

ALL: tuple[NoticeKind, ...] = ("failure", "budget", "approval", "silence", "success")


class Kept:
    """A way that keeps what it is given, and fails as often as it is told to."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.given: list[Notice] = []

    def give(self, notice: bytes) -> None:
        if self.fails:
            self.fails -= 1
            raise NotGiven("the network is down")
        self.given.append(Notice.model_validate_json(notice))


def notice(outcome: str = "failed", subject: str = "s", kind: NoticeKind = "failure") -> Notice:
    return Notice(kind=kind, subject=subject, outcome=outcome, summary="it failed", next_step="look", at=NOON)


def notifier(url: str, *to: Way, kinds: tuple[NoticeKind, ...] = ALL) -> Notifier:
    return Notifier(lambda: databases.engine(url), to, kinds, metrics=Metrics())


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("new_postgres_url"))
    return f"sqlite:///{tmp_path / 'operation.sqlite'}"


def test_a_notice_is_given_once_however_many_processes_say_it(url: str) -> None:
    kept = Kept()

    new = [notifier(url, kept).tell(notice(), NOON) for _ in range(3)]

    assert new == [True, False, False]
    assert [n.subject for n in kept.given] == ["s"]


def test_another_outcome_or_another_session_is_another_notice(url: str) -> None:
    kept, one = Kept(), notice()

    for each in (one, notice(outcome="budget_exceeded"), notice(subject="t"), one):
        notifier(url, kept).tell(each, NOON)

    assert [(n.subject, n.outcome) for n in kept.given] == [("s", "failed"), ("s", "budget_exceeded"), ("t", "failed")]


def test_a_notice_that_could_not_be_given_is_given_at_the_next_occasion(url: str) -> None:
    kept = Kept(fails=2)
    notifier(url, kept).tell(notice(), NOON)

    first = notifier(url, kept).give_waiting(NOON + timedelta(minutes=5))
    second = notifier(url, kept).give_waiting(NOON + timedelta(minutes=10))
    third = notifier(url, kept).give_waiting(NOON + timedelta(minutes=15))

    assert (first, second, third) == (0, 1, 0)
    assert len(kept.given) == 1


def test_a_notice_whose_giver_died_is_free_again_after_a_while(url: str) -> None:
    engine = databases.engine(url)
    tables.make(engine)
    with databases.transaction(engine) as c:
        tables.keep(c, tables.Kept("s", "failed", notice().model_dump_json()), NOON)
        assert len(list(tables.taken(c, NOON, MOST_TRIES))) == 1

    kept = Kept()
    soon = notifier(url, kept).give_waiting(NOON + timedelta(minutes=1))
    later = notifier(url, kept).give_waiting(NOON + tables.CLAIM + timedelta(seconds=1))

    assert (soon, later) == (0, 1)


def test_a_notice_is_not_tried_for_ever(url: str) -> None:
    kept = Kept(fails=1_000)
    notifier(url, kept).tell(notice(), NOON)

    for n in range(2 * MOST_TRIES):
        notifier(url, kept).give_waiting(NOON + timedelta(hours=n))

    assert kept.fails == 1_000 - MOST_TRIES


def test_only_what_was_asked_for_is_told_and_without_a_way_nothing_is_opened() -> None:
    def no_database() -> Any:
        raise AssertionError("nobody needs a database")

    kept = Kept()
    assert not Notifier(no_database, [kept], ["budget"]).tell(notice(), NOON)
    assert not Notifier(no_database, [], ALL).tell(notice(), NOON)
    assert kept.given == []


def test_a_database_that_is_gone_does_not_keep_a_notice_back(tmp_path: Path) -> None:
    kept = Kept()
    (tmp_path / "operation.sqlite").write_bytes(b"this is no database" * 100)

    told = notifier(f"sqlite:///{tmp_path / 'operation.sqlite'}", kept).tell(notice(), NOON)

    assert told
    assert len(kept.given) == 1


# what is said about a session


def ended(outcome: str, *more: object) -> Notice | None:
    body = SessionEnded.model_validate({"outcome": outcome, "detail": "for a reason"})
    return of_session(run_report(events(started(), given("task"), *more, body)), NOON, schedule="daily", page="report.md")


@pytest.mark.parametrize("outcome", sorted(KINDS.keys() - {"error"}))
def test_each_end_is_told_with_its_reason_and_the_next_step(outcome: str) -> None:
    said = ended(outcome)

    assert said is not None
    assert said.kind == KINDS[outcome]
    assert outcome in said.summary
    assert "for a reason" in said.summary
    assert said.next_step
    assert (said.schedule, said.report) == ("daily", "report.md")


def test_a_session_that_goes_on_by_itself_is_not_told() -> None:
    assert ended("sleeping") is None
    assert ended("interrupted") is None


def test_a_session_that_waits_says_which_commands_answer_and_is_told_again_for_other_calls() -> None:
    from agentloop.testing import calls_tool

    def waiting(call_id: str) -> Notice | None:
        held = CallHeld(turn=1, call_id=call_id, name="pay", reason="not granted")
        return ended("waiting_for_approval", asked(), answered(calls_tool(call_id, "pay")), held)

    first, second = waiting("toolu_1"), waiting("toolu_2")
    assert first is not None
    assert second is not None
    assert first.commands == ("agentloop approve test toolu_1", "agentloop deny test toolu_1")
    assert first.event != second.event


# ways


def webhook(answer: Callable[[httpx2.Request], httpx2.Response]) -> Webhook:
    client = httpx2.Client(transport=httpx2.MockTransport(answer), follow_redirects=False)
    return Webhook("https://hooks.example/T0/secret-path", client=client, sleep=lambda s: None)


def test_a_webhook_gets_the_notice_as_json() -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(204)

    webhook(answer).give(notice().model_dump_json().encode())

    assert json.loads(seen[0].content)["outcome"] == "failed"
    assert seen[0].headers["content-type"] == "application/json"
    assert "authorization" not in seen[0].headers


@pytest.mark.parametrize(("status", "tries"), [(500, ATTEMPTS), (503, ATTEMPTS), (429, ATTEMPTS), (404, 1), (302, 1), (308, 1)])
def test_a_webhook_is_tried_again_only_where_that_can_help(status: int, tries: int) -> None:
    seen: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(str(request.url))
        return httpx2.Response(status, headers={"location": "http://169.254.169.254/"})

    with pytest.raises(NotGiven, match=str(status)) as told:
        webhook(answer).give(b"{}")

    assert seen == ["https://hooks.example/T0/secret-path"] * tries
    assert "secret-path" not in str(told.value)


def test_a_webhook_that_cannot_be_reached_is_tried_a_few_times() -> None:
    seen: list[int] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(1)
        raise httpx2.ConnectError("no route")

    with pytest.raises(NotGiven, match="cannot be reached"):
        webhook(answer).give(b"{}")
    assert len(seen) == ATTEMPTS


@pytest.mark.parametrize(
    "url", ["http://hooks.example/x", "ftp://127.0.0.1/", "file:///etc/passwd", "hooks.example", "http://[x"]
)
def test_a_webhook_is_https_or_on_this_machine(url: str) -> None:
    with pytest.raises(ConfigError, match="notify_webhook"):
        Webhook(url)
    Webhook("http://127.0.0.1:9/x")
    Webhook("http://localhost:9/x")


def test_a_command_gets_the_notice_and_no_keys(tmp_path: Path) -> None:
    target = tmp_path / "said"
    program = "import os, sys; open(sys.argv[1], 'w').write(sys.stdin.read() + '|' + ' '.join(sorted(os.environ)))"
    environment = {"PATH": "/usr/bin:/bin", "ANTHROPIC_API_KEY": "sk-1", "LANG": "C.UTF-8"}

    Command([sys.executable, "-c", program, str(target)], environment=environment).give(b'{"a": "$(id); `id`"}')

    said, _, names = target.read_text().partition("|")
    assert said == '{"a": "$(id); `id`"}'
    assert "PATH" in names
    assert "KEY" not in names


def test_a_command_that_fails_or_hangs_is_said_so_and_ended(tmp_path: Path) -> None:
    hanging = "import subprocess, sys, time; subprocess.Popen(['sleep', '77']); time.sleep(77)"
    cases = {
        "ended with code 3": [sys.executable, "-c", "import sys; sys.exit(3)"],
        "took longer than 0.5 s": [sys.executable, "-c", hanging],
        "cannot be run": [str(tmp_path / "missing")],
    }

    for said, arguments in cases.items():
        with pytest.raises(NotGiven, match=said):
            Command(arguments, limit_s=0.5).give(b"{}")
