"""`kill -9` while leaves run: the session that delegated goes on, leaves that had ended are not run again, the others are
carried on, and every cent is counted once."""

import random
import signal
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from agentloop.api import Agent
from agentloop.core.cache import as_blocks
from agentloop.core.folding import fold
from agentloop.crash_points import POINTS, watching
from agentloop.emulator.script import Function
from agentloop.policies import recorded
from agentloop.replay import replay
from agentloop.sessions import Sessions
from agentloop.testing import FixedClock
from agentloop.tooling import current_call, tool
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block
from agentloop.types.events import SessionEnded, ToolFinished
from tests.e2e.crashing import forked, killer

LEAVES = 5
OURS = sorted(p for p in POINTS if p.partition(".")[0] in ("leaf", "leaves"))
ANYWHERE = ("log.half_written", "log.durable", "request.recorded", "reply.received", "tool.intended", "tool.effected",
            "tool.recorded", "budget.reserved", "step.recorded", "session.folded")  # fmt: skip


def _act(what: str) -> str:
    call = current_call()
    with (call.root / "ran").open("a") as file:
        file.write(f"{what} {call.idempotency_key}\n")
    return f"{what} is done"


@tool(effect="once")
def send(note: str) -> str:
    """Send something to somebody."""
    return _act("send")


@tool(effect="idempotent")
def put(note: str) -> str:
    """Put something where it belongs."""
    return _act("put")


def said(request: Json, step: int) -> list[Block]:
    """The reply at the position that the request itself shows."""
    k = sum(m["role"] == "assistant" for m in request["messages"])
    told = blocks.text_of(as_blocks(request["messages"][0]["content"]))
    if told.startswith("order"):
        steps = ("put", "send", None)
        return [blocks.tool_use(f"toolu_{k}", str(steps[k]), {"note": told})] if steps[k] else [blocks.text(f"{told} is done")]
    if k == 0:
        tasks = [{"kind": "extraction", "task": f"order {n}"} for n in range(LEAVES)]
        return [blocks.tool_use("toolu_0", "delegate", {"tasks": tasks})]
    return [blocks.text("All is done.")]


def written(folder: Path, more: str = "", usd: int = 1) -> None:
    """Write the agent's file, with this budget; `more` is said of its leaves."""
    (folder / "world").mkdir(parents=True, exist_ok=True)
    (folder / "desk.md").write_text(
        f"---\nname: desk\ntools: [delegate]\nmax_budget_usd: {usd}\n"
        f"leaves: {{{more}parallel: 3, extraction: {{tools: [put, send]}}}}\n---\nYou run the desk.\n"
    )


def live(folder: Path, point: str = "", nth: int = 0) -> None:
    """Start the session, or carry it on to its end, unless it is killed at that point."""
    written(folder)
    agent = Agent("desk.md", tools=[put, send], script=Function("killed", said), workspace=folder, root="world",
                  clock=FixedClock(), environment={}, workspace_total_usd="0.9")  # fmt: skip
    with watching(killer(point, nth)):
        agent.run("Do it all.", session_id="s")


def logs(folder: Path) -> dict[str, bytes]:
    """What stands in the log of each session."""
    return {p.parent.name: p.read_bytes() for p in sorted((folder / "sessions").glob("*/log.jsonl"))}


def ended(folder: Path) -> set[str]:
    """The leaves that have their outcome."""
    kept = Sessions(folder / "sessions")
    begun = [i for i in kept.ids() if i != "s" and kept.exists(i)]
    return {i for i in begun if isinstance(kept.events(i)[-1].body, SessionEnded)}


def assert_it_goes_on(folder: Path, lives: Callable[[], None] | None = None) -> None:
    """Let the session end, and look at what became of it."""
    before, over = logs(folder), ended(folder)
    code, said = forked(lives or (lambda: live(folder)))
    after, kept = logs(folder), Sessions(folder / "sessions")

    assert code == 0, said
    names = [f"s.toolu_0.{n + 1}" for n in range(LEAVES)]
    assert sorted(after) == ["s", *names]
    assert all(after[i].startswith(data[: data.rfind(b"\n") + 1]) for i, data in before.items()), "what was written has changed"
    assert all(after[i] == before[i] for i in over), "a leaf that had ended was run again"
    states = {i: fold(kept.events(i)) for i in after}
    assert {s.outcome for s in states.values()} == {"completed"}
    (answer,) = [e.body for e in kept.events("s") if isinstance(e.body, ToolFinished)]
    assert answer.leaves is not None
    assert [leaf.session_id for leaf in answer.leaves] == names
    assert str(answer.content).startswith(f"{LEAVES} of {LEAVES} tasks are done.")
    spent = sum((states[i].charged_usd for i in names), Decimal(0))
    assert states["s"].leaves_usd == spent
    assert states["s"].charged_usd == spent + states["s"].own_usd <= 1
    ran = Counter((folder / "world" / "ran").read_text().splitlines())
    assert all(ran[f"put {i}:toolu_0"] >= 1 for i in names)
    assert all(times == 1 for key, times in ran.items() if key.startswith("send"))
    for session_id, state in states.items():
        assert replay(kept.events(session_id), recorded(state.policies).policies()).same


@pytest.mark.parametrize("point", OURS)
def test_a_session_killed_at_any_named_place_of_its_leaves_goes_on(point: str, tmp_path: Path) -> None:
    for nth in {1, (LEAVES + 1) // 2, LEAVES} if point.startswith("leaf.") else {1}:
        folder = tmp_path / str(nth)

        code, _ = forked(lambda folder=folder, nth=nth: live(folder, point, nth))  # type: ignore[misc]

        assert code == -signal.SIGKILL
        assert_it_goes_on(folder)


@pytest.mark.parametrize("seed", range(12))
def test_a_session_killed_again_and_again_with_leaves_under_way_goes_on(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)

    codes = [forked(lambda: live(tmp_path, chance.choice(ANYWHERE), chance.randint(2, 12)))[0] for _ in range(4)]

    assert codes[0] == -signal.SIGKILL
    assert_it_goes_on(tmp_path)
