"""What the model can see already: the exact values that stand in the view, which no index has to repeat."""

from functools import lru_cache, partial

from agentloop.core.state import State, Turn
from agentloop.policies.facts import index
from agentloop.types import blocks
from agentloop.types.base import compact
from agentloop.types.blocks import Block, Same


def values(state: State) -> frozenset[str]:
    """The values of the task, of the session state, of every turn that is shown, and of what is given next."""
    now = [_of_blocks(Same(content)) for content in (state.opening, state.given) if content]
    before = (turn.once(_of_turn, partial(_of_turn, turn)) for turn in state.turns)
    return frozenset().union(*now, *before, *(_of_text(s.text) for s in state.segments))


def _of_turn(turn: Turn) -> frozenset[str]:
    return _of_blocks(Same(turn.given)) | _of_blocks(Same(turn.reply))


@lru_cache(maxsize=4_096)
def _of_blocks(same: Same) -> frozenset[str]:
    return frozenset().union(*(_of_text(_text(b)) for b in same.content))


@lru_cache(maxsize=1_024)
def _of_text(text: str) -> frozenset[str]:
    found = index.values(text, dotted=True)
    return frozenset(found).union(*(index.parts(v) for v in found))


def _text(block: Block) -> str:
    match block.get("type"):
        case "text":
            return str(block.get("text") or "")
        case "tool_result":
            return blocks.result_text(block.get("content") or "")
        case "tool_use":
            return compact(block.get("input")).decode()
        case _:
            return ""
