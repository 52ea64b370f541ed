"""The past sessions of an agent in a workspace, and what was forecast before one of them."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from agentloop.core.calibration import Calibration
from agentloop.errors import LogError, UnknownSession
from agentloop.plan import Asked, Forecast, Money, forecast
from agentloop.plan.past import Past, past
from agentloop.plan.sizes import learned
from agentloop.policies import recorded
from agentloop.ports import SessionStore, Summary
from agentloop.prior import kind
from agentloop.report import report
from agentloop.types.base import Frozen
from agentloop.types.events import Event, SessionStarted

MOST = 20
"""So many past sessions are looked at, the newest first."""
NOBODY = Calibration()


class History(NamedTuple):
    """What is known of an agent's sessions."""

    past: tuple[Past, ...] = ()
    learned: Mapping[str, Calibration] = {}
    """By model, from sessions whose model was played by the same kind of player."""
    unreadable: tuple[str, ...] = ()

    def of(self, model: str) -> Calibration:
        """What was learned of one model."""
        return self.learned.get(model, NOBODY)


class Against(Frozen):
    """What would have been forecast before a session, and what came."""

    session_id: str
    forecast: Forecast
    turns: int
    cost_usd: Money
    within: bool
    """Whether the cost is between low and high."""
    of_expected: float | None
    """The cost, as a multiple of what was expected."""


def history(sessions: SessionStore, agent: str, played_by: str, before: datetime | None = None) -> History:
    """The agent's newest sessions that were completed, or of any outcome where none was; those that started earlier than
    `before`. Where some were played by the same kind of player, the others do not count."""
    unreadable: list[str] = []
    read = list(_newest(sessions, agent, before, unreadable))
    alike = [(i, events) for i, events in read if kind(_start(events).played_by) == kind(played_by)]
    known: dict[str, Calibration] = {}
    for _, events in alike:
        model = _start(events).card.id
        known[model] = learned(events, known.get(model, NOBODY))
    found = ((i, past(events, sessions.blobs(i))) for i, events in alike or read)
    return History(tuple(p._replace(session_id=i) for i, p in found if p is not None), known, tuple(unreadable))


def against(sessions: SessionStore, session_id: str) -> Against:
    """The forecast that the logs before a session give for its own prefix, policies and prices. Raises UsageError where its
    policies are not known here."""
    events = sessions.events(session_id)
    start, bill = _start(events), report(events, with_baselines=False, with_turns=False)
    earlier = history(sessions, start.agent, start.played_by, before=events[0].at)
    made = forecast(Asked(start, recorded(start.policies)), earlier.past, earlier.of(start.card.id))
    low, expected, high = made.cost_usd.low, made.cost_usd.expected, made.cost_usd.high
    return Against(
        session_id=session_id,
        forecast=made,
        turns=bill.turns,
        cost_usd=bill.cost_usd,
        within=low <= bill.cost_usd <= high,
        of_expected=float(bill.cost_usd / expected) if expected else None,
    )


def _newest(
    sessions: SessionStore, agent: str, before: datetime | None, unreadable: list[str]
) -> Iterator[tuple[str, list[Event]]]:
    of_agent = (s for s in sessions.summaries() if s.agent == agent and _earlier(s, before))
    rows = sorted(of_agent, key=lambda s: s.started_at, reverse=True)
    done = [s for s in rows if s.outcome == "completed"]
    found = 0
    for row in done or rows:
        if found == MOST:
            return
        try:
            events = sessions.events(row.session_id)
        except (LogError, UnknownSession) as e:
            unreadable.append(str(e).partition("\n")[0])
            continue
        if before is None or events[0].at < before:
            found += 1
            yield row.session_id, events


def _earlier(row: Summary, before: datetime | None) -> bool:
    """Whether it started before; where its first line does not say, whoever reads it whole will."""
    try:
        return before is None or datetime.fromisoformat(row.started_at) < before
    except (ValueError, TypeError):
        return True


def _start(events: list[Event]) -> SessionStarted:
    start = events[0].body
    assert isinstance(start, SessionStarted)
    return start
