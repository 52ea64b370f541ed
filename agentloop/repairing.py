"""A session whose history the API accepts no longer goes on as a new one, which knows what the old one knew."""

from agentloop.core import wire
from agentloop.core.folding import fold
from agentloop.core.state import State, Turn, changed
from agentloop.errors import UsageError
from agentloop.origins import Origins
from agentloop.policies import EngineLedger
from agentloop.ports import Clock, SessionStore
from agentloop.types import blocks
from agentloop.types.events import InputGiven, SessionStarted

_BEFORE = "[Taken over from session {session_id}, whose history could not be sent any more. What was done there stands below.]"


def repaired(store: SessionStore, session_id: str, new_id: str, origins: Origins, clock: Clock) -> None:
    """Start `new_id` with the prefix, policies, limits and whole results of `session_id`, and with its task and all that it
    did, in words, as the first message. Nothing is run or sent, and the old session stays as it is. Raises UsageError."""
    events = store.events(session_id)
    started, state = events[0].body, fold(events)
    assert isinstance(started, SessionStarted)
    if store.exists(new_id):
        raise UsageError(f"session '{new_id}' exists already; take another id")
    if not state.task:
        raise UsageError(f"session '{session_id}' was never given a task: there is nothing to take over")
    same = {"prefix": state.prefix, "prefix_digest": wire.prefix_digest(state.prefix), "limits": state.limits}
    same |= {"tools": state.tools, "grants": state.permits.grants}
    new = started.model_copy(update={"session_id": new_id, **same})
    said = InputGiven(content=(*state.task, blocks.text(_known(state))))
    kept = store.blobs(session_id)
    copies = store.blobs(new_id)
    with store.log(new_id) as log:
        for digest in kept.digests():
            if (data := kept.find(digest)) is not None:
                copies.put(data)
        if origins.has(session_id, started):
            origins.mark(new_id, new)
        log.append(new, clock.now())
        log.append(said, clock.now())


def _known(state: State) -> str:
    """What the session did so far, as the engine writes it at a compaction, and what was open when it stopped."""
    last = Turn(state.given, state.given_tokens, (), 0, "")  # what the last turn was answered with stands there
    whole = changed(state, turns=(*state.turns, last))
    done = EngineLedger().segment(whole, state.keep_from + len(state.turns)) if state.turns else ""
    names = ", ".join(c.name for c in state.open_calls)
    still_open = f"Called, and not known to have run or not: {names}. Check before you do it again." if names else ""
    told = [_BEFORE.format(session_id=state.session_id), *(s.text for s in state.segments), done, still_open]
    return "\n\n".join(t.strip() for t in told if t.strip())
