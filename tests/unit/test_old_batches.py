"""Logs of batch runs and evals as they were first written: they are read, and carried on."""

import shutil
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryFile

from agentloop.batch_calls import body_of, request_line
from agentloop.batching import results_file
from agentloop.batching.bill import summary
from agentloop.batching.events import SubmitIntended
from agentloop.emulated import EmulatedApi
from agentloop.routing import results
from agentloop.routing.accounts import EvalAccounts
from agentloop.routing.asking import Speaker, ask_of
from tests import batch_runs as runs
from tests.batch_runs import emulated, order, sometimes_wrong, structured, tickets
from tests.unit.test_routing_evaluation import CHEAP, DEAR, evals, evaluated, played

OLD = Path(__file__).parent / "old_batches"
WANTED = order(tickets(7), output=structured())


def placed(name: str, folder: Path) -> Path:
    """An old log of a run, where a run of that name is looked for."""
    place = folder / ".agentloop" / "batches" / "tickets" / "log.jsonl"
    place.parent.mkdir(parents=True)
    shutil.copy(OLD / name, place)
    return folder


def test_a_run_that_had_ended_is_read_with_its_outcomes_its_answers_and_its_bill(tmp_path: Path) -> None:
    store = runs.store(placed("ended.log.jsonl", tmp_path))
    state = store.state("tickets")
    assert state is not None

    told = list(results_file.rows(state, store.log("tickets")))

    found = summary(state, "log")
    assert (found.outcomes, found.asked_again, found.cost_usd) == ({"succeeded": 7}, 2, Decimal("0.0002985"))
    assert sum(Decimal(row["cost_usd"]) for row in told) == found.cost_usd
    assert [row["fields"] for row in told] == tickets(7)
    assert {row["output"]["kind"] for row in told} == {"bug"}


def test_a_batch_that_was_sent_then_is_collected_now_and_what_was_invalid_is_asked_again(tmp_path: Path) -> None:
    api = emulated(sometimes_wrong)
    folder = placed("submitted.log.jsonl", tmp_path)
    old = runs.store(folder).log("tickets")
    sent = [e.body for e in old.events() if isinstance(e.body, SubmitIntended)]
    with runs.store(folder).log("tickets") as log:
        state = runs.store(folder).state("tickets")
        assert state is not None
        run = runs.BatchRun(log, runs.means(api, state.prepared))
        digest = _made_again(run, api)
        ended = run.carry_on(max_wait_s=3 * runs.DAY_S)

    assert digest == sent[0].digest
    assert runs.verdicts(ended) == {"succeeded": 7}
    assert ended.spent_usd == runs.paid(api)


def _made_again(run: runs.BatchRun, api: EmulatedApi) -> str:
    """The batch of the old log on this emulator, by the bytes that are made of its rows today; their digest."""
    with TemporaryFile() as body:
        digest, _ = run._rendered(body, (0, 0))
        runs.batches(api).create(body)
    return digest


def test_an_eval_whose_batch_was_under_way_is_taken_over_and_paid_once(tmp_path: Path) -> None:
    api = EmulatedApi(played(lambda model, n: False))
    of, client = evals(6), runs.batches(api)
    asks = {a.key: a for c in of.cases for a in (ask_of(c, Speaker(card, None, 500)) for card in (CHEAP, DEAR))}
    place = tmp_path / results.FOLDER
    place.mkdir(parents=True)
    shutil.copy(OLD / "classification.jsonl", place)
    data = (OLD / "classification.jsonl").read_bytes()
    for record in results.records(OLD, data):
        if isinstance(record, results.Intended):  # both batches are on this emulator, as they were on that one
            api.now = record.at.timestamp()
            client.create(body_of([request_line(f"{record.name}-{i}", asks[k].params) for i, k in enumerate(record.keys)]))
    before = sum(usd for _, usd in EvalAccounts(tmp_path).charges("eval:classification"))

    finding = evaluated(api, tmp_path, of, batch_cases=3)

    assert (finding.reused, finding.asked) == (6, 6)
    assert len(list(api.client().messages.batches.list())) == 2
    assert finding.spent_usd == api.bill().cost_usd - before == api.bill().cost_usd / 2
