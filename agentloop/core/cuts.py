"""Where a history may be cut, and what a cut removes.

A pair is a reply and the message that answers it. A cut before turn k removes the pairs of the turns before it: their
replies, and the results that were given up to turn k, whose own reply is the first message that is kept. So a call is
never parted from its result, and parallel results are never split.
"""

from typing import NamedTuple

from agentloop.core.state import State
from agentloop.types import blocks
from agentloop.types.blocks import Blocks


class Removed(NamedTuple):
    """One pair that a cut takes out of the view."""

    turn: int
    """Its number, counted over the whole session."""
    reply: Blocks
    answer: Blocks
    tokens: int


def latest_cut(state: State, keep_pairs: int) -> int | None:
    """The first turn that is kept when `keep_pairs` pairs stay; None where nothing could be removed.

    The newest pair is the last reply and what is given now. A reply that goes on after a pause was given nothing, and
    stays with the reply that it goes on from; so does one that holds the results of calls to the API's own tools there.
    """
    gone = len(state.turns) - keep_pairs if keep_pairs > 0 else 0
    while gone > 0 and (not state.turns[gone].given or blocks.unmet_results(state.turns[gone].reply)):
        gone -= 1
    return state.keep_from + gone if gone > 0 else None


def removed(state: State, keep_from: int) -> tuple[Removed, ...]:
    """The pairs that a cut before turn `keep_from` removes, oldest first."""
    pairs = []
    for i in range(keep_from - state.keep_from):
        turn, following = state.turns[i], state.turns[i + 1]
        pairs.append(Removed(state.keep_from + i, turn.reply, following.given, turn.reply_tokens + following.given_tokens))
    return tuple(pairs)


def removed_tokens(state: State, keep_from: int) -> int:
    """Estimated tokens of the pairs that a cut removes."""
    gone = keep_from - state.keep_from
    return sum(t.reply_tokens for t in state.turns[:gone]) + sum(t.given_tokens for t in state.turns[1 : gone + 1])
