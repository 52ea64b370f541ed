"""What the network, the API, the disk and other processes do to a batch run."""

import errno
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from agentloop.batch_calls import BatchCallFailed, Standing
from agentloop.batching import results_file
from agentloop.emulator import Faults
from agentloop.errors import BatchStopped, LogDamaged, SessionHeld
from tests import batch_runs as runs
from tests.batch_runs import DAY_S, Go, emulated, order, sometimes_wrong, tickets


def test_unknown_double_and_missing_ids_in_the_results_are_told_and_no_item_counts_twice(tmp_path: Path) -> None:
    api = emulated()

    def bent(request: httpx2.Request, go: Go) -> httpx2.Response:
        if not request.url.path.endswith("/results"):
            return go()
        return runs.changed_results(
            go(),
            lambda lines: [*lines[1:], lines[1], {**lines[2], "custom_id": "nobody"}, {**lines[2], "custom_id": "x-0-0-1"}],
        )

    state = runs.finished(tmp_path, api, order(tickets(10)), client=runs.by_wire(api, bent))

    assert state.anomalies == {"unknown": 2, "twice": 1, "missing": 1}
    assert runs.verdicts(state) == {"succeeded": 9, "lost": 1}
    assert state.spent_usd < runs.paid(api) <= state.charged_usd


def test_a_submission_whose_answer_was_lost_is_found_again_and_not_paid_for_twice(tmp_path: Path) -> None:
    api = emulated()
    lost: list[str] = []

    def wire(request: httpx2.Request, go: Go) -> httpx2.Response:
        response = go()
        if request.method == "POST" and request.url.path.endswith("/batches") and not lost:
            lost.append("the answer")
            raise httpx2.ReadTimeout("timed out")
        return response

    state = runs.finished(tmp_path, api, order(tickets(10)), client=runs.by_wire(api, wire))

    assert runs.verdicts(state) == {"succeeded": 10}
    assert state.parts[0, 0].batch_id == "msgbatch_emulator_00000001"
    assert len(list(api.client().messages.batches.list())) == 1
    assert state.spent_usd == runs.paid(api)


def test_while_a_batch_that_may_be_ours_is_under_way_nothing_is_sent_again(tmp_path: Path) -> None:
    api = emulated(item_s=1_000.0)

    def wire(request: httpx2.Request, go: Go) -> httpx2.Response:
        response = go()
        if request.method == "POST" and request.url.path.endswith("/batches"):
            raise httpx2.ReadTimeout("timed out")
        return response

    with runs.opened(tmp_path, api, order(tickets(10)), client=runs.by_wire(api, wire)) as run:
        state = run.carry_on()

    assert state.parts[0, 0].status == "intended"
    assert len(list(api.client().messages.batches.list())) == 1


def test_a_submission_that_never_arrived_is_sent_again_once_that_is_certain(tmp_path: Path) -> None:
    api = emulated()
    sent: list[float] = []

    def wire(request: httpx2.Request, go: Go) -> httpx2.Response:
        if request.method == "POST" and request.url.path.endswith("/batches"):
            sent.append(api.now)
            if len(sent) == 1:
                raise httpx2.ReadError("reset")
        return go()

    state = runs.finished(tmp_path, api, order(tickets(10)), client=runs.by_wire(api, wire))

    assert runs.verdicts(state) == {"succeeded": 10}
    assert len(sent) == 2
    assert sent[1] - sent[0] >= 60
    assert len(list(api.client().messages.batches.list())) == 1


def test_somebody_elses_batch_of_the_same_size_is_not_adopted(tmp_path: Path) -> None:
    api = emulated()
    other = {"model": runs.MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}
    sent: list[str] = []

    def wire(request: httpx2.Request, go: Go) -> httpx2.Response:
        if request.method == "POST" and request.url.path.endswith("/batches"):
            sent.append("")
            if len(sent) == 1:
                api.client().messages.batches.create(requests=[{"custom_id": "a-0-0-0", "params": other}])  # type: ignore[typeddict-item]
                raise httpx2.ReadError("reset")
        return go()

    state = runs.finished(tmp_path, api, order(tickets(1)), client=runs.by_wire(api, wire))

    assert state.parts[0, 0].batch_id == "msgbatch_emulator_00000002"
    assert runs.verdicts(state) == {"succeeded": 1}


def test_a_download_that_is_cut_is_asked_for_again_and_nothing_is_half_accepted(tmp_path: Path) -> None:
    api = emulated()
    cut: list[int] = []

    def wire(request: httpx2.Request, go: Go) -> httpx2.Response:
        response = go()
        if not request.url.path.endswith("/results") or len(cut) > 2:
            return response
        data = response.read()
        cut.append(len(data) * (len(cut) + 1) // 4)
        end = cut[-1] if len(cut) < 3 else data.rindex(b"\n", 0, cut[-1]) + 1  # in a line; between two
        return httpx2.Response(200, content=data[:end])

    state = runs.finished(tmp_path, api, order(tickets(40)), client=runs.by_wire(api, wire))

    assert len(cut) == 3
    assert runs.verdicts(state) == {"succeeded": 40}
    assert not any(state.anomalies.values())
    assert state.spent_usd == runs.paid(api)


@pytest.mark.parametrize("fault", ["429", "500", "529", "reset", "html"])
def test_polling_and_downloads_survive_a_burst_of_errors(tmp_path: Path, fault: str) -> None:
    rules = {"endpoint": "batches", "requests": [2, 3, 5, 7], "fault": fault}
    api = emulated(faults=Faults.of(rules))

    state = runs.finished(tmp_path, api, order(tickets(5)))

    assert runs.verdicts(state) == {"succeeded": 5}
    assert state.spent_usd == runs.paid(api)


def test_polling_that_never_succeeds_ends_with_an_error_and_loses_nothing(tmp_path: Path) -> None:
    api = emulated()
    wanted = order(tickets(5))
    with runs.opened(tmp_path, api, wanted) as run:
        run.carry_on(collects=False)
    calls: list[str] = []

    def down(request: httpx2.Request, go: Go) -> httpx2.Response:
        calls.append(request.url.path)
        return httpx2.Response(503, json={"type": "error", "error": {"type": "api_error", "message": "down"}})

    with pytest.raises(BatchStopped, match="goes on") as stopped:
        runs.finished(tmp_path, api, wanted, client=runs.by_wire(api, down))

    assert stopped.value.exit_code == 75
    assert len(calls) == 4
    assert runs.verdicts(runs.finished(tmp_path, api, wanted)) == {"succeeded": 5}


def test_a_batch_that_the_key_does_not_see_is_explained_and_can_be_let_go(tmp_path: Path) -> None:
    api = emulated()
    wanted = order(tickets(5))
    with runs.opened(tmp_path, api, wanted) as run:
        run.carry_on(collects=False)
    elsewhere = emulated()
    elsewhere.now = api.now

    with pytest.raises(BatchStopped, match="key of another workspace"):
        runs.finished(tmp_path, elsewhere, wanted)
    state = runs.finished(tmp_path, elsewhere, wanted, give_up=True)

    assert runs.verdicts(state) == {"lost": 5}
    assert state.at_risk_usd == state.parts[0, 0].most_usd > 0


def test_results_that_are_kept_no_longer_end_the_run(tmp_path: Path) -> None:
    api = emulated()
    wanted = order(tickets(5))
    with runs.opened(tmp_path, api, wanted) as run:
        run.carry_on(collects=False)
    api.pass_(30 * DAY_S)

    state = runs.finished(tmp_path, api, wanted)

    assert runs.verdicts(state) == {"lost": 5}
    assert "29 days" in state.items[0].why
    assert state.at_risk_usd >= runs.paid(api) > 0


def test_a_batch_that_does_not_end_is_not_polled_for_ever(tmp_path: Path) -> None:
    api = emulated()

    class Stuck:
        def __init__(self) -> None:
            self.inner, self.looks = runs.batches(api), 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def retrieve(self, batch_id: str) -> Standing:
            self.looks += 1
            found = self.inner.retrieve(batch_id)
            return found._replace(status="in_progress")

    stuck = Stuck()
    with (
        runs.opened(tmp_path, api, order(tickets(3)), client=stuck) as run,
        pytest.raises(BatchStopped, match="still 'in_progress'"),
    ):
        run.carry_on(max_wait_s=10 * DAY_S)
    assert stuck.looks < 60


def test_a_key_that_is_refused_stops_the_run_and_another_key_goes_on(tmp_path: Path) -> None:
    api = emulated(faults=Faults.of({"endpoint": "batches", "request": 1, "fault": "401"}))
    wanted = order(tickets(3))

    with pytest.raises(BatchStopped, match="key in ANTHROPIC_API_KEY") as stopped:
        runs.finished(tmp_path, api, wanted)
    state = runs.finished(tmp_path, api, wanted)

    assert stopped.value.exit_code == 2
    assert runs.verdicts(state) == {"succeeded": 3}


def test_a_batch_that_is_refused_for_good_gives_each_item_that_outcome(tmp_path: Path) -> None:
    api = emulated(faults=Faults.of({"endpoint": "batches", "request": 1, "fault": "400"}))

    state = runs.finished(tmp_path, api, order(tickets(3)))

    assert runs.verdicts(state) == {"errored": 3}
    assert len(list(api.client().messages.batches.list())) == 0
    assert state.set_aside_usd == 0


def test_a_rate_limit_delays_a_submission_and_makes_no_second_batch(tmp_path: Path) -> None:
    api = emulated(faults=Faults.of({"endpoint": "batches", "requests": [1, 2], "fault": "429", "retry_after_s": 40}))

    state = runs.finished(tmp_path, api, order(tickets(3)))

    assert runs.verdicts(state) == {"succeeded": 3}
    assert state.parts[0, 0].created_at is not None
    assert state.parts[0, 0].created_at - state.started_at >= timedelta(seconds=80)
    assert len(list(api.client().messages.batches.list())) == 1


def test_two_collectors_count_once(tmp_path: Path) -> None:
    api = emulated()
    wanted = order(tickets(5))

    with runs.opened(tmp_path, api, wanted) as run:
        with pytest.raises(SessionHeld, match="is held by process"), runs.opened(tmp_path, api, wanted):
            pass
        run.carry_on(max_wait_s=DAY_S)
    again = runs.finished(tmp_path, api, wanted)

    assert again.spent_usd == runs.paid(api)
    assert api.bill().requests == 5


def test_a_log_that_was_changed_is_not_read_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    api = emulated()
    wanted = order(tickets(5))
    state = runs.finished(tmp_path, api, wanted)
    path = runs.store(tmp_path).folder / "tickets" / "log.jsonl"
    data = path.read_bytes()

    path.write_bytes(data + b'{"seq":99,"at"')
    assert runs.store(tmp_path).state("tickets") == state
    assert runs.finished(tmp_path, api, wanted) == state
    path.write_bytes(data.replace(b"ticket number 3", b"ticket number 4"))
    with pytest.raises(LogDamaged, match="line 2 is damaged"):
        runs.store(tmp_path).state("tickets")


def test_a_live_retry_that_nobody_answers_stops_and_goes_on_later(tmp_path: Path) -> None:
    faults = Faults.of({"endpoint": "messages", "requests": [1, 2], "fault": "529"})
    api = emulated(sometimes_wrong, faults)
    wanted = order(tickets(5), output=runs.structured(), retry="live")

    with pytest.raises(BatchStopped, match="row 1"):
        runs.finished(tmp_path, api, wanted)
    state = runs.finished(tmp_path, api, wanted)

    assert runs.verdicts(state) == {"succeeded": 5}
    assert state.spent_usd == runs.paid(api)


@pytest.mark.parametrize("place", ["agentloop.batching.run", "agentloop.batch_life"])
def test_a_disk_without_room_for_a_body_or_for_results_stops_the_run_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    api = emulated()
    wanted = order(tickets(5))
    monkeypatch.setattr(f"{place}.TemporaryFile", full)

    with pytest.raises(BatchStopped, match="No space left on device\\nfree the disk"):
        runs.finished(tmp_path, api, wanted)
    monkeypatch.undo()
    state = runs.finished(tmp_path, api, wanted)

    assert runs.verdicts(state) == {"succeeded": 5}
    assert state.spent_usd == runs.paid(api)


def test_calls_of_an_unknown_batch_say_what_is_the_matter() -> None:
    api = emulated()

    with pytest.raises(BatchCallFailed) as failed:
        runs.batches(api).retrieve("msgbatch_nobody")

    assert failed.value.trouble == "missing"


@pytest.mark.parametrize(
    "result",
    [
        None,
        "?",
        {"type": "succeeded", "message": "?"},
        {"type": "succeeded", "message": {"type": "message", "content": 7}},
        {"type": "errored", "error": "?"},
        {"type": 7},
    ],
)
def test_a_result_that_says_nothing_is_an_error_of_its_row_alone(tmp_path: Path, result: Any) -> None:
    api = emulated()

    def bent(request: httpx2.Request, go: Go) -> httpx2.Response:
        if not request.url.path.endswith("/results"):
            return go()
        bare = {} if result is None else {"result": result}
        return runs.changed_results(go(), lambda lines: [{"custom_id": lines[0]["custom_id"], **bare}, *lines[1:]])

    state = runs.finished(tmp_path, api, order(tickets(5), retry="none"), client=runs.by_wire(api, bent))

    assert runs.verdicts(state) == {"errored": 1, "succeeded": 4}


def test_half_a_character_in_an_answer_stops_nothing(tmp_path: Path) -> None:
    api = emulated()

    def bent(request: httpx2.Request, go: Go) -> httpx2.Response:
        def change(lines: list[Any]) -> list[Any]:
            lines[0]["result"]["message"]["content"] = [{"type": "text", "text": "half: \ud83d"}]
            return lines

        return runs.changed_results(go(), change) if request.url.path.endswith("/results") else go()

    state = runs.finished(tmp_path, api, order(tickets(5)), client=runs.by_wire(api, bent))
    results_file.write(state, runs.store(tmp_path).log("tickets"), tmp_path / "results.jsonl")

    assert runs.verdicts(state) == {"succeeded": 5}
