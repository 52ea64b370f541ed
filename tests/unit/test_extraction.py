from decimal import Decimal
from pathlib import Path

import pytest

from agentloop import Agent, tool
from agentloop.core import extraction
from agentloop.emulator import Function
from agentloop.errors import ConfigError, PromptError, RegistryError, UnknownModel
from agentloop.report import Report, report
from agentloop.testing import card
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block, Call
from agentloop.types.events import Event, FactsSettings, ModelRequested, ResultExtracted, ToolFinished

ROWS = "\n".join(f"order W{i} costs {i}.50 EUR" for i in range(400))


@tool(effect="read", facts=FactsSettings(model="claude-haiku-5-5", ask="what the orders cost"))
def orders() -> str:
    """List the orders."""
    return ROWS


@tool(effect="read")
def plain_orders() -> str:
    """List the orders."""
    return ROWS


def looks(name: str) -> Function:
    def answer(request: Json, at: int) -> list[Block]:
        return [blocks.tool_use("toolu_1", name, {})] if at == 0 else [blocks.text("Done.")]

    return Function("looks", answer)


def ran(folder: Path, made: Agent) -> tuple[list[Event], Report]:
    result = made.run("Look.", session_id="s")
    assert result.outcome == "completed"
    events = made.sessions.events("s")
    return events, report(events)


def test_a_cheap_model_makes_the_facts_and_is_paid_at_its_own_prices(tmp_path: Path) -> None:
    made = Agent(system="You look.", tools=[orders], model="claude-sonnet-5-5", workspace=tmp_path, script=looks("orders"))

    events, bill = ran(tmp_path, made)

    [asked] = [e.body for e in events if isinstance(e.body, ModelRequested) and e.body.purpose == "extraction"]
    [made_of] = [e.body for e in events if isinstance(e.body, ResultExtracted)]
    [cost] = [a.cost_usd for a in bill.cost_by_turn if a.cause == "extraction"]
    assert asked.asked_of is not None
    assert asked.asked_of.id == "claude-haiku-5-5"
    assert made_of.content is not None
    assert made_of.content.startswith("order W0 costs 0.50 EUR\n")
    assert "recall(handle=" in made_of.content
    assert Decimal(0) < cost < Decimal("0.001")
    assert sum(bill.cost_by_cause.values()) == bill.cost_usd


def test_the_agent_file_says_what_matters_in_the_results_of_a_tool(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\nfacts:\n  plain_orders: {model: claude-haiku-5-5}\n---\nYou look.\n")
    made = Agent("a.md", tools=[plain_orders], workspace=tmp_path, script=looks("plain_orders"))

    events, _ = ran(tmp_path, made)

    assert [e.body.content is not None for e in events if isinstance(e.body, ResultExtracted)] == [True]


def test_the_agent_file_may_want_a_result_whole(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\nfacts: {orders: keep}\n---\nYou look.\n")
    made = Agent("a.md", tools=[orders], workspace=tmp_path, script=looks("orders"))

    events, _ = ran(tmp_path, made)

    assert [e.body.content for e in events if isinstance(e.body, ToolFinished)] == [ROWS]


@pytest.mark.parametrize(
    ("facts", "error", "said"),
    [
        ("{orders: {model: claude-hiku-5-5}}", UnknownModel, "did you mean claude-haiku-5-5"),
        ("{order: keep}", RegistryError, "no tool named order"),
        ("{orders: {shar: 0.5}}", ConfigError, "did you mean 'share'"),
        ("{orders: {share: 7}}", PromptError, "line 2: facts of 'orders': share"),
        ("{orders: all}", PromptError, "must be 'keep' or settings"),
        ("[orders]", PromptError, "must be 'tool: settings' lines"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(
    tmp_path: Path, facts: str, error: type[Exception], said: str
) -> None:
    (tmp_path / "a.md").write_text(f"---\nfacts: {facts}\n---\nYou look.\n")

    with pytest.raises(error, match=said):
        Agent("a.md", tools=[orders], workspace=tmp_path, script=looks("orders")).run("Look.", session_id="s")

    assert not (tmp_path / "sessions" / "s" / "log.jsonl").exists()


def test_without_budget_the_facts_that_were_made_without_a_model_stay(tmp_path: Path) -> None:
    made = Agent(
        system="You look.",
        tools=[orders],
        model="claude-haiku-5-5",
        workspace=tmp_path,
        script=looks("orders"),
        max_budget_usd="0.0022",
    )

    made.run("Look.", session_id="s")

    bodies = [e.body for e in made.sessions.events("s")]
    assert [b.detail for b in bodies if isinstance(b, ResultExtracted)] == ["no budget for it"]
    assert not [b for b in bodies if isinstance(b, ModelRequested) and b.purpose == "extraction"]


def test_lines_with_values_that_the_result_does_not_hold_are_dropped() -> None:
    answer = "order W7 costs 7.50 EUR.\norder W9999 is new\nall is well\n- W8: 8.50"

    assert extraction.supported(answer, ROWS) == "order W7 costs 7.50 EUR.\nall is well\n- W8: 8.50"


def test_a_model_that_thinks_has_room_to() -> None:
    call = Call("c", "orders", {})
    plain = extraction.request(call, ROWS, FactsSettings(), card(thinks_by_default=False), 300)
    thinking = extraction.request(call, ROWS, FactsSettings(), card(thinks_by_default=True), 300)

    assert (plain.max_tokens, plain.prefix.effort) == (300, None)
    assert (thinking.max_tokens, thinking.prefix.effort) == (300 + extraction.THINKING_ROOM, "low")
