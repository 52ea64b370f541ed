"""`agentloop cron`, as a person and as the machine's own cron call it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from agentloop.cli.cron_store import opened
from agentloop.schedule.tables import SCHEDULES
from tests.e2e.workplace import PLAIN, Ran, agentloop, workspace

KILLED_AT = """
import os, signal, sys
from agentloop.crash_points import watching
from agentloop.cli import main
point = sys.argv.pop(1)
with watching(lambda name: name == point and os.kill(os.getpid(), signal.SIGKILL)):
    main()
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return workspace(tmp_path)


def due_now(shop: Path, *options: str, name: str = "assistant") -> datetime:
    """A schedule whose one due time of the day was a moment ago."""
    due = datetime.now(UTC).replace(second=0, microsecond=0)
    add = ("cron", "add", "assistant", "--name", name, "--cron", f"{due.minute} {due.hour} * * *", *options)
    assert agentloop(shop, *add).code == 0
    there_since(shop, due - timedelta(seconds=30))
    return due


def there_since(shop: Path, at: datetime) -> None:
    with opened(shop) as here, here.store.database.begin() as connection:
        connection.execute(sa.update(SCHEDULES).values(since=at, seen_until=at))


def history(shop: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(agentloop(shop, "cron", "history", "--json").out)
    return found


def test_a_schedule_is_added_listed_paused_resumed_and_removed(shop: Path) -> None:
    added = agentloop(shop, "cron", "add", "assistant", "--cron", "30 2 * * *", "--zone", "Europe/Dublin", "--json")
    assert {"assistant", "Europe/Dublin", "database"} < set(map(str, json.loads(added.out).values()))

    agentloop(shop, "cron", "pause", "assistant", "--reason", "holidays")
    listed = json.loads(agentloop(shop, "cron", "list", "--json").out)["schedules"]
    assert [(s["name"], s["paused"], s["next"]) for s in listed] == [("assistant", "holidays", None)]

    resumed = agentloop(shop, "cron", "resume", "assistant")
    assert "02:30" in resumed.out
    assert agentloop(shop, "cron", "remove", "assistant").code == 0
    assert json.loads(agentloop(shop, "cron", "list", "--json").out)["schedules"] == []


def test_both_kinds_of_schedule_are_listed_with_where_they_stand(shop: Path) -> None:
    prompt = shop / "prompts/assistant.md"
    prompt.write_text(prompt.read_text().replace("max_turns: 20", "max_turns: 20\nschedule: 0 6 * * *"))
    agentloop(shop, "cron", "add", "assistant", "--cron", "@hourly", "--name", "often")

    listed = json.loads(agentloop(shop, "cron", "list", "--json").out)["schedules"]
    refused = agentloop(shop, "cron", "remove", "assistant")
    twice = agentloop(shop, "cron", "add", "assistant", "--cron", "@daily")

    assert [(s["name"], s["cron"], s["origin"]) for s in listed] == [
        ("assistant", "0 6 * * *", "prompts/assistant.md"),
        ("often", "@hourly", "database"),
    ]
    assert (refused.code, "take the line 'schedule:' out of that file" in refused.err) == (2, True)
    assert (twice.code, "--name" in twice.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "assistant", "--cron", "0 0 30 2 *"), "day of the month '30' in month '2'"),
        (("add", "assistant", "--cron", "0 0 * * * *"), "has 6 fields"),
        (("add", "assistant", "--cron", "@daily", "--zone", "Europe/Dublim"), "Europe/Dublin"),
        (("add", "nobody", "--cron", "@daily"), "no agent 'nobody'"),
        (("run-now", "nobody"), "no schedule 'nobody'"),
        (("pause", "nobody"), "no schedule 'nobody'"),
        (("history", "nobody"), "no schedule 'nobody'"),
    ],
)
def test_what_cannot_be_is_told_in_a_few_lines(shop: Path, arguments: tuple[str, ...], said: str) -> None:
    ran = agentloop(shop, "cron", *arguments)

    assert (ran.code, said in ran.err, len(ran.err.splitlines()) <= 3) == (2, True, True)


def test_a_tick_where_nothing_is_due_says_nothing(shop: Path) -> None:
    assert agentloop(shop, "cron", "tick") == Ran(0, "", "")
    assert agentloop(shop, "cron", "tick", "--json").out.strip() == "[]"


def test_a_tick_runs_what_is_due_from_the_machines_own_cron(shop: Path) -> None:
    """J12: no home, no terminal, standard input closed, another folder, no locale, a PATH of two folders."""
    due = due_now(shop)

    command = [sys.executable, "-m", "agentloop", "cron", "tick", "--workspace", str(shop), "--json"]
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C"}
    closed = ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *command]
    ran = subprocess.run(closed, cwd="/", env=environment, capture_output=True, timeout=120, check=False)

    assert (ran.returncode, ran.stderr.decode()) == (0, "")
    (row,) = json.loads(ran.stdout)
    assert (row["status"], row["outcome"], row["session_id"]) == ("done", "completed", f"assistant-{due:%Y%m%dT%H%M}Z")
    assert (shop / "sessions" / row["session_id"] / "log.jsonl").is_file()
    assert agentloop(shop, "cron", "tick") == Ran(0, "", "")


def test_a_tick_names_what_is_missing_before_anything_is_paid_for(shop: Path) -> None:
    due_now(shop)

    ran = agentloop(shop, "cron", "tick", AGENTLOOP_PROVIDER="anthropic")

    assert ran.code == 2
    assert "ANTHROPIC_API_KEY" in ran.out
    assert not list((shop / "sessions").glob("*/log.jsonl"))


@pytest.mark.parametrize(("setting", "value", "code"), [("MAX_TURNS", "1", 3), ("MAX_BUDGET_USD", "0", 3)])
def test_the_exit_code_of_a_tick_tells_how_its_run_ended(shop: Path, setting: str, value: str, code: int) -> None:
    due_now(shop)

    assert agentloop(shop, "cron", "tick", **{f"AGENTLOOP_{setting}": value}).code == code


@pytest.mark.parametrize("point", ["schedule.claimed", "schedule.begun", "session.started", "reply.recorded", "schedule.ended"])
def test_a_tick_that_is_killed_anywhere_is_carried_on_by_the_next_one(shop: Path, point: str) -> None:
    due = due_now(shop)

    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT, point, "cron", "tick"], cwd=shop, env=PLAIN, capture_output=True, timeout=120
    )
    next_one = agentloop(shop, "cron", "tick")

    assert killed.returncode == -signal.SIGKILL
    assert next_one.code == 0
    assert [(r["status"], r["session_id"]) for r in history(shop)] == [("done", f"assistant-{due:%Y%m%dT%H%M}Z")]
    assert [p.name for p in (shop / "sessions").iterdir()] == [f"assistant-{due:%Y%m%dT%H%M}Z"]


def test_four_ticks_at_once_make_one_run(shop: Path) -> None:
    due_now(shop)

    command = [sys.executable, "-m", "agentloop", "cron", "tick"]
    ticks = [subprocess.Popen(command, cwd=shop, env=PLAIN, stdout=subprocess.PIPE) for _ in range(4)]
    printed = [tick.communicate(timeout=120)[0] for tick in ticks]

    assert [row["status"] for row in history(shop)] == ["done"]
    assert sum(b"completed" in text for text in printed) == 1


def test_a_run_by_hand_prints_what_came_of_it(shop: Path) -> None:
    agentloop(shop, "cron", "add", "assistant", "--cron", "@yearly")

    ran = agentloop(shop, "cron", "run-now", "assistant")

    assert ran.code == 0
    assert re.fullmatch(r"assistant-\d{8}T\d{6}Z completed: run by hand\n", ran.out)


@contextmanager
def serving(shop: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "agentloop", "cron", "serve", *options]
    process = subprocess.Popen(
        command, cwd=shop, env=PLAIN, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def test_serve_runs_what_is_due_answers_how_it_is_and_ends_cleanly(shop: Path) -> None:
    due_now(shop)

    with serving(shop, "--listen", "127.0.0.1:0", "--json") as process:
        assert process.stderr is not None
        assert process.stdout is not None
        url = process.stderr.readline().split()[-1]
        events = [json.loads(process.stdout.readline()) for _ in range(2)]
        with urllib.request.urlopen(f"{url}/healthz", timeout=30) as answer:
            healthy = answer.status
        alive = json.loads(agentloop(shop, "cron", "list", "--json").out)["schedulers"]
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)

    assert [e["event"] for e in events] == ["started", "ended"]
    assert events[1]["due_time"]["outcome"] == "completed"
    assert (healthy, code) == (200, 0)
    assert [s["alive"] for s in alive] == [True]
    assert json.loads(agentloop(shop, "cron", "list", "--json").out)["schedulers"] == []


def test_a_serve_that_dies_goes_silent_where_others_can_see_it(shop: Path) -> None:
    with serving(shop) as process:
        deadline = time.monotonic() + 60
        while not (found := seen(shop, timedelta())):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait(30)

    assert [s["alive"] for s in found] == [True]
    assert [s["alive"] for s in seen(shop, timedelta(minutes=2))] == [False]


def seen(shop: Path, later: timedelta) -> list[dict[str, object]]:
    with opened(shop) as here:
        return here.schedulers(datetime.now(UTC) + later)


def test_no_file_of_the_schedules_can_be_read_by_others(shop: Path) -> None:
    due_now(shop)
    agentloop(shop, "cron", "tick")

    modes = {p.name: oct(p.stat().st_mode & 0o777) for p in (shop / ".agentloop").rglob("*") if p.is_file()}

    assert modes
    assert set(modes.values()) == {"0o600"}, modes
    assert oct(os.stat(shop / ".agentloop").st_mode & 0o777) == "0o700"


def test_schedules_and_sessions_may_both_be_in_a_database_that_machines_share(shop: Path, new_postgres_url: str) -> None:
    shared = {"AGENTLOOP_DATABASE_URL": new_postgres_url}
    agentloop(shop, "cron", "add", "assistant", "--cron", "@yearly", **shared)

    ran = agentloop(shop, "cron", "run-now", "assistant", "--json", **shared)
    listed = json.loads(agentloop(shop, "sessions", "list", "--json", **shared).out)

    (row,) = json.loads(ran.out)
    assert (ran.code, row["outcome"]) == (0, "completed"), ran.err
    assert [s["session_id"] for s in listed] == [row["session_id"]]
    assert not list(shop.glob("sessions/*/log.jsonl"))
