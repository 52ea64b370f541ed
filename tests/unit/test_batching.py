"""Batch runs on the emulator: from rows to outcomes, through everything that batches can do on the way."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from agentloop.batch_life import Limits
from agentloop.batching import results_file
from agentloop.batching.bill import summary
from agentloop.batching.decide import Plan
from agentloop.batching.state import fold
from agentloop.errors import UsageError
from agentloop.types import blocks
from agentloop.types.base import Json
from tests import batch_runs as runs
from tests.batch_runs import DAY_S, FITS, Go, emulated, order, said, sometimes_wrong, tickets


def test_every_row_gets_the_answer_to_its_own_prompt_though_results_come_shuffled(tmp_path: Path) -> None:
    api = emulated()

    state = runs.finished(tmp_path, api, order(tickets(50)))

    told = results_file.rows(state, runs.store(tmp_path).log("tickets"))
    assert [row["output"] for row in told] == [f"about {row}" for row in range(50)]
    assert state.ended
    assert runs.verdicts(state) == {"succeeded": 50}


def test_the_bill_is_the_sum_of_recorded_usage_and_half_of_what_live_calls_cost(tmp_path: Path) -> None:
    api = emulated()

    state = runs.finished(tmp_path, api, order(tickets(20)))

    assert state.spent_usd == runs.paid(api)
    assert state.spent_usd * 2 == state.live_usd
    assert summary(state, "log").ratio_to_live == 0.5


def test_items_that_failed_for_a_time_or_expired_are_asked_once_more_and_the_counts_add_up(tmp_path: Path) -> None:
    api = emulated(errored=0.1, expired=0.1)

    state = runs.finished(tmp_path, api, order(tickets(200), max_retries=1))

    found = runs.verdicts(state)
    assert sum(found.values()) == 200
    assert 170 < found["succeeded"] < 200
    assert summary(state, "log").asked_again > 20
    assert {i.attempts for i in state.items.values()} == {1, 2}


def test_without_retries_each_item_keeps_the_outcome_that_its_batch_gave_it(tmp_path: Path) -> None:
    api = emulated(errored=0.1, expired=0.1)

    state = runs.finished(tmp_path, api, order(tickets(100), retry="none"))

    assert set(runs.verdicts(state)) == {"succeeded", "errored", "expired"}
    assert {i.retryable for i in state.items.values() if i.verdict != "succeeded"} == {True}
    assert len(state.rounds) == 1


def test_an_item_that_the_api_refuses_for_good_is_not_asked_again(tmp_path: Path) -> None:
    def answer(request: Json, step: int) -> str:
        return said(request, step)

    api = emulated(answer)
    wanted = order([{"text": "a"}, {"text": "b"}], effort="max", system="x")
    run = runs.made(api, wanted)
    broken = run.ask.model_copy(update={"card": run.ask.card.model_copy(update={"id": "claude-nobody"})})
    with runs.store(tmp_path).log("tickets") as log:
        runs.prepare(log, run.model_copy(update={"ask": broken}), wanted.rows, runs.Clock(api).now)
        state = runs.BatchRun(log, runs.means(api, run)).carry_on(max_wait_s=DAY_S)

    assert runs.verdicts(state) == {"errored": 2}
    assert len(state.rounds) == 1
    assert state.spent_usd == 0


@pytest.mark.parametrize(
    ("stop_reason", "content", "verdict"),
    [
        ("refusal", [blocks.text("I can't")], "refused"),
        ("max_tokens", [blocks.text("half a sen")], "truncated"),
        ("tool_use", [{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}], "tool_call"),
        ("pause_turn", [blocks.text("wait")], "paused"),
        ("end_turn", [], "invalid"),
        ("something_new", [blocks.text("?")], "errored"),
    ],
)
def test_what_is_no_whole_answer_is_no_success_and_is_billed_all_the_same(
    tmp_path: Path, stop_reason: str, content: list[Json], verdict: str
) -> None:
    api = emulated()

    def bent(request: httpx2.Request, go: Go) -> httpx2.Response:
        def change(lines: list[Json]) -> list[Json]:
            for line in lines:
                line["result"]["message"] |= {"stop_reason": stop_reason, "content": content}
            return lines

        return runs.changed_results(go(), change) if request.url.path.endswith("/results") else go()

    state = runs.finished(tmp_path, api, order(tickets(2), retry="none"), client=runs.by_wire(api, bent))

    assert runs.verdicts(state) == {verdict: 2}
    assert state.spent_usd == runs.paid(api) > 0


def test_a_batch_beyond_the_limits_is_split_and_ids_are_the_same_however_often_it_is_read(tmp_path: Path) -> None:
    api = emulated()
    limits = Limits(items=7, bytes=2_000)

    state = runs.finished(tmp_path, api, order(tickets(40)), limits=limits)

    sizes = [len(p.rows) for p in state.parts.values()]
    assert max(sizes) <= 7
    assert [r for p in state.parts.values() for r in p.rows] == list(range(40))
    assert runs.verdicts(state) == {"succeeded": 40}
    assert state.spent_usd == runs.paid(api)


def test_a_row_that_no_batch_can_hold_is_named_before_anything_is_sent(tmp_path: Path) -> None:
    api = emulated()

    with (
        runs.opened(tmp_path, api, order([{"text": "x" * 3_000}]), limits=Limits(bytes=2_000)) as run,
        pytest.raises(UsageError, match="row 1 is a request of"),
    ):
        run.carry_on()
    assert api.bill().requests == 0


def test_a_cancelled_run_keeps_what_is_finished_and_pays_for_no_more(tmp_path: Path) -> None:
    api = emulated(item_s=10.0, at_once=4)
    wanted = order(tickets(20))
    with runs.opened(tmp_path, api, wanted) as run:
        run.carry_on(collects=False)
        api.pass_(15.0)
        run.cancel()

    state = runs.finished(tmp_path, api, wanted)

    found = runs.verdicts(state)
    assert sum(found.values()) == 20
    assert found["succeeded"] == 8
    assert found["canceled"] == 12
    assert state.ended
    assert len(state.rounds) == 1
    assert state.spent_usd == runs.paid(api)


def test_what_a_cancelled_run_never_sent_is_cancelled_too(tmp_path: Path) -> None:
    api = emulated()
    with runs.opened(tmp_path, api, order(tickets(20)), limits=Limits(items=5)) as run:
        run._perform(Plan(0, "batch", tuple(range(20))))
        run.cancel()
        state = run.carry_on(max_wait_s=DAY_S)

    assert runs.verdicts(state) == {"canceled": 20}
    assert api.bill().requests == 0


@pytest.mark.parametrize(("retry", "ratio"), [("batch", 0.5), ("live", 0.6)])
def test_answers_that_do_not_fit_are_asked_again_with_the_reason_and_all_are_paid_for(
    tmp_path: Path, retry: Any, ratio: float
) -> None:
    api = emulated(sometimes_wrong)

    state = runs.finished(tmp_path, api, order(tickets(20), output=runs.structured(), retry=retry))

    assert runs.verdicts(state) == {"succeeded": 20}
    assert state.rounds == ("batch", retry)
    assert sorted(i.attempts for i in state.items.values()) == [1] * 16 + [2] * 4
    assert state.spent_usd == runs.paid(api)
    assert ratio - 0.05 <= float(state.spent_usd / state.live_usd) < ratio + 0.1
    assert (state.spent_usd / state.live_usd == Decimal("0.5")) == (retry == "batch")


def test_what_never_fits_is_asked_a_bounded_number_of_times(tmp_path: Path) -> None:
    api = emulated(lambda request, step: "no JSON at all")

    state = runs.finished(tmp_path, api, order(tickets(3), output=runs.structured(), max_retries=2))

    assert runs.verdicts(state) == {"invalid": 3}
    assert {i.attempts for i in state.items.values()} == {3}
    assert api.bill().requests == 9
    assert state.items[0].why.startswith("not JSON")


def test_the_api_is_given_the_schema_in_the_form_it_takes(tmp_path: Path) -> None:
    asked: list[Json] = []

    def answer(request: Json, step: int) -> str:
        asked.append(request)
        return FITS

    runs.finished(tmp_path, emulated(answer), order(tickets(1), output=runs.structured(), effort="low"))

    form = asked[0]["output_config"]["format"]
    assert form["type"] == "json_schema"
    assert "minimum" not in form["schema"]["properties"]["score"]
    assert asked[0]["output_config"]["effort"] == "low"


def test_the_same_order_again_carries_the_same_run_on_and_another_one_under_its_name_is_refused(tmp_path: Path) -> None:
    api = emulated()
    runs.finished(tmp_path, api, order(tickets(5)))

    runs.finished(tmp_path, api, order(tickets(5)))
    with pytest.raises(UsageError, match="asks something else"):
        runs.finished(tmp_path, api, order(tickets(6)))

    assert api.bill().requests == 5


def test_a_budget_that_a_batch_may_exceed_stops_it_before_it_is_sent(tmp_path: Path) -> None:
    api = emulated()
    wanted = order(tickets(10), max_budget_usd=Decimal("0"))

    with runs.opened(tmp_path, api, wanted) as run:
        state = run.carry_on(max_wait_s=DAY_S)

    assert "max-budget-usd" in run.short
    assert not state.items
    assert len(list(api.client().messages.batches.list())) == 0


def test_parts_that_have_room_are_sent_and_the_next_when_what_they_left_over_makes_room(tmp_path: Path) -> None:
    api = emulated()
    probe = runs.finished(tmp_path / "probe", api, order(tickets(20)), limits=Limits(items=5))
    one = max(p.most_usd for p in probe.parts.values())

    wanted = order(tickets(20), max_budget_usd=one * 2)
    with runs.opened(tmp_path, api, wanted, limits=Limits(items=5)) as run:
        run.carry_on(collects=False)
        first = [p.status for p in run.state.parts.values()]
        state = run.carry_on(max_wait_s=3 * DAY_S)

    assert first == ["submitted", "submitted", "planned", "planned"]
    assert runs.verdicts(state) == {"succeeded": 20}
    assert state.spent_usd <= one * 2


def test_a_cancelled_run_asks_nothing_again(tmp_path: Path) -> None:
    api = emulated(item_s=10.0, at_once=10, errored=0.5)
    wanted = order(tickets(20))
    with runs.opened(tmp_path, api, wanted) as run:
        run.carry_on(collects=False)
        api.pass_(5.0)
        run.cancel()

    state = runs.finished(tmp_path, api, wanted)

    assert {"succeeded", "errored", "canceled"} <= runs.verdicts(state).keys()
    assert state.rounds == ("batch",)


def test_results_that_are_told_twice_count_once(tmp_path: Path) -> None:
    api = emulated()
    state = runs.finished(tmp_path, api, order(tickets(5)))
    events = list(runs.store(tmp_path).log("tickets").events())
    received = next(e for e in events if e.body.type == "received")

    twice = fold([*events[:-1], received, received, events[-1]])

    assert twice == state


def test_long_rows_become_lines_that_can_be_read_back(tmp_path: Path) -> None:
    api = emulated()

    state = runs.finished(tmp_path, api, order([{"text": f"row {i}", "beside": "x" * 2_000_000} for i in range(12)]))

    lines = (tmp_path / ".agentloop" / "batches" / "tickets" / "log.jsonl").read_bytes().splitlines()
    assert runs.verdicts(state) == {"succeeded": 12}
    assert max(map(len, lines)) < 10_000_000
