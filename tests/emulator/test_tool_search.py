"""The API's tool search, played by the emulator, and a session behind it from end to end."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agentloop import Agent, tool
from agentloop.baselines import baselines
from agentloop.core.folding import begin
from agentloop.emulator import Function, Playbook, ScriptedReply
from agentloop.emulator.tool_search import found
from agentloop.policies import PolicySettings, Threshold, Whole, preset
from agentloop.replay import replay
from agentloop.testing import FixedClock
from agentloop.tooling import Tool
from agentloop.types.base import Json
from agentloop.types.blocks import Block, text, tool_use
from agentloop.types.events import SessionStarted
from tests.emulator.conftest import Bench, says

SEARCH = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
BY_REGEX = {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}


def definition(name: str, description: str, **fields: str) -> Json:
    properties = {k: {"type": "string", "description": v} for k, v in fields.items()}
    schema = {"type": "object", "properties": properties}
    return {"name": name, "description": description, "input_schema": schema, "defer_loading": True}


DEFERRED = [
    definition("get_weather", "The weather of a city.", city="Which city, such as Graz."),
    definition("send_invoice", "Sends an invoice to a customer.", customer="Who pays."),
    definition("cancel_order", "Cancels an order."),
    *(definition(f"archive_{n}", "Puts things into the archive.") for n in range(7)),
]


@pytest.mark.parametrize(
    ("name", "asked", "names"),
    [
        ("tool_search_tool_bm25", {"query": "sending invoices"}, ["send_invoice"]),
        ("tool_search_tool_bm25", {"query": "Graz"}, ["get_weather"]),
        ("tool_search_tool_bm25", {"query": "pineapple"}, []),
        ("tool_search_tool_bm25", {"query": "?"}, []),
        ("tool_search_tool_bm25", {"query": "archive"}, [f"archive_{n}" for n in range(5)]),
        ("tool_search_tool_bm25", {"query": "x" * 501}, None),
        ("tool_search_tool_bm25", {}, None),
        ("tool_search_tool_regex", {"query": "(?i)WEATHER|cancel"}, ["get_weather", "cancel_order"]),
        ("tool_search_tool_regex", {"pattern": "^archive_[0-9]"}, [f"archive_{n}" for n in range(5)]),
        ("tool_search_tool_regex", {"query": "("}, None),
        ("tool_search_tool_regex", {"query": "a" * 201}, None),
    ],
)
def test_rule_61_a_search_finds_deferred_tools_and_no_others(name: str, asked: Json, names: list[str] | None) -> None:
    """By name, description and parameters; five at most."""
    hot = definition("hot_weather_invoice_archive", "weather, invoice, archive, cancel, Graz") | {"defer_loading": False}

    assert found(name, asked, [hot, *DEFERRED]) == names


def searching(**changes: Any) -> Json:
    return {
        "type": "server_tool_use",
        "id": "srvtoolu_1",
        "name": "tool_search_tool_bm25",
        "input": {"query": "weather"},
    } | changes


def test_rule_61_a_search_of_the_script_is_answered_in_the_same_reply(bench: Bench) -> None:
    """The result stands behind its search, and the model goes on with the tool that it found."""
    bench.play(Function("test", lambda request, step: [searching(), tool_use("toolu_1", "get_weather", {"city": "Graz"})]))

    reply = bench.ask(tools=[SEARCH, *DEFERRED])

    assert [b.type for b in reply.content] == ["server_tool_use", "tool_search_tool_result", "tool_use"]
    [_, result, _] = (b.to_dict() for b in reply.content)
    assert result["content"] == {
        "type": "tool_search_tool_search_result",
        "tool_references": [{"type": "tool_reference", "tool_name": "get_weather"}],
    }
    assert reply.stop_reason == "tool_use"


def test_rule_61_a_search_that_cannot_be_made_has_an_error_as_its_result(bench: Bench) -> None:
    """The request itself does not fail."""
    bench.play(Function("test", lambda request, step: [searching(input={"query": ""}), text("Hm.")]))

    [_, result, _] = (b.to_dict() for b in bench.ask(tools=[SEARCH, *DEFERRED]).content)

    assert result["content"] == {"type": "tool_search_tool_result_error", "error_code": "invalid_tool_input"}


def test_rule_61_a_paused_search_is_answered_at_the_head_of_the_next_reply(bench: Bench) -> None:
    """The turn is sent back as it is; its search is over then."""

    def answer(request: Json, step: int) -> ScriptedReply | Sequence[Block]:
        return ScriptedReply((text("I look."), searching()), "pause_turn") if step == 0 else [text("Found.")]

    bench.play(Function("test", answer))
    paused = bench.ask(tools=[SEARCH, *DEFERRED])
    history = [says("Hello."), {"role": "assistant", "content": [b.to_dict() for b in paused.content]}]

    behind = bench.ask(history, tools=[SEARCH, *DEFERRED])

    assert [b.type for b in paused.content] == ["text", "server_tool_use"]
    assert [b.type for b in behind.content] == ["tool_search_tool_result", "text"]


def test_a_playbook_searches_like_it_calls(bench: Bench) -> None:
    bench.play(
        Playbook.from_data(
            {"name": "p", "steps": [{"call": [{"tool_search_tool_bm25": {"query": "Graz"}}, {"get_weather": {}}]}]}
        )
    )

    assert [b.type for b in bench.ask(tools=[SEARCH, *DEFERRED]).content] == [
        "server_tool_use",
        "tool_search_tool_result",
        "tool_use",
    ]


# a whole session


def offered(name: str) -> Tool:
    def use(where: str = "") -> str:
        return f"{name} was used {where}. " + "It went well. " * 40

    use.__doc__ = f"Use {name.replace('_', ' ')}. " + "It has an effect in the shop. " * 8
    return tool(name=name, effect="read")(use)


NAMES = [
    f"{verb}_{what}" for what in ("order", "parcel", "invoice", "stock") for verb in ("find", "pack", "check", "close", "price")
]
STEPS = [
    "find_order",
    "price_stock",
    "find_order",
    "price_stock",
    "close_invoice",
    "find_order",
    "close_invoice",
    "price_stock",
]


def answer(request: Json, step: int) -> Sequence[Block] | ScriptedReply:
    if step >= 3 * len(STEPS):
        return [text("Done.")]
    name = STEPS[step % len(STEPS)]
    call = tool_use(f"toolu_{step}", name, {"where": f"at {step}"})
    known = [t["name"] for t in request["tools"] if not t.get("defer_loading")]
    said = str(request["messages"])
    if name in known or f"'tool_name': '{name}'" in said:
        return [call]
    search = {"type": "server_tool_use", "id": f"srvtoolu_{step}", "name": "tool_search_tool_bm25"}
    return [text("I look for a tool."), {**search, "input": {"query": name.replace("_", " ")}}, call]


def agent(folder: Path, policies: PolicySettings, **changes: Any) -> Agent:
    settings: dict[str, Any] = {"tool_search": "on", "fsync": "never", "model": "claude-sonnet-5-5"} | changes
    return Agent(
        system="You run a shop.",
        tools=[offered(n) for n in NAMES],
        script=Function("shop", answer),
        workspace=folder,
        policies=policies,
        clock=FixedClock(step_s=2),
        environment={},
        **settings,
    )


NEVER = preset("never").model_copy(update={"facts": Whole()})
CUTTING = NEVER.model_copy(update={"compaction": Threshold(over_tokens=2_500, keep_pairs=3)})


@pytest.mark.parametrize("policies", [NEVER, CUTTING, preset("every_turn"), preset("rent")])
@pytest.mark.parametrize("model", ["claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-4-5-20251001"])
def test_a_session_finds_its_tools_runs_them_and_replays_the_same(tmp_path: Path, policies: PolicySettings, model: str) -> None:
    made = agent(tmp_path, policies, model=model)

    result = made.run("Work.", session_id="shop")

    events = made.sessions.events("shop")
    assert (result.outcome, result.detail, result.turns) == ("completed", "", 3 * len(STEPS) + 1)
    assert [e.body.outcome for e in events if e.body.type == "tool_finished"] == ["ok"] * 3 * len(STEPS)
    assert replay(events, policies.policies()).same


def test_with_whole_history_each_tool_is_searched_once_and_the_prefix_is_read_again_and_again(tmp_path: Path) -> None:
    made = agent(tmp_path, NEVER)
    made.run("Work.", session_id="shop")

    replies = [e.body.reply for e in made.sessions.events("shop") if e.body.type == "model_replied"]
    searched = [b["input"]["query"] for r in replies for b in r.content if b["type"] == "server_tool_use"]

    assert searched == ["price stock", "close invoice"]
    assert not any(r.cache_miss for r in replies)
    assert all(r.usage.cache_read_input_tokens for r in replies[2:])


def test_a_session_that_never_cuts_costs_what_automatic_caching_costs_found_tools_and_all(tmp_path: Path) -> None:
    made = agent(tmp_path, NEVER)
    result = made.run("Work.", session_id="shop")
    events = made.sessions.events("shop")
    first = events[0].body
    assert isinstance(first, SessionStarted)

    others = baselines(events[1:], begin(first, events[0].at))

    assert abs(others.automatic_caching_usd / result.cost - 1) < Decimal("0.001")
    assert others.naive_usd > 2 * result.cost


def test_after_a_compaction_a_tool_is_searched_again(tmp_path: Path) -> None:
    made = agent(tmp_path, CUTTING)
    made.run("Work.", session_id="shop")

    events = made.sessions.events("shop")
    replies = [e.body.reply for e in events if e.body.type == "model_replied"]

    assert sum(e.body.type == "compacted" for e in events) > 1
    assert sum(b["type"] == "server_tool_use" for r in replies for b in r.content) > 2


def test_a_resumed_session_keeps_its_search_whatever_the_setting_says(tmp_path: Path) -> None:
    agent(tmp_path, NEVER, max_turns=4).run("Work.", session_id="shop")

    resumed = agent(tmp_path, NEVER, max_turns=100, tool_search="off").resume("shop")

    assert (resumed.outcome, resumed.turns) == ("completed", 3 * len(STEPS) + 1)


def test_many_tools_cost_less_behind_search(tmp_path: Path) -> None:
    bills = []
    for mode in ("off", "on"):
        made = agent(tmp_path / mode, NEVER, tool_search=mode)
        made._given_tools = tuple(offered(f"{n}_{k}") if k else offered(n) for n in NAMES for k in range(6))
        bills.append(made.run("Work.").cost)

    assert bills[1] < bills[0] * Decimal("0.6")
