"""Batches of independent prompts, killed at random and carried on: every item one outcome, nothing paid for twice."""

import signal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from anthropic import Anthropic

from agentloop.adapters.model_table import models
from agentloop.batching.bill import summary
from agentloop.batching.events import Received
from agentloop.batching.state import fold
from agentloop.batching.store import BatchStore
from agentloop.emulated import START, as_script
from agentloop.emulator import Emulator, EmulatorSettings
from agentloop.emulator.server import running
from agentloop.emulator.settings import BatchSettings
from agentloop.types.base import Json
from tests.batch_runs import FITS, cost_of_results
from tests.e2e.batch_lives import CONTEXT, WORKS, Place, lives

KILLS = 10
SETTINGS = EmulatorSettings(batches=BatchSettings(errored=0.03, expired=0.02), seed=7)


def answer(request: Json, step: int) -> str:
    prompt = request["messages"][0]["content"]
    if "output_config" not in request:
        return f"In short: {prompt[:40]}"
    wrong = len(prompt) % 37 == 0 and "could not be used" not in prompt
    return '{"kind":"rant","score":-1}' if wrong else FITS


class Api:
    """An emulator on a port, whose clock the lives share."""

    def __init__(self) -> None:
        self.clock = CONTEXT.Value("d", START)
        self.emulator = Emulator(as_script(answer), models(), clock=lambda: float(self.clock.value), settings=SETTINGS)
        self.url = ""

    def client(self) -> Anthropic:
        return Anthropic(api_key="emulator", base_url=self.url, max_retries=0)


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    with running(made.emulator) as url:
        made.url = url
        yield made


def assert_once_and_paid_once(store: BatchStore, work: str, api: Api) -> None:
    """Every item one outcome, the counts add up, each batch was made once, the bill is the sum of usage and half of live."""
    rows, log = len(WORKS[work].rows), store.log(work)
    received = [(e.body.round, i) for e in log.events() if isinstance(e.body, Received) for i in e.body.items]
    state = fold(log.events())
    assert state is not None
    found = summary(state, "log")
    assert state.ended
    assert sorted(state.items) == list(range(rows))
    assert sum(found.outcomes.values()) == found.done == rows
    assert found.outcomes["succeeded"] >= 0.985 * rows
    assert found.asked_again >= 0.03 * rows
    made = [b.id for b in api.client().messages.batches.list()]
    assert sorted(made) == sorted(b.batch_id for b in found.batches)
    assert len({(number, i.row) for number, i in received}) == len(received) == rows + found.asked_again
    cost, succeeded = cost_of_results(api.client(), made)
    assert succeeded == sum(i.reply is not None for _, i in received)
    assert state.spent_usd == cost == Decimal(api.emulator.report()["totals"]["cost_usd"])
    assert state.spent_usd * 2 == state.live_usd
    assert state.set_aside_usd == state.at_risk_usd == 0


@pytest.mark.slow
@pytest.mark.parametrize("work", WORKS)
def test_a_run_that_is_killed_ten_times_gives_each_item_one_outcome_and_pays_once(tmp_path: Path, api: Api, work: str) -> None:
    codes = lives(work, Place(str(tmp_path), api.url, None, api.clock), KILLS, seed=len(work))

    assert codes[-1] == 0
    assert codes.count(-signal.SIGKILL) >= 5, codes
    assert_once_and_paid_once(BatchStore(tmp_path, None), work, api)


@pytest.mark.slow
def test_a_run_in_a_shared_database_is_carried_on_by_one_machine_after_the_other(
    tmp_path: Path, api: Api, postgres_url: str
) -> None:
    def machine(n: int) -> Place:
        return Place(str(tmp_path / f"machine-{n}"), api.url, postgres_url, api.clock)

    codes = lives("tickets", machine(0), 6, seed=3, elsewhere=machine)

    assert codes[-1] == 0
    assert -signal.SIGKILL in codes
    assert_once_and_paid_once(BatchStore(tmp_path, postgres_url), "tickets", api)
