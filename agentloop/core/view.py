"""Exactly what the model will see."""

from agentloop.core.state import State
from agentloop.types import blocks
from agentloop.types.blocks import Message


def messages(state: State) -> tuple[Message, ...]:
    """The messages of the next request.

    The task opens them and the session state stands behind it, in the place of what the first kept turn was given: so
    no result loses its call. Turns follow as they were.
    """
    view = [opening(state)]
    for i, turn in enumerate(state.turns):
        if i and turn.given:
            view.append(turn.question)
        if turn.reply:
            view.append(turn.answer)
    if state.turns and state.given:
        view.append(blocks.user(*state.given))
    return tuple(view)


def opening(state: State) -> Message:
    """The first message: the task, then the session state, one text block a segment."""
    return blocks.user(*state.opening, *(blocks.text(s.text) for s in state.segments))
