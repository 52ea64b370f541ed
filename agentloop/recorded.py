"""What stands in for the world when a recording is played: its clock, its tools, its user, the first line of its log."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, cycle, islice

from agentloop.core import wire
from agentloop.core.state import State
from agentloop.importers.recording import Recording
from agentloop.ports import Answer, Wakes, never
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Blocks, Call
from agentloop.types.events import SessionStarted
from agentloop.types.limits import Limits
from agentloop.types.request import Prefix
from agentloop.types.tools import ToolCard
from agentloop.types.usage import ModelCard
from agentloop.version import __version__

FIRST_DAY = datetime(2026, 1, 5, 9, tzinfo=UTC)
USUAL_GAP_S = 10.0
ENDS_HERE = "No result of this call was recorded."

Gaps = float | Sequence[float] | None
"""Seconds between the starts of two requests: always the same, or these over and over; None: as recorded."""


class RecordedClock:
    """The time of the recording: as it was written down, or with other gaps between requests."""

    def __init__(self, recording: Recording, gaps: Gaps) -> None:
        """Where nothing was written down, requests start 10 seconds apart."""
        times = [s.at for s in recording.steps]
        if gaps is None and all(t is not None for t in times):
            self._times = [t for t in times if t is not None]
        else:
            self._times = _spaced(len(times), USUAL_GAP_S if gaps is None else gaps)
        self.turn = 0

    @property
    def gaps_s(self) -> tuple[float, ...]:
        """Seconds before each request but the first."""
        return tuple((b - a).total_seconds() for a, b in zip(self._times, self._times[1:], strict=False))

    def now(self) -> datetime:
        """When the current turn was."""
        return self._times[min(self.turn, len(self._times) - 1)]

    def monotonic(self) -> float:
        """The same, in seconds."""
        return self.now().timestamp()


def _spaced(requests: int, gaps: float | Sequence[float]) -> list[datetime]:
    again = cycle([gaps] if isinstance(gaps, int | float) else gaps)
    return [FIRST_DAY + timedelta(seconds=s) for s in accumulate(islice(again, requests - 1), initial=0.0)]


class RecordedTools:
    """A `ToolRunner` that gives the recorded answers."""

    def __init__(self, recording: Recording, cards: Sequence[ToolCard] = ()) -> None:
        """Answer with the results of this recording; `cards` say what its tools declared, where that is known."""
        self._results = recording.results
        self._cards = {c.name: c.model_copy(update={"effect": "read"}) for c in (*_cards(recording), *cards)}

    def card(self, name: str) -> ToolCard | None:
        """Recorded tools have no effect."""
        return self._cards.get(name)

    def invalid(self, call: Call) -> str | None:
        """Nothing is: it was answered once."""
        return None

    def run(self, calls: Sequence[Call], idempotency_key: Callable[[Call], str], wakes_in_s: Wakes = never) -> Iterator[Answer]:
        """The recorded answers: there is nothing to wait for."""
        for call in calls:
            result = self._results.get(call.id)
            if result is None:
                yield Answer(ENDS_HERE, "error", 0.0)
            else:
                yield Answer(result.get("content") or "", "error" if result.get("is_error") else "ok", 0.0)


class RecordedUser:
    """An inbox: what the user said before each turn but the first, told once."""

    def __init__(self, recording: Recording) -> None:
        """Say what was said in this recording."""
        self._steps = recording.steps
        self._told = 0

    def __call__(self, state: State) -> Sequence[Blocks]:
        """What was said before the turn that this state is about to ask for."""
        if state.asked <= self._told or state.asked >= len(self._steps):
            return ()
        self._told = state.asked
        told = self._steps[state.asked].told
        return (told,) if told else ()


def seen_once(recording: Recording) -> Recording:
    """The recording with tools whose large results are seen whole once, but for those that are always whole."""
    known = {c.name: c for c in _cards(recording)}
    called = (c.name for step in recording.steps for c in blocks.calls(step.reply))
    cards = (known.get(name) or ToolCard(name=name, effect="read") for name in dict.fromkeys([*known, *called]))
    once = tuple(c if c.facts == "keep" else c.model_copy(update={"facts": "see_once"}) for c in cards)
    return recording._replace(cards=once)


def started(recording: Recording, session_id: str, card: ModelCard, policies: Json) -> SessionStarted:
    """The first line of a recording's log, as this model's session under these policies."""
    prefix = Prefix(model=card.id, system=recording.system, tools=recording.tools)
    return SessionStarted(
        session_id=session_id,
        agent="recording",
        prefix=prefix,
        prefix_digest=wire.prefix_digest(prefix),
        card=card,
        tools=_cards(recording),
        policies=policies,
        limits=Limits(max_turns=len(recording.steps), max_tokens=card.max_output_tokens),
        played_by=f"recording:{recording.id}",
        agentloop=__version__,
        left_out=recording.left_out,
    )


def _cards(recording: Recording) -> tuple[ToolCard, ...]:
    """What the tools declared, as far as it matters to a recording: no effect, and no cheap model, whose words nobody knows."""
    known = {c.name: c.model_copy(update={"effect": "read", "facts_card": None}) for c in recording.cards}
    names = dict.fromkeys([*(str(t["name"]) for t in recording.tools), *known])
    return tuple(known.get(name) or ToolCard(name=name, effect="read") for name in names)
