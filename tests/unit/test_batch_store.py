"""Where batch runs are kept, and whose budgets they spend: files and PostgreSQL hold to the same."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from agentloop import purses
from agentloop.batching.events import CancelAsked
from agentloop.batching.store import ACCOUNT, BatchStore
from agentloop.emulated import EmulatedApi
from agentloop.errors import LogWriteFailed, SessionHeld, SessionLost, UnknownSession, UsageError
from agentloop.sessions import Sessions
from agentloop.workspace import Settings
from tests import batch_runs as runs
from tests.batch_runs import DAY_S, order, tickets

Stores = Callable[[], BatchStore]


@pytest.fixture(params=["files", "postgres"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """Makes the same store again, as another process would."""
    url = request.getfixturevalue("new_postgres_url") if request.param == "postgres" else None
    return lambda: BatchStore(tmp_path, url)


def written(stores: Stores, name: str, rows: int = 3) -> None:
    api = EmulatedApi()
    with stores().log(name) as log:
        runs.prepare(log, runs.made(api, order(tickets(rows), name=name)), tickets(rows), runs.Clock(api).now)


def test_what_one_process_wrote_another_one_reads(stores: Stores) -> None:
    written(stores, "tickets", rows=1_200)

    state = stores().state("tickets")

    assert state is not None
    assert (state.rows, state.is_whole) == (1_200, True)
    assert list(stores().log("tickets").rows()) == list(enumerate(tickets(1_200)))
    assert list(stores().log("tickets").rows([0, 499, 500, 1_199])) == [(i, tickets(1_200)[i]) for i in (0, 499, 500, 1_199)]
    assert stores().state("nobody") is None


def test_one_process_at_a_time_writes_and_the_next_goes_on_behind_it(stores: Stores) -> None:
    written(stores, "tickets")
    now = runs.Clock(EmulatedApi()).now()

    with stores().log("tickets") as log:
        with pytest.raises(SessionHeld, match="batch 'tickets' is held"), stores().log("tickets"):
            pass
        log.append(CancelAsked(), now)
    with stores().log("tickets") as log:
        assert log.append(CancelAsked(), now).seq == 3
    with pytest.raises(LogWriteFailed, match="not open for writing"):
        log.append(CancelAsked(), now)


def test_runs_are_found_by_name_and_by_the_start_of_one(stores: Stores) -> None:
    for name in ("tickets-1", "tickets-2", "documents"):
        written(stores, name)

    assert stores().names() == ["documents", "tickets-1", "tickets-2"]
    assert stores().find("doc") == "documents"
    with pytest.raises(UnknownSession, match="did you mean tickets-1, tickets-2"):
        stores().find("tickets")
    with pytest.raises(UnknownSession, match="batch list"):
        stores().find("zzz")
    with pytest.raises(UsageError, match="is no name of a batch"):
        stores().log("../outside")


def test_a_log_whose_lock_was_deleted_and_taken_by_another_is_written_no_more(tmp_path: Path) -> None:
    written(lambda: BatchStore(tmp_path, None), "tickets")
    now = runs.Clock(EmulatedApi()).now()

    with BatchStore(tmp_path, None).log("tickets") as log:
        (tmp_path / ".agentloop" / "batches" / "tickets" / "lock").unlink()
        with BatchStore(tmp_path, None).log("tickets") as other:
            other.append(CancelAsked(), now)
            with pytest.raises(SessionLost, match="taken away"):
                log.append(CancelAsked(), now)


def test_a_batch_is_set_aside_in_the_shared_budgets_when_it_is_sent_and_settled_when_it_is_collected(tmp_path: Path) -> None:
    api = EmulatedApi("fine")
    limits = Settings(workspace_day_usd=Decimal(1))
    wanted = order(tickets(20))
    ledger = purses.ledger(tmp_path, limits, Sessions(tmp_path / "sessions"), runs.Clock(api))
    purse = ledger.purse(f"{ACCOUNT}tickets", "batch", limits.shared_limits)

    with runs.opened(tmp_path, api, wanted, purse=purse) as run:
        run.carry_on(collects=False)
        sent = ledger.spending("batch", limits.shared_limits)[0]
        ledger.rebuild()
        assert ledger.spending("batch", limits.shared_limits)[0] == sent
        state = run.carry_on(max_wait_s=DAY_S)
    collected = ledger.spending("batch", limits.shared_limits)[0]
    ledger.rebuild()

    assert (sent.settled_usd, sent.reserved_usd) == (Decimal(0), state.parts[0, 0].most_usd)
    assert (collected.settled_usd, collected.reserved_usd) == (state.spent_usd, Decimal(0))
    assert runs.paid(api) == state.spent_usd < sent.reserved_usd
    assert ledger.spending("batch", limits.shared_limits)[0] == collected


def test_a_shared_budget_that_a_batch_may_exceed_keeps_it_from_being_sent(tmp_path: Path) -> None:
    api = EmulatedApi("fine")
    limits = Settings(job_total_usd=Decimal("0.0001"))
    ledger = purses.ledger(tmp_path, limits, Sessions(tmp_path / "sessions"), runs.Clock(api))
    purse = ledger.purse(f"{ACCOUNT}tickets", "batch", limits.shared_limits)

    with runs.opened(tmp_path, api, order(tickets(20)), purse=purse) as run:
        run.carry_on(max_wait_s=DAY_S)

    assert "'batch' has 0.0001 of 0.0001" in run.short
    assert len(list(api.client().messages.batches.list())) == 0
    assert ledger.spending("batch", limits.shared_limits)[-1].reserved_usd == 0
