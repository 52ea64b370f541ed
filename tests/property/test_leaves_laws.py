"""Laws of leaves: whatever the order in which they start, end, die and are taken up again, they never spend or do more than
the session that delegates has left."""

import random
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.core.delegating import Pot, Rights, for_leaves
from agentloop.core.folding import fold
from agentloop.core.permits import Permits, Used
from agentloop.core.state import State, changed
from agentloop.emulator.settings import BatchSettings
from agentloop.policies import recorded
from agentloop.purses import ledger
from agentloop.replay import replay
from agentloop.testing import events, started
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block
from agentloop.types.events import Event
from agentloop.types.grants import Grant, Grants
from agentloop.types.limits import Limits
from tests.property import test_waves_laws as waves_laws
from tests.unit.leaves_of import LONG, Api, Hasty, Office, leaves, script, task

SCHEDULES = 1_000


@pytest.mark.parametrize("part", range(4))
def test_no_schedule_of_leaves_spends_more_than_the_pot_has(part: int) -> None:
    for seed in range(part * SCHEDULES // 4, (part + 1) * SCHEDULES // 4):
        _schedule(random.Random(seed))


def _schedule(chance: random.Random) -> None:
    """Leaves start in any order, spend up to what they may, a bit at a time, and end; now and then the process dies, all that
    run are taken up again later, and what the pot knows is made anew from what each was charged."""
    usd = Decimal(chance.randint(0, 5_000)) / 1_000
    count = chance.randint(1, 12)
    most = [None if chance.random() < 0.5 else Decimal(chance.randint(0, 900)) / 1_000 for _ in range(count)]
    charged, limit, over = [Decimal(0)] * count, dict[int, Decimal](), set[int]()
    pot = Pot(usd)
    for _ in range(chance.randint(20, 120)):
        waiting = [n for n in range(count) if n not in limit and n not in over]
        match chance.choices(["start", "spend", "end", "crash"], [5, 12, 4, 1])[0]:
            case "start" if waiting:
                n = chance.choice(waiting)
                pot, given = pot.drawn(n, most[n], len(waiting))
                assert given is not None
                assert given >= charged[n]
                limit[n] = given
            case "spend" if limit:
                n = chance.choice(list(limit))
                charged[n] += (limit[n] - charged[n]) * chance.randint(0, 100) / 100
            case "end" if limit:
                n = chance.choice(list(limit))
                pot = pot.returned(n, charged[n])
                over.add(n)
                del limit[n]
            case "crash":
                limit, pot = {}, Pot(usd)
                for n in range(count):
                    pot = pot.returned(n, charged[n])
        assert sum(charged) <= usd
        assert sum(limit.values()) + sum(charged[n] for n in range(count) if n not in limit) <= usd
        assert all(c <= m for c, m in zip(charged, most, strict=True) if m is not None)


def test_what_leaves_leave_goes_to_those_that_start_later() -> None:
    pot, first = Pot(Decimal(3)).drawn(1, None, 3)
    pot = pot.returned(1, Decimal("0.2"))
    pot, second = pot.drawn(2, None, 2)

    assert (first, second) == (Decimal(1), Decimal("1.4"))
    assert pot.left_usd == Decimal("1.4")
    assert Pot(None).drawn(1, Decimal(2), 3) == (Pot(None), Decimal(2))


AMOUNTS = st.decimals(0, 1_000, places=4)


@given(
    calls=st.none() | st.integers(0, 40),
    total=st.none() | AMOUNTS,
    used=st.tuples(st.integers(0, 50), AMOUNTS),
    among=st.integers(1, 50),
)
def test_the_parts_of_a_grant_are_no_more_than_what_is_left_of_it(
    calls: int | None, total: Decimal | None, used: tuple[int, Decimal], among: int
) -> None:
    grant = Grant(at_most=calls, sum_of="amount" if total is not None else None, sum_at_most=total)
    rights = Rights(Permits(Grants(tools={"pay": grant, "other": Grant()}), used={"pay": Used(*used)}))

    found = []
    for n in range(among):
        rights, part = rights.drawn(n, {"pay": among - n})
        assert part is not None
        assert part.tools.keys() == {"pay"}
        found.append(part.tools["pay"])

    if calls is None:
        assert {g.at_most for g in found} == {None}
    else:
        shares = [g.at_most or 0 for g in found]
        assert sum(shares) == max(0, calls - used[0])
        assert max(shares) - min(shares) <= 1
    if total is not None:
        left = max(Decimal(0), total - used[1])
        shared = sum((g.sum_at_most or Decimal(0) for g in found), Decimal(0))
        assert left - Decimal(among) / 10**12 <= shared <= left


@pytest.mark.parametrize("part", range(4))
def test_no_schedule_of_leaves_does_more_than_is_granted(part: int) -> None:
    for seed in range(part * SCHEDULES // 4, (part + 1) * SCHEDULES // 4):
        _schedule_of_rights(random.Random(seed))


def _schedule_of_rights(chance: random.Random) -> None:
    """As above, with calls and what they add up to in the place of money."""
    calls, total = chance.randint(0, 30), Decimal(chance.randint(0, 5_000)) / 100
    before = Used(chance.randint(0, 5), Decimal(chance.randint(0, 500)) / 100)
    grant = Grant(at_most=calls, sum_of="amount", sum_at_most=total)
    permits = Permits(Grants(tools={"pay": grant}), used={"pay": before})
    count = chance.randint(1, 12)
    did, may, over = [Used()] * count, dict[int, Grant](), set[int]()
    rights = Rights(permits)
    for _ in range(chance.randint(20, 120)):
        waiting = [n for n in range(count) if n not in may and n not in over]
        match chance.choices(["start", "call", "end", "crash"], [5, 12, 4, 1])[0]:
            case "start" if waiting:
                n = chance.choice(waiting)
                rights, given = rights.drawn(n, {"pay": len(waiting)})
                assert given is not None
                may[n] = given.tools["pay"]
            case "call" if may:
                n = chance.choice(list(may))
                amount = ((may[n].sum_at_most or Decimal(0)) - did[n].total) * chance.randint(0, 100) / 100
                if did[n].calls < (may[n].at_most or 0) and amount >= 0:
                    did[n] = Used(did[n].calls + 1, did[n].total + amount)
            case "end" if may:
                n = chance.choice(list(may))
                rights = rights.returned(n, {"pay": did[n]})
                over.add(n)
                del may[n]
            case "crash":
                may, rights = {}, Rights(permits)
                for n in range(count):
                    rights = rights.returned(n, {"pay": did[n]})
        assert sum(d.calls for d in did) <= max(0, calls - before.calls)
        assert sum((d.total for d in did), Decimal(0)) <= max(Decimal(0), total - before.total)


@given(limit=st.none() | AMOUNTS, spent=AMOUNTS, tokens=st.integers(0, 20_000))
def test_leaves_get_what_is_left_less_what_the_next_request_may_cost(
    limit: Decimal | None, spent: Decimal, tokens: int
) -> None:
    state = _spent(spent, limit)

    usd = for_leaves(state, tokens)

    if limit is None:
        assert usd is None
    else:
        assert usd is not None
        assert usd == 0 or usd + spent < limit
        assert usd <= for_leaves(state, 0)  # type: ignore[operator]


def _spent(usd: Decimal, limit: Decimal | None) -> State:
    return changed(fold(events(started(limits=Limits(max_budget_usd=limit)))), spent_usd=usd)


@pytest.mark.parametrize("seed", range(24))
def test_real_leaves_overrun_neither_their_sessions_budget_nor_the_jobs(seed: int, tmp_path: Path) -> None:
    """On the emulator, with threads, tools and a shared ledger; every bill is the sum of its parts."""
    chance = random.Random(seed)
    own, job = Decimal(chance.randint(1, 60)) / 100, Decimal(chance.randint(1, 60)) / 100
    office = Office(
        tmp_path,
        f"leaves: {{parallel: {chance.randint(1, 8)}, extraction: {{tools: [look], max_turns: {chance.randint(1, 12)}}}, "
        f"writing: {{system: '{LONG}'}}}}\n",
    )
    turns, size = chance.randint(0, 12), chance.randint(1, 3_000)

    def plays(told: str, at: int, request: Json) -> Sequence[Block]:
        if at < turns and request.get("tools"):
            return [blocks.text("x" * size), blocks.tool_use(f"toolu_{at}", "look", {})]
        return [blocks.text("done " * size)]

    tasks = [task(f"{n}", chance.choice(["extraction", "writing"])) for n in range(chance.randint(1, 12))]
    agent = office.agent(script(tasks, tasks[:2], leaf=plays), max_budget_usd=str(own), job_total_usd=str(job))
    result = agent.run("Go.", session_id="s")

    there = agent.sessions.events("s")
    found = leaves(there)
    apart = sum((fold(agent.sessions.events(i)).spent_usd for i in agent.sessions.ids() if i != "s"), Decimal(0))
    book = ledger(tmp_path, agent.settings, agent.sessions, office.clock)
    row = next(r for r in book.spending("desk", agent.settings.shared_limits) if r.scope == "'desk'")
    assert result.cost <= own
    assert result.cost == row.settled_usd <= job
    assert sum((leaf.spent_usd for leaf in found), Decimal(0)) == apart == fold(there).leaves_usd
    assert row.reserved_usd == 0
    assert replay(there, recorded(fold(there).policies).policies()).same


BY_MODE: dict[str, dict[str, None]] = {
    "session_started": dict.fromkeys(("policies", "expected_gap_s", "limits", "leaf")),
    "model_requested": dict.fromkeys(("digest", "body_bytes", "breakpoints", "decision")),
}
"""What depends on the way in which a leaf asks: how long its cache entries and itself may live, and the bodies with that."""


def told(log: Sequence[Event]) -> list[Any]:
    """What a log says, apart from that, from times, ids, tier and cache."""
    found = waves_laws.told(log)
    for data in found:
        data |= BY_MODE.get(data["type"], {})
        if data["type"] == "model_replied":
            data["reply"]["message_id"] = None
        for leaf in data.get("leaves") or ():
            leaf |= dict.fromkeys(("usage", "spent_usd", "at_risk_usd", "batched"))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_leaves_in_batches_write_the_logs_of_live_ones(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    tasks = [_random_task(chance, n) for n in range(chance.randint(1, 9))]
    batches = BatchSettings(
        earlier_hits=chance.choice([0.0, 0.5, 1.0]),
        errored=chance.choice([0.0, 0.3]),
        expired=chance.choice([0.0, 0.3]),
        expires_s=60,
    )
    logs = {}
    for mode in ("live", "batch"):
        (folder := tmp_path / mode).mkdir()
        office = Office(
            folder, f"leaves: {{mode: {mode}, extraction: {{tools: [look, note]}}, writing: {{system: '{LONG}'}}}}\n"
        )
        office.clock = Hasty()
        played = script(tasks)
        api = Api(played, office.clock, batches)
        agent = office.agent(played, api)
        agent.run("Go.", session_id="s")
        events = {i: agent.sessions.events(i) for i in agent.sessions.ids()}
        logs[mode] = {i: told(log) for i, log in events.items()}
        assert all(replay(log, recorded(fold(log).policies).policies()).same for log in events.values())
        assert fold(events["s"]).spent_usd == Decimal(api.emulator.report()["totals"]["cost_usd"])
        assert mode == "batch" or not api.items()

    assert len(logs["live"]) == 1 + len(tasks)
    assert logs["batch"] == logs["live"]


def _random_task(chance: random.Random, number: int) -> dict[str, str]:
    kind = chance.choice(["extraction", "writing", "summarisation"])
    called = chance.choice([" call look", f" call note N{number}", ""]) if kind == "extraction" else ""
    return task(f"{number}{called}", kind, context=chance.choice(["", "", LONG]))
