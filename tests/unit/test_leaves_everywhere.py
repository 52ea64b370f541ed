"""Leaves of sessions that run in a wave, and of sessions whose logs are in PostgreSQL: as anywhere else."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from agentloop.core.folding import fold
from agentloop.purses import ledger
from agentloop.types.events import Event, ModelReplied, ToolFinished
from agentloop.waves import running
from agentloop.waves.bill import bill
from agentloop.waves.wave import Rules
from tests.unit.leaves_of import Api, Hasty, Office, leaves, script, task

TASKS = [task("call note A"), task("order 1", "writing"), task("order 2", "writing")]
MODES = ("live", "batch")


def office(folder: Path, mode: str) -> Office:
    leaves_say = f"leaves: {{mode: {mode}, extraction: {{tools: [note]}}}}\n"
    made = Office(folder, f"grants: {{delegate: {{at_most: 5}}, note: {{at_most: 9}}}}\n{leaves_say}")
    made.clock = Hasty()
    return made


@pytest.mark.parametrize("mode", MODES)
def test_sessions_of_a_wave_delegate_and_each_counts_its_own_leaves(mode: str, tmp_path: Path) -> None:
    desk = office(tmp_path, mode)
    played = script(TASKS)
    api = Api(played, desk.clock)
    agent = desk.agent(played, api, unattended=True, job_total_usd="9")
    who = running.members(agent.name, [f"Go {n}." for n in range(4)], "w")

    ran = running.run(agent, who, desk.clock, Rules(gather_s=0.2))

    logs = {i: agent.sessions.events(i) for i in who.tasks}
    whole, _ = bill(logs.values())
    apart = [fold(agent.sessions.events(leaf.session_id)) for log in logs.values() for leaf in leaves(log)]
    assert not ran.failed
    assert [r.outcome for r in ran.results.values()] == ["completed"] * 4
    assert len(apart) == 12
    assert {s.outcome for s in apart} == {"completed"}
    assert desk.done == ["note A"] * 4
    assert sum(fold(log).spent_usd for log in logs.values()) == Decimal(api.emulator.report()["totals"]["cost_usd"])
    assert whole.cost_usd == sum(fold(log).spent_usd for log in logs.values())
    assert all(s.spent_usd for s in apart)
    book = ledger(tmp_path, agent.settings, agent.sessions, desk.clock)
    row = next(r for r in book.spending("desk", agent.settings.shared_limits) if r.scope == "'desk'")
    assert (row.settled_usd, row.reserved_usd) == (sum(fold(log).spent_usd for log in logs.values()), Decimal(0))


@pytest.mark.parametrize("mode", MODES)
def test_leaves_of_a_session_on_postgresql_are_there_too(mode: str, tmp_path: Path, new_postgres_url: str) -> None:
    desk = office(tmp_path, mode)
    played = script(TASKS)
    agent = desk.agent(played, Api(played, desk.clock), database_url=new_postgres_url, job_total_usd="1")

    result = agent.run("Go.", session_id="s")

    found = leaves(agent.sessions.events("s"))
    tiers = {
        e.body.reply.usage.service_tier
        for leaf in found
        for e in agent.sessions.events(leaf.session_id)
        if isinstance(e.body, ModelReplied)
    }
    book = ledger(tmp_path, agent.settings, agent.sessions, desk.clock)
    row = next(r for r in book.spending("desk", agent.settings.shared_limits) if r.scope == "'desk'")
    assert result.outcome == "completed"
    assert [leaf.outcome for leaf in found] == ["completed"] * 3
    assert tiers == {"batch" if mode == "batch" else "standard"}
    assert row.settled_usd == result.cost
    assert sorted(agent.sessions.ids()) == ["s", "s.toolu_0.1", "s.toolu_0.2", "s.toolu_0.3"]
    assert not (tmp_path / "sessions").exists()
    assert not (tmp_path / ".agentloop" / "leaves").exists()


@pytest.mark.parametrize("mode", MODES)
def test_leaves_on_postgresql_that_ended_are_not_run_again(mode: str, tmp_path: Path, new_postgres_url: str) -> None:
    desk = office(tmp_path, mode)
    played = script(TASKS)
    api = Api(played, desk.clock)
    agent = desk.agent(played, api, database_url=new_postgres_url)
    agent.run("Go.", session_id="s")
    before = {i: agent.sessions.events(i) for i in agent.sessions.ids() if i != "s"}
    asked = len(api.emulator.report()["requests"])
    _forget(new_postgres_url, agent.sessions.events("s"))

    result = desk.agent(played, api, database_url=new_postgres_url).resume("s")

    assert result.outcome == "completed"
    assert {i: agent.sessions.events(i) for i in before} == before
    assert len(api.emulator.report()["requests"]) == asked + 1  # the session's own last turn
    assert desk.done == ["note A"]


def _forget(url: str, events: Sequence[Event]) -> None:
    """As if the process had died before the answer to `delegate` was written."""
    seq = next(e.seq for e in events if isinstance(e.body, ToolFinished))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM agentloop_lines WHERE session_id = 's' AND seq >= %s", [seq])
        connection.execute(
            "UPDATE agentloop_sessions SET outcome = 'unfinished', (events, bytes) = "
            "(SELECT count(*), sum(octet_length(line)) FROM agentloop_lines WHERE session_id = 's') WHERE session_id = 's'"
        )
