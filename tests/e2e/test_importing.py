"""`agentloop import`: somebody's transcript in, a bill and an explanation out."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from agentloop.adapters.model_table import PACKAGED
from tests.e2e.workplace import agentloop, workspace
from tests.unit.test_claude_code import whole_session


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    whole_session().written(tmp_path / "mill.jsonl")
    return workspace(tmp_path)


def test_one_command_imports_a_transcript_bills_it_and_explains_it(folder: Path) -> None:
    ran = agentloop(folder, "import", "mill.jsonl")

    assert (ran.code, ran.err) == (0, "")
    told, bill, why = (ran.out.index(w) for w in ("mill: 5 turns", "the same session with", "output  why"))
    assert told < bill < why
    assert "not billed here: what was used when it was recorded: 5 replies of claude-haiku" in ran.out
    assert "agentloop explain mill --turn N" in ran.out


def test_what_was_imported_is_a_session_like_any_other(folder: Path) -> None:
    agentloop(folder, "import", "mill.jsonl", "--no-explain")

    bill = json.loads(agentloop(folder, "report", "mill", "--json").out)
    turn = agentloop(folder, "explain", "mill", "--turn", "2")
    again = agentloop(folder, "replay", "mill")
    other = agentloop(folder, "rerun", "mill", "--policy", "every_turn", "--policy", "rent", "--json")

    assert (bill["outcome"], bill["turns"]) == ("completed", 5)
    assert turn.out.startswith("turn 2: ")
    assert "every decision and digest the same" in again.out
    assert [(r["policy"], r["turns"]) for r in json.loads(other.out)] == [("every_turn", 5), ("rent", 5)]


def test_as_json_the_bill_says_what_was_left_out_and_what_was_recorded(folder: Path) -> None:
    (row,) = json.loads(agentloop(folder, "import", "mill.jsonl", "--json").out)

    assert (row["session_id"], row["turns"]) == ("mill", 5)
    assert any("system prompt" in what for what in row["left_out"])
    assert (row["recorded"]["replies"], row["recorded"]["incomplete"]) == (5, 1)
    assert row["recorded"]["usage"]["cache_read_input_tokens"] == 95_000
    assert float(row["recorded"]["cost_usd"]) > float(row["cost_usd"])


def test_several_files_get_a_line_each_unless_explanations_are_asked_for(folder: Path) -> None:
    whole_session().written(folder / "second.jsonl")
    whole_session().written(folder / "third.jsonl")

    short = agentloop(folder, "import", "mill.jsonl", "second.jsonl").out
    long = agentloop(folder, "import", "third.jsonl", "--explain").out

    assert "the first request" not in short
    assert "the first request" in long


def test_a_model_of_another_house_leaves_the_recorded_usage_without_a_price(folder: Path) -> None:
    transcript = whole_session()
    for line in transcript.lines:
        line.get("message", {}).pop("model", None)
    transcript.written(folder / "other.jsonl")

    (row,) = json.loads(agentloop(folder, "import", "other.jsonl", "--json").out)

    assert row["recorded"]["cost_usd"] is None


def test_what_is_no_transcript_is_refused_by_name(folder: Path) -> None:
    (folder / "notes.jsonl").write_text('{"type":"summary","summary":"Nothing else","leafUuid":"x"}\n')

    ran = agentloop(folder, "import", "notes.jsonl")

    assert ran.code == 2
    assert "notes.jsonl: the transcript holds no conversation" in ran.err


TOO_LARGE = {
    "id": "large",
    "messages": [{"role": "user", "content": "word " * 1_200_000}, {"role": "assistant", "content": "y"}],
}


@pytest.mark.parametrize("more", [(), ("--explain",), ("--json",)])
def test_an_import_that_brings_no_reply_says_why_and_how_to_import_again(folder: Path, more: tuple[str, ...]) -> None:
    (folder / "large.jsonl").write_text(json.dumps(TOO_LARGE) + "\n")

    ran = agentloop(folder, "import", "large.jsonl", *more)
    again = agentloop(folder, "import", "large.jsonl")

    told = ["   ended after 0 of 1 replies: failed (prompt is too long", "   delete sessions/large to import it again"]
    assert (ran.code, ran.err) == (1, "")
    assert "prompt is too long" in ran.out
    assert more == ("--json",) or all(line in ran.out for line in told)
    assert (again.code, "session 'large' exists already; delete sessions/large, or" in again.err) == (2, True)


def test_several_imports_go_on_past_one_that_failed(folder: Path) -> None:
    (folder / "large.jsonl").write_text(json.dumps(TOO_LARGE) + "\n")

    ran = agentloop(folder, "import", "large.jsonl", "mill.jsonl")

    assert ran.code == 1
    assert "mill: 5 turns" in ran.out


def dear(folder: Path) -> str:
    """A price table in which everything costs ten times as much; its name."""
    table = json.loads(PACKAGED.read_text(encoding="utf-8"))
    for tier in (t for model in table["models"].values() for t in model["prices"]["standard"]):
        tier |= {kind: str(10 * Decimal(price)) for kind, price in tier.items() if kind != "max_prompt_tokens"}
    (folder / "dear.json").write_text(json.dumps(table), encoding="utf-8")
    return "dear.json"


def test_a_recording_is_billed_by_the_price_table_that_is_set(folder: Path) -> None:
    whole_session().written(folder / "again.jsonl")

    (usual,) = json.loads(agentloop(folder, "import", "mill.jsonl", "--json").out)
    (other,) = json.loads(agentloop(folder, "import", "again.jsonl", "--json", AGENTLOOP_PRICE_TABLE=dear(folder)).out)
    (again,) = json.loads(agentloop(folder, "rerun", "mill", "--policy", "never", "--facts", "--json").out)

    assert Decimal(other["cost_usd"]) == 10 * Decimal(usual["cost_usd"])
    assert Decimal(other["recorded"]["cost_usd"]) == 10 * Decimal(usual["recorded"]["cost_usd"])
    assert Decimal(again["cost_usd"]) < Decimal(other["cost_usd"])
