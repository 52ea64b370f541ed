"""A wall clock that jumps: nothing waits longer for it, nothing changes its order, nothing takes less than no time."""

import ast
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import agentloop
from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.toolbox import Toolbox
from agentloop.engine import Shell, run
from agentloop.explain import explain
from agentloop.policies import PolicySettings
from agentloop.replay import replay
from agentloop.report import report
from agentloop.testing import FixedClock, ScriptedModel, calls_tool, given, says, started
from agentloop.tooling import Registry, tool
from agentloop.types.events import Event, ModelReplied, SessionEnded, ToolFinished
from agentloop.types.request import Failure


class JumpingClock(FixedClock):
    """A second passes at each look; the wall clock is put back, or forward, at one of them."""

    def __init__(self, at_look: int, by: timedelta) -> None:
        super().__init__(step_s=1.0)
        self._looks, self._at_look, self._by = 0, at_look, by
        self._steady = 0.0

    def now(self) -> datetime:
        """The wall clock."""
        self._looks += 1
        if self._looks == self._at_look:
            self.at += self._by
        return super().now()

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        self._steady += 0.25
        return self._steady


@tool(effect="read")
def look(note: str) -> str:
    """Look something up."""
    return f"{note} is open"


TOOLS = Registry([look])
LATER = Failure(kind="unavailable", error_type="overloaded_error", message="Overloaded", retry_in_s=1.0)


def played(clock: FixedClock) -> list[Event]:
    first, second = (calls_tool(f"toolu_{n}", "look", note=f"R-{n}") for n in (1, 2))
    model = ScriptedModel([first, LATER, second, says("Done.")])
    log = MemoryLog()
    log.append(started(tools=TOOLS.definitions, tool_cards=TOOLS.cards), clock.now())
    log.append(given("look after the orders"), clock.now())
    toolbox = Toolbox(TOOLS, session_id="test", root=Path("."))
    run(log, Shell(model, toolbox, MemoryBlobs(), clock), PolicySettings().policies())
    return list(log.events())


@pytest.mark.parametrize("by", [timedelta(hours=-1), timedelta(days=-400), timedelta(hours=8)])
def test_a_session_whose_wall_clock_jumps_at_any_moment_is_the_same_session(by: timedelta) -> None:
    steady = [(e.seq, e.body.type) for e in played(FixedClock(step_s=1.0))]

    for look_ in range(1, 30):
        events = played(JumpingClock(look_, by))

        assert [(e.seq, e.body.type) for e in events] == steady
        assert isinstance(last := events[-1].body, SessionEnded)
        assert last.outcome == "completed"
        durations = [e.body.duration_s for e in events if isinstance(e.body, ModelReplied | ToolFinished)]
        assert all(d >= 0 for d in durations)
        assert replay(events, PolicySettings().policies()).difference is None


@pytest.mark.parametrize("by", [timedelta(hours=-1), timedelta(hours=8)])
def test_no_report_of_it_tells_of_less_than_no_time(by: timedelta) -> None:
    for look_ in range(1, 30):
        events = played(JumpingClock(look_, by))

        told = [report(events), *explain(events)]
        numbers = [n for one in told for n in _numbers(one.model_dump(mode="json"))]
        times = {key: value for key, value in numbers if key.endswith(("_s", "seconds"))}
        assert times
        assert min(times.values()) >= 0


def _numbers(value: object, key: str = "") -> list[tuple[str, float]]:
    match value:
        case dict():
            return [n for k, v in value.items() for n in _numbers(v, str(k))]
        case list():
            return [n for v in value for n in _numbers(v, key)]
        case int() | float():
            return [(key, value)]
        case _:
            return []


WAITING = (
    "adapters/messages_api.py",
    "adapters/toolbox.py",
    "adapters/plugins.py",
    "commands.py",
    "fetching.py",
    "engine/asking.py",
)


@pytest.mark.parametrize("name", WAITING)
def test_whatever_waits_asks_no_wall_clock(name: str) -> None:
    """But for the moment of an HTTP date, which a server chose to name that way."""
    tree = ast.parse((Path(agentloop.__file__).parent / name).read_text(encoding="utf-8"))

    asks = [
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("time.time", "datetime.now", "datetime.utcnow")
    ]

    assert asks == (["_seconds"] if name == "adapters/messages_api.py" else [])
