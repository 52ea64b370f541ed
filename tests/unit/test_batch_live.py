"""Rows that are asked again live: side by side, within the budget, each once."""

import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from agentloop.adapters.messages_api import MessagesApi
from agentloop.batch_calls import Standing
from agentloop.batching import items, results_file
from agentloop.batching.events import LiveAsked, Received
from agentloop.batching.means import Means
from agentloop.batching.state import BatchState
from agentloop.emulated import EmulatedApi
from agentloop.emulator.transport import BASE_URL
from agentloop.emulator.transport import client as in_process
from agentloop.errors import BatchStopped
from agentloop.ports import ModelClient
from agentloop.types.base import Json
from agentloop.types.request import Failure, Reply
from tests import batch_runs as runs
from tests.batch_runs import DAY_S, FITS, emulated, order, structured, tickets

WAIT_S = 20.0
"""Real seconds until a thread that nobody joins gives up."""


def wrong_at_first(request: Json, step: int) -> str:
    return FITS if "could not be used" in request["messages"][0]["content"] else "not this"


class Together:
    """A model that answers only when so many ask at once; each answer is that of the emulator."""

    def __init__(self, api: EmulatedApi, at_once: int) -> None:
        self.barrier = threading.Barrier(at_once)
        self.most = self.now = self.made = 0
        self._api, self._lock = api, threading.Lock()

    def __call__(self) -> ModelClient:
        self.made += 1
        http = in_process(self._api.emulator, self._api.pass_)
        return _Seat(self, MessagesApi(api_key="emulator", base_url=BASE_URL, http_client=http))

    def count(self, more: int) -> None:
        with self._lock:
            self.now += more
            self.most = max(self.most, self.now)


class _Seat:
    def __init__(self, together: Together, model: MessagesApi) -> None:
        self._together, self._model = together, model

    def ask(self, body: bytes) -> Iterator[Failure | Reply]:
        self._together.count(1)
        self._together.barrier.wait(WAIT_S)
        yield from self._model.ask(body)
        self._together.count(-1)


def live_run(
    folder: Path, api: EmulatedApi, rows: int, at_once: int, max_budget_usd: Decimal | None = None, threads: int | None = None
) -> runs.BatchRun:
    """The run of these rows at its end: every row is asked live once after its batch, and so many are seen at once."""
    wanted = order(tickets(rows), output=structured(), retry="live", max_budget_usd=max_budget_usd)
    together = Together(api, at_once)
    made = runs.made(api, wanted)
    with runs.store(folder).log("tickets") as log:
        runs.prepare(log, made, wanted.rows, runs.Clock(api).now)
        known = {**vars(runs.means(api, made)), "live": together, "live_at_once": threads or at_once}
        run = runs.BatchRun(log, Means(**known))
        run.carry_on(max_wait_s=DAY_S)
    assert together.most == at_once
    assert together.made <= (threads or at_once)
    return run


@pytest.mark.parametrize("at_once", [1, 4])
def test_rows_are_asked_side_by_side_and_the_results_stand_in_the_order_of_the_rows(tmp_path: Path, at_once: int) -> None:
    api = emulated(wrong_at_first)

    state = live_run(tmp_path, api, 12, at_once).state

    told = list(results_file.rows(state, runs.store(tmp_path).log("tickets")))
    assert [row["fields"] for row in told] == tickets(12)
    assert {(row["outcome"], row["attempts"]) for row in told} == {("succeeded", 2)}
    assert state.spent_usd == runs.paid(api) == sum(Decimal(row["cost_usd"]) for row in told)
    assert state.at_risk_usd == state.set_aside_usd == 0


def test_what_is_under_way_never_comes_to_more_than_the_budget_has(tmp_path: Path) -> None:
    api = emulated(wrong_at_first)
    ask = runs.made(api, order(tickets(1), output=structured())).ask
    one = items.most_usd(ask)(items.params(ask, tickets(1)[0], "not JSON: Expecting value: line 1 column 1 (char 0)"))
    budget = one * 5 / 2

    run = live_run(tmp_path, api, 4, 2, max_budget_usd=budget, threads=4)

    assert runs.verdicts(run.state) == {"succeeded": 4}
    assert run.state.spent_usd == runs.paid(api) <= budget
    under_way: set[int] = set()
    most = 0
    for event in runs.store(tmp_path).log("tickets").events():
        if isinstance(event.body, LiveAsked):
            under_way.add(event.body.row)
        if isinstance(event.body, Received):
            under_way -= {item.row for item in event.body.items}
        most = max(most, len(under_way))
    assert most == 2


def test_an_interrupt_begins_no_further_row_and_keeps_the_answers_that_are_paid_for(tmp_path: Path) -> None:
    api = emulated(wrong_at_first)
    wanted = order(tickets(9), output=structured(), retry="live")
    interrupts = [KeyboardInterrupt()]

    def interrupt(state: BatchState, standing: Standing | None) -> None:
        if len(state.asked_live) == 3 and interrupts:
            raise interrupts.pop()

    with runs.opened(tmp_path, api, wanted, progress=interrupt) as run, pytest.raises(KeyboardInterrupt):
        run.carry_on(max_wait_s=DAY_S)
    left = runs.store(tmp_path).state("tickets")
    state = runs.finished(tmp_path, api, wanted)

    assert left is not None
    assert (len(left.asked_live), runs.verdicts(left)) == (1, {"succeeded": 2, "invalid": 7})
    assert runs.verdicts(state) == {"succeeded": 9}
    assert state.spent_usd == runs.paid(api)


def test_where_nobody_answers_no_further_row_is_begun_and_those_under_way_are_written_down(tmp_path: Path) -> None:
    api = emulated(wrong_at_first)
    gate = threading.Barrier(3)

    class Seat:
        def ask(self, body: bytes) -> Iterator[Failure | Reply]:
            gate.wait(WAIT_S)
            yield Failure(kind="unavailable", error_type="overloaded_error", message="too much", possibly_billed=False)

    wanted = order(tickets(9), output=structured(), retry="live")
    with runs.store(tmp_path).log("tickets") as log:
        made = runs.made(api, wanted)
        runs.prepare(log, made, wanted.rows, runs.Clock(api).now)
        known = {**vars(runs.means(api, made)), "live": Seat, "live_at_once": 3}
        with pytest.raises(BatchStopped, match=r"row \d+: too much") as stopped:
            runs.BatchRun(log, Means(**known)).carry_on(max_wait_s=DAY_S)
    asked = [e for e in runs.store(tmp_path).log("tickets").events() if isinstance(e.body, LiveAsked)]
    state = runs.finished(tmp_path, api, wanted)

    assert stopped.value.exit_code == 75
    assert len(asked) == 3
    assert runs.verdicts(state) == {"succeeded": 9}
    assert state.spent_usd == runs.paid(api)
