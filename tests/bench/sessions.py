"""Sessions of any length, made by the engine itself with a scripted model."""

from pathlib import Path

from agentloop.adapters.blob_dir import BlobDir
from agentloop.adapters.jsonl_log import JsonlLog
from agentloop.adapters.toolbox import Toolbox
from agentloop.engine import Shell, run
from agentloop.policies import PolicySettings
from agentloop.testing import NOON, FixedClock, ScriptedModel, given, reply, says, started
from agentloop.tooling import Registry, tool
from agentloop.types import blocks
from agentloop.types.request import Reply

_EVENTS_PER_TURN = 6


@tool(effect="read")
def look(place: int) -> str:
    """Look at a place.

    Args:
        place: Which one.
    """
    return "\n".join(f"row {row} of place {place}: value {row * place}, owner person-{row % 7}" for row in range(12))


def long_session(folder: Path, events: int) -> Path:
    """The log of a session of about this many events, in a workspace folder; returns its path."""
    registry = Registry([look])
    settings = PolicySettings()
    session = folder / "sessions" / "long"
    with JsonlLog(session, fsync="never") as log:
        start = started(session_id="long", tools=registry.definitions, tool_cards=registry.cards, policies=settings)
        log.append(start, NOON)
        log.append(given("Look at every place."), NOON)
        turns = events // _EVENTS_PER_TURN
        model = ScriptedModel([*(_turn(i) for i in range(turns)), says("Every place was looked at.")])
        toolbox = Toolbox(registry, session_id="long", root=folder)
        run(log, Shell(model, toolbox, BlobDir(session / "blobs"), FixedClock(step_s=1)), settings.policies())
        return log.path


def _turn(number: int) -> Reply:
    calls = [blocks.tool_use(f"call-{number}-{k}", "look", {"place": number * 2 + k}) for k in range(2)]
    return reply(blocks.text(f"Now the places {number * 2} and {number * 2 + 1}."), *calls, message_id=f"msg_{number}")
