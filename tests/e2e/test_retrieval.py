"""An agent with documents of its own, and `recall` over everything that its session has seen."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agentloop import Agent, tool
from agentloop.cli.checks import prefix
from agentloop.emulator import Function
from agentloop.errors import ConfigError
from agentloop.policies import EveryTurn, PolicySettings
from agentloop.replay import replay
from agentloop.testing import FixedClock
from agentloop.types.base import Json
from agentloop.types.blocks import Block, text, tool_use
from tests.unit.prompt_files import prompt

FRONT = (
    "---\nname: desk\ntools: [search_knowledge, recall]\nknowledge: [handbook]\nmodel: claude-sonnet-5-5\n---\nYou answer.\n"
)
CALLS: list[tuple[str, Json]] = [
    ("orders", {"day": "Monday"}),
    ("search_knowledge", {"query": "return gift"}),
    *(("orders", {"day": f"day {n}"}) for n in range(6)),
    ("recall", {"search": "order M-1077"}),
]


@tool(effect="read")
def orders(day: str) -> str:
    """The orders of a day.

    Args:
        day: Which one.
    """
    return "\n".join(f"order {day[0].upper()}-{n + 1000}: {n * 3}.50 EUR, customer {n % 7}" for n in range(300))


def handbook(root: Path, text: str = "# Returns\n\n## Gifts\n\nGifts may come back within 90 days.\n") -> None:
    (root / "handbook").mkdir(exist_ok=True)
    (root / "handbook" / "returns.md").write_text(text)


def answer(request: Json, step: int) -> Sequence[Block]:
    if step >= len(CALLS):
        return [text("Done.")]
    name, arguments = CALLS[step]
    return [tool_use(f"toolu_{step}", name, arguments)]


def agent(root: Path, **changes: Any) -> Agent:
    made: dict[str, Any] = {"policies": PolicySettings(compaction=EveryTurn(keep_pairs=2)), "fsync": "never"} | changes
    path = prompt(root, FRONT, "desk.md")
    return Agent(
        path.relative_to(root),
        tools=[orders],
        script=Function("desk", answer),
        workspace=root,
        clock=FixedClock(step_s=2),
        environment={},
        **made,
    )


def results(made: Agent, name: str) -> list[str]:
    bodies = (e.body for e in made.sessions.events("desk"))
    return [b.content for b in bodies if b.type == "tool_finished" and b.name == name and isinstance(b.content, str)]


def test_the_documents_and_what_left_the_view_are_found(tmp_path: Path) -> None:
    handbook(tmp_path)
    made = agent(tmp_path)

    result = made.run("What may come back?", session_id="desk")

    assert (result.outcome, result.detail) == ("completed", "")
    assert results(made, "search_knowledge") == [
        "handbook/returns.md, lines 3-5 · Returns > Gifts\n## Gifts\n\nGifts may come back within 90 days."
    ]
    [recalled] = results(made, "recall")
    assert 'turn 1, orders {"day":"Monday"}\n' in recalled
    assert "78: order M-1077: 231.50 EUR, customer 0" in recalled
    assert replay(made.sessions.events("desk"), made.policy_settings.policies()).same


def test_a_session_that_was_stopped_and_taken_up_again_finds_the_same(tmp_path: Path) -> None:
    found = []
    for stops in ((), (3, 8)):
        root = tmp_path / str(len(stops))
        root.mkdir()
        handbook(root)
        for limit in stops:
            agent(root, max_turns=limit).run("What may come back?", session_id="desk")
        made = agent(root, max_turns=50)
        made.run("What may come back?", session_id="desk")
        found.append(results(made, "recall"))

    assert found[0] == found[1]
    assert len(found[0]) == 1


def test_documents_that_change_do_not_move_the_prefix(tmp_path: Path) -> None:
    handbook(tmp_path)
    agent(tmp_path, max_turns=1).run("What may come back?", session_id="desk")
    handbook(tmp_path, "Gifts and returns: never.")
    made = agent(tmp_path, max_turns=50)

    result = made.run("What may come back?", session_id="desk")

    assert result.outcome == "completed"
    assert results(made, "search_knowledge") == ["handbook/returns.md, line 1\nGifts and returns: never."]


def test_an_agent_without_knowledge_has_no_tool_for_it(tmp_path: Path) -> None:
    made = Agent(system="You answer.", tools=[orders], workspace=tmp_path, environment={}, script=Function("desk", answer))

    with made.registry("desk") as registry:
        assert list(registry.tools) == ["orders", "recall"]


def test_a_folder_that_is_missing_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"knowledge folder 'handbook' does not exist: expected .*handbook; make it"):
        agent(tmp_path).run("What may come back?", session_id="desk")

    assert not (tmp_path / "sessions").exists()


# tools that are searched for

TOOLS_FILE = """from agentloop import tool
"""
ONE_MORE = '''

@tool(effect="read")
def {name}(where: str) -> str:
    """Do {name}. {more}"""
    return where
'''
NAMES = [f"job_{letter}" for letter in "abcdefgh"]


def shop(root: Path, front: str) -> None:
    (root / "tools").mkdir()
    made = [ONE_MORE.format(name=n, more="More of it is said here. " * 10) for n in NAMES]
    (root / "tools" / "jobs.py").write_text(TOOLS_FILE + "".join(made))
    prompt(root, f"---\n{front}\n---\nYou work.\n", "shop.md")


def test_the_tools_that_an_agent_names_first_stay_in_the_prefix(tmp_path: Path) -> None:
    shop(
        tmp_path,
        f"tools: [job_h, job_c, recall, job_a, job_b, {', '.join(n for n in NAMES if n not in 'job_h job_c job_a job_b')}]",
    )
    made = Agent("prompts/shop.md", workspace=tmp_path, environment={}, tool_search="on")

    with made.registry("shop") as registry:
        in_prefix = [t["name"] for t in registry.definitions if not t.get("defer_loading")]

    assert in_prefix == ["tool_search_tool_bm25", "job_a", "job_b", "job_c", "job_h", "recall"]
    assert [t["name"] for t in registry.definitions if t.get("defer_loading")] == ["job_d", "job_e", "job_f", "job_g"]


def test_prefix_check_lists_deferred_tools_without_tokens(tmp_path: Path) -> None:
    shop(tmp_path, "tool_search: on\ntools: [job_a, job_b, job_c, job_d, job_e]")

    done = CliRunner().invoke(prefix, ["check", "shop", "--json", "--workspace", str(tmp_path)])

    parts = {p["part"]: p["tokens"] for p in json.loads(done.stdout)["parts"]}
    assert parts["tool job_e (deferred)"] == 0
    assert parts["tool job_a"] > 50
