"""Prices that change between two runs of a session, and money that is counted once (U04, U06)."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from agentloop.adapters import model_table
from agentloop.core import costs
from agentloop.core.folding import fold
from agentloop.sessions import Sessions
from agentloop.types.events import ModelReplied, SessionStarted
from tests.e2e.workplace import agentloop, workspace


def dearer(times: int, path: Path) -> str:
    """A price table in which everything costs so many times as much."""

    def scaled(value: object) -> object:
        match value:
            case dict():
                return {k: v if k == "max_prompt_tokens" else scaled(v) for k, v in value.items()}
            case list():
                return [scaled(v) for v in value]
            case bool() | None:
                return value
            case int():
                return value * times
            case str() if value.replace(".", "").isdigit():
                return str(Decimal(value) * times)
            case _:
                return value

    table = json.loads(model_table.PACKAGED.read_text())
    models = table["models"].values() if isinstance(table["models"], dict) else table["models"]
    for model in models:
        for key in [k for k in model if "prices" in k]:
            model[key] = scaled(model[key])
    path.write_text(json.dumps(table))
    return str(path)


def spent(folder: Path) -> tuple[Decimal, Decimal]:
    """USD of the session as the report says, and computed again at the prices in its log."""
    events = Sessions(folder / "sessions").events("s")
    started = events[0].body
    assert isinstance(started, SessionStarted)
    again = sum((costs.cost(e.body.reply.usage, started.card) for e in events if isinstance(e.body, ModelReplied)), Decimal(0))
    told = json.loads(agentloop(folder, "report", "s", "--json").out)
    return Decimal(told["cost_usd"]), again


def test_a_session_keeps_the_prices_that_it_started_with(tmp_path: Path) -> None:
    folder = workspace(tmp_path / "w")
    new = dearer(10, tmp_path / "new.json")
    agentloop(folder, "run", "assistant", "--session-id", "s", "-q", "--max-turns", "1")
    first = spent(folder)[0]

    resumed = agentloop(folder, "resume", "s", "-q", "--max-turns", "9", AGENTLOOP_PRICE_TABLE=new)
    other = agentloop(folder, "run", "assistant", "--session-id", "s2", "--json", AGENTLOOP_PRICE_TABLE=new)

    told, again = spent(folder)
    assert (resumed.code, told) == (0, again)
    assert first < told < 10 * first
    assert Decimal(json.loads(other.out)["cost_usd"]) == 10 * told


@pytest.mark.parametrize("command", ["replay s", "report s", "explain s", "whatif s", "sessions show s"])
def test_looking_at_a_session_adds_nothing_to_what_it_cost(tmp_path: Path, command: str) -> None:
    folder = workspace(tmp_path)
    agentloop(folder, "run", "assistant", "--session-id", "s", "-q")
    before, log = spent(folder), (folder / "sessions" / "s" / "log.jsonl").read_bytes()

    for _ in range(2):
        assert agentloop(folder, *command.split()).code == 0

    assert spent(folder) == before
    assert (folder / "sessions" / "s" / "log.jsonl").read_bytes() == log


def test_a_session_that_is_taken_up_goes_on_from_what_it_had_spent(tmp_path: Path) -> None:
    folder = workspace(tmp_path)
    agentloop(folder, "run", "assistant", "--session-id", "whole", "-q")
    agentloop(folder, "run", "assistant", "--session-id", "s", "-q", "--max-turns", "1")

    agentloop(folder, "resume", "s", "-q", "--max-turns", "9")

    whole, parted = (fold(Sessions(folder / "sessions").events(n)) for n in ("whole", "s"))
    assert (parted.usage.output_tokens, parted.at_risk_usd) == (whole.usage.output_tokens, Decimal(0))
    assert spent(folder) == (parted.spent_usd, parted.spent_usd)
