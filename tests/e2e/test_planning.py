"""What a run will cost, asked before it and looked at after it."""

import json
import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.workplace import agentloop, workspace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return workspace(tmp_path)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = workspace(tmp_path_factory.mktemp("ran"))
    for n in range(3):
        agentloop(made, "run", "assistant", "--session-id", f"s{n}", "-q")
    return made


@pytest.fixture
def busy(ran: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ran, tmp_path / "busy"))


def forecasts(folder: Path, *flags: str) -> list[dict[str, object]]:
    ran = agentloop(folder, "plan", "assistant", "--json", *flags)
    assert ran.code == 0
    found: list[dict[str, object]] = json.loads(ran.out)["forecasts"]
    return found


def amounts(forecast: dict[str, object], what: str = "cost_usd") -> list[Decimal]:
    span = forecast[what]
    assert isinstance(span, dict)
    return [Decimal(span[end]) for end in ("low", "expected", "high")]


def test_where_nothing_has_run_it_says_so_and_uses_defaults(folder: Path) -> None:
    ran = agentloop(folder, "plan", "assistant")

    assert ran.code == 0
    assert "from defaults" in ran.out
    assert "no past sessions of 'assistant' here" in ran.out
    assert not (folder / "sessions").exists()


def test_the_next_run_costs_what_was_forecast(busy: Path) -> None:
    (planned,) = forecasts(busy)
    bill = json.loads(agentloop(busy, "run", "assistant", "--json").out)

    low, expected, high = amounts(planned)
    assert low < high
    assert Decimal(bill["cost_usd"]) == expected
    assert planned["sessions"] == ["s2", "s1", "s0"]
    assert low < expected < amounts(planned, "naive_usd")[1]


def test_the_table_shows_the_run_beside_nothing_cut_and_the_plain_loop(busy: Path) -> None:
    out = agentloop(busy, "plan", "assistant").out

    assert "policy rent: from 3 past sessions" in out
    assert [line.split("  ")[0] for line in out.splitlines()[2:6]] == [
        "turns", "this run, USD", "cached, all kept whole", "the plain loop",
    ]  # fmt: skip


def test_models_are_forecast_side_by_side(busy: Path) -> None:
    sonnet, haiku = forecasts(busy, "--model", "claude-sonnet-5-5,claude-haiku-5-5")

    assert (sonnet["model"], haiku["model"]) == ("claude-sonnet-5-5", "claude-haiku-5-5")
    assert amounts(haiku)[1] < amounts(sonnet)[1]
    assert sonnet["corrected_by"] == 6
    assert haiku["corrected_by"] == 0


def test_more_turns_and_a_longer_task_cost_more(busy: Path) -> None:
    two, nine = (amounts(forecasts(busy, "--turns", n)[0])[1] for n in ("2", "9"))
    long = amounts(forecasts(busy, "--turns", "2", "-p", "Count. " * 3_000)[0])[1]

    assert two < nine
    assert two < long


def test_a_budget_below_the_low_end_is_warned_of(busy: Path) -> None:
    ran = agentloop(busy, "plan", "assistant", "--max-budget-usd", "0.0001")

    assert ran.code == 0
    assert "warning: the budget of 0.0001 USD is below the low end of the forecast, 0.00" in ran.err


def test_an_agent_or_a_model_that_is_not_known_is_wrong_use(busy: Path) -> None:
    nobody = agentloop(busy, "plan", "asistant")
    nothing = agentloop(busy, "plan", "assistant", "--model", "claude-sonnet-5-5,claude-sonet")
    empty = agentloop(busy, "plan", "assistant", "--model", ",")

    assert (nobody.code, nothing.code, empty.code) == (2, 2, 2)
    assert "--model ',' names nothing" in empty.err
    assert "did you mean 'assistant'?" in nobody.err
    assert "unknown model 'claude-sonet'" in nothing.err


def test_afterwards_the_forecast_stands_beside_the_bill(busy: Path) -> None:
    told = agentloop(busy, "plan", "assistant", "--against", "s2")
    reported = agentloop(busy, "report", "s2", "--forecast")
    data = json.loads(agentloop(busy, "report", "s2", "--forecast", "--json").out)

    assert "the forecast from 2 sessions before it was" in told.out
    assert "within the range, 1.00 times what was expected" in told.out
    assert told.out.strip() in reported.out
    assert data["forecast"]["within"] is True
    assert data["forecast"]["cost_usd"] == data["cost_usd"]
    assert data["forecast"]["forecast"]["sessions"] == ["s1", "s0"]


def test_the_first_session_is_held_against_defaults(busy: Path) -> None:
    found = json.loads(agentloop(busy, "plan", "assistant", "--against", "s0", "--json").out)

    assert found["forecast"]["basis"] == "defaults"
    assert found["turns"] == 2


def test_a_session_of_another_agent_is_not_taken_for_this_ones(busy: Path) -> None:
    (busy / "prompts" / "other.md").write_text("You are another.\n")

    ran = agentloop(busy, "plan", "other", "--against", "s0")

    assert ran.code == 2
    assert "is one of agent 'assistant', not of 'other'" in ran.err


def test_a_damaged_session_is_left_out_and_named(busy: Path) -> None:
    log = busy / "sessions" / "s1" / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([*lines[:3], lines[3].replace("count", "c0unt", 1).replace("turn", "tvrn", 1), *lines[4:]]))

    ran = agentloop(busy, "plan", "assistant")

    assert "from 2 past sessions" in ran.out
    assert "s1" in ran.err
