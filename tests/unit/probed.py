"""A session to probe: a script that looks orders up, under a policy that cuts early, in a folder."""

from collections.abc import Sequence
from pathlib import Path

from agentloop import Agent, tool
from agentloop.emulator import Function
from agentloop.policies import EngineLedger, EveryTurn, LinesLedger, PolicySettings, Whole
from agentloop.testing import FixedClock
from agentloop.types.base import Json
from agentloop.types.blocks import Block, text, tool_use

TURNS = 12
POOR = PolicySettings(compaction=EveryTurn(keep_pairs=2), ledger=LinesLedger(chars=20), facts=Whole())
RICH = PolicySettings(compaction=EveryTurn(keep_pairs=2), ledger=EngineLedger(), facts=Whole())


@tool(effect="read")
def order(number: str) -> dict[str, object]:
    """Look up one order.

    Args:
        number: Such as "W-1003".
    """
    n = int(number.removeprefix("W-"))
    if n % 5 == 4:
        raise ValueError(f"no order {number[2:]} in ledger {n * 3}")
    return {"number": number, "total": n * 7 + 0.5, "parcel": f"GP-{n * 11}", "paid": True}


@tool(effect="read")
def shelf(row: int) -> str:
    """What lies on a shelf.

    Args:
        row: Which one.
    """
    return f"Article: DRN-{row:03d}\nPieces: {row * 13 + 100}\nLast counted: 2026-11-{row + 1:02d}"


def answer(request: Json, step: int) -> Sequence[Block]:
    if step >= TURNS:
        return [text("Done with all of it.")]
    said = text(f"For customer K-{step * 17 + 300} I have decided to send the parcel by road {step * 19 + 500} instead.")
    call = tool_use(f"toolu_{step}", "order", {"number": f"W-{1000 + step}"})
    return [said, call if step % 3 else tool_use(f"toolu_{step}", "shelf", {"row": step})]


def played(folder: Path, policies: PolicySettings = POOR, session_id: str = "desk-1") -> Agent:
    """The agent, once its session has run."""
    agent = Agent(
        system="You look after a desk.",
        name="desk",
        tools=[order, shelf],
        script=Function("desk", answer),
        workspace=folder,
        policies=policies,
        clock=FixedClock(step_s=2),
        fsync="never",
    )
    agent.run("Look after the desk, please.", session_id=session_id)
    return agent
