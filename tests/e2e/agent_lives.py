"""The same, a level higher: an agent with its session's frame, the emulator behind the SDK, and a user who raises a limit."""

from pathlib import Path

from agentloop.api import Agent
from agentloop.emulator.script import Function
from agentloop.sessions import Sessions
from agentloop.testing import FixedClock
from agentloop.tooling import current_call, tool
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block
from agentloop.types.events import Event, SessionEnded, SessionResumed

SESSION = "session"
FIRST_TURNS, ALL_TURNS = 2, 20
STEPS = (("look", "put"), ("look",), ("put", "look", "look"), ())


def _act(what: str) -> str:
    call = current_call()
    with (call.root / "ran").open("a") as file:
        file.write(f"{what} {call.idempotency_key}\n")
    return "\n".join(f"{i} {what} {call.call_id}" for i in range(80))


@tool(effect="read")
def look(note: str) -> str:
    """Look something up."""
    return _act("look")


@tool(effect="idempotent")
def put(note: str) -> str:
    """Put something where it belongs."""
    return _act("put")


def _said(request: Json, step: int) -> list[Block]:
    """The reply at the position that the request itself shows."""
    k = sum(m["role"] == "assistant" for m in request["messages"])
    return [blocks.text(f"Step {k}."), *(blocks.tool_use(f"toolu_{k}_{i}", n, {"note": n}) for i, n in enumerate(STEPS[k]))]


def agent(folder: Path, max_turns: int) -> Agent:
    """The agent of this folder."""
    (folder / "world").mkdir(parents=True, exist_ok=True)
    return Agent(
        system="You are killed now and then.", name="agent", tools=[look, put], script=Function("crashing", _said),
        workspace=folder, root="world", clock=FixedClock(), environment={}, max_turns=max_turns, facts_over_tokens=60,
    )  # fmt: skip


def live(folder: Path) -> None:
    """Start the session or carry it on; when its turns are used up, give it more."""
    bodies = [e.body for e in events(folder)]
    raised = any(isinstance(b, SessionResumed) for b in bodies)
    ended = bool(bodies) and isinstance(bodies[-1], SessionEnded)
    if not raised and not ended:
        agent(folder, FIRST_TURNS).run("Do it all.", session_id=SESSION)
    agent(folder, ALL_TURNS).resume(SESSION)


def events(folder: Path) -> list[Event]:
    """What stands in the log."""
    sessions = Sessions(folder / "sessions")
    return sessions.events(SESSION) if sessions.exists(SESSION) else []
