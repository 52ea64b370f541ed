"""One leaf: a session of its own, from its first line, or from wherever its log ends, to its outcome."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import NamedTuple

from agentloop.adapters.recall import recall_tool
from agentloop.adapters.toolbox import Toolbox
from agentloop.core.folding import fold
from agentloop.core.lifetimes import WrittenTtl
from agentloop.core.state import State
from agentloop.crash_points import reached
from agentloop.engine import Interrupted, Shell, run
from agentloop.errors import PrefixUnstable
from agentloop.leaves import plan
from agentloop.leaves.plan import Leaf, May
from agentloop.leaves.world import Begun, World
from agentloop.policies import FourMarks, recorded
from agentloop.ports import Answer, ModelClient, ToolRunner, Wakes, never
from agentloop.tooling import Registry
from agentloop.types.base import Json
from agentloop.types.blocks import RECALL, Blocks, Call
from agentloop.types.events import Event, InputGiven, ModelReplied, SessionResumed, SessionStarted
from agentloop.types.leaves import Mode
from agentloop.types.tools import ToolCard

_CARRIED_ON = frozenset({None, "interrupted"})
"""Outcomes behind which a leaf goes on: it was stopped from outside. Any other is its outcome."""


class Known(NamedTuple):
    """What there is of a leaf."""

    state: State
    batched: int
    """Replies that came out of batches."""
    mode: Mode
    """As it was begun: its log says so, whatever the agent's file says by now."""


def known(leaf: Leaf, world: World) -> Known | None:
    """What there is of a leaf; None where it was not started. Raises LogError, UsageError where it did not start here."""
    if not world.sessions.exists(leaf.session_id):
        return None
    there, start = _read(leaf, world)
    world.checked(leaf.session_id, start, there.state.open_calls)
    return there


def _read(leaf: Leaf, world: World) -> tuple[Known, SessionStarted]:
    events = world.sessions.events(leaf.session_id)
    start, state = events[0].body, fold(events)
    assert isinstance(start, SessionStarted)
    replies = [e.body.reply for e in events if isinstance(e.body, ModelReplied)]
    batched = sum(reply.usage.service_tier == "batch" for reply in replies)
    return Known(state, batched, start.leaf.mode if start.leaf is not None else "live"), start


def is_over(state: State) -> bool:
    """Whether a leaf has its outcome. One whose calls a person has answered since goes on."""
    if state.outcome in _CARRIED_ON:
        return False
    return state.outcome != "waiting_for_approval" or bool(state.permits.held)


def carried_on(leaf: Leaf, parent: State, call_id: str, may: May, world: World, effects: threading.Lock, asks: "Asks") -> Known:
    """Run a leaf to its outcome. Raises LogError, SessionHeld, PrefixUnstable, BudgetUnknown."""
    with world.sessions.log(leaf.session_id) as opened:
        log = world.guarded(opened)
        there = known(leaf, world)
        if there is None:
            start = plan.started(leaf, parent, call_id, may, _policies(leaf, parent, world), world)
            world.mark(leaf.session_id, start)
            log.append(start, world.clock.now())
            reached("leaf.started")
            state = fold(log.events())
        else:
            state = there.state
            if (changed := _resumption(state, leaf, parent, may)) is not None or state.outcome is not None:
                log.append(changed or SessionResumed(), world.clock.now())
        if not state.task:
            log.append(InputGiven(content=leaf.told), world.clock.now())
        policies = world.policies or recorded(state.policies).policies()
        run(log, _shell(leaf, world, effects, asks), policies)
        return _read(leaf, world)[0]


class Asks(NamedTuple):
    """Whom a leaf asks, and who is to know once it has a reply."""

    model: ModelClient
    begun: Begun


def _shell(leaf: Leaf, world: World, effects: threading.Lock, asks: Asks) -> Shell:
    blobs, news = world.sessions.blobs(leaf.session_id), world.sessions.log(leaf.session_id).news()
    own = [recall_tool(blobs, news)] if any(d["name"] == RECALL for d in leaf.prefix.tools) else []
    registry = Registry([*(world.registry.tools[name] for name in leaf.tools), *own])
    tools = Toolbox(registry, session_id=leaf.session_id, root=world.root, redact=world.redact)

    def observe(event: Event, state: State) -> None:
        if isinstance(event.body, ModelReplied):
            asks.begun()
        world.told(event, state)

    def stop_if_told(state: State) -> Sequence[Blocks]:
        if world.stopped.is_set():
            raise Interrupted("the session that delegated it")
        return ()

    purse = world.purse(leaf.session_id)
    return Shell(asks.model, InTurn(tools, effects), blobs, world.clock, observe, stop_if_told, purse)


def _resumption(state: State, leaf: Leaf, parent: State, may: May) -> SessionResumed | None:
    """What is otherwise than it was when a leaf was begun: what it may do and spend is said by the session that delegates,
    as it is now, and never by the leaf's log. None where nothing is. Raises PrefixUnstable."""
    if leaf.prefix.tools != state.prefix.tools:
        raise PrefixUnstable(f"leaf '{leaf.session_id}' was begun with other tools; it is not carried on")
    tools = plan.cards(leaf, parent)
    changed = SessionResumed(
        limits=may.limits if may.limits != state.limits else None,
        tools=tools if tools != state.tools else None,
        grants=may.grants if may.grants != state.permits.grants else None,
    )
    return changed if changed != SessionResumed() else None


def _policies(leaf: Leaf, parent: State, world: World) -> Json:
    """Those of the session that delegates. A leaf without tools asks once: nothing reads what it would write to the cache,
    but for a prefix that others share."""
    if world.policies is not None:
        return {"kind": "own"}
    settings = recorded(parent.policies)
    if leaf.tools:
        return settings.data()
    once = FourMarks(static_ttl=_shared_ttl(leaf), state_ttl="off", tail_ttl="off", cuts=False)
    return settings.model_copy(update={"caching": once}).data()


def _shared_ttl(leaf: Leaf) -> WrittenTtl:
    """How long what leaves without tools share has to live: a batch may take longer than five minutes."""
    if not leaf.shares_prefix:
        return "off"
    return "1h" if leaf.mode == "batch" else "5m"


class InTurn:
    """A `ToolRunner` whose calls with an effect wait for those of other leaves: as in one session, they run one by one."""

    def __init__(self, tools: ToolRunner, effects: threading.Lock) -> None:
        """`effects` is held by whoever has an effect."""
        self._tools, self._effects = tools, effects

    def card(self, name: str) -> ToolCard | None:
        """What the tool declared."""
        return self._tools.card(name)

    def invalid(self, call: Call) -> str | None:
        """Why a call cannot be run."""
        return self._tools.invalid(call)

    def run(
        self, calls: Sequence[Call], idempotency_key: Callable[[Call], str], wakes_in_s: Wakes = never
    ) -> Iterator[Answer | None]:
        """The answers, in the order of the calls; None each time the caller is woken before one."""
        cards = [self._tools.card(c.name) for c in calls]
        only_read = all(card is not None and card.effect == "read" for card in cards)
        with nullcontext() if only_read else self._effects:
            yield from self._tools.run(calls, idempotency_key, wakes_in_s)
