"""Routing from the command line: evals demote one step and promote another, cases come from sessions, switches are priced."""

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from agentloop.adapters.model_table import models
from agentloop.emulator import Emulator, EmulatorSettings, Function
from agentloop.emulator.script import ScriptedReply, spoken
from agentloop.emulator.server import running
from agentloop.emulator.settings import BatchSettings
from agentloop.routing import files
from agentloop.sessions import Sessions
from agentloop.types.base import Json
from tests.e2e.workplace import agentloop, workspace
from tests.unit.probed import played

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
CASES = 400
QUALITY = {("extraction", HAIKU): 0.98, ("extraction", SONNET): 0.97, ("classification", HAIKU): 0.7,
           ("classification", SONNET): 0.97}  # fmt: skip
"""How often each model is right, by kind of step."""
KEY = {"ANTHROPIC_API_KEY": "emulator"}


def speak(request: Json, step: int) -> ScriptedReply:
    """Models of known quality: the same answer to the same case each time."""
    kind, number = str(request["system"]).split()[-1], request["messages"][0]["content"].split()[-1]
    model = str(request["model"])
    right = random.Random(f"{kind} {number} {model}").random() < QUALITY[kind, model]
    return spoken(number if right else "I do not know.")


@pytest.fixture
def emulator() -> Emulator:
    at_once = BatchSettings(start_s=0, item_s=0)
    return Emulator(Function("two-models", speak), models(), settings=EmulatorSettings(batches=at_once))


@pytest.fixture
def url(emulator: Emulator) -> Iterator[str]:
    with running(emulator) as url:
        yield url


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A workspace whose table gives extraction to Sonnet and classification to Haiku, with evals of both."""
    folder = workspace(tmp_path)
    (folder / "routing.toml").write_text(
        f'# our routes\n[steps.extraction]\nmodel = "{SONNET}"\nreason = "To be safe."\nmax_tokens = 500\n\n'
        f'# cheap at last\n[steps.classification]\nmodel = "{HAIKU}"\neffort = "low"\nreason = "A guess."\nmax_tokens = 500\n'
    )
    (folder / "evals").mkdir()
    for kind in ("extraction", "classification"):
        same = {"kind": kind, "system": f"Steps of kind {kind}"}
        lines = ({**same, "id": f"{kind}-{i}", "input": f"Give {i}", "expected": str(i)} for i in range(CASES))
        (folder / "evals" / f"{kind}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_one_step_is_demoted_and_another_promoted(place: Path, url: str, emulator: Emulator) -> None:
    ran = agentloop(place, "route", "eval", "--candidate", HAIKU, "--against", SONNET, "--batch", "--delta", "0.1",
                    "--base-url", url, "--max-cost", "5", "--json", **KEY)  # fmt: skip

    assert (ran.code, ran.err) == (0, "")
    found = {row["kind"]: row for row in json.loads(ran.out)}
    assert {k: (r["verdict"], r["model"]) for k, r in found.items()} == {
        "extraction": ("demote", HAIKU),
        "classification": ("promote", SONNET),
    }
    assert all(r["requests"] < 2 * CASES for r in found.values()), "it stops before the cases are over"
    assert sum(Decimal(r["cost_usd"]) for r in found.values()) == Decimal(emulator.report()["totals"]["cost_usd"])


def test_a_model_that_was_replaced_is_asked_again_as_it_was_asked_before(place: Path, url: str) -> None:
    table = place / "routing.toml"
    table.write_text(table.read_text().replace('reason = "To be safe."', 'reason = "To be safe."\neffort = "high"'))
    command = ("route", "eval", "extraction", "--candidate", HAIKU, "--against", SONNET, "--delta", "0.1", "--base-url", url)
    first, second = (json.loads(agentloop(place, *command, "--json", **KEY).out)[0] for _ in range(2))

    assert first["verdict"] == "demote"
    assert second["reused"] == first["requests"]
    assert (
        json.loads(agentloop(place, "route", "show", "--json").out)["steps"]["extraction"]["evidence"]["against_effort"]
        == "high"
    )


def test_the_table_holds_the_evidence_and_show_prints_it(place: Path, url: str) -> None:
    agentloop(place, "route", "eval", "--candidate", HAIKU, "--against", SONNET, "--batch", "--delta", "0.1",
              "--base-url", url, "--max-cost", "5", **KEY)  # fmt: skip
    text = (place / "routing.toml").read_text()
    rows = json.loads(agentloop(place, "route", "show", "--json").out)["steps"]
    shown = agentloop(place, "route", "show", "extraction").out

    assert [line for line in text.splitlines() if line.startswith("#")] == ["# our routes", "# cheap at last"]
    assert rows["extraction"]["fallback"] == [SONNET]
    evidence = rows["extraction"]["evidence"]
    assert (evidence["verdict"], evidence["wealth"] >= 20, evidence["n"] >= 50) == ("demote", True, True)
    assert Decimal(evidence["candidate_usd_per_solved"]) < Decimal(evidence["against_usd_per_solved"]) / 15
    assert rows["classification"]["evidence"]["worse_wealth"] >= 20
    assert "Not worse than claude-sonnet-5-5 by 0.1" in shown
    assert "for each solved case" in shown


def test_a_run_that_ran_out_of_money_goes_on_where_it_stopped(place: Path, url: str, emulator: Emulator) -> None:
    command = ("route", "eval", "extraction", "--candidate", HAIKU, "--delta", "0.1", "--base-url", url, "--json")
    first = agentloop(place, *command, "--max-cost", "0.006", **KEY)
    second = agentloop(place, *command, "--max-cost", "5", **KEY)

    assert (first.code, second.code, second.err) == (3, 0, "")
    (before,), (after,) = json.loads(first.out), json.loads(second.out)
    assert Decimal(before["cost_usd"]) <= Decimal("0.006")
    assert (after["reused"], after["verdict"]) == (before["requests"], "demote")
    assert before["requests"] + after["requests"] == emulator.report()["totals"]["requests"]


def test_offline_a_playbook_plays_both_models_and_the_page_says_so(place: Path) -> None:
    (place / "models.playbook.yaml").write_text('name: models\ndefault: {say: "7"}\n')
    ran = agentloop(place, "route", "eval", "extraction", "--candidate", HAIKU, "--playbook", "models.playbook.yaml",
                    "--max-cost", "0.1")  # fmt: skip

    assert "a script played both models: this says nothing about any model" in ran.out
    assert "(not written to routing.toml)" in ran.out
    assert "To be safe." in (place / "routing.toml").read_text()
    assert "evidence" not in (place / "routing.toml").read_text()


def test_what_was_not_written_is_not_called_written(place: Path, url: str) -> None:
    before = (place / "routing.toml").read_text()
    ran = agentloop(place, "route", "eval", "extraction", "--candidate", HAIKU, "--delta", "0.1", "--base-url", url,
                    "--dry-run", "--json", **KEY)  # fmt: skip

    (row,) = json.loads(ran.out)
    assert (row["verdict"], row["written"]) == ("demote", False)
    assert (place / "routing.toml").read_text() == before


def test_cases_come_from_sessions_and_wait_for_a_person(tmp_path: Path) -> None:
    played(tmp_path)
    (tmp_path / "agentloop.toml").write_text("")
    command = ("route", "harvest", "desk-1", "--kind", "writing")

    first, second = agentloop(tmp_path, *command), agentloop(tmp_path, *command)
    lines = [json.loads(line) for line in (tmp_path / "evals" / "writing.harvested.jsonl").read_text().splitlines()]
    refused = agentloop(tmp_path, "route", "eval", "writing", "--candidate", HAIKU, "--playbook", "p.yaml")

    assert (first.code, second.code) == (0, 0)
    assert "1 new cases" in first.out
    assert "0 new cases" in second.out
    assert [(c["expected"], c["reviewed"]) for c in lines] == [("Done with all of it.", False)]
    assert lines[0]["input"][0]["content"][0]["text"] in str(next(iter(Sessions(tmp_path / "sessions").events("desk-1")[1:2])))
    assert refused.code == 2


def test_a_switch_is_priced_with_its_arithmetic(tmp_path: Path) -> None:
    ran = agentloop(workspace(tmp_path), "route", "price", "--cached", "110000")

    assert "stay with claude-sonnet-5-5: 110,000 x 0.1 + 2,000 x 2.5 + 500 x 10 USD per million = 0.021 USD" in ran.out
    assert "beyond the price step of claude-haiku-5-5 at 100,000 tokens" in ran.out
    assert "cheapest: delegate" in ran.out


@pytest.mark.parametrize(("arguments", "said"), [
    (("eval", "extraction", "--candidate", SONNET), "and so does the candidate"),
    (("eval", "extraction", "--candidate", HAIKU, "--against", "claude-opus-5-5"), "says nothing about it"),
    (("eval", "poetry", "--candidate", HAIKU), "no evals for steps of kind 'poetry'"),
    (("eval", "extraction", "--candidate", "claude-haiku"), "unknown model 'claude-haiku'"),
    (("eval", "extraction", "--candidate", HAIKU, "--max-cost", "nan"), "--max-cost is expected to be 0 or more"),
    (("show", "poetry"), "no route for steps of kind 'poetry'"),
])  # fmt: skip
def test_what_cannot_be_done_is_said(place: Path, url: str, arguments: tuple[str, ...], said: str) -> None:
    more = ("--base-url", url) if arguments[0] == "eval" else ()

    ran = agentloop(place, "route", *arguments, *more, **KEY)

    assert ran.code == 2
    assert said in ran.err


def test_without_a_key_nothing_is_asked(place: Path) -> None:
    ran = agentloop(place, "route", "eval", "extraction", "--candidate", HAIKU)

    assert ran.code == 2
    assert "ANTHROPIC_API_KEY" in ran.err


def test_the_packaged_table_holds_where_a_workspace_has_none(tmp_path: Path) -> None:
    ran = agentloop(workspace(tmp_path), "route", "show", "--json")
    older = agentloop(tmp_path, "route", "show", "--older", "--json")

    assert json.loads(ran.out)["steps"].keys() == files.load(files.CURRENT).steps.keys()
    assert json.loads(older.out)["steps"]["planning"]["model"] == "claude-opus-4-6"
