"""A signal at every named place of an agent's run: no call without its answer, no request that differs, nothing done twice."""

from collections import Counter
from pathlib import Path

import pytest

from agentloop import crash_points
from agentloop.core.folding import fold
from agentloop.crash_points import watching
from agentloop.engine import Interrupted
from agentloop.replay import replay
from agentloop.types import blocks
from agentloop.types.events import Event, ModelReplied, ModelRequested, ToolFinished
from tests.e2e import agent_lives
from tests.e2e.crashing import lines

IN_A_TOOLS_THREAD = frozenset({"tool.starting", "tool.effected"})
"""Signals come to the main thread only."""


def interrupter(point: str, nth: int) -> crash_points.Hook:
    """Raises what a signal raises, where the point is reached for the nth time."""
    seen = 0

    def hook(name: str) -> None:
        nonlocal seen
        seen += name == point
        if name == point and seen == nth:
            raise Interrupted("SIGTERM")

    return hook


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Event], Counter[str]]:
    folder = tmp_path_factory.mktemp("unbroken")
    reached: Counter[str] = Counter()
    with watching(lambda name: reached.update([name])):
        agent_lives.live(folder)
    return agent_lives.events(folder), reached


def asked(events: list[Event]) -> list[str]:
    """The requests, without those that were asked again."""
    digests = [e.body.digest for e in events if isinstance(e.body, ModelRequested)]
    return [d for i, d in enumerate(digests) if i == 0 or d != digests[i - 1]]


def test_a_signal_at_any_named_place_ends_a_run_that_can_be_gone_on_with(
    unbroken: tuple[list[Event], Counter[str]], tmp_path: Path
) -> None:
    whole, reached = unbroken
    places = {(p, n) for p, times in reached.items() for n in (1, (times + 1) // 2, times) if p not in IN_A_TOOLS_THREAD}

    for point, nth in sorted(places):
        folder = tmp_path / f"{point}-{nth}"
        with watching(interrupter(point, nth)):
            try:
                agent_lives.agent(folder, agent_lives.ALL_TURNS).run("Do it all.", session_id=agent_lives.SESSION)
            except Interrupted:
                assert point.partition(".")[0] in ("log", "session"), f"{point} is not inside of the engine's loop"
        first = agent_lives.events(folder)
        agent_lives.agent(folder, agent_lives.ALL_TURNS).run("Do it all.", session_id=agent_lives.SESSION)

        events = agent_lives.events(folder)
        assert events[: len(first)] == first, point
        assert fold(events).outcome == "completed", point
        assert asked(events) == asked(whole), point
        calls = [c.id for e in events if isinstance(e.body, ModelReplied) for c in blocks.calls(e.body.reply.content)]
        assert sorted(calls) == sorted(e.body.call_id for e in events if isinstance(e.body, ToolFinished)), point
        assert max(Counter(lines(folder / "world" / "ran")).values()) <= 2, point
        assert replay(events, agent_lives.agent(folder, 1).policy_settings.policies()).difference is None, point
