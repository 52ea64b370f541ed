"""Budgets that sessions share: of a day, in all, of a job and of the workspace."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agentloop.budgets import BudgetLedger, Logs
from agentloop.core.folding import fold
from agentloop.database import engine
from agentloop.errors import BudgetUnknown, ConfigError
from agentloop.policies import recorded
from agentloop.replay import replay, requests
from agentloop.sessions import Sessions
from agentloop.testing import FixedClock, events, started
from agentloop.types.events import BudgetSeen, Event, InputGiven, ModelRequested
from agentloop.types.limits import SharedLimits
from agentloop.workspace import configuration
from tests.unit.unattended_of import Desk, script

NOTES = [[("note", {"text": str(i)})] for i in range(12)]
GRANTS = "grants: [note]\n"
DUBLIN = ZoneInfo("Europe/Dublin")


class JustStarted:
    """Sessions that have spent nothing yet, whatever they are called."""

    def ids(self) -> Iterator[str]:
        return iter(())

    def stream(self, session_id: str) -> Iterator[Event]:
        return iter(events(started(session_id=session_id)))


def ledger(tmp_path: Path, clock: FixedClock, zone: ZoneInfo = DUBLIN, logs: Logs | None = None) -> BudgetLedger:
    url = f"sqlite:///{tmp_path}/.agentloop/budgets.sqlite"
    return BudgetLedger(engine(url), logs or JustStarted(), zone, clock)


def logged(tmp_path: Path, clock: FixedClock) -> BudgetLedger:
    return ledger(tmp_path, clock, ZoneInfo("UTC"), Sessions(tmp_path / "sessions"))


def test_what_is_set_aside_by_one_is_not_there_for_another(tmp_path: Path) -> None:
    book = ledger(tmp_path, FixedClock())
    limits = SharedLimits(workspace_day=Decimal("1"))
    one, other = book.purse("a", "job", limits), book.purse("b", "job", limits)

    first = one.reserve(Decimal(0), Decimal("0.7"))
    second = other.reserve(Decimal(0), Decimal("0.4"))
    one.settle(Decimal("0.1"))
    third = other.reserve(Decimal(0), Decimal("0.4"))

    assert first is not None
    assert second is not None
    assert third is not None
    assert (first.granted, second.granted, third.granted) == (True, False, True)
    assert (second.left_usd, third.left_usd) == (Decimal("0.3"), Decimal("0.9"))
    assert second.scope == "the workspace on 2026-01-05"


def test_saying_it_twice_changes_nothing(tmp_path: Path) -> None:
    book = ledger(tmp_path, FixedClock())
    purse = book.purse("a", "job", SharedLimits(workspace_total=Decimal(1)))

    for _ in range(3):
        purse.reserve(Decimal("0.25"), Decimal("0.5"))
        purse.settle(Decimal("0.25"))

    rows = book.spending("job", SharedLimits())
    assert {r.settled_usd for r in rows} == {Decimal("0.25")}
    assert {r.reserved_usd for r in rows} == {Decimal(0)}


def test_a_day_ends_at_midnight_of_the_budgets_zone(tmp_path: Path) -> None:
    clock = FixedClock(datetime(2026, 6, 30, 22, 59, tzinfo=UTC))  # 23:59 in Dublin
    book = ledger(tmp_path, clock)
    limits = SharedLimits(workspace_day=Decimal(1), workspace_total=Decimal("2.5"))
    purse = book.purse("a", "job", limits)
    purse.settle(Decimal("0.9"))
    clock.pass_(120)

    room = purse.reserve(Decimal("0.9"), Decimal("0.95"))
    purse.settle(Decimal("1.8"))
    last = purse.reserve(Decimal("1.8"), Decimal("0.2"))

    assert room is not None
    assert last is not None
    assert (room.granted, room.scope, room.left_usd) == (True, "the workspace", Decimal("1.6"))
    assert (last.granted, last.scope, last.left_usd) == (False, "the workspace on 2026-07-01", Decimal("0.1"))


def test_a_batch_that_was_sent_yesterday_stays_set_aside_though_the_day_has_no_room_for_it(tmp_path: Path) -> None:
    clock = FixedClock(datetime(2026, 6, 30, 22, 30, tzinfo=UTC))  # 23:30 in Dublin
    book = ledger(tmp_path, clock)
    limits = SharedLimits(workspace_day=Decimal(1))
    batch, other = book.purse("batch:a", "batch", limits), book.purse("b", "job", limits)
    batch.reserve(Decimal(0), Decimal("0.7"))
    clock.pass_(3_600)
    first = other.reserve(Decimal(0), Decimal("0.9"))

    still = batch.reserve(Decimal(0), Decimal("0.7"), Decimal("0.7"))
    more = batch.reserve(Decimal(0), Decimal("0.8"), Decimal("0.7"))
    another = book.purse("c", "job", limits).reserve(Decimal(0), Decimal("0.05"))

    assert [r.granted for r in (first, still, more, another) if r] == [True, False, False, False]
    assert book.spending(None, limits)[0].reserved_usd == Decimal("1.6")
    batch.settle(Decimal("0.2"))
    assert book.spending(None, limits)[0][2:] == (Decimal("0.2"), Decimal("0.9"))


@pytest.mark.parametrize("sent", ["0", "0.3"])
def test_a_refusal_leaves_set_aside_what_is_under_way_and_nothing_else(tmp_path: Path, sent: str) -> None:
    book = ledger(tmp_path, FixedClock())
    limits = SharedLimits(workspace_day=Decimal(1))
    purse = book.purse("a", "job", limits)
    purse.reserve(Decimal(0), Decimal("0.3"))

    refused = purse.reserve(Decimal(0), Decimal("1.1"), Decimal(sent))

    assert refused is not None
    assert not refused.granted
    assert book.spending(None, limits)[0].reserved_usd == Decimal(sent)


def test_of_several_budgets_the_strictest_holds(tmp_path: Path) -> None:
    book = ledger(tmp_path, FixedClock())
    limits = SharedLimits(Decimal(10), Decimal(100), Decimal(5), Decimal("0.5"))
    book.purse("other", "other job", limits).settle(Decimal(4))

    room = book.purse("a", "job", limits).reserve(Decimal(0), Decimal("0.6"))

    assert room is not None
    assert (room.granted, room.scope, room.left_usd) == (False, "'job'", Decimal("0.5"))


def test_amounts_are_exact(tmp_path: Path) -> None:
    book = ledger(tmp_path, FixedClock())
    small = Decimal("0.00000001375")

    for n in range(300):
        book.purse(f"s{n}", "job", SharedLimits()).settle(small)

    assert book.spending(None, SharedLimits())[1].settled_usd == 300 * small


def test_a_day_without_room_ends_a_session_resumably_and_the_next_day_it_goes_on(tmp_path: Path) -> None:
    desk = Desk(tmp_path, GRANTS)
    played = script(*NOTES)
    poor: dict[str, Any] = {"workspace_day_usd": "0.03", "model": "claude-sonnet-4-6", "max_tokens": 1_500}

    result = desk.agent(played, **poor).run("Go.", session_id="s")
    desk.clock.pass_(24 * 3600)
    again = desk.agent(played, **poor).resume("s")

    assert result.outcome == "budget_exceeded"
    assert "the workspace on 2026-01-05" in result.detail
    assert 0 < result.cost <= Decimal("0.03")
    assert again.turns > result.turns
    there = desk.agent(played).sessions.events("s")
    assert replay(there, recorded(fold(there).policies).policies()).same


def test_a_session_is_told_once_that_a_shared_budget_is_near(tmp_path: Path) -> None:
    desk = Desk(tmp_path, GRANTS)
    played = script(*NOTES)
    ledger(tmp_path, desk.clock).purse("other", "other", SharedLimits()).settle(Decimal("0.9"))

    result = desk.agent(played, workspace_total_usd="1", max_tokens=1_100).run("Go.", session_id="s")

    there = desk.agent(played).sessions.events("s")
    told = [e.body for e in there if isinstance(e.body, InputGiven) and e.body.source == "engine"]
    assert [t.about for t in told] == ["the workspace"]
    assert result.outcome == "completed"
    assert replay(there, recorded(fold(there).policies).policies()).same


def test_a_budget_of_nothing_sends_no_request(tmp_path: Path) -> None:
    desk = Desk(tmp_path, GRANTS)

    result = desk.agent(script(*NOTES), job_day_usd="0").run("Go.", session_id="s")

    there = desk.agent(script()).sessions.events("s")
    assert result.outcome == "budget_exceeded"
    assert not [e for e in there if isinstance(e.body, ModelRequested)]
    assert [e.body.left_usd for e in there if isinstance(e.body, BudgetSeen)] == [0]


def test_the_ledger_is_made_anew_from_the_logs(tmp_path: Path) -> None:
    desk = Desk(tmp_path, GRANTS)
    for name in ("a", "b"):
        desk.agent(script(*NOTES), workspace_day_usd="5").run("Go.", session_id=name)
    before = logged(tmp_path, desk.clock).spending("desk", SharedLimits())
    for file in (tmp_path / ".agentloop").glob("budgets.sqlite*"):
        file.unlink()

    after = logged(tmp_path, desk.clock).spending("desk", SharedLimits())

    assert after == before
    assert after[0].settled_usd == sum(fold(desk.agent(script()).sessions.events(n)).spent_usd for n in ("a", "b"))


def test_a_session_that_spent_before_there_was_a_budget_is_counted_on_its_days(tmp_path: Path) -> None:
    desk = Desk(tmp_path, GRANTS)
    played = script(*NOTES)
    desk.agent(played, max_turns=3).run("Go.", session_id="s")
    book = logged(tmp_path, desk.clock)
    book.rebuild()
    yesterday = book.spending(None, SharedLimits())[0].settled_usd
    desk.clock.pass_(24 * 3600)

    desk.agent(played, max_turns=6, workspace_day_usd="5").resume("s")

    rows = book.spending(None, SharedLimits())
    total = fold(desk.agent(played).sessions.events("s")).spent_usd
    assert (rows[0].settled_usd, rows[1].settled_usd) == (total - yesterday, total)


def test_a_damaged_ledger_stops_all_spending_until_it_is_made_anew(tmp_path: Path) -> None:
    desk = Desk(tmp_path, GRANTS)
    (tmp_path / ".agentloop").mkdir()
    (tmp_path / ".agentloop" / "budgets.sqlite").write_bytes(b"no database " * 1000)

    with pytest.raises(BudgetUnknown, match="agentloop budget rebuild"):
        desk.agent(script(*NOTES), workspace_day_usd="5").run("Go.", session_id="s")

    assert not [e for e in desk.agent(script()).sessions.events("s") if isinstance(e.body, ModelRequested)]


@pytest.mark.parametrize("value", ["nan", "-1", "inf", "much"])
def test_a_budget_that_is_no_amount_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "agentloop.toml").write_text(f'workspace_day_usd = "{value}"\n')

    with pytest.raises(ConfigError, match="workspace_day_usd"):
        configuration(tmp_path, environment={})


def test_a_zone_that_is_none_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    desk = Desk(tmp_path, GRANTS)

    with pytest.raises(ConfigError, match="Europe/Dublin"):
        desk.agent(script(), workspace_day_usd="1", budget_zone="Erewhon").run("Go.", session_id="s")


def test_without_shared_budgets_there_is_no_ledger(tmp_path: Path) -> None:
    desk = Desk(tmp_path, GRANTS)

    desk.agent(script(*NOTES[:1])).run("Go.", session_id="s")

    assert not list((tmp_path / ".agentloop").glob("budgets*"))


@pytest.mark.parametrize(
    "start", ["2026-11-22T23:59:50", "2026-11-30T23:59:50", "2028-02-28T23:59:50", "2028-02-29T23:59:50", "2027-12-31T23:59:50"]
)
def test_a_run_over_the_turn_of_a_day_a_month_or_a_year_keeps_its_prefix(tmp_path: Path, start: str) -> None:
    desk = Desk(tmp_path, GRANTS)
    desk.clock.at = datetime.fromisoformat(start).replace(tzinfo=UTC)

    result = desk.agent(script(*NOTES[:4]), workspace_day_usd="5").run("Go.", session_id="s")

    there = desk.agent(script()).sessions.events("s")
    settings = recorded(fold(there).policies).policies()
    sent = [body for _, body in requests(there, settings)]
    rows = {r.scope: r.settled_usd for r in logged(tmp_path, desk.clock).spending(None, SharedLimits())}
    assert there[0].at.date() < there[-1].at.date()
    assert len({json.dumps([json.loads(b)[k] for k in ("model", "system", "tools")]) for b in sent}) == 1
    assert 0 < rows[f"the workspace on {there[-1].at.date()}"] <= rows["the workspace"] == result.cost


def test_what_a_session_without_shared_budgets_spends_is_in_the_ledger_where_there_is_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path, GRANTS)
    desk.agent(script(*NOTES[:1]), workspace_day_usd="5").run("Go.", session_id="limited")

    desk.agent(script(*NOTES)).run("Go.", session_id="free")

    total = sum(fold(desk.agent(script()).sessions.events(n)).spent_usd for n in ("limited", "free"))
    assert logged(tmp_path, desk.clock).spending(None, SharedLimits())[0].settled_usd == total


def test_a_session_that_is_taken_up_by_hand_is_counted_to_the_job_that_started_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, GRANTS)
    played = script(*NOTES)
    desk.agent(played, job="nightly", max_turns=2, job_total_usd="5").run("Go.", session_id="s")

    desk.agent(played, max_turns=9, job_total_usd="5").resume("s")

    book = logged(tmp_path, desk.clock)
    spent = fold(desk.agent(played).sessions.events("s")).spent_usd
    assert book.spending("nightly", SharedLimits())[-1].settled_usd == spent
    assert book.spending("desk", SharedLimits())[-1].settled_usd == 0


def test_a_ledger_made_anew_sets_aside_what_a_request_under_way_may_cost(tmp_path: Path) -> None:
    clock = FixedClock()
    asked = ModelRequested(turn=1, digest="", body_bytes=1, max_tokens=1_000)
    under_way = events(started(session_id="s"), InputGiven(content=({"type": "text", "text": "Go."},)), asked)

    class OneUnderWay(JustStarted):
        def ids(self) -> Iterator[str]:
            return iter(["s"])

        def stream(self, session_id: str) -> Iterator[Event]:
            return iter(under_way)

    book = ledger(tmp_path, clock, logs=OneUnderWay())
    book.rebuild()

    state = fold(under_way)
    assert book.spending(None, SharedLimits())[1].reserved_usd >= 1_000 * state.card.prices[0].output / 1_000_000


def test_a_log_that_is_damaged_counts_up_to_its_damage_and_stops_nobody(tmp_path: Path) -> None:
    desk = Desk(tmp_path, GRANTS)
    for name in ("a", "b"):
        desk.agent(script(*NOTES), workspace_day_usd="5").run("Go.", session_id=name)
    whole = fold(desk.agent(script()).sessions.events("b")).spent_usd
    log = tmp_path / "sessions" / "a" / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([*lines[:20], b"x" + lines[20][1:], *lines[21:]]))

    book = logged(tmp_path, desk.clock)
    counted = book.rebuild()

    assert counted == 2
    assert whole < book.spending(None, SharedLimits())[1].settled_usd < 2 * whole


@pytest.mark.parametrize(
    ("other", "fits"), [("w-00002", False), ("w-00002.leaf", False), ("w-1", False), ("wx-1", True), ("w", True)]
)
def test_the_sessions_of_a_run_share_its_budget_and_nobody_elses(tmp_path: Path, other: str, fits: bool) -> None:
    book = ledger(tmp_path, FixedClock())
    book.purse("w-00001", "job", SharedLimits()).settle(Decimal("0.7"))
    if fits:  # what others spend does not count either
        book.purse(other, "job", SharedLimits()).settle(Decimal("0.9"))
    limits = SharedLimits(run="w", run_total=Decimal(1))

    room = book.purse("w-00003" if fits else other, "job", limits).reserve(Decimal(0), Decimal("0.25" if fits else "0.31"))

    assert room is not None
    assert (room.granted, room.scope, room.left_usd) == (fits, "wave 'w'", Decimal("0.3"))


def test_an_underscore_in_the_name_of_a_run_stands_for_itself(tmp_path: Path) -> None:
    book = ledger(tmp_path, FixedClock())
    book.purse("wxa-00001", "job", SharedLimits()).settle(Decimal("0.9"))

    room = book.purse("w_a-00001", "job", SharedLimits(run="w_a", run_total=Decimal(1))).reserve(Decimal(0), Decimal("0.95"))

    assert room is not None
    assert room.granted
