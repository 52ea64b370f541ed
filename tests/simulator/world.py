"""The world of a simulated session: a clock that jumps, a log that refuses, tools whose effects are counted, and a process
that may die wherever the code has a name for the place."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from agentloop.core.parking import SLEEP
from agentloop.crash_points import reached
from agentloop.errors import LogWriteFailed
from agentloop.ports import Answer, Wakes, never
from agentloop.testing import NOON
from agentloop.types.base import compact
from agentloop.types.blocks import Call
from agentloop.types.events import Body, Event, ToolFinished, ToolStarted, body_data
from agentloop.types.tools import ToolCard
from tests.simulator.chance import Chance, weighted


class Killed(BaseException):
    """The process is gone, from one line to the next."""


class Plan(NamedTuple):
    """How bad this world is."""

    kills: float
    """The chance that the process dies at a named place."""
    refusals: float
    """The chance that the disk refuses a line."""
    jumps: float
    """The chance that the wall clock jumps at a look."""
    failing: float
    """The chance that a request fails at first."""
    odd: float
    """The chance that the model does what it should not."""


def plan(chance: Chance) -> Plan:
    """A calm world, a bad one, or one that is bad in one respect."""
    calm = Plan(0, 0, 0, 0, 0.02)
    bad = Plan(0.03, 0.02, 0.05, 0.25, 0.25)
    kinds = [calm, bad, calm._replace(kills=0.06), calm._replace(refusals=0.06), calm._replace(jumps=0.3)]
    kinds += [calm._replace(failing=0.5), calm._replace(odd=0.5)]
    return weighted(chance.plan, [(k, 3 if k is bad else 1) for k in kinds])


class Clock:
    """Wall time that may jump in both directions, and monotonic time that never does."""

    def __init__(self, chance: Chance, jumps: float) -> None:
        self._chance, self._jumps = chance.faults, jumps
        self._wall, self._passed = NOON, 0.0

    def now(self) -> datetime:
        """The wall clock."""
        self.pass_(0.25)
        if self._jumps and self._chance.random() < self._jumps:
            self._wall += timedelta(seconds=self._chance.choice([-3_600, -5, 2, 400, 3_700, 30_000]))
        return self._wall

    def monotonic(self) -> float:
        """Seconds."""
        return self._passed

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self._wall += timedelta(seconds=seconds)
        self._passed += seconds

    def until(self, time: datetime) -> None:
        """Let time pass until the wall clock shows this."""
        self.pass_(max(0.0, (time - self._wall).total_seconds()) + 1)


class Disk:
    """A `Log` whose lines are bytes: what was appended is read back from them, as another process would."""

    def __init__(self, chance: Chance, refusals: float) -> None:
        self._chance, self._refusals = chance.faults, refusals
        self.lines: list[bytes] = []
        self.started: set[str] = set()
        self.finished: set[str] = set()
        """Calls whose intent, and whose answer, are durable."""
        self.closed = False
        """After a refusal nothing more can be written until somebody opens the log again."""

    def open(self) -> "Disk":
        """As a new process does."""
        self.closed = False
        return self

    def events(self) -> Iterator[Event]:
        """Every event, oldest first."""
        return (Event.model_validate_json(line) for line in tuple(self.lines))

    def append(self, body: Body, at: datetime) -> Event:
        """Write one more event. Raises LogWriteFailed."""
        assert len(self.lines) < 3_000, "the session does not end"
        reached("log.before_write")
        if self.closed or (self._refusals and self._chance.random() < self._refusals):
            self.closed = True
            raise LogWriteFailed("no space left")
        event = Event(seq=len(self.lines), at=at, body=body)
        self.lines.append(compact({"seq": event.seq, "at": at.isoformat(), "body": body_data(body)}))
        match body:
            case ToolStarted(call_id=call_id):
                self.started.add(call_id)
            case ToolFinished(call_id=call_id):
                self.finished.add(call_id)
            case _:
                pass
        reached("log.durable")
        return event


class Effect(NamedTuple):
    """Something that happened in the world outside."""

    tool: str
    key: str


CARDS = (
    ToolCard(name="crawl", effect="read", timeout_s=1_500, takes_s=1_200),
    ToolCard(name="look", effect="read", untrusted=True),
    ToolCard(name="mail", effect="once", outward=True),
    ToolCard(name="pay", effect="once"),
    ToolCard(name="put", effect="idempotent"),
    ToolCard(name=SLEEP, effect="read", facts="keep"),
)


class Tools:
    """A `ToolRunner` whose effects are counted where no process can forget them."""

    def __init__(self, chance: Chance, odd: float, done: list[Effect], disk: Disk, clock: Clock) -> None:
        self._chance, self._odd, self._done, self._disk, self._clock = chance.tools, odd, done, disk, clock
        self._cards = {c.name: c for c in CARDS}

    def card(self, name: str) -> ToolCard | None:
        """What the tool declared."""
        return self._cards.get(name)

    def invalid(self, call: Call) -> str | None:
        """Why a call cannot be run."""
        if call.name not in self._cards:
            return f"there is no tool named '{call.name}'"
        return None if isinstance(call.input, dict) else "the input must be a JSON object"

    def run(
        self, calls: Sequence[Call], idempotency_key: Callable[[Call], str], wakes_in_s: Wakes = never
    ) -> Iterator[Answer | None]:
        """The answers, in the order of the calls."""
        for call in calls:
            key = idempotency_key(call)
            assert call.id in self._disk.started, f"{call.id} runs, and its intent is not durable"
            reached("tool.starting")
            if self._cards[call.name].effect != "read":
                self._done.append(Effect(call.name, key))
            reached("tool.effected")
            yield from self._takes_its_time(self._cards[call.name].takes_s or 0.0, wakes_in_s)
            yield self._answer(call)

    def _takes_its_time(self, seconds: float, wakes_in_s: Wakes) -> Iterator[None]:
        """Let so much time pass, waking whoever wants to be woken meanwhile."""
        until = self._clock.monotonic() + seconds
        while (wakes := wakes_in_s()) is not None and self._clock.monotonic() + wakes < until:
            self._clock.pass_(wakes)
            yield None
        self._clock.pass_(max(0.0, until - self._clock.monotonic()))

    def _answer(self, call: Call) -> Answer:
        kind = weighted(self._chance, [("ok", 8), ("large", 1.5), ("error", 4 * self._odd), ("timeout", self._odd)])
        match kind:
            case "error":
                return Answer("OSError: it did not work", "error", 0.1)
            case "timeout":
                return Answer("no answer within 60 seconds; the call was given up", "timeout", 60.0)
            case "large":
                rows = [f"order W{n:04} of {self._chance.randint(1, 900)} EUR is open" for n in range(120)]
                return Answer("\n".join(rows), "ok", 0.2)
            case _:
                return Answer(f"{call.name} {self._chance.randint(0, 3)}", "ok", 0.1)


class Death:
    """Kills the process at named places, at random, so often and no more."""

    def __init__(self, chance: Chance, kills: float, most: int = 6) -> None:
        self._chance, self._kills, self._left = chance.faults, kills, most
        self.at: list[str] = []

    def __call__(self, place: str) -> None:
        """A place is reached."""
        if self._left and self._kills and self._chance.random() < self._kills:
            self._left -= 1
            self.at.append(place)
            raise Killed(place)
