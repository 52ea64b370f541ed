"""What leaves are run with: the store, the model and the tools of the session that delegates. It is at hand while that runs."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from agentloop.batch_calls import BatchClient
from agentloop.core.choices import Policies
from agentloop.core.state import State
from agentloop.engine.shell import Observer
from agentloop.ports import Clock, Log, ModelClient, Purse, SessionStore
from agentloop.tooling import Registry
from agentloop.types.blocks import Call
from agentloop.types.events import Event, SessionStarted
from agentloop.types.leaves import LeavesSettings
from agentloop.types.usage import ModelCard
from agentloop.waves.journal import Journal

END_S = 10.0
"""Seconds (monotonic) that leaves are given to end when the session that delegated them has: a call with an effect that is
under way then comes to its end."""

Begun = Callable[[], None]


class Routed(NamedTuple):
    """Who takes a kind of step, as a routing table says."""

    model: str
    effort: str | None
    max_tokens: int
    fallback: tuple[str, ...] = ()
    """Who takes over where that model is not available, or refuses, in this order."""


Route = Callable[[str, int], Routed | None]
"""Who takes a step of this kind that is about so many tokens; None: the model of the session that delegates."""


def unrouted(kind: str, tokens: int) -> Routed | None:
    """There is no routing."""
    return None


def unwatched(event: Event, state: State) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class World:
    """What leaves are run with."""

    settings: LeavesSettings
    sessions: SessionStore
    clock: Clock
    registry: Registry
    """The tools of the session that delegates."""
    root: Path
    job: str
    """What the spending is counted to."""
    client: Callable[[Begun], ModelClient]
    """A client for one thread; it tells when a reply has begun."""
    batches: Callable[[], BatchClient]
    """A client for batches, of the same API."""
    journal: Callable[[str], Journal]
    """The log of the batches of the call of this name."""
    purse: Callable[[str], Purse]
    """The shared budgets, for the leaf of this id."""
    card: Callable[[str], ModelCard]
    """What is known of a model. Raises UnknownModel."""
    guarded: Callable[[Log], Log]
    redact: Callable[[str], str]
    mark: Callable[[str, SessionStarted], None]
    """A leaf starts here."""
    checked: Callable[[str, SessionStarted, Sequence[Call]], bool]
    """Whether a leaf that is there already was started here. Raises UsageError where it was not, and holds calls."""
    policies: Policies | None = None
    """Somebody's own; None: those that the log names."""
    told: Observer = unwatched
    """Told of each event of a leaf, with its state; from any thread."""
    route: Route = unrouted
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set when the session that delegates has ended: no leaf takes another step."""
    threads: list[threading.Thread] = field(default_factory=list)


_HERE: ContextVar[World] = ContextVar("agentloop_leaves_world")


@contextmanager
def at_hand(world: World) -> Iterator[None]:
    """Let the tools that run in this block delegate into this world. Leaves that still run when it ends are stopped."""
    token = _HERE.set(world)
    try:
        yield
    finally:
        _HERE.reset(token)
        world.stopped.set()
        until = time.monotonic() + END_S
        for thread in world.threads:
            thread.join(max(0.0, until - time.monotonic()))


def here() -> World:
    """The world of the session whose call is being answered. Raises ValueError where there is none."""
    world = _HERE.get(None)
    if world is None:
        raise ValueError("tasks can be delegated while an agent runs, and not elsewhere")
    return world
