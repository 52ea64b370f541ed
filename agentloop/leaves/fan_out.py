"""The leaves of one call, run side by side, within what the session that delegates has left.

Of the leaves that ask live and share a prefix, one goes first; the others start once its reply has begun and can read what it
wrote to the cache (https://platform.claude.com/docs/en/build-with-claude/prompt-caching). Those that ask in batches are a
wave of their own. What a leaf may spend is taken out of one pot as it starts, and goes back as far as it was not used.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from agentloop.core import delegating, wire
from agentloop.core.delegating import Pot, Rights
from agentloop.core.folding import fold
from agentloop.core.measuring import prefix_tokens
from agentloop.core.state import State
from agentloop.crash_points import reached
from agentloop.errors import AgentLoopError
from agentloop.leaves import in_batches, plan, running
from agentloop.leaves.handing_back import ANSWER_TOKENS, handed_back
from agentloop.leaves.plan import Leaf, May, Task
from agentloop.leaves.running import Asks, Known
from agentloop.leaves.world import Begun, World
from agentloop.ports import ModelClient
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
        self._rights = Rights(parent.permits)

    def run(self) -> Sequence[Ended]:
        """What came of each, in their order."""
        waiting = self._look_around()
        self._waiting = len(waiting)
        self._having = Counter(name for leaf in waiting for name in leaf.tools)
        live, together = ([leaf for leaf in waiting if leaf.mode == mode] for mode in ("live", "batch"))
        queue = deque(sorted(live, key=lambda leaf: (self._group(leaf).first != leaf.number, leaf.number)))
        threads = [
            threading.Thread(target=self._work, args=(queue,), name=f"leaf-{n}", daemon=True)
            for n in range(min(self._world.settings.parallel, len(queue)))
        ]
        if together:
            threads.append(threading.Thread(target=self._in_batches, args=(together,), name="leaves", daemon=True))
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
                there = running.known(leaf, self._world)
            except AgentLoopError as e:
                self._ended[leaf.number] = Ended(_not_run(leaf, e))
                continue
            if there is not None:
                leaf = leaf._replace(mode=there.mode)
                self._returned(leaf, there)
                if running.is_over(there.state):
                    self._ended[leaf.number] = _ended(leaf, there)
                    continue
            waiting.append(leaf)
            if leaf.mode == "live":
                group = self._group(leaf)
                group.first = group.first or leaf.number
        return waiting

    def _group(self, leaf: Leaf) -> _Group:
        group = self._groups.setdefault(wire.prefix_digest(leaf.prefix), _Group())
        if prefix_tokens(leaf.prefix, leaf.who.card) < leaf.who.card.min_cacheable_tokens:
            group.warm.set()  # it is too short for the cache: nobody need wait
        return group

    def _work(self, queue: "deque[Leaf]") -> None:
        while True:
            try:
                leaf = queue.popleft()
            except IndexError:
                return
            group = self._group(leaf)
            while group.first != leaf.number and not group.warm.wait(_LOOK_S) and not self._world.stopped.is_set():
                continue
            try:
                self._carry(leaf, partial(self._live, group.warm.set))
            finally:
                group.warm.set()

    def _live(self, begun: Begun) -> Asks:
        return Asks(self._world.client(begun), begun)

    def _in_batches(self, leaves: Sequence[Leaf]) -> None:
        """Those of a call that ask together, each from its seat. Whatever comes of it, each has an end."""
        name = plan.call_name(self._parent.session_id, self._call_id)
        trouble: Exception | None = None
        try:
            in_batches.run(name, leaves, self._sit, self._deadline, self._world)
        except Exception as e:  # noqa: BLE001  whatever the coordinator stumbles over, the session goes on
            trouble = e
        for leaf in leaves:
            if leaf.number not in self._ended:
                error = trouble or AgentLoopError("the session that delegated it has ended")
                self._ended[leaf.number] = Ended(_not_run(leaf, error, self._charged(leaf)))

    def _sit(self, leaf: Leaf, seat: ModelClient) -> None:
        self._carry(leaf, lambda: Asks(seat, _unheard))

    def _carry(self, leaf: Leaf, asks: Callable[[], Asks]) -> None:
        try:
            self._ended[leaf.number] = _ended(leaf, self._run(leaf, asks()))
        except Exception as e:  # noqa: BLE001  whatever one leaf stumbles over, the others' answers are not lost
            self._ended[leaf.number] = Ended(_not_run(leaf, e, self._charged(leaf)))

    def _run(self, leaf: Leaf, asks: Asks) -> Known:
        if self._world.stopped.is_set():
            raise AgentLoopError("the session that delegated it has ended")
        with self._lock:
            may = self._drawn(leaf)
        reached("leaf.reserved")
        there: Known | None = None
        try:
            there = running.carried_on(leaf, self._parent, self._call_id, may, self._world, self._effects, asks)
            reached("leaf.ended")
            return there
        finally:
            if (last := there or self._charged(leaf)) is not None:
                with self._lock:
                    self._returned(leaf, last)

    def _drawn(self, leaf: Leaf) -> May:
        """The part of a leaf that starts."""
        self._pot, usd = self._pot.drawn(leaf.number, leaf.settings.max_budget_usd, self._waiting)
        self._rights, grants = self._rights.drawn(leaf.number, {name: self._having[name] for name in leaf.tools})
        self._waiting -= 1
        self._having.subtract(leaf.tools)
        left_s = self._seconds_left()
        batches_s = self._batches_s(left_s) if leaf.mode == "batch" else 0.0
        return May(plan.limits(leaf, self._tokens, usd, left_s, batches_s), grants)

    def _returned(self, leaf: Leaf, there: Known) -> None:
        """What a leaf did not use is there for others."""
        self._pot = self._pot.returned(leaf.number, there.state.charged_usd)
        self._rights = self._rights.returned(leaf.number, there.state.permits.used)

    def _seconds_left(self) -> float:
        """Of the session that delegates; without a limit, more than any leaf is given."""
        limit = self._parent.limits.max_wall_s
        if limit is None:
            return float("inf")
        return max(1.0, limit - (self._world.clock.now() - self._parent.running_since).total_seconds())

    def _batches_s(self, left_s: float) -> float:
        """Seconds that batches may take from now on: half of what the session has left is for what they do not answer."""
        return min(self._world.settings.deadline_s, left_s / 2)

    def _deadline(self, begun: datetime) -> datetime:
        """When batches have to be back that were begun then."""
        latest = self._world.clock.now() + timedelta(seconds=self._batches_s(self._seconds_left()))
        return min(begun + timedelta(seconds=self._world.settings.deadline_s), latest)

    def _charged(self, leaf: Leaf) -> Known | None:
        """What a leaf's log tells, where it can be read; None where it cannot."""
        try:
            return running.known(leaf, self._world)
        except AgentLoopError:
            return None


def _unheard() -> None:
    """Nobody waits for a reply to begin."""


def _ended(leaf: Leaf, there: Known) -> Ended:
    state = there.state
    run = LeafRun(
        session_id=leaf.session_id,
        kind=leaf.kind,
        model=state.prefix.model,
        outcome=state.outcome or NOT_RUN,
        detail=state.detail,
        turns=state.asked,
        batched=there.batched,
        usage=state.usage,
        spent_usd=state.spent_usd,
        at_risk_usd=state.at_risk_usd,
        used=delegating.used_by(state.permits),
        strangers=state.permits.strangers,
    )
    return Ended(run, state.text if state.outcome == "completed" else "")


def _not_run(leaf: Leaf, error: Exception, there: Known | None = None) -> LeafRun:
    """A leaf that could not be run to an outcome, with what it was charged until then."""
    said = str(error) if isinstance(error, AgentLoopError) else f"{type(error).__name__}: {error}"
    before = _ended(leaf, there).run if there is not None else None
    told = {"outcome": NOT_RUN, "detail": said}
    if before is not None:
        return before.model_copy(update=told)
    return LeafRun(session_id=leaf.session_id, kind=leaf.kind, model=leaf.who.card.id, outcome=NOT_RUN, detail=said)
