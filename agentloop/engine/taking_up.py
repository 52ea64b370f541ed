"""A request whose answer outlived the process that asked: a batch has it, and the session that asked takes it up.

It is not decided anew what to ask: much may have changed meanwhile (what is left of a budget, how long ago the last request
was), and another request would be paid for besides. What was asked is found out by deciding again as of then, as replay does.
"""

from collections.abc import Iterable, Iterator

from agentloop.core import wire
from agentloop.core.choices import Policies
from agentloop.core.decide import CallModel, decide
from agentloop.core.folding import fold, most_usd
from agentloop.core.state import State
from agentloop.engine import asking, recovery
from agentloop.engine.shell import Happened, Shell
from agentloop.types.events import Event, ModelFailed, ModelRequested, SessionEnded, SessionResumed

_BETWEEN = (ModelFailed, SessionEnded, SessionResumed)
"""What may stand behind a request that is still to be answered."""


def answered(events: Iterable[Event], state: State, policies: Policies, shell: Shell) -> Iterator[Happened]:
    """What comes of the request that a session waited with; nothing where no batch has its answer."""
    if state.pending is None or not recovery.is_kept(state.pending, shell.model):
        return
    body = _asked(list(events), policies)
    if body is None or wire.digest(body) != state.pending.digest:
        return
    shell.purse.reserve(state.own_usd, most_usd(state, state.pending))
    yield from asking.awaited(state.pending, body, state, policies.budget, shell)


def _asked(events: list[Event], policies: Policies) -> bytes | None:
    """The body of the last request, decided again; None where that is not to be had."""
    last = max(i for i, event in enumerate(events) if isinstance(event.body, ModelRequested))
    if not all(isinstance(event.body, _BETWEEN) for event in events[last + 1 :]):
        return None
    effect = decide(fold(events[:last]), policies, events[last].at)
    return wire.body(effect.request) if isinstance(effect, CallModel) else None
