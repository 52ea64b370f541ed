"""What a batch run does next, given its log. Pure: the same log decides the same, in whatever process it is read."""

from typing import Literal, NamedTuple

from agentloop.batching.state import BatchState, Key


class Plan(NamedTuple):
    """Write down which rows are asked next."""

    round: int
    mode: Literal["batch", "live"]
    rows: tuple[int, ...]


class Submit(NamedTuple):
    """Send a batch."""

    key: Key


class Find(NamedTuple):
    """Look for a batch of which only the intention is known."""

    key: Key


class Skip(NamedTuple):
    """Send a batch no more: the run was cancelled before it left."""

    key: Key


class Collect(NamedTuple):
    """Look whether any of these batches has ended."""

    keys: tuple[Key, ...]


class AskLive(NamedTuple):
    """Ask these rows outside of a batch."""

    round: int
    rows: tuple[int, ...]


class Finish(NamedTuple):
    """Each row has its outcome."""


class Stop(NamedTuple):
    """Nothing can be done now."""

    why: Literal["ended", "budget"]


Effect = Plan | Submit | Find | Skip | Collect | AskLive | Finish | Stop


def decide(state: BatchState, may_spend: bool = True) -> Effect:
    """The next effect; without money (`may_spend`) only what is sent already is looked after."""
    if state.ended:
        return Stop("ended")
    if not state.rounds:
        return Plan(0, "batch", tuple(range(state.rows)))
    parts = {key: part for key, part in state.parts.items() if key[0] == state.round}
    mode = state.rounds[-1]
    if mode == "live":
        waiting = tuple(r for part in parts.values() for r in part.rows if not _has(state, r))
        if waiting and not state.cancelled:
            return AskLive(state.round, waiting) if may_spend else Stop("budget")
        return _next_round(state)
    if (intended := next((k for k, p in parts.items() if p.status == "intended"), None)) is not None:
        return Find(intended)
    planned = [k for k, p in parts.items() if p.status == "planned"]
    if planned and state.cancelled:
        return Skip(planned[0])
    if planned and may_spend:
        return Submit(planned[0])
    if submitted := tuple(k for k, p in parts.items() if p.status == "submitted"):
        return Collect(submitted)
    if planned:
        return Stop("budget")
    return _next_round(state)


def _next_round(state: BatchState) -> Effect:
    """What is asked again, where something is to be and may be."""
    again = tuple(row for row, item in sorted(state.items.items()) if item.retryable)
    mode = state.prepared.retry
    if not again or state.cancelled or mode == "none" or state.round >= state.prepared.max_retries:
        return Finish()
    return Plan(state.round + 1, mode, again)


def _has(state: BatchState, row: int) -> bool:
    """Whether a row has its result of the round that is under way."""
    item = state.items.get(row)
    return item is not None and item.round == state.round
