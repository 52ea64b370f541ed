"""The progress line of a batch run."""

from pathlib import Path

from agentloop.cli.batch_line import told
from agentloop.emulated import EmulatedApi
from tests import batch_runs as runs
from tests.batch_runs import DAY_S, order, tickets


def test_the_line_says_how_many_rows_have_a_result_and_what_they_cost(tmp_path: Path) -> None:
    api = EmulatedApi("fine")
    with runs.opened(tmp_path, api, order(tickets(4))) as run:
        sent = told(run.carry_on(collects=False), "in progress")
        done = told(run.carry_on(max_wait_s=DAY_S), "ended")

    assert sent == "░" * 24 + " 0/4 · 1 under way · in progress · $0.0000"
    assert done.startswith("█" * 24 + " 4/4 · 0 under way · ended · $0.")
