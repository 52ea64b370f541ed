"""Calls run, and while those take their time that said how long they take, the cache is kept warm where that pays."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from agentloop.core import keepalive
from agentloop.core.choices import Policies
from agentloop.core.decide import while_waiting
from agentloop.core.folding import evolve
from agentloop.core.state import State
from agentloop.engine import asking, tools
from agentloop.engine.shell import Happened, Shell
from agentloop.types.blocks import Call
from agentloop.types.events import Event, ToolStarted


def answered(calls: Sequence[Call], state: State, policies: Policies, shell: Shell, now: datetime) -> Iterator[Happened]:
    """What happens as the calls run. Whenever the engine is woken, it is decided anew whether a ping is due. The first line
    carries the time at which it was decided to run them: by that replay decides."""
    waiting = _Waiting(state, policies, shell)
    for i, body in enumerate(tools.answers(calls, state, policies.facts, shell.tools, shell.blobs, waiting.wakes_in_s)):
        at = now if i == 0 and isinstance(body, ToolStarted) else shell.clock.now()
        happened = waiting.kept_warm() if body is None else [Happened(at, body)]
        for one in happened:
            waiting.follow(one)
            yield one


class _Waiting:
    """The session while its calls run: as the log tells it, after each line that is written meanwhile."""

    def __init__(self, state: State, policies: Policies, shell: Shell) -> None:
        self._state, self._policies, self._shell = state, policies, shell
        self._announced = keepalive.announced_s(state.open_calls, state.tools) is not None

    def follow(self, happened: Happened) -> None:
        if self._announced:
            self._state = evolve(self._state, Event(seq=0, at=happened.at, body=happened.body))

    def wakes_in_s(self) -> float | None:
        """Seconds until the next ping is due; None where there is none."""
        if not self._announced:
            return None
        now = self._shell.clock.now()
        ping = keepalive.ping(self._state, self._policies, now)
        return max(0.0, (ping.due_at - now).total_seconds()) if ping is not None else None

    def kept_warm(self) -> Iterator[Happened]:
        now = self._shell.clock.now()
        effect = while_waiting(self._state, self._policies, now)
        if effect is not None:
            before = self._state
            yield from asking.kept_warm(effect, self._state, self._shell, now)
            self._announced = self._state is not before  # where there was no room for it, the wait goes on without
