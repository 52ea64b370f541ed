"""The batches of a wave that are under way, or whose answers a session may still want: made, found again, looked at.

What is about to be asked is in the wave's log before a batch is made. A batch of which nobody knows whether it was made is
looked for among those of the API by its time and size; that it is ours, its results say, by their custom ids.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from agentloop.batch_calls import BatchCallFailed, BatchClient, Standing, body_of
from agentloop.batch_life import Batches, Limits, Sent, candidates, parted
from agentloop.core import wire
from agentloop.crash_points import reached
from agentloop.ports import Clock
from agentloop.types.base import Json, compact
from agentloop.waves.journal import AskedLive, BatchEnded, BatchIntended, BatchMade, BatchMissed, Item, Journal

STREAMS = b',"stream":true}'
"""How the body of a request ends whose answer may come as a stream (`core/wire.py`); in a batch it may not."""
LOOKS, LOOK_EVERY_S = 3, 5.0
"""How often a batch of which nobody knows is looked for, and the seconds in between."""
BEFORE = timedelta(hours=1)
"""By how much our clock may be ahead of the API's."""
AROUND_IT = 100
"""Bytes of a line of a batch besides the body of the request, at most."""
SOONEST_S, LATEST_S = 1.0, 60.0
"""Seconds between two looks at a batch: a tenth of its age, within these bounds."""
Key = tuple[str, str]
"""Session id and digest of the body: who wants what answered."""


@dataclass
class Flight:
    """One batch."""

    intended: BatchIntended
    batch_id: str
    look_at: float = 0.0
    """When it is looked at next, in seconds of the monotonic clock."""
    made_at: float = 0.0
    has_ended: bool = False
    """As the wave's log says: its answers were handed out once."""
    is_ours: bool = True
    """False: it was found by its time and size, and may be somebody else's."""
    is_cancelled: bool = False
    wanted: dict[str, Key] = field(default_factory=dict)
    """Custom ids of the items that a session waits for."""


class Landed(NamedTuple):
    """What one batch brought for the sessions that waited for it; None: nothing, and they have to ask again."""

    number: int
    at: datetime
    """When it was made."""
    results: dict[Key, Json | None]


class Flights:
    """The batches of one wave. For the coordinator's thread alone."""

    def __init__(self, client: BatchClient, journal: Journal, clock: Clock, sleep: Callable[[float], None], tag: str) -> None:
        """Take up what the journal holds. `tag` begins every custom id that is made here: nobody else's does."""
        self._client, self._journal, self._clock, self._sleep, self._tag = client, journal, clock, sleep, tag
        self._by_number: dict[int, Flight] = {}
        self._answers: dict[Key, tuple[int, str]] = {}
        self._never_sent: set[Key] = set()
        self._batched: set[Key] = set()
        """Requests that stood in a batch, or were about to, and were not asked live since."""
        self._number = 0
        for line in journal.lines:
            self._take_up(line)

    def _take_up(self, line: object) -> None:
        match line:
            case BatchIntended(number=number):
                self._number = number
                self._by_number[number] = Flight(line, "")
                self._batched |= {(i.session_id, i.digest) for i in line.items}
            case BatchMade(number=number, batch_id=batch_id, found_again=found_again):
                flight = self._by_number[number]
                flight.batch_id, flight.is_ours = batch_id, not found_again
                self._answers |= {(i.session_id, i.digest): (number, i.custom_id) for i in flight.intended.items}
            case BatchMissed(number=number):
                flight = self._by_number[number]
                if not flight.batch_id:
                    self._never_sent |= {(i.session_id, i.digest) for i in flight.intended.items}
                self._drop(number)
            case AskedLive(requests=requests):
                for key in requests:
                    self._answers.pop(key, None)
                self._never_sent.difference_update(requests)
                self._batched.difference_update(requests)
            case BatchEnded(number=number):
                self._by_number[number].has_ended = True

    def _drop(self, number: int) -> None:
        flight = self._by_number.pop(number, None)
        for item in flight.intended.items if flight else ():
            if self._answers.get((item.session_id, item.digest), (0,))[0] == number:
                del self._answers[item.session_id, item.digest]

    def find_lost(self) -> None:
        """Look for the batches that were about to be made when a process died. Raises BatchCallFailed."""
        for flight in [f for f in self._by_number.values() if not f.batch_id]:
            self._look_for(flight.intended, "the process ended before it was known whether the batch was made")

    def has(self, key: Key) -> bool:
        """Whether a batch that is there answers this, or was about to and was never made: then nothing of it was billed yet.
        For any thread."""
        return key in self._answers or key in self._never_sent

    def joined(self, key: Key) -> bool:
        """Whether a batch that is there answers this: then it is waited for, and not asked again."""
        if key not in self._answers:
            return False
        number, custom_id = self._answers[key]
        self._by_number[number].wanted[custom_id] = key
        return True

    def leave(self, keys: Iterable[Key]) -> None:
        """These are about to be asked live: if the process dies meanwhile, nobody knows whether that was billed."""
        known = tuple(key for key in keys if key in self._batched)
        if known:
            line = AskedLive(requests=known)
            self._journal.append(line)
            self._take_up(line)

    def send(self, bodies: dict[Key, bytes], live: int = 0, hits: Decimal | None = None) -> None:
        """Put these requests into one batch, or more where they are too many for one. `live` others are asked live; `hits` is
        the share that is expected. Raises BatchCallFailed."""
        for keys in parted(((key, len(body) + AROUND_IT) for key, body in bodies.items()), Limits()):
            self._number += 1
            items = tuple(
                Item(custom_id=f"{self._tag}-{self._number}-{i}", session_id=key[0], digest=key[1])
                for i, key in enumerate(keys)
            )
            intended = BatchIntended(number=self._number, items=items, at=self._clock.now(), live=live, hits=hits)
            self._journal.append(intended)
            reached("wave.intended")
            self._take_up(intended)
            lines = [_line(item.custom_id, bodies[key]) for item, key in zip(items, keys, strict=True)]
            self._make(intended, body_of(lines))
            for key in keys:
                self.joined(key)

    def _make(self, intended: BatchIntended, body: bytes) -> None:
        try:
            made = self._client.create(body)
        except BatchCallFailed as e:
            if e.trouble != "unknown":
                self._miss(intended.number, e.message)
                raise
            self._look_for(intended, e.message)
            if intended.number not in self._by_number:
                raise
            return
        reached("wave.submitted")
        self._made(intended, made, found_again=False)

    def _made(self, intended: BatchIntended, batch: Standing, found_again: bool) -> None:
        line = BatchMade(number=intended.number, batch_id=batch.id, found_again=found_again)
        self._journal.append(line)
        reached("wave.made")
        self._take_up(line)
        flight = self._by_number[intended.number]
        flight.made_at = self._clock.monotonic()
        flight.look_at = flight.made_at + SOONEST_S

    def _miss(self, number: int, reason: str) -> None:
        line = BatchMissed(number=number, reason=reason)
        self._journal.append(line)
        self._take_up(line)

    def _look_for(self, intended: BatchIntended, reason: str) -> None:
        """Find the batch that was made of this, if it was."""
        for look in range(LOOKS):
            if (found := self._candidate(intended)) is not None:
                self._made(intended, found, found_again=True)
                return
            if look < LOOKS - 1:
                self._sleep(LOOK_EVERY_S)
        self._miss(intended.number, reason)

    def _candidate(self, intended: BatchIntended) -> Standing | None:
        """A batch of the right size and time that is not known to be another one."""
        others = frozenset(line.batch_id for line in self._journal.lines if isinstance(line, BatchMade))
        found = candidates(self._client, Sent(intended.at, len(intended.items), others), BEFORE)
        ours = {item.custom_id for item in intended.items}
        return next((batch for batch in found if not self._is_anothers(batch, ours)), None)

    def _is_anothers(self, batch: Standing, ours: set[str]) -> bool:
        """Whether it has ended, and its results tell that it is somebody else's."""
        if not batch.has_ended:
            return False
        try:
            with closing(self._client.results(batch.id)) as lines:
                first = next(lines, None)
        except BatchCallFailed:
            return False
        return first is not None and first.get("custom_id") not in ours

    @property
    def wanted(self) -> list[Flight]:
        """The batches that a session waits for."""
        return [f for f in self._by_number.values() if f.wanted]

    def next_look_s(self) -> float | None:
        """Seconds until the next batch is looked at; None where no session waits for one."""
        due = min((f.look_at for f in self.wanted), default=None)
        return None if due is None else max(0.0, round(due - self._clock.monotonic(), 3))

    def look(self) -> Iterator[Landed]:
        """What the batches brought that have ended by now, for the sessions that wait: each before the next one is looked at,
        which may fail. Raises BatchCallFailed."""
        now = self._clock.monotonic()
        for flight in [f for f in self.wanted if round(f.look_at - now, 3) <= 0]:
            if results := self._looked_at(flight, now):
                yield Landed(flight.intended.number, flight.intended.at, results)

    def _looked_at(self, flight: Flight, now: float) -> dict[Key, Json | None]:
        batches = Batches(self._client, self._clock.now, self._sleep)
        try:
            batch = self._client.retrieve(flight.batch_id)
            if batches.is_overdue(batch):
                return self._gone(flight, f"batch {flight.batch_id} expired long ago and is still '{batch.status}'")
            if not batch.has_ended:
                age = now - flight.made_at if flight.made_at else LATEST_S
                flight.look_at = now + min(LATEST_S, max(SOONEST_S, age / 10))
                return {}
            with batches.results(batch) as lines:
                results = {str(r.get("custom_id")): r.get("result") for r in lines}
        except BatchCallFailed as e:
            if e.trouble not in ("missing", "no_results"):
                raise
            return self._gone(flight, f"batch {flight.batch_id}: {e.message}")
        if not results.keys() & {i.custom_id for i in flight.intended.items}:
            return self._another(flight)
        return self._handed_out(flight, results)

    def _gone(self, flight: Flight, reason: str) -> dict[Key, Json | None]:
        """Its answers cannot be had: whoever waits asks again."""
        self._miss(flight.intended.number, reason)
        return dict.fromkeys(flight.wanted.values())

    def _another(self, flight: Flight) -> dict[Key, Json | None]:
        """A batch that was found again, and is somebody else's: look on; where there is none, whoever waits asks again."""
        wanted = tuple(flight.wanted.values())
        if (found := self._candidate(flight.intended)) is not None:
            self._made(flight.intended, found, found_again=True)
            return {}
        self._miss(flight.intended.number, f"batch {flight.batch_id} is another one")
        return dict.fromkeys(wanted)

    def _handed_out(self, flight: Flight, results: dict[str, Json | None]) -> dict[Key, Json | None]:
        reached("wave.answered")
        if not flight.has_ended:
            outcomes: dict[str, int] = {}
            for item in flight.intended.items:
                kind = str((results.get(item.custom_id) or {}).get("type") or "missing")
                outcomes[kind] = outcomes.get(kind, 0) + 1
            took_s = round(max(0.0, (self._clock.now() - flight.intended.at).total_seconds()), 3)
            line = BatchEnded(number=flight.intended.number, outcomes=outcomes, took_s=took_s)
            self._journal.append(line)
            self._take_up(line)
        found = {key: results.get(custom_id) for custom_id, key in flight.wanted.items()}
        for key in found:
            self._answers.pop(key, None)
        flight.wanted.clear()
        return found

    def let_go(self) -> None:
        """No session waits for any batch any more."""
        for flight in self.wanted:
            flight.wanted.clear()

    def cancel(self) -> None:
        """Let nothing further start: what is done stays, the rest comes back unanswered. A batch that may be somebody else's
        goes on. Raises BatchCallFailed."""
        for flight in [f for f in self.wanted if f.is_ours and not f.has_ended and not f.is_cancelled]:
            flight.is_cancelled = True
            try:
                self._client.cancel(flight.batch_id)
            except BatchCallFailed as e:
                if e.trouble not in ("refused", "missing"):  # it has ended meanwhile, or is gone: there is nothing to cancel
                    raise
            flight.look_at = self._clock.monotonic() + SOONEST_S


def tag(wave_id: str, started: datetime) -> str:
    """What begins the custom ids of a wave: safe, and no other wave's."""
    return "w" + wire.digest(compact([wave_id, started.isoformat()]))[:16]


def _line(custom_id: str, body: bytes) -> bytes:
    """One request of a batch: the very bytes of the body, without the wish for a stream."""
    return b'{"custom_id":' + compact(custom_id) + b',"params":' + body.removesuffix(STREAMS) + b"}}"
