"""The leaves of one call, run side by side, within what the session that delegates has left.

Of the leaves that share a prefix, one goes first; the others start once its reply has begun and can read what it wrote to
the cache (https://platform.claude.com/docs/en/build-with-claude/prompt-caching). What a leaf may spend is taken out of
one pot as it starts, and goes back as far as it was not used.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentloop.core import delegating, wire
from agentloop.core.delegating import Pot
from agentloop.core.folding import fold
from agentloop.core.measuring import prefix_tokens
from agentloop.core.state import State
from agentloop.crash_points import reached
from agentloop.errors import AgentLoopError
from agentloop.leaves import plan, running
from agentloop.leaves.handing_back import ANSWER_TOKENS, handed_back
from agentloop.leaves.plan import Leaf, Task
from agentloop.leaves.world import World
from agentloop.tooling import Billed, CurrentCall
from agentloop.types.leaves import NOT_RUN, LeafRun

_LOOK_S = 0.05
"""Seconds (monotonic) between two looks whether leaves that wait are to be stopped."""


def delegated(tasks: Sequence[Task], call: CurrentCall, world: World) -> Billed:
    """Run a leaf for each task. Whatever becomes of them, there is an answer, and every cent is in it."""
    parent = fold(world.sessions.events(call.session_id))
    leaves = plan.leaves(parent, call.call_id, tasks, world)
    found = _FanOut(leaves, parent, call.call_id, world).run()
    reached("leaves.ended")
    return handed_back(leaves, found, world.sessions.blobs(call.session_id), world.redact)


@dataclass(frozen=True)
class Ended:
    """What came of a leaf."""

    run: LeafRun
    text: str = ""


@dataclass
class _Group:
    """Leaves that share a prefix, and whether it can be read from the cache."""

    warm: threading.Event = field(default_factory=threading.Event)
    first: int | None = None


class _FanOut:
    def __init__(self, leaves: Sequence[Leaf], parent: State, call_id: str, world: World) -> None:
        self._leaves, self._parent, self._call_id, self._world = leaves, parent, call_id, world
        self._ended: dict[int, Ended] = {}
        self._groups: dict[str, _Group] = {}
        self._effects, self._lock = threading.Lock(), threading.Lock()
        self._tokens = delegating.tokens_for_each(parent, ANSWER_TOKENS, len(leaves))
        self._pot = Pot(delegating.for_leaves(parent, ANSWER_TOKENS))

    def run(self) -> Sequence[Ended]:
        """What came of each, in their order."""
        waiting = self._look_around()
        self._waiting = len(waiting)
        queue = deque(sorted(waiting, key=lambda leaf: (self._group(leaf).first != leaf.number, leaf.number)))
        threads = [
            threading.Thread(target=self._work, args=(queue,), name=f"leaf-{n}", daemon=True)
            for n in range(min(self._world.settings.parallel, len(queue)))
        ]
        self._world.threads.extend(threads)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [self._ended[leaf.number] for leaf in self._leaves]

    def _look_around(self) -> list[Leaf]:
        """The leaves that have yet to come to their end, and what all of them were charged before."""
        waiting = []
        for leaf in self._leaves:
            try:
                state = running.known(leaf, self._world)
            except AgentLoopError as e:
                self._ended[leaf.number] = Ended(_not_run(leaf, e))
                continue
            if state is not None:
                self._pot = self._pot.returned(leaf.number, state.charged_usd)
            if state is not None and running.is_over(state):
                self._ended[leaf.number] = _ended(leaf, state)
                continue
            waiting.append(leaf)
            group = self._group(leaf)
            group.first = group.first or leaf.number
        return waiting

    def _group(self, leaf: Leaf) -> _Group:
        group = self._groups.setdefault(wire.prefix_digest(leaf.prefix), _Group())
        if prefix_tokens(leaf.prefix, leaf.card) < leaf.card.min_cacheable_tokens:
            group.warm.set()  # it is too short for the cache: nobody need wait
        return group

    def _work(self, queue: "deque[Leaf]") -> None:
        while True:
            try:
                leaf = queue.popleft()
            except IndexError:
                return
            self._ended[leaf.number] = self._carried(leaf)

    def _carried(self, leaf: Leaf) -> Ended:
        group = self._group(leaf)
        while group.first != leaf.number and not group.warm.wait(_LOOK_S) and not self._world.stopped.is_set():
            continue
        try:
            state = self._run(leaf, group.warm)
        except Exception as e:  # noqa: BLE001  whatever one leaf stumbles over, the others' answers are not lost
            return Ended(_not_run(leaf, e, self._charged(leaf)))
        finally:
            group.warm.set()
        return _ended(leaf, state)

    def _run(self, leaf: Leaf, warm: threading.Event) -> State:
        if self._world.stopped.is_set():
            raise AgentLoopError("the session that delegated it has ended")
        with self._lock:
            self._pot, usd = self._pot.drawn(leaf.number, leaf.settings.max_budget_usd, self._waiting)
            self._waiting -= 1
        limits = plan.limits(leaf, self._tokens, usd, self._seconds_left())
        reached("leaf.reserved")
        state: State | None = None
        try:
            state = running.carried_on(leaf, self._parent, self._call_id, limits, self._world, self._effects, warm.set)
            reached("leaf.ended")
            return state
        finally:
            charged = state if state is not None else self._charged(leaf)
            with self._lock:
                self._pot = self._pot.returned(leaf.number, charged.charged_usd) if charged is not None else self._pot

    def _seconds_left(self) -> float:
        """Of the session that delegates; without a limit, more than any leaf is given."""
        limit = self._parent.limits.max_wall_s
        if limit is None:
            return float("inf")
        return max(1.0, limit - (self._world.clock.now() - self._parent.running_since).total_seconds())

    def _charged(self, leaf: Leaf) -> State | None:
        """What a leaf's log tells, where it can be read; None where it cannot."""
        try:
            return running.known(leaf, self._world)
        except AgentLoopError:
            return None


def _ended(leaf: Leaf, state: State) -> Ended:
    run = LeafRun(
        session_id=leaf.session_id,
        kind=leaf.kind,
        model=state.prefix.model,
        outcome=state.outcome or NOT_RUN,
        detail=state.detail,
        turns=state.asked,
        usage=state.usage,
        spent_usd=state.spent_usd,
        at_risk_usd=state.at_risk_usd,
        used=delegating.used_by(state.permits),
        strangers=state.permits.strangers,
    )
    return Ended(run, state.text if state.outcome == "completed" else "")


def _not_run(leaf: Leaf, error: Exception, state: State | None = None) -> LeafRun:
    """A leaf that could not be run to an outcome, with what it was charged until then."""
    said = str(error) if isinstance(error, AgentLoopError) else f"{type(error).__name__}: {error}"
    before = _ended(leaf, state).run if state is not None else None
    told = {"outcome": NOT_RUN, "detail": said}
    if before is not None:
        return before.model_copy(update=told)
    return LeafRun(session_id=leaf.session_id, kind=leaf.kind, model=leaf.card.id, outcome=NOT_RUN, detail=said)
