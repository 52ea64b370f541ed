"""`agentloop queue …` and `agentloop worker` as a person runs them."""

import json
from pathlib import Path

import pytest

from tests.e2e.workplace import Ran, agentloop, workspace

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return workspace(tmp_path)


def test_a_session_goes_through_the_queue(folder: Path) -> None:
    submitted = agentloop(folder, "queue", "submit", "assistant", "-p", "Count.", "--session-id", "s", "--json")
    waiting = agentloop(folder, "queue", "list", "--json")
    worked = agentloop(folder, "worker", "--drain")
    over = agentloop(folder, "queue", "list", "--all", "--json")

    assert json.loads(submitted.out) == {"session_id": "s", "run": "s", "new": True}
    [before], [after] = json.loads(waiting.out), json.loads(over.out)
    assert (before["standing"], before["agent"], before["worker"], before["cost_usd"]) == ("queued", "assistant", None, None)
    assert (worked.code, after["standing"], after["outcome"]) == (0, "done", "completed")
    assert after["created_at"].endswith("Z")
    assert float(after["cost_usd"]) > 0
    assert json.loads(agentloop(folder, "queue", "list", "--json").out) == []
    assert "completed" in agentloop(folder, "sessions", "list").out


def test_a_session_that_was_queued_already_is_said_to_be(folder: Path) -> None:
    agentloop(folder, "queue", "submit", "assistant", "-p", "Count.", "--session-id", "s")

    again = agentloop(folder, "queue", "submit", "assistant", "-p", "Count.", "--session-id", "s")

    assert (again.code, again.out) == (0, "s is in the queue already, or was: 'agentloop queue again' runs it once more\n")


def test_a_queue_is_paused_and_resumed(folder: Path) -> None:
    def paused() -> bool:
        [queue] = json.loads(agentloop(folder, "queue", "show", "--json").out)
        return bool(queue["paused"])

    assert agentloop(folder, "queue", "pause").code == 0
    assert paused()
    assert agentloop(folder, "queue", "resume").code == 0
    assert not paused()


def test_cancelling_and_running_again(folder: Path) -> None:
    agentloop(folder, "queue", "submit", "assistant", "-p", "Count.", "--session-id", "s", "--at", "2030-01-01T00:00:00+0000")

    assert agentloop(folder, "queue", "cancel", "s").out == "s is cancelled\n"
    assert agentloop(folder, "queue", "again", "s").out == "s#2 is queued\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("submit", "nobody", "-p", "Go."), "nobody"),
        (("submit", "assistant", "-p", "Go.", "--session-id", "../x"), "is not a session id"),
        (("submit", "assistant", "-p", "Go.", "--queue", "post"), "there is no queue 'post'"),
        (("submit", "assistant", "-p", "Go.", "--max-budget-usd", "nan"), "must be an amount in USD"),
        (("cancel", "s"), "session 's' is not in the queue"),
        (("release", "s"), "session 's' is not held"),
        (("again", "s"), "session 's' never came through the queue"),
        (("pause", "post"), "there is no queue 'post'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_few_lines(command: tuple[str, ...], said: str, folder: Path) -> None:
    ran = agentloop(folder, "queue", *command)

    assert _refused(ran, said)


def test_a_worker_for_a_queue_that_is_none_is_refused(folder: Path) -> None:
    assert _refused(agentloop(folder, "worker", "--queue", "post", "--drain"), "there is no queue 'post'")


def _refused(ran: Ran, said: str) -> bool:
    lines = [line for line in ran.err.splitlines() if not line.startswith("worker ")]
    return ran.code == 2 and said in ran.err and "Traceback" not in ran.err and len(lines) <= 3
