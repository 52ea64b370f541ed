"""What a session is taken to be where none has been: how many turns, how much each brings and says."""

from typing import NamedTuple

from agentloop.core import tokens
from agentloop.importers.recording import Recording, Step
from agentloop.plan.past import Past
from agentloop.recorded import USUAL_GAP_S
from agentloop.types import blocks
from agentloop.types.blocks import Block
from agentloop.types.usage import ModelCard

TASK = "Execute the session."
_TOOL = "look"
_LINE = "entry {turn}-{line}: checked, its value is {value}\n"


class Usual(NamedTuple):
    """A session of the usual kind."""

    turns: int
    result_tokens: int
    """What the results of one turn bring, as the model sees them."""
    output_tokens: int
    """Of one reply."""


KINDS = (Usual(8, 140, 70), Usual(25, 670, 240), Usual(100, 1_400, 730))
"""The 10th, 50th and 90th percentile, each by itself, of 117 recorded sessions of agents (docs/traces.md)."""


def usual(kind: Usual, turns: int, task: str | None, card: ModelCard) -> Past:
    """A made-up session of this kind: each turn calls a tool once, ten seconds after the last."""
    line = tokens.estimate(_LINE.format(turn=10, line=10, value=50_000), card.tokenizer)
    steps = [Step((), (blocks.tool_use(f"call-{i}", _TOOL, {"at": i}),)) for i in range(turns - 1)]
    steps.append(Step((), (blocks.text("Done."),)))
    steps[0] = steps[0]._replace(told=(blocks.text(task or TASK),))
    results: dict[str, Block] = {
        f"call-{i}": blocks.tool_result(f"call-{i}", _text(i, max(1, kind.result_tokens // line))) for i in range(turns - 1)
    }
    made = Recording("usual", card.id, "", (), tuple(steps), results)
    return Past("usual", made, (kind.output_tokens,) * turns, (USUAL_GAP_S,) * (turns - 1), card.tokenizer)


def _text(turn: int, lines: int) -> str:
    return "".join(_LINE.format(turn=turn, line=i, value=turn * 1_009 + i * 37) for i in range(lines))
