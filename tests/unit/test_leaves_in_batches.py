"""Leaves that ask in batches: what they cost, what they wrote, how they end."""

import os
import signal
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from agentloop.core.folding import fold
from agentloop.emulator import Function
from agentloop.emulator.settings import BatchSettings
from agentloop.errors import PromptError
from agentloop.lines.files import FileLines
from agentloop.purses import ledger
from agentloop.report import report
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block
from agentloop.types.events import Event, ModelFailed, ModelReplied, ModelRequested, SessionStarted
from agentloop.types.leaves import LeafOf
from agentloop.waves.journal import BatchEnded, BatchIntended, Journal
from tests.unit.leaves_of import LONG, Api, Hasty, Office, answers, leaves, script, state_of, task

TEN = [task(f"order {n}") for n in range(10)]
BATCH = "leaves: {mode: batch}\n"


def office(folder: Path, front: str) -> Office:
    made = Office(folder, front)
    made.clock = Hasty()
    return made


def spent(events: Sequence[Event]) -> Decimal:
    return sum((leaf.spent_usd for leaf in leaves(events)), Decimal(0))


def tiers(there: Sequence[Event]) -> list[str | None]:
    return [e.body.reply.usage.service_tier for e in there if isinstance(e.body, ModelReplied)]


def journal(folder: Path, call: str = "s.toolu_0") -> list[object]:
    with Journal(FileLines(folder / ".agentloop" / "leaves" / call, "leaves")) as opened:
        return list(opened.lines)


def sent(folder: Path) -> list[int]:
    """How many requests each batch had."""
    return [len(line.items) for line in journal(folder) if isinstance(line, BatchIntended)]


def test_ten_leaves_that_share_nothing_cost_half(tmp_path: Path) -> None:
    bills = {}
    for mode in ("live", "batch"):
        (folder := tmp_path / mode).mkdir()
        agent = office(folder, f"leaves: {{mode: {mode}}}\n").agent(script(TEN))
        result = agent.run("Go.", session_id="s")
        bills[mode] = spent(agent.sessions.events("s"))
        assert result.outcome == "completed"
        assert result.cost == report(agent.sessions.events("s")).cost_usd

    assert bills["batch"] == bills["live"] / 2 > 0
    assert sent(tmp_path / "batch") == [10]
    assert not (tmp_path / "live" / ".agentloop" / "leaves").exists()


def test_what_they_share_is_written_once_for_an_hour_and_read_by_the_others(tmp_path: Path) -> None:
    agent = office(tmp_path, f"leaves: {{mode: batch, extraction: {{system: '{LONG}'}}}}\n").agent(script(TEN))

    agent.run("Go.", session_id="s")

    found = leaves(agent.sessions.events("s"))
    wrote = Counter(leaf.usage.ephemeral_1h_input_tokens for leaf in found)
    (prefix,) = [n for n in wrote if n]
    assert prefix > 3_000
    assert wrote == {prefix: 1, 0: 9}
    assert Counter(leaf.usage.cache_read_input_tokens for leaf in found) == {0: 1, prefix: 9}
    assert sent(tmp_path) == [1, 9]
    assert all(tiers(agent.sessions.events(leaf.session_id)) == ["batch"] for leaf in found)


def test_leaves_with_tools_ask_turn_by_turn_together(tmp_path: Path) -> None:
    agent = office(tmp_path, "leaves: {mode: batch, extraction: {tools: [note]}}\n").agent(
        script([task(f"call note N{i}") for i in range(4)])
    )

    agent.run("Go.", session_id="s")

    assert [leaf.outcome for leaf in leaves(agent.sessions.events("s"))] == ["completed"] * 4
    assert sent(tmp_path) == [1, 4, 3]  # the first writes the tools that all share, and is one turn ahead
    assert tiers(agent.sessions.events("s.toolu_0.3")) == ["batch", "batch"]


def test_a_kind_may_ask_otherwise_than_the_rest_and_each_leafs_log_says_how_it_was_begun(tmp_path: Path) -> None:
    front = "leaves: {mode: batch, writing: {mode: live}, extraction: {model: claude-haiku-5-5}}\n"
    agent = office(tmp_path, front).agent(script([task("a"), task("b", "writing"), task("c"), task("d", "summarisation")]))

    agent.run("Go.", session_id="s")

    there = [agent.sessions.events(f"s.toolu_0.{n}") for n in range(1, 5)]
    starts = [events[0].body for events in there]
    assert [tiers(events) for events in there] == [["batch"], ["standard"], ["batch"], ["batch"]]
    assert all(isinstance(start, SessionStarted) and start.leaf is not None for start in starts)
    assert [start.leaf.mode for start in starts] == ["batch", "live", "batch", "batch"]  # type: ignore[union-attr]
    assert sent(tmp_path) == [3]


def test_a_leaf_of_an_older_log_was_begun_live() -> None:
    assert LeafOf.model_validate({"session_id": "s", "call_id": "c", "number": 1, "kind": "k"}).mode == "live"


def test_what_batches_have_not_answered_by_the_deadline_is_asked_live(tmp_path: Path) -> None:
    desk = office(tmp_path, "leaves: {mode: batch, deadline_s: 8}\n")
    played = script(TEN[:3])
    api = Api(played, desk.clock, BatchSettings(start_s=50_000))
    agent = desk.agent(played, api)
    begun = desk.clock.at

    result = agent.run("Go.", session_id="s")

    found = leaves(agent.sessions.events("s"))
    assert result.outcome == "completed"
    assert [leaf.outcome for leaf in found] == ["completed"] * 3
    assert [tiers(agent.sessions.events(leaf.session_id)) for leaf in found] == [["standard"]] * 3
    assert 8 <= (desk.clock.at - begun).total_seconds() < 60


def test_half_of_what_the_session_has_left_is_for_what_batches_do_not_answer(tmp_path: Path) -> None:
    desk = office(tmp_path, BATCH)
    played = script(TEN[:3])
    agent = desk.agent(played, Api(played, desk.clock, BatchSettings(start_s=50_000)), max_wall_s=40)
    begun = desk.clock.at

    result = agent.run("Go.", session_id="s")

    assert result.outcome == "completed"
    assert {leaf.outcome for leaf in leaves(agent.sessions.events("s"))} == {"completed"}
    assert 19 <= (desk.clock.at - begun).total_seconds() < 40


def test_items_that_fail_are_asked_again_and_after_two_batches_live(tmp_path: Path) -> None:
    desk = office(tmp_path, BATCH)
    played = script(TEN)
    api = Api(played, desk.clock, BatchSettings(errored=1.0))
    agent = desk.agent(played, api)

    agent.run("Go.", session_id="s")

    there = [agent.sessions.events(leaf.session_id) for leaf in leaves(agent.sessions.events("s"))]
    assert len(there) == 10
    assert all(tiers(events) == ["standard"] for events in there)
    assert {sum(isinstance(e.body, ModelFailed) for e in events) for events in there} == {2}
    assert sum(fold(events).at_risk_usd for events in there) == 0


def test_ctrl_c_leaves_the_batch_where_it_is_and_resuming_takes_its_answers(tmp_path: Path) -> None:
    desk = office(tmp_path, BATCH)
    played = script(TEN)
    api = Api(played, desk.clock, BatchSettings(item_s=90))
    stopped = False

    class Stopping(Hasty):
        def monotonic(self) -> float:
            nonlocal stopped
            if not stopped and len(list((tmp_path / ".agentloop" / "leaves").glob("*/log.jsonl"))) and sent_already():
                stopped = True
                os.kill(os.getpid(), signal.SIGINT)
            return super().monotonic()

    def sent_already() -> bool:
        return '"batch_made"' in (tmp_path / ".agentloop" / "leaves" / "s.toolu_0" / "log.jsonl").read_text()

    desk.clock.__class__ = Stopping
    agent = desk.agent(played, api)
    result = agent.run("Go.", session_id="s")
    parts = [state_of(agent, i) for i in agent.sessions.ids() if i != "s"]
    again = desk.agent(played, api).resume("s")

    assert (result.outcome, again.outcome) == ("interrupted", "completed")
    assert {s.outcome for s in parts} == {"interrupted"}
    assert sum(s.at_risk_usd for s in parts) == 0
    assert any(s.pending is not None for s in parts)  # a batch has what they asked; the others had not asked yet
    assert len(api.items()) == 10
    assert sum(Decimal(r["cost_usd"]) for r in api.items()) == spent(agent.sessions.events("s"))
    assert fold(agent.sessions.events("s")).at_risk_usd == 0


def died_while_waiting(folder: Path) -> None:
    """As if the process had died while the answer to the second leaf was on its way."""
    for name in ("s", "s.toolu_0.2"):
        log = folder / "sessions" / name / "log.jsonl"
        lines = log.read_text().splitlines(keepends=True)
        kind = '"tool_finished"' if name == "s" else '"model_replied"'
        log.write_text("".join(lines[: next(i for i, line in enumerate(lines) if kind in line)]))


def test_a_batch_answers_what_was_asked_although_nothing_could_be_asked_by_now(tmp_path: Path) -> None:
    desk = office(tmp_path, BATCH)
    played = script(TEN[:3])
    api = Api(played, desk.clock)
    desk.agent(played, api).run("Go.", session_id="s")
    died_while_waiting(tmp_path)
    desk.write("leaves: {mode: batch, extraction: {max_budget_usd: 0.00005}}\n")

    agent = desk.agent(played, api)
    agent.resume("s")

    found = leaves(agent.sessions.events("s"))
    state = state_of(agent, "s.toolu_0.2")
    assert [leaf.outcome for leaf in found] == ["completed"] * 3
    assert len(api.items()) == 3
    assert spent(agent.sessions.events("s")) == sum(Decimal(r["cost_usd"]) for r in api.items())
    assert (state.asked, state.at_risk_usd) == (1, Decimal(0))
    assert not [e for e in agent.sessions.events("s.toolu_0.2") if isinstance(e.body, ModelFailed)]


def test_a_call_that_was_begun_in_batches_goes_on_in_them_although_the_agents_file_says_live_now(tmp_path: Path) -> None:
    desk = office(tmp_path, BATCH)
    played = script(TEN[:3])
    api = Api(played, desk.clock)
    desk.agent(played, api).run("Go.", session_id="s")
    died_while_waiting(tmp_path)
    desk.write("")

    agent = desk.agent(played, api)
    agent.resume("s")

    assert len(api.items()) == 3
    assert tiers(agent.sessions.events("s.toolu_0.2")) == ["batch"]
    assert state_of(agent, "s.toolu_0.2").at_risk_usd == 0
    assert Counter(type(line) for line in journal(tmp_path))[BatchEnded] == 1


@pytest.mark.parametrize("seed", range(6))
def test_budgets_are_kept_and_settled_at_the_price_of_batches(seed: int, tmp_path: Path) -> None:
    own, job = Decimal(5 + 9 * seed) / 100, Decimal(40 - 6 * seed) / 100
    desk = office(tmp_path, "leaves: {mode: batch, extraction: {tools: [look], max_turns: 9}}\n")

    def plays(told: str, at: int, request: Json) -> Sequence[Block]:
        if at < seed:
            return [blocks.text("x" * 900), blocks.tool_use(f"toolu_{at}", "look", {})]
        return answers(told, at, request)

    agent = desk.agent(script(TEN, TEN[:2], leaf=plays), max_budget_usd=str(own), job_total_usd=str(job), max_tokens=2_000)
    result = agent.run("Go.", session_id="s")

    apart = sum((fold(agent.sessions.events(i)).spent_usd for i in agent.sessions.ids() if i != "s"), Decimal(0))
    book = ledger(tmp_path, agent.settings, agent.sessions, desk.clock)
    row = next(r for r in book.spending("desk", agent.settings.shared_limits) if r.scope == "'desk'")
    assert result.cost == row.settled_usd <= min(own, job)
    assert apart == spent(agent.sessions.events("s"))
    assert row.reserved_usd == 0


def test_where_no_batch_can_be_made_they_are_asked_live(tmp_path: Path) -> None:
    desk = office(tmp_path, BATCH)
    played = script(TEN[:2])
    api = Api(Function("refused", played.answer), desk.clock)
    clients = api.clients()

    class Refusing:
        def __getattr__(self, name: str) -> object:
            return getattr(clients.batches(), name)

        def create(self, body: bytes) -> object:
            return clients.batches().create(b"{}")

    agent = desk.agent(played).through(clients._replace(batches=Refusing))  # type: ignore[arg-type]
    agent.run("Go.", session_id="s")

    assert [leaf.outcome for leaf in leaves(agent.sessions.events("s"))] == ["completed"] * 2
    assert api.items() == []


def test_requests_of_leaves_that_share_are_told_to_live_an_hour(tmp_path: Path) -> None:
    agent = office(tmp_path, "leaves: {mode: batch, extraction: {tools: [look]}}\n").agent(script(TEN[:2]))

    agent.run("Go.", session_id="s")

    asked = [e.body for e in agent.sessions.events("s.toolu_0.1") if isinstance(e.body, ModelRequested)]
    assert {b.ttl for r in asked for b in r.breakpoints} <= {"1h"}
    assert agent.sessions.events("s.toolu_0.1")[0].body.expected_gap_s == 1_800  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("front", "names"),
    [
        ("leaves: {mode: batches}\n", "leaves: mode: .*'live' or 'batch', found 'batches'"),
        ("leaves: {deadline_s: 0}\n", "deadline_s: .*found 0"),
        ("leaves: {deadline_s: 90000}\n", "deadline_s: .*43200, found 90000"),
        ("leaves: {writing: {mode: often}}\n", "leaves of 'writing': mode: .*found 'often'"),
    ],
)
def test_what_is_wrong_in_the_agents_file_is_named(front: str, names: str, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=names):
        Office(tmp_path, front).agent(script())
