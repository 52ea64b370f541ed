"""Exactly what the model will see."""

from collections.abc import Callable

from agentloop.core.state import State
from agentloop.types import blocks
from agentloop.types.blocks import Block, Message


def messages(state: State) -> tuple[Message, ...]:
    """The messages of the next request.

    The task opens them and the session state stands behind it, in the place of what the first kept turn was given: so
    no result loses its call. Turns follow as they were. What is given now may hold results that are shown whole this once.
    """
    view = [opening(state)]
    for i, turn in enumerate(state.turns):
        if i and turn.given:
            view.append(turn.question)
        if turn.reply:
            view.append(turn.answer)
    if state.turns and state.given:
        view.append(blocks.user(*map(_whole(state), state.given)))
    return tuple(view)


def shown_once(state: State) -> tuple[int, ...]:
    """The blocks of the last message that are shown whole this once: no later request repeats them."""
    wholes = state.once.wholes if state.once is not None else {}
    return tuple(i for i, block in enumerate(state.given) if wholes and _call(block) in wholes)


def _whole(state: State) -> Callable[[Block], Block]:
    wholes = state.once.wholes if state.once is not None else {}
    return lambda block: {**block, "content": wholes[_call(block)]} if wholes and _call(block) in wholes else block


def _call(block: Block) -> str:
    """The call that a result answers."""
    return str(block["tool_use_id"]) if block.get("type") == "tool_result" else ""


def opening(state: State) -> Message:
    """The first message: the task, then the session state, one text block a segment."""
    return blocks.user(*state.opening, *(blocks.text(s.text) for s in state.segments))
