"""Sessions that run side by side, each through the ordinary engine, and a coordinator that answers them together.

Every session has a thread of its own and a `Seat`, its `ModelClient`. Whoever asks waits in the room (`room.py`); when nobody
is busy any more, or those that wait have waited long enough, the coordinator puts what they ask into one batch, or lets them
ask live.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from queue import LifoQueue
from typing import Literal, NamedTuple

from agentloop.batch_calls import BatchCallFailed
from agentloop.core import wire
from agentloop.engine.recovery import Interrupted
from agentloop.ports import Clock, ModelClient
from agentloop.types.request import Failure, Reply
from agentloop.types.usage import ModelCard
from agentloop.waves.answers import CardOf, answer
from agentloop.waves.bookkeeping import Books, head, together
from agentloop.waves.flights import STREAMS, Flights, Key, Landed
from agentloop.waves.journal import HitsMeasured, Journal
from agentloop.waves.policy import Course
from agentloop.waves.room import Question, Room, Stopped

__all__ = ["Pause", "Rules", "Seat", "Stopped", "Wave"]

MOST_BATCHES = 2
"""An item that so many batches did not answer is asked live."""
HELD_S, LOOK_S = 0.05, 1.0
"""Seconds after which it is looked again whether a prefix is written for which others wait; whether anybody wants an end."""
Pause = Callable[[threading.Condition, float], None]


class Rules(NamedTuple):
    """How a wave goes. Times in seconds."""

    course: Course = Course()
    gather_s: float = 10.0
    """So long those that wait for the model wait for those that are busy with something else."""
    deadline: datetime | None = None
    """From then on everything is asked live."""
    sessions_at_once: int = 1_000
    live_at_once: int = 8
    primes: Literal["live", "batch"] = "live"
    """How the first request of a shared prefix goes ahead: a batch takes longer, and writes it at half price."""
    stopped: Callable[[], str | None] = lambda: None
    """The signal for which the wave is to stop; None: it goes on. Batches under way are the next one's."""


class Seat:
    """A session's `ModelClient`: what it asks is answered with what the others ask, or live."""

    def __init__(self, wave: "Wave", session_id: str) -> None:
        """Ask for this session."""
        self._wave, self._session_id = wave, session_id

    def rejoins(self, digest: str) -> bool:
        """Whether a batch has the answer already: of a session that was asking when its process died."""
        return self._wave.rejoins((self._session_id, digest))

    def ask(self, body: bytes) -> Iterator[Failure | Reply]:
        """The attempts for one request body: items of batches that brought nothing, then the reply, or live ones."""
        tries = 0
        while body.endswith(STREAMS):  # what wants no answer (a ping, a prewarming) has no place in a batch
            said = self._wave.asked(self._session_id, body, tries)
            if said is None:
                break
            if isinstance(said, BaseException):
                if not self.rejoins(wire.digest(body)):
                    yield Failure(kind="interrupted", error_type="interrupted", message="stopped before it was asked")
                raise said
            yield said if isinstance(said, Reply) else said.model_copy(update={"attempt": tries + 1})
            if isinstance(said, Reply) or said.retry_in_s is None:
                return
            tries += 1
        yield from self._wave.live(self._session_id, body)


class Wave:
    """The coordinator of one run of sessions."""

    def __init__(
        self,
        live: Callable[[], ModelClient],
        flights: Flights,
        journal: Journal,
        clock: Clock,
        card: ModelCard,
        *,
        card_of: CardOf = lambda model: None,
        own_cards: Mapping[str, ModelCard] | None = None,
        rules: Rules | None = None,
        pause: Pause | None = None,
    ) -> None:
        """`live` makes a client for live calls; `card` is that of the sessions' model, `own_cards` has those of sessions with
        another one; `pause` lets time pass, or ends early where something has changed."""
        self._flights, self._journal, self._clock, self._card_of = flights, journal, clock, card_of
        self._pause, self._rules = pause or _waited, rules or Rules()
        self._room = Room(self._rules.sessions_at_once)
        self._books = Books(self._rules.course, card, own_cards, card_of)
        """Under the lock of the room."""
        self._clients: LifoQueue[ModelClient | None] = LifoQueue()
        for _ in range(self._rules.live_at_once):
            self._clients.put(None)
        self._new_client = live

    def run(self, sessions: Mapping[str, Callable[[ModelClient], object]]) -> dict[str, "Future[object]"]:
        """Run these sessions, each by its function, to their ends. What each returned or raised is in its future. Raises
        Interrupted where the rules say that it is to stop."""
        self._flights.find_lost()
        self._room.expect(len(sessions))
        with ThreadPoolExecutor(max(1, min(len(sessions), self._rules.sessions_at_once)), "session") as pool:
            futures: dict[str, Future[object]] = {}
            try:
                for session_id, play in sessions.items():
                    futures[session_id] = pool.submit(self._session, session_id, play)
                while self._room.left:
                    self._step()
            except BaseException as e:
                for future in futures.values():
                    future.cancel()
                self._room.stop(e)
                raise
        return futures

    def _session(self, session_id: str, play: Callable[[ModelClient], object]) -> object:
        try:
            return play(Seat(self, session_id))
        finally:
            self._room.leave()

    # what seats call

    def rejoins(self, key: Key) -> bool:
        """Whether nothing of this has to be paid for twice."""
        return self._flights.has(key)

    def asked(self, session_id: str, body: bytes, tries: int) -> Reply | Failure | BaseException | None:
        """The answer to one request, when there is one; None where the session is to ask live itself."""
        return self._room.ask(Question(session_id, body, self._clock.monotonic(), tries))

    def live(self, session_id: str, body: bytes) -> Iterator[Failure | Reply]:
        """The attempts for one request, asked live by the session's own thread, so many at a time."""
        client = self._clients.get()
        at = self._clock.now()
        try:
            client = client or self._new_client()
            for said in client.ask(body):
                if isinstance(said, Reply):
                    with self._room.changed:
                        self._books.replied(session_id, body, said, at)
                        self._books.answered(body, said, at)
                yield said
        finally:
            self._clients.put(client)
            with self._room.changed:
                self._books.answered(body, None, at)

    # what the coordinator does

    def _step(self) -> None:
        """Wait until there is something to do, and do it. Raises Interrupted."""
        if (signal := self._rules.stopped()) is not None:
            raise Interrupted(signal)
        questions = self._gathered()
        if questions:
            self._answer(questions)
        try:
            if self._past_deadline() and self._room.has_flying:
                self._flights.cancel()
            for landed in self._flights.look():
                self._hand_out(landed)
        except BatchCallFailed as e:
            self._give_up(e)

    def _gathered(self) -> list[Question]:
        """The requests of those that wait, once nobody is busy any more or they have waited long enough."""
        room = self._room
        with room.changed:
            since = room.waits_since()
            left_s = None if since is None else since + self._rules.gather_s - self._clock.monotonic()
            if left_s is not None and (room.is_quiet or left_s <= 0):
                taken = room.take(lambda q: not self._books.is_held(q.body))
                if taken:
                    return taken
            look_s = self._flights.next_look_s()
            if look_s is not None and room.is_quiet:
                self._pause(room.changed, look_s)
            elif look_s != 0 and room.left:
                limits = [s for s in (look_s, left_s) if s is not None and s > 0]
                _waited(room.changed, min(limits, default=HELD_S))
            return []

    def _answer(self, questions: Sequence[Question]) -> None:
        """Each goes its way: into a batch, live, or to the batch that has it already."""
        batch: list[Question] = []
        live: list[Question] = []
        sharing = together(q.body for q in questions)
        for question in questions:
            if self._flights.joined(question.key):
                self._room.fly([question])
            elif self._is_held(question):
                continue
            elif self._goes_live(question, sharing[head(question.body)]):
                live.append(question)
            else:
                batch.append(question)
        self._room.fly(batch)
        self._flights.leave(q.key for q in live)
        for question in live:
            question.reply.put(None)
        if batch:
            self._send({q.key: q.body for q in batch}, len(live))

    def _send(self, bodies: dict[Key, bytes], live: int) -> None:
        """Into one batch, or more where they are too many; live, where one cannot be made."""
        try:
            self._flights.send(bodies, live, self._books.hits.share)
        except BatchCallFailed:  # the wave's log says why
            self._books.hits.landed()
            left = [key for key in bodies if not self._flights.joined(key)]
            self._flights.leave(left)
            self._room.land(left)

    def _is_held(self, question: Question) -> bool:
        """Whether it has to wait on, for another one to write its prefix."""
        with self._room.changed:
            if not self._books.is_held(question.body):
                return False
            self._room.put_back(question)
            return True

    def _goes_live(self, question: Question, sharing: int) -> bool:
        if question.tries >= MOST_BATCHES or self._past_deadline():
            return True
        with self._room.changed:
            if self._books.primes(question.session_id, question.body, sharing):
                return self._rules.primes == "live"
            return self._books.chosen(question.session_id, question.body, self._clock.now()).way == "live"

    def _past_deadline(self) -> bool:
        return self._rules.deadline is not None and self._clock.now() >= self._rules.deadline

    def _hand_out(self, landed: Landed) -> None:
        """Every session gets what the batch has for it; what it found in the cache is measured."""
        shares: list[Decimal] = []
        replies: list[tuple[Key, Reply | Failure]] = []
        for key, result in landed.results.items():
            question = self._room.flying(key)
            said = answer(result, question.body, self._card_of)
            replies.append((key, said))
            reply = said if isinstance(said, Reply) else None
            with self._room.changed:
                share = self._books.replied(question.session_id, question.body, reply, landed.at) if reply else None
                self._books.answered(question.body, reply, landed.at)
            shares += [share] if share is not None else []
        self._books.hits.landed()
        if shares:
            mean = round(sum(shares, Decimal(0)) / len(shares), 4)
            self._journal.append(HitsMeasured(number=landed.number, items=len(shares), share=mean))
        self._room.hand_out(replies)

    def _give_up(self, e: BatchCallFailed) -> None:
        """The API does not say for good how its batches stand: whoever waits for one is told, and can be resumed."""
        kind = {"unauthorized": "unauthorized", "spend_limit": "spend_limit"}.get(e.trouble, "unavailable")
        failure = Failure.model_validate({"kind": kind, "error_type": e.error_type or e.trouble, "message": e.message})
        self._flights.let_go()
        self._books.hits.landed()
        at = self._clock.now()
        for question in self._room.land(said=failure):
            with self._room.changed:
                self._books.answered(question.body, None, at)


def _waited(changed: threading.Condition, seconds: float) -> None:
    changed.wait(min(seconds, LOOK_S))
