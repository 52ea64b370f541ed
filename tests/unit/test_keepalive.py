import json
import threading
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from agentloop.adapters.toolbox import Toolbox
from agentloop.core import costs
from agentloop.core.decide import while_waiting
from agentloop.core.folding import evolve, fold
from agentloop.core.keepalive import announced_s
from agentloop.core.state import changed
from agentloop.engine import Interrupted, recovery
from agentloop.errors import BudgetUnknown, RegistryError
from agentloop.explain import explain
from agentloop.policies import FourMarks, KeepPairs, PolicySettings, Threshold
from agentloop.ports import Room
from agentloop.replay import replay, requests
from agentloop.report import report
from agentloop.testing import reply
from agentloop.tooling import Registry, tool
from agentloop.types.blocks import Call
from agentloop.types.events import Event, ModelFailed, ModelReplied, SessionStarted, ToolStarted
from agentloop.types.limits import Limits
from agentloop.types.request import Failure
from agentloop.types.tools import ToolCard
from agentloop.types.usage import Usage
from tests.unit.waited import Waited, waited

POLICIES = PolicySettings().policies()
BROKEN = Failure(kind="unavailable", error_type="overloaded_error", message="busy", retry_in_s=4.0, possibly_billed=True)


@pytest.fixture(scope="module")
def kept() -> Waited:
    """Twelve pages, then twenty minutes that are announced."""
    return waited()


def test_a_wait_that_is_announced_is_kept_warm_with_the_pings_that_were_planned(kept: Waited) -> None:
    reads = [u.cache_read_input_tokens for u in kept.pinged]

    assert (kept.state.outcome, len(kept.pings)) == ("completed", 4)
    assert reads == [kept.turn(13).prompt_tokens] * 4
    assert [u.prompt_tokens - u.cache_read_input_tokens + u.output_tokens for u in kept.pinged] == [0] * 4


def test_the_request_after_the_wait_reads_all_that_was_sent_before_it(kept: Waited) -> None:
    after = kept.turn(14)

    assert after.cache_read_input_tokens == kept.turn(13).prompt_tokens
    assert not any(e.body.type == "compacted" for e in kept.events)


def test_a_ping_is_the_last_request_again_but_for_the_answer(kept: Waited) -> None:
    asked = [json.loads(b) for b in kept.bodies]
    ping = next(b for b in asked if b["max_tokens"] == 0)
    before = asked[asked.index(ping) - 1]

    different = {k for k in before.keys() | ping.keys() if before.get(k) != ping.get(k)}

    assert different == {"max_tokens", "stream", "diagnostics"}
    assert "stream" not in ping


def test_each_ping_says_why_it_pays(kept: Waited) -> None:
    told = [p.decision.reason for p in kept.pings if p.decision is not None]

    assert [t.partition(":")[2].split()[0] for t in told] == ["4", "3", "2", "1"]
    assert all(" < cold and cut " in t for t in told)


def test_what_was_forecast_is_what_was_billed(kept: Waited) -> None:
    """The forecast holds the pings, the read behind them and the rent; the other way is played without the announcement."""
    cold = waited(announced_s=None)
    assert kept.pings[0].decision is not None
    forecast = kept.pings[0].decision.reason.replace("pings ", "").split()
    pings = sum((costs.cost(u, kept.state.card) for u in kept.pinged), Decimal(0))
    read = kept.turn(14).cache_read_input_tokens * Decimal("0.1") / 1_000_000

    assert abs(Decimal(forecast[6]) - kept.pings[0].decision.rent_usd - pings - read) < Decimal("0.0003")
    assert abs(Decimal(forecast[-1]) - costs.cost(cold.turn(14), cold.state.card)) < Decimal("0.0003")


def test_pings_stand_in_the_bill_under_a_cause_of_their_own(kept: Waited) -> None:
    bill = report(kept.events)

    pinged = [a for a in bill.cost_by_turn if a.cause == "keepalive"]

    assert sum((a.cost_usd for a in pinged), Decimal(0)) == bill.cost_by_cause["keepalive"] > 0
    assert sum(bill.cost_by_cause.values()) == bill.cost_usd == kept.state.spent_usd
    assert pinged[0].decision.startswith("a wait of 20 min: 4 pings")
    assert bill.cost_by_turn[-1].cause == "extends"


def test_explain_lists_the_pings_beside_the_turn_whose_tools_took_their_time(kept: Waited) -> None:
    turns = {t.turn: t for t in explain(kept.events)}

    assert [a.cause for a in turns[13].besides] == ["keepalive"] * 4
    assert turns[14].gap_s is not None
    assert turns[14].gap_s < 300


def test_explain_says_how_many_gaps_were_short_by_pings_alone() -> None:
    last = explain(waited(looks=4, after=2).events)[-1]

    assert {one.why for one in last.lifetimes} == {"6 of 6 gaps within 5m, 6 of 6 gaps within 1h, 1 of them by pings"}


def test_a_session_with_pings_replays(kept: Waited) -> None:
    found = replay(kept.events, POLICIES)

    assert (found.same, found.difference) == (True, None)
    assert [b for _, b in requests(kept.events, POLICIES)] == kept.bodies


def test_a_replay_of_tools_that_announce_nothing_names_the_ping_that_would_not_be_sent(kept: Waited) -> None:
    first = kept.events[0]
    assert isinstance(first.body, SessionStarted)
    silent = tuple(c.model_copy(update={"takes_s": None}) for c in first.body.tools)
    start = first.model_copy(update={"body": first.body.model_copy(update={"tools": silent})})

    found = replay([start, *kept.events[1:]], POLICIES)

    assert found.difference is not None
    assert found.difference.recorded.startswith("request (keepalive)")
    assert found.difference.decided == "wait"


def test_a_session_that_was_cut_off_at_any_line_of_a_wait_goes_on_to_its_end(kept: Waited) -> None:
    first = next(i for i, e in enumerate(kept.events) if isinstance(e.body, ToolStarted) and e.body.name == "crawl")

    for end in range(first, len(kept.events)):
        taken_up = waited(past=kept.events[:end])

        assert taken_up.state.outcome == "completed"
        assert replay(taken_up.events, POLICIES).same


def test_a_ping_that_was_interrupted_is_no_failure_of_the_session(kept: Waited) -> None:
    asked = next(i for i, e in enumerate(kept.events) if e.body in kept.pings)
    state = fold(kept.events[: asked + 1])

    failed, _ = recovery.interrupted(state, Interrupted("SIGTERM"))
    after = evolve(state, Event(seq=asked + 1, at=kept.events[asked].at, body=failed))

    assert isinstance(failed, ModelFailed)
    assert (failed.purpose, after.pending, after.failure) == ("keepalive", None, None)
    assert after.at_risk_usd == costs.worst_case(state.card, state.prompt_tokens, 0)


def test_nothing_is_sent_for_a_tool_that_announces_nothing() -> None:
    assert waited(announced_s=None).pings == []


def test_nothing_is_sent_where_pings_do_not_pay() -> None:
    long = waited(takes_s=7_200, announced_s=7_200)

    assert long.pings == []
    assert any(e.body.type == "compacted" for e in long.events)


@pytest.mark.parametrize("model", ["claude-sonnet-4-6", "claude-sonnet-5-5"])
def test_waits_that_come_again_and_again_cost_no_more_for_being_announced(model: str) -> None:
    """An hour is cheaper than four pings every other turn: pings do not hide from the planner how long the waits are."""
    announced = waited(looks=25, every=2, model=model)
    silent = waited(looks=25, every=2, model=model, announced_s=None)

    assert len(announced.pings) > 0
    assert announced.state.spent_usd <= silent.state.spent_usd * Decimal("1.02")
    assert replay(announced.events, POLICIES).same


def test_a_gap_says_for_how_long_pings_had_kept_the_cache_warm_before_it(kept: Waited) -> None:
    assert kept.state.pinged_s[:-1] == (0.0,) * 12
    assert kept.state.pinged_s[-1] == 4 * 270
    assert sum(kept.state.gaps) + sum(kept.state.pinged_s) == (kept.asked_at(14) - kept.asked_at(1)).total_seconds()


@pytest.mark.parametrize("compaction", [KeepPairs(), Threshold()])
def test_a_policy_that_would_not_cut_a_cold_history_is_not_taken_to(compaction: KeepPairs | Threshold) -> None:
    settings = PolicySettings(compaction=compaction)
    kept = waited(2_400, 2_400, looks=10, settings=settings, model="claude-sonnet-4-6")
    silent = waited(2_400, None, looks=10, settings=settings, model="claude-sonnet-4-6")

    assert [p.decision.reason.split()[-2:-1] for p in kept.pings if p.decision is not None] == [["cold"]] * 8
    assert kept.state.spent_usd < silent.state.spent_usd


def test_pings_stop_as_soon_as_the_tool_is_done() -> None:
    assert len(waited(takes_s=600, announced_s=1_200).pings) == 2


def test_no_more_is_sent_than_was_planned_where_the_tool_takes_longer() -> None:
    assert len(waited(takes_s=7_200, announced_s=1_200).pings) == 4


def test_a_ping_that_fails_is_written_down_and_is_the_last_and_the_session_goes_on() -> None:
    broken = waited(refused=BROKEN)

    assert (broken.state.outcome, len(broken.pings), broken.pinged) == ("completed", 1, [])
    assert [(f.error_type, f.retry_in_s) for f in broken.failures] == [("overloaded_error", None)]
    assert replay(broken.events, POLICIES).same
    assert broken.turn(14).cache_read_input_tokens == 0
    assert broken.state.at_risk_usd > 0


@pytest.mark.parametrize(
    ("usage", "next_one"), [(Usage(ephemeral_5m_input_tokens=9_000), False), (Usage(cache_read_input_tokens=9_000), True)]
)
def test_a_ping_that_finds_nothing_to_read_is_the_last(kept: Waited, usage: Usage, next_one: bool) -> None:
    asked = next(i for i, e in enumerate(kept.events) if e.body in kept.pings)
    body = ModelReplied(turn=13, purpose="keepalive", reply=reply(stop_reason="max_tokens", usage=usage))
    at = kept.events[asked].at

    state = evolve(fold(kept.events[: asked + 1]), Event(seq=asked + 1, at=at, body=body))

    assert state.sent is not None
    assert state.sent.at == at
    assert (while_waiting(state, POLICIES, at + timedelta(seconds=275)) is not None) == next_one


def test_a_ping_that_comes_too_late_is_not_sent(kept: Waited) -> None:
    asked = next(i for i, e in enumerate(kept.events) if e.body in kept.pings)
    state, at = fold(kept.events[:asked]), kept.events[asked].at

    decided = [while_waiting(state, POLICIES, at + timedelta(seconds=s)) is not None for s in (-1, 0, 29, 31)]

    assert decided == [False, True, True, False]


def test_what_was_shown_once_is_not_in_the_ping_and_its_facts_are_paid_in_full() -> None:
    once = waited(model="claude-sonnet-4-6", facts="see_once", looks=4)

    assert len(once.pings) == 4
    for ping in once.pinged:
        assert ping.cache_read_input_tokens == once.turn(5).prompt_tokens - once.turn(5).input_tokens > 3_000
        assert 0 < ping.input_tokens < once.turn(5).input_tokens
    assert once.turn(6).cache_read_input_tokens == once.pinged[0].cache_read_input_tokens


def test_thinking_that_is_set_by_hand_is_not_pinged(kept: Waited) -> None:
    asked = next(i for i, e in enumerate(kept.events) if e.body in kept.pings)
    state, at = fold(kept.events[:asked]), kept.events[asked].at
    by_hand = state.prefix.model_copy(update={"thinking": {"type": "enabled", "budget_tokens": 1_024}})

    assert while_waiting(state, POLICIES, at) is not None
    assert while_waiting(changed(state, prefix=by_hand), POLICIES, at) is None


def test_without_budget_nothing_is_sent() -> None:
    assert waited(limits=Limits(max_budget_usd=Decimal("0.30"))).pings == []
    assert len(waited(limits=Limits(max_budget_usd=Decimal("0.90"))).pings) == 4


class SmallPurse:
    """A shared budget that has room for what is answered, and none for a ping; or nobody can say what it has."""

    def __init__(self, lost: bool) -> None:
        self.lost, self.asked = lost, 0

    def reserve(self, spent_usd: Decimal, most_usd: Decimal, sent_usd: Decimal = Decimal(0)) -> Room | None:
        self.asked += 1
        if self.asked != 14:  # the thirteen turns before the wait
            return None
        if self.lost:
            raise BudgetUnknown("the ledger is damaged")
        return Room("the workspace", Decimal(1), Decimal(0), granted=False)

    def settle(self, spent_usd: Decimal) -> None:
        """Nobody looks."""


@pytest.mark.parametrize("lost", [False, True])
def test_nothing_is_sent_that_has_no_room_in_a_shared_budget_and_the_calls_run_on(lost: bool) -> None:
    purse = SmallPurse(lost)

    without = waited(purse=purse)

    assert (without.pings, without.state.outcome) == ([], "completed")
    assert purse.asked == 15


def test_nothing_is_kept_warm_for_a_session_that_will_not_ask_again() -> None:
    assert waited(limits=Limits(max_turns=13)).pings == []
    assert waited(limits=Limits(max_wall_s=1_000)).pings == []


def test_nothing_is_sent_where_the_end_of_the_history_is_not_cached() -> None:
    plain = PolicySettings(caching=FourMarks(tail_ttl="off"))

    assert waited(settings=plain).pings == []


def test_an_hour_of_life_needs_no_pings_for_twenty_minutes() -> None:
    hour = PolicySettings(caching=FourMarks(static_ttl="1h", state_ttl="1h", tail_ttl="1h"))

    assert waited(settings=hour).pings == []
    assert len(waited(takes_s=7_000, announced_s=7_000, settings=hour).pings) == 1


def test_a_prompt_that_is_too_short_to_be_cached_is_not_pinged() -> None:
    assert waited(looks=0, page_lines=1, model="claude-haiku-4-5-20251001").pings == []


READS = ToolCard(name="read", effect="read", takes_s=60)
LONG = ToolCard(name="long", effect="read", takes_s=90)
WRITES = ToolCard(name="write", effect="once", takes_s=40)
QUICK = ToolCard(name="quick", effect="once")


@pytest.mark.parametrize(
    ("names", "seconds"),
    [
        (["quick", "unknown"], None),
        (["read", "long"], 90),
        (["write", "write"], 80),
        (["read", "write", "long"], 190),
        (["quick", "read"], 60),
    ],
)
def test_readers_take_their_time_together_and_others_one_after_the_other(names: list[str], seconds: float | None) -> None:
    calls = [Call(f"c{i}", name, {}) for i, name in enumerate(names)]

    assert announced_s(calls, [READS, LONG, WRITES, QUICK]) == seconds


def test_whoever_waits_for_a_call_is_woken_as_often_as_it_wants() -> None:
    gate = threading.Event()

    @tool
    def hold() -> str:
        """Hold."""
        gate.wait(10)
        return "done"

    wakes = iter([0.01, 0.01, None])
    box = Toolbox(Registry([hold]), session_id="s", root=Path("/"))

    answers = box.run([Call("c", "hold", {})], lambda c: c.id, lambda: next(wakes))
    woken = [next(answers), next(answers)]
    gate.set()
    last = next(answers)

    assert woken == [None, None]
    assert last is not None
    assert last.content == "done"


def test_nobody_is_woken_after_the_deadline_of_a_call() -> None:
    gate = threading.Event()

    @tool(timeout_s=0.02)
    def hold() -> str:
        """Hold."""
        gate.wait(10)
        return "done"

    box = Toolbox(Registry([hold]), session_id="s", root=Path("/"))

    [answer] = box.run([Call("c", "hold", {})], lambda c: c.id, lambda: 5.0)
    gate.set()

    assert answer is not None
    assert answer.outcome == "timeout"


def test_a_tool_may_not_announce_more_than_it_is_given() -> None:
    def crawl() -> str:
        """Crawl."""
        return ""

    assert Registry([tool(takes_s=50)(crawl)]).cards[0].takes_s == 50
    for wrong in (61.0, 0.0, -1.0):
        with pytest.raises(RegistryError, match="takes_s must be more than 0 and at most timeout_s"):
            Registry([tool(takes_s=wrong)(crawl)])
