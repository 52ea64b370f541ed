"""The names of sessions, the same in every store: what is one, how a new one is made, which one is meant."""

import difflib
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain

from agentloop.errors import UnknownSession
from agentloop.types.events import Event, SessionStarted

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def new_id(agent: str, now: datetime) -> str:
    """An id that no session has: agent, time, and eight characters in case two start in one second."""
    return f"{plain(agent)}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def plain(agent: str) -> str:
    """An agent's name, as it can stand in an id."""
    return (re.sub(r"[^A-Za-z0-9_-]+", "-", agent).strip("-_") or "session")[:60]


def checked(session_id: str) -> str:
    """The same id. Raises UnknownSession for what is none."""
    if not _ID.fullmatch(session_id) or ".." in session_id:
        shown = session_id[:60].encode("unicode_escape").decode()
        raise UnknownSession(f"'{shown}' is not a session id: letters, digits, '-', '_' and '.', at most 100, no path")
    return session_id


def meant(name: str, ids: Iterable[str], where: str) -> str:
    """The only id that starts with this name. Raises UnknownSession with candidates."""
    known = list(ids)
    starting = [i for i in known if i.startswith(name)]
    own = [i for i in starting if not any(i.startswith(f"{other}.") for other in starting)]
    if len(own) == 1:  # the others are its leaves
        return own[0]
    near = starting or difflib.get_close_matches(name, known, n=3, cutoff=0.3)
    hint = f"did you mean {', '.join(near[:5])}?" if near else "'agentloop sessions list' shows those that exist"
    what = "is ambiguous" if starting else "does not exist"
    raise UnknownSession(f"session '{name}' {what} in {where}; {hint}")


def begun(session_id: str, events: Iterator[Event]) -> Iterator[Event]:
    """The same events. Raises UnknownSession where they are not a session's from its start."""
    first = next(events, None)
    if first is None or not isinstance(first.body, SessionStarted):
        raise UnknownSession(f"the log of session '{session_id}' does not start with session_started; it cannot be used")
    return chain([first], events)


def started(events: Sequence[Event]) -> SessionStarted:
    """The first line of a session whose log has begun."""
    first = events[0].body
    assert isinstance(first, SessionStarted)
    return first
