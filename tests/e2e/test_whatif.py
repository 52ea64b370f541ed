"""`agentloop whatif`: files and saved sessions under other policies, as a table, as JSON, as a chart."""

import json
import shutil
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import pytest

from agentloop.adapters.model_table import PACKAGED
from agentloop.types.base import Json
from tests.e2e.workplace import agentloop, workspace
from tests.property.recordings import SYSTEM, TOOLS, steady


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recording = steady(24)
    messages: list[Json] = []
    for step in recording.steps:
        answers = [recording.results[i] for i in _open(messages)]
        messages.append({"role": "user", "content": [*answers, *step.told]})
        messages.append({"role": "assistant", "content": list(step.reply)})
    session = {"id": "shop", "system": SYSTEM, "tools": TOOLS, "messages": messages}
    (tmp_path / "shop.jsonl").write_text(json.dumps(session) + "\n", encoding="utf-8")
    return workspace(tmp_path)


def _open(messages: list[Json]) -> list[str]:
    """The calls of the last message."""
    return [b["id"] for b in (messages[-1]["content"] if messages else []) if b["type"] == "tool_use"]


def test_a_table_for_each_model_and_gap_with_what_cannot_be_known(folder: Path) -> None:
    ran = agentloop(folder, "whatif", "shop.jsonl", "--gap", "10s,7m", "--model", "claude-sonnet-4-6,claude-sonnet-5-5")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.count("1 session, 24 turns as claude-sonnet-") == 4
    assert ran.out.count("\nrent ") == 8
    assert "offline optimum" in ran.out
    assert "what this cannot know: the trajectory is the recorded one" in ran.out


def test_json_has_rows_and_totals(folder: Path) -> None:
    ran = agentloop(
        folder, "whatif", "shop.jsonl", "--policy", "never,threshold:5000,rent", "--no-facts", "--ttl", "5m,1h", "--json"
    )

    data = json.loads(ran.out)
    assert [(r["policy"], r["ttl"]) for r in data["totals"]] == [
        (p, t) for p in ("never", "threshold:5000", "rent") for t in ("5m", "1h")
    ]
    fields = {"policy", "model", "sessions", "turns", "cost_usd", "ratio_to_naive", "ratio_to_optimum", "need_recall",
              "whole_turns", "compactions", "session"}  # fmt: skip
    assert all(fields <= r.keys() for r in data["sessions"] + data["totals"])
    assert "trajectory" in data["unknown"]


def test_a_saved_session_costs_what_its_import_cost(folder: Path) -> None:
    imported = agentloop(folder, "import", "shop.jsonl", "--policy", "rent", "--gap-s", "10", "--no-explain", "--json")
    ran = agentloop(folder, "whatif", "shop", "--policy", "rent", "--gap", "recorded", "--facts", "--json")

    (bill,), (row,) = json.loads(imported.out), json.loads(ran.out)["sessions"]
    assert (row["session"], row["turns"]) == ("shop", 24)
    assert Decimal(row["cost_usd"]) == Decimal(bill["cost_usd"])


def test_the_chart_is_drawn_and_the_same_each_time(folder: Path) -> None:
    for name in ("a.svg", "b.svg"):
        assert agentloop(folder, "whatif", "shop.jsonl", "--chart", name).code == 0

    assert (folder / "a.svg").read_bytes() == (folder / "b.svg").read_bytes()
    assert len(list(ElementTree.parse(folder / "a.svg").iter("{http://www.w3.org/2000/svg}polyline"))) == 10


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.jsonl"], "session 'nowhere.jsonl' does not exist"),
        (["shop.jsonl", "--policy", "rant"], "policy 'rant' is none that is known"),
        (["shop.jsonl", "--gap", "soon"], "gap 'soon' is none that is known"),
        (["shop.jsonl", "--ttl", "2h"], "lifetime '2h' is none that is known"),
        (["shop.jsonl", "--model", "claude-none"], "unknown model 'claude-none'"),
        (["shop.jsonl", "--policy", ","], "names nothing"),
        (["shop.jsonl", "--policy", "threshold:1__0"], "policy 'threshold:1__0' is none that is known"),
        (["shop.jsonl", "--gap", "40d"], "gap '40d' is too long: expected 30d at most"),
        (["shop.jsonl", "--chart", "nowhere/chart.svg"], "the folder of nowhere/chart.svg does not exist"),
    ],
)
def test_what_is_not_known_is_refused_before_anything_is_played(folder: Path, arguments: list[str], told: str) -> None:
    ran = agentloop(folder, "whatif", *arguments)

    assert ran.code == 2
    assert told in ran.err


def test_a_session_that_never_got_an_answer_has_nothing_to_play(folder: Path) -> None:
    agentloop(folder, "run", "assistant", "--session-id", "poor", "--max-budget-usd", "0", "-q")

    ran = agentloop(folder, "whatif", "poor")

    assert (ran.code, ran.out) == (2, "")
    assert "session 'poor' has no answered turn" in ran.err


def test_whole_results_that_are_gone_are_told(folder: Path) -> None:
    agentloop(folder, "import", "shop.jsonl", "--facts", "--policy", "never", "--no-explain")
    shutil.rmtree(folder / "sessions" / "shop" / "blobs")

    ran = agentloop(folder, "whatif", "shop", "--policy", "never")

    assert ran.code == 0
    assert "whole results that are not in blobs/ any more" in ran.err


def test_the_prices_are_those_of_the_price_table_that_is_set(folder: Path) -> None:
    prices = json.loads(PACKAGED.read_text(encoding="utf-8"))
    for tier in prices["models"]["claude-sonnet-5-5"]["prices"]["standard"]:
        tier |= {kind: str(10 * Decimal(price)) for kind, price in tier.items() if kind != "max_prompt_tokens"}
    (folder / "dear.json").write_text(json.dumps(prices), encoding="utf-8")
    asked = ("whatif", "shop.jsonl", "--model", "claude-sonnet-5-5", "--policy", "never", "--no-facts", "--json")

    usual = json.loads(agentloop(folder, *asked).out)["totals"][0]
    dear = json.loads(agentloop(folder, *asked, AGENTLOOP_PRICE_TABLE="dear.json").out)["totals"][0]

    assert Decimal(dear["cost_usd"]) == 10 * Decimal(usual["cost_usd"])
