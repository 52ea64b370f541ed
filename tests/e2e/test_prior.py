"""Lifetimes that are learned beyond the session: written down when it starts, and replayed from there."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from agentloop import Agent, Result
from agentloop.emulator.playbook import Playbook
from agentloop.replay import replay
from agentloop.testing import NOON, FixedClock
from agentloop.tooling import tool
from agentloop.types.events import ModelRequested, SessionStarted
from agentloop.types.past import Prior

TURNS = 6


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOON)


def agent(folder: Path, clock: FixedClock, minutes: float, **settings: object) -> Agent:
    """An agent whose tool takes so many minutes."""

    @tool(effect="read")
    def wait() -> str:
        """Wait for the pump."""
        clock.at += timedelta(minutes=minutes)
        return "word " * 400

    steps = [*({"say": f"Step {i}.", "call": [{"wait": {}}]} for i in range(TURNS - 1)), {"say": "Done."}]
    script = Playbook.from_data({"name": "pump", "steps": steps})
    return Agent(system="You look after pumps. " * 300, name="pump", tools=[wait], workspace=folder, script=script,
                 clock=clock, environment={}, fsync="never", **settings)  # type: ignore[arg-type]  # fmt: skip


def of(made: Agent, ran: Result) -> tuple[Prior | None, tuple[str, ...]]:
    """What was known when it started, and the lifetimes that its first request asked for."""
    start, *bodies = (e.body for e in made.sessions.events(ran.session_id))
    assert isinstance(start, SessionStarted)
    request = next(b for b in bodies if isinstance(b, ModelRequested))
    return start.prior, tuple(b.ttl for b in request.breakpoints)


def test_a_session_after_one_of_long_gaps_is_written_for_an_hour_from_its_first_request(
    tmp_path: Path, clock: FixedClock
) -> None:
    pump = agent(tmp_path, clock, minutes=7)

    first = pump.run("Go.")
    clock.at += timedelta(days=1)
    second = pump.run("Go.")

    assert of(pump, first) == (None, ("5m", "5m"))
    known, lives = of(pump, second)
    assert known is not None
    assert (known.sessions[0].gaps, known.sessions[0].within_5m) == (TURNS - 1, 0)
    assert lives == ("1h", "1h")
    assert second.cost < first.cost


def test_it_is_replayed_by_what_was_written_down_whatever_the_folder_holds(tmp_path: Path, clock: FixedClock) -> None:
    pump = agent(tmp_path, clock, minutes=7)
    first = pump.run("Go.")
    clock.at += timedelta(days=1)
    second = pump.run("Go.")

    shutil.rmtree(tmp_path / "sessions" / first.session_id)

    assert replay(pump.sessions.events(second.session_id), pump.policy_settings.policies()).same


def test_a_gap_that_is_announced_wins(tmp_path: Path, clock: FixedClock) -> None:
    agent(tmp_path, clock, minutes=7).run("Go.")
    clock.at += timedelta(days=1)
    told = agent(tmp_path, clock, minutes=7, expected_gap_s=10)

    assert of(told, told.run("Go."))[1] == ("5m", "5m")


def test_sessions_that_follow_each_other_within_the_hour_share_tools_and_system(tmp_path: Path, clock: FixedClock) -> None:
    pump = agent(tmp_path, clock, minutes=0.1)
    bills = []
    for _ in range(4):
        ran = pump.run("Go.")
        bills.append((ran.cost, of(pump, ran)[1]))
        clock.at += timedelta(minutes=20)

    assert [lives for _, lives in bills] == [("5m", "5m"), *[("1h", "5m")] * 3]
