"""`agentloop cron tick --queue` and `agentloop worker`: one decides what is due, the other runs it."""

import json
from pathlib import Path

import pytest

from tests.e2e.test_cron import due_now, history
from tests.e2e.workplace import Ran, agentloop, workspace

pytestmark = pytest.mark.slow


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return workspace(tmp_path)


def statuses(shop: Path) -> list[tuple[object, object]]:
    return [(row["status"], row["outcome"]) for row in history(shop)]


def test_what_a_tick_gives_to_the_queue_is_run_by_a_worker_and_settled_by_the_next_tick(shop: Path) -> None:
    due = due_now(shop)

    given = agentloop(shop, "cron", "tick", "--queue", "default", "--json")
    again = agentloop(shop, "cron", "tick", "--queue", "default")
    worked = agentloop(shop, "worker", "--drain")
    settled = agentloop(shop, "cron", "tick", "--queue", "default", "--json")

    (row,) = json.loads(given.out)
    assert (given.code, row["status"], row["session_id"]) == (0, "submitted", f"assistant-{due:%Y%m%dT%H%M}Z"), given.err
    assert (again.code, again.out, worked.code, settled.code) == (0, "", 0, 0), worked.err
    assert statuses(shop) == [("done", "completed")]
    assert [p.name for p in (shop / "sessions").iterdir()] == [row["session_id"]]
    assert len(json.loads(agentloop(shop, "queue", "list", "--all", "--json").out)) == 1


@pytest.mark.parametrize("options", [(), ("--queue", "default")])
def test_a_run_that_was_taken_out_of_the_queue_is_over_for_any_tick(shop: Path, options: tuple[str, ...]) -> None:
    """No log tells of it: the queue is asked, by those too who give nothing to it."""
    due = due_now(shop)
    agentloop(shop, "cron", "tick", "--queue", "default")
    assert agentloop(shop, "queue", "cancel", f"assistant-{due:%Y%m%dT%H%M}Z").code == 0

    looked = agentloop(shop, "cron", "tick", *options)

    assert looked.code == 0
    assert statuses(shop) == [("done", "cancelled")]
    assert [row["reason"] for row in history(shop)] == ["taken out of the queue"]


def test_a_run_that_waits_in_the_queue_is_left_there_by_a_tick_without_it(shop: Path) -> None:
    due_now(shop)
    agentloop(shop, "cron", "tick", "--queue", "default")

    assert agentloop(shop, "cron", "tick") == Ran(0, "", "")
    assert statuses(shop) == [("submitted", None)]
    assert agentloop(shop, "worker", "--drain").code == 0
    assert agentloop(shop, "cron", "tick").code == 0
    assert statuses(shop) == [("done", "completed")]


def test_an_overlapping_due_time_is_left_out_while_the_run_before_waits_in_the_queue(shop: Path) -> None:
    due_now(shop)
    agentloop(shop, "cron", "tick", "--queue", "default")

    refused = agentloop(shop, "cron", "run-now", "assistant")

    assert refused.code == 75
    assert "is running already" in refused.err
