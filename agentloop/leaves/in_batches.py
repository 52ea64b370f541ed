"""The leaves of one call that ask in batches: a wave of their own (`agentloop/waves`), with a log beside the sessions."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

from agentloop.batch_calls import BatchCallFailed
from agentloop.core import wire
from agentloop.engine import Interrupted
from agentloop.errors import AgentLoopError, UnknownModel
from agentloop.leaves.plan import Leaf
from agentloop.leaves.world import World
from agentloop.ports import ModelClient
from agentloop.types.base import compact
from agentloop.types.usage import ModelCard
from agentloop.waves.flights import Flights, tag
from agentloop.waves.journal import WaveStarted, begun
from agentloop.waves.policy import Course
from agentloop.waves.wave import Pause, Rules, Wave

COURSE = Course(learn=0)
"""Leaves are few: none waits for what the first items find."""
_LOOK_S = 0.05
"""Seconds (real ones) between two looks at the session's clock."""
Play = Callable[[Leaf, ModelClient], None]
"""Runs a leaf to its end, with whom it asks."""


def run(name: str, leaves: Sequence[Leaf], play: Play, deadline: Callable[[datetime], datetime], world: World) -> None:
    """Run, or carry on, these leaves of the call of this name. `deadline` says when batches have to be back that were begun
    then. Returns early where the session that delegates has ended. Raises LogError, SessionHeld, AgentLoopError."""
    with world.journal(name) as journal:
        now = world.clock.now()
        first = WaveStarted(wave_id=name, agent=name, inputs=_inputs(name), sessions=len(leaves), at=now)
        started = begun(journal, first)
        flights = Flights(world.batches(), journal, world.clock, time.sleep, tag(name, started.at))
        wave = Wave(
            lambda: world.client(_unheard),
            flights,
            journal,
            world.clock,
            leaves[0].who.card,
            card_of=partial(_card, world),
            own_cards={leaf.session_id: leaf.who.card for leaf in leaves},
            rules=Rules(
                COURSE,
                deadline=deadline(started.at),
                sessions_at_once=len(leaves),
                live_at_once=world.settings.parallel,
                primes="batch",
                stopped=lambda: "the session that delegated it" if world.stopped.is_set() else None,
            ),
            pause=_by(world),
        )
        _run(wave, leaves, play, world)


def _run(wave: Wave, leaves: Sequence[Leaf], play: Play, world: World) -> None:
    try:
        with suppress(Interrupted):
            wave.run({leaf.session_id: partial(play, leaf) for leaf in leaves})
    except BatchCallFailed as e:
        raise AgentLoopError(f"the API does not say how the batches stand that were made before: {e.message}") from e


def _inputs(name: str) -> str:
    """The digest of what the leaves of a call are given: its name says which call that is."""
    return wire.digest(compact([name]))


def _card(world: World, model: str) -> ModelCard | None:
    try:
        return world.card(model)
    except UnknownModel:
        return None


def _by(world: World) -> Pause:
    """Let time pass as the session's clock counts it, until the session has ended."""
    clock = world.clock

    def pause(changed: threading.Condition, seconds: float) -> None:
        until = clock.monotonic() + seconds
        while (left := until - clock.monotonic()) > 0 and not world.stopped.is_set():
            if changed.wait(min(left, _LOOK_S)):
                return

    return pause


def _unheard() -> None:
    """Nobody waits for a reply to begin."""
