"""A person's answer to a call that waits: written into the session's log, for whoever takes the session up next."""

import difflib
from typing import NamedTuple

from agentloop.core.folding import fold
from agentloop.core.state import State
from agentloop.crash_points import reached
from agentloop.errors import UsageError
from agentloop.ports import Clock, SessionStore
from agentloop.types.blocks import Call
from agentloop.types.events import CallAnswered


class Waiting(NamedTuple):
    """A call that waits for a person, and why."""

    call: Call
    reason: str


def waiting(state: State) -> tuple[Waiting, ...]:
    """The calls of a session that wait, in their order."""
    held = state.permits.held
    return tuple(Waiting(c, held[c.id]) for c in state.open_calls if c.id in held)


def answer(
    sessions: SessionStore, clock: Clock, session_id: str, call_id: str | None, *, allowed: bool, by: str, note: str = ""
) -> tuple[Waiting, int]:
    """Let one waiting call run, or deny it; `call_id` may be left out, or shortened, where it is clear which is meant.

    Returns the call, and how many still wait. Raises UnknownSession, UsageError where no such call waits, SessionHeld while
    the session runs.
    """
    session_id = sessions.find(session_id)
    with sessions.log(session_id) as log:
        state = fold(sessions.events(session_id))
        one = _meant(session_id, waiting(state), call_id)
        log.append(CallAnswered(call_id=one.call.id, allowed=allowed, by=by, note=note), clock.now())
        reached("approval.answered")
        return one, len(state.permits.held) - 1


def _meant(session_id: str, there: tuple[Waiting, ...], call_id: str | None) -> Waiting:
    if not there:
        raise UsageError(
            f"no call of session '{session_id}' waits for an answer; 'agentloop resume {session_id}' goes on with it"
        )
    listed = ", ".join(f"{w.call.id} ({w.call.name})" for w in there)
    found = [w for w in there if call_id is None or w.call.id == call_id] or [
        w for w in there if call_id and w.call.id.startswith(call_id)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"session '{session_id}' has several calls that wait: {listed}; name one, or --all")
    near = difflib.get_close_matches(call_id or "", [w.call.id for w in there], n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"these wait: {listed}"
    raise UsageError(f"no call '{call_id}' of session '{session_id}' waits for an answer; {hint}")
