"""Leaves whose model is not available: who takes over is said by their kind, by the routing, or by their session."""

from pathlib import Path

from agentloop.emulator.faults import Faults
from agentloop.types.events import FellBack, SessionStarted
from tests.unit.leaves_of import Api, Office, leaves, script, task

TASKS = [task("order 1"), task("order 2", "analysis")]
OPUS, HAIKU, SONNET = "claude-opus-5-5", "claude-haiku-5-5", "claude-sonnet-5-5"
TABLE = f"""
[steps.other]
model = "{HAIKU}"
fallback = ["{OPUS}"]
reason = "Because."
"""


def chains(folder: Path, front: str = "", table: str = "", **settings: object) -> tuple[list[str], list[list[str]]]:
    """With Haiku away: by leaf, who ended it; and who was to take over, in which order."""
    if table:
        (folder / "routing.toml").write_text(table, encoding="utf-8")
    office = Office(folder, front)
    played = script(TASKS)
    api = Api(played, office.clock, faults=Faults.of({"model": HAIKU, "fault": 529}))
    agent = office.agent(played, api, **settings)
    assert agent.run("Go.", session_id="s").outcome == "completed"
    found = leaves(agent.sessions.events("s"))
    starts = [next(iter(agent.sessions.events(leaf.session_id))).body for leaf in found]
    named = [[f.card.id for f in start.fallback] for start in starts if isinstance(start, SessionStarted)]
    fell = [isinstance(e.body, FellBack) for leaf in found for e in agent.sessions.events(leaf.session_id)]
    assert any(fell) == any(leaf.model != starts[i].card.id for i, leaf in enumerate(found))  # type: ignore[union-attr]
    assert api.emulator.report()["totals"]["cost_usd"] == f"{agent.resume('s').cost:f}"
    return [leaf.model for leaf in found], named


def test_a_leaf_falls_back_as_its_row_of_the_table_says(tmp_path: Path) -> None:
    assert chains(tmp_path, table=TABLE, model=SONNET) == ([OPUS, OPUS], [[OPUS], [OPUS]])


def test_a_leaf_falls_back_as_its_kind_says(tmp_path: Path) -> None:
    front = f"leaves: {{extraction: {{model: {HAIKU}, fallback_model: [{SONNET}]}}}}\n"

    assert chains(tmp_path, front, table=TABLE, model=SONNET) == ([SONNET, OPUS], [[SONNET], [OPUS]])


def test_without_a_word_a_leaf_falls_back_as_its_session(tmp_path: Path) -> None:
    assert chains(tmp_path, model=SONNET, fallback_model=(OPUS, HAIKU)) == ([SONNET, SONNET], [[OPUS, HAIKU], [OPUS, HAIKU]])


def test_leaves_of_a_session_that_has_fallen_back_begin_with_the_model_that_took_over(tmp_path: Path) -> None:
    assert chains(tmp_path, model=HAIKU, fallback_model=(OPUS, SONNET)) == ([OPUS, OPUS], [[SONNET], [SONNET]])


def test_a_leaf_whose_own_model_is_away_and_that_names_nobody_is_not_done(tmp_path: Path) -> None:
    office = Office(tmp_path, f"leaves: {{extraction: {{model: {HAIKU}}}, analysis: {{model: {SONNET}}}}}\n")
    played = script(TASKS)
    away = Faults.of({"model": HAIKU, "fault": 529})
    agent = office.agent(played, Api(played, office.clock, faults=away), model=SONNET, fallback_model=(OPUS,))

    assert agent.run("Go.", session_id="s").outcome == "completed"

    found = leaves(agent.sessions.events("s"))
    assert [leaf.outcome for leaf in found] == ["provider_unavailable", "completed"]
