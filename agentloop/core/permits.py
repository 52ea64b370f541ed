"""Which calls of a reply may run, which are denied, and which wait for a person.

A session that somebody watches has no grants and may do everything. An unattended one may read; whatever has an effect
must have been granted by its agent's file, within the limits that stand there. What models, tools, pages and files say
changes nothing here: only the local configuration grants, and only a person answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, DecimalException
from typing import Any, Literal, NamedTuple

from agentloop.types.blocks import Call
from agentloop.types.events import CallAnswered, CallHeld
from agentloop.types.grants import Grant, Grants
from agentloop.types.leaves import LeafOf, LeafRun
from agentloop.types.tools import Effect, ToolCard

_MOST_DIGITS = 100
"""A number that is longer is no amount of anything, and sums of such are none."""


class Used(NamedTuple):
    """What of a grant is used up."""

    calls: int = 0
    total: Decimal = Decimal(0)


class Verdict(NamedTuple):
    """What becomes of a call."""

    call: Call
    what: Literal["run", "deny", "hold"]
    why: str = ""


@dataclass(frozen=True)
class Permits:
    """What a session may do, and what it has done of that."""

    grants: Grants | None = None
    used: Mapping[str, Used] = field(default_factory=dict)
    """By tool, counted as a call starts."""
    strangers: str = ""
    """The first tool by which the model was given what strangers wrote."""
    held: Mapping[str, str] = field(default_factory=dict)
    """Calls that wait for a person, and why."""
    answers: Mapping[str, CallAnswered] = field(default_factory=dict)
    denied: Mapping[str, str] = field(default_factory=dict)
    """What was denied once, by tool and values, and what was said about it."""

    @classmethod
    def of(cls, grants: Grants | None, leaf: LeafOf | None) -> "Permits":
        """Those of a session that starts. What the session that delegated it has heard, and may not do, holds for a leaf."""
        return cls(grants) if leaf is None else cls(grants, strangers=leaf.strangers, denied=leaf.denied)

    def holding(self, event: CallHeld) -> "Permits":
        """One more call waits."""
        return replace(self, held={**self.held, event.call_id: event.reason})

    def answered(self, event: CallAnswered, call: Call | None) -> "Permits":
        """A person has answered. What is denied stays denied, however it is asked for again."""
        held = {c: why for c, why in self.held.items() if c != event.call_id}
        denied = self.denied
        if not event.allowed and call is not None:
            denied = {**denied, sameness(call): event.note}
        return replace(self, held=held, answers={**self.answers, event.call_id: event}, denied=denied)

    def started(self, call: Call) -> "Permits":
        """A call is about to run: it counts against what was granted."""
        if self.grants is None:
            return self
        before = self.used.get(call.name, Used())
        number = _number(call, self.grants.tools.get(call.name)) or Decimal(0)
        total = before.total + max(number, Decimal(0))  # what a person lets through makes no room for more
        held = {c: why for c, why in self.held.items() if c != call.id}
        return replace(self, held=held, used={**self.used, call.name: Used(before.calls + 1, total)})

    def came_in(self, names: tuple[str, ...], tools: tuple[ToolCard, ...]) -> "Permits":
        """The model is given what these tools brought; it may be the words of strangers."""
        strange = {t.name for t in tools if t.untrusted}
        first = next((n for n in names if n in strange), "")
        return replace(self, strangers=self.strangers or first, answers={})  # of this turn: none is for a call to come

    def delegated(self, leaves: tuple[LeafRun, ...]) -> "Permits":
        """What leaves did counts as done here, and what they were given by strangers as given here."""
        used = dict(self.used)
        for tool, more in ((t, u) for leaf in leaves for t, u in leaf.used.items()):
            before = used.get(tool, Used())
            used[tool] = Used(before.calls + more.calls, before.total + more.total)
        strangers = self.strangers or next((leaf.strangers for leaf in leaves if leaf.strangers), "")
        return replace(self, used=used, strangers=strangers)


def verdicts(
    permits: Permits, calls: tuple[Call, ...], tools: tuple[ToolCard, ...], started: Mapping[str, Effect]
) -> tuple[Verdict, ...]:
    """What becomes of each call, in order; each counts for those behind it."""
    if permits.grants is None:
        return tuple(Verdict(c, "run") for c in calls)
    found, cards = [], {t.name: t for t in tools}
    for call in calls:
        verdict = Verdict(call, "run") if call.id in started else _verdict(permits, call, cards.get(call.name))
        if verdict.what == "run" and call.id not in started:
            permits = permits.started(call)
        found.append(verdict)
    return tuple(found)


def _verdict(permits: Permits, call: Call, card: ToolCard | None) -> Verdict:
    if card is None:
        return Verdict(call, "run")  # there is no such tool: it is answered so
    if (answer := permits.answers.get(call.id)) is not None:
        return Verdict(call, "run") if answer.allowed else Verdict(call, "deny", answer.note)
    if (note := permits.denied.get(sameness(call))) is not None:
        return Verdict(call, "deny", note)
    if card.effect == "read" and not card.outward:
        return Verdict(call, "run")
    why = _forbids(permits, call, card)
    return Verdict(call, "hold", why) if why else Verdict(call, "run")


def _forbids(permits: Permits, call: Call, card: ToolCard) -> str:
    """Why a call has to wait; nothing where it may run."""
    assert permits.grants is not None
    grant = permits.grants.tools.get(call.name)
    if grant is None:
        return f"'{call.name}' is not granted to unattended runs of this agent"
    used = permits.used.get(call.name, Used())
    if grant.at_most is not None and used.calls >= grant.at_most:
        return f"'{call.name}' was granted {grant.at_most} times, and was called {used.calls} times"
    if grant.sum_at_most is not None:
        number = _number(call, grant)
        if number is None or number < 0:
            return f"'{call.name}' is granted by the sum of '{grant.sum_of}', and the call has no such number"
        if used.total + number > grant.sum_at_most:
            return f"{grant.sum_of} {number} after {used.total} is more than the {grant.sum_at_most} granted to '{call.name}'"
    if card.outward and permits.strangers and permits.grants.after_untrusted == "ask":
        return f"'{call.name}' speaks to the outside, and the session has read what strangers wrote ('{permits.strangers}')"
    return ""


def _number(call: Call, grant: Grant | None) -> Decimal | None:
    """The number that a grant adds up; None where there is none that can be."""
    if grant is None or grant.sum_of is None:
        return None
    value: Any = call.input
    for key in grant.sum_of.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value).strip())
    except DecimalException:
        return None
    return number if number.is_finite() and number.adjusted() < _MOST_DIGITS else None


def sameness(call: Call) -> str:
    """What a call comes to, whatever the case, the order, the spaces and the nesting of what it is given."""
    return "\n".join([call.name.casefold(), *sorted(_leaves(call.input))])


def _leaves(value: Any) -> list[str]:
    match value:
        case dict():
            return [leaf for v in value.values() for leaf in _leaves(v)]
        case list():
            return [leaf for v in value for leaf in _leaves(v)]
        case None:
            return []
        case _:
            return [" ".join(str(value).casefold().split())]
