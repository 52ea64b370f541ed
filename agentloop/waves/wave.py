"""Sessions that run side by side, each through the ordinary engine, and a coordinator that answers them together.

Every session has a thread of its own and a `Seat`, its `ModelClient`. Whoever asks waits in its seat; when nobody is busy any
more, or those that wait have waited long enough, the coordinator puts what they ask into one batch, or lets them ask live.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from queue import LifoQueue, SimpleQueue
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

MOST_BATCHES = 2
"""An item that so many batches did not answer is asked live."""
HELD_S = 0.05
"""Seconds after which it is looked again whether a prefix is written for which others wait."""
QUICK_S, SLOW_S = 0.05, 1.0
"""Seconds that a session has for itself before the next one is answered; and those that sessions which take longer may take
away from one batch in all."""
Pause = Callable[[threading.Condition, float], object]


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


class Stopped(Exception):
    """The coordinator has given up: no session is answered any more."""


@dataclass
class Question:
    """One request that a session waits with."""

    session_id: str
    body: bytes
    since: float
    """Seconds of the monotonic clock."""
    tries: int = 0
    """Batches that did not answer it."""
    reply: "SimpleQueue[Reply | Failure | BaseException | None]" = field(default_factory=SimpleQueue)
    """None: ask live."""

    @property
    def key(self) -> Key:
        """Who wants what answered."""
        return self.session_id, wire.digest(self.body)


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
        self._flights, self._journal, self._clock = flights, journal, clock
        self._card_of, self._pause = card_of, pause or threading.Condition.wait
        self._rules = rules or Rules()
        self._books = Books(self._rules.course, card, own_cards)
        self._clients: LifoQueue[ModelClient | None] = LifoQueue()
        for _ in range(self._rules.live_at_once):
            self._clients.put(None)
        self._new_client = live
        self._changed = threading.Condition()
        self._waiting: dict[str, Question] = {}
        self._flying: dict[Key, Question] = {}
        self._left = 0
        """Sessions that are not over."""
        self._stopped: BaseException | None = None
        self._told_to_stop: BaseException | None = None
        self._is_cancelled = False

    def run(self, sessions: Mapping[str, Callable[[ModelClient], object]]) -> dict[str, "Future[object]"]:
        """Run these sessions, each by its function, to their ends. What each returned or raised is in its future."""
        self._flights.find_lost()
        self._left = len(sessions)
        with ThreadPoolExecutor(max(1, min(len(sessions), self._rules.sessions_at_once)), "session") as pool:
            futures = {i: pool.submit(self._session, i, play) for i, play in sessions.items()}
            try:
                while self._left:
                    self._step()
            except BaseException as e:
                self._stop(e, list(futures.values()))
                raise
        return futures

    def stop(self, why: BaseException) -> None:
        """Let `run` raise this, soon, and every session end as interrupted. For any thread."""
        with self._changed:
            self._told_to_stop = why
            self._changed.notify_all()

    def _session(self, session_id: str, play: Callable[[ModelClient], object]) -> object:
        try:
            return play(Seat(self, session_id))
        finally:
            with self._changed:
                self._left -= 1
                self._changed.notify_all()

    # what seats call

    def rejoins(self, key: Key) -> bool:
        """Whether nothing of this has to be paid for twice."""
        return self._flights.has(key)

    def asked(self, session_id: str, body: bytes, tries: int) -> Reply | Failure | BaseException | None:
        """The answer to one request, when there is one; None where the session is to ask live itself."""
        question = Question(session_id, body, self._clock.monotonic(), tries)
        with self._changed:
            if self._stopped is not None:
                return _told(self._stopped)
            self._waiting[session_id] = question
            if self._is_quiet or len(self._waiting) == 1:
                self._changed.notify_all()
        return question.reply.get()

    def live(self, session_id: str, body: bytes) -> Iterator[Failure | Reply]:
        """The attempts for one request, asked live by the session's own thread, so many at a time."""
        client = self._clients.get()
        at = self._clock.now()
        try:
            client = client or self._new_client()
            for said in client.ask(body):
                if isinstance(said, Reply):
                    with self._changed:
                        self._books.replied(session_id, body, said, at)
                        self._books.answered(body, said, at)
                yield said
        finally:
            self._clients.put(client)
            with self._changed:
                self._books.answered(body, None, at)

    # what the coordinator does

    def _step(self) -> None:
        """Wait until there is something to do, and do it."""
        if self._told_to_stop is not None:
            raise self._told_to_stop
        questions = self._gathered()
        if questions:
            self._answer(questions)
        try:
            if self._past_deadline() and self._flying and not self._is_cancelled:
                self._is_cancelled = True
                self._flights.cancel()
            for landed in self._flights.look():
                self._hand_out(landed)
        except BatchCallFailed as e:
            self._give_up(e)

    @property
    def _is_quiet(self) -> bool:
        """Whether every session that runs waits for the model."""
        return len(self._waiting) + len(self._flying) >= min(self._left, self._rules.sessions_at_once)

    def _gathered(self) -> list[Question]:
        """The requests of those that wait, once nobody is busy any more or they have waited long enough."""
        with self._changed:
            since = next((q.since for q in self._waiting.values()), None)
            left_s = None if since is None else since + self._rules.gather_s - self._clock.monotonic()
            if left_s is not None and (self._is_quiet or left_s <= 0):
                taken = [q for q in self._waiting.values() if not self._books.is_held(q.body)]
                for question in taken:
                    del self._waiting[question.session_id]
                if taken:
                    return sorted(taken, key=lambda q: q.session_id)
            if self._told_to_stop is not None:
                return []
            look_s = self._flights.next_look_s()
            if look_s is not None and self._is_quiet:
                self._pause(self._changed, look_s)
            elif look_s != 0 and self._left:
                limits = [s for s in (look_s, left_s) if s is not None and s > 0]
                self._changed.wait(min(limits, default=HELD_S))
            return []

    def _answer(self, questions: Sequence[Question]) -> None:
        """Each goes its way: into a batch, live, or to the batch that has it already."""
        batch: dict[Key, Question] = {}
        live: list[Question] = []
        sharing = together(q.body for q in questions)
        for question in questions:
            key = question.key
            if self._flights.joined(key):
                self._flying[key] = question
            elif self._is_held(question):
                continue
            elif self._goes_live(question, sharing[head(question.body)]):
                live.append(question)
            else:
                batch[key] = question
        self._flying |= batch
        for question in live:
            question.reply.put(None)
        if batch:
            self._send(batch, len(live))

    def _send(self, batch: dict[Key, Question], live: int) -> None:
        """Into one batch; live, where none can be made."""
        try:
            self._flights.send({key: q.body for key, q in batch.items()}, live, self._books.hits.share)
        except BatchCallFailed:  # the wave's log says why
            self._books.hits.landed()
            for key in batch:
                self._flying.pop(key).reply.put(None)

    def _is_held(self, question: Question) -> bool:
        """Whether it has to wait on, for another one to write its prefix."""
        with self._changed:
            if not self._books.is_held(question.body):
                return False
            self._waiting[question.session_id] = question
            return True

    def _goes_live(self, question: Question, sharing: int) -> bool:
        if question.tries >= MOST_BATCHES or self._past_deadline():
            return True
        with self._changed:
            if self._books.primes(question.session_id, question.body, sharing):
                return self._rules.primes == "live"
            return self._books.chosen(question.session_id, question.body, self._clock.now()).way == "live"

    def _past_deadline(self) -> bool:
        return self._rules.deadline is not None and self._clock.now() >= self._rules.deadline

    def _hand_out(self, landed: Landed) -> None:
        shares: list[Decimal] = []
        replies: list[tuple[Key, Reply | Failure]] = []
        for key, result in landed.results.items():
            question = self._flying[key]
            said = answer(result, question.body, self._card_of)
            replies.append((key, said))
            reply = said if isinstance(said, Reply) else None
            with self._changed:
                share = self._books.replied(question.session_id, question.body, reply, landed.at) if reply else None
                self._books.answered(question.body, reply, landed.at)
            shares += [share] if share is not None else []
        self._books.hits.landed()
        if shares:
            mean = round(sum(shares, Decimal(0)) / len(shares), 4)
            self._journal.append(HitsMeasured(number=landed.number, items=len(shares), share=mean))
        self._let_go_on(replies)

    def _let_go_on(self, replies: Sequence[tuple[Key, Reply | Failure]]) -> None:
        """Hand each session its answer, and leave the processor to it while it is quick: a thousand that wake up at once are
        in each other's way."""
        slow_s = 0.0
        with self._changed:
            for key, said in replies:
                self._flying.pop(key).reply.put(said)
                if slow_s < SLOW_S and not self._changed.wait_for(lambda: self._is_quiet, QUICK_S):
                    slow_s += QUICK_S

    def _give_up(self, e: BatchCallFailed) -> None:
        """The API does not say for good how its batches stand: whoever waits for one is told, and can be resumed."""
        kind = {"unauthorized": "unauthorized", "spend_limit": "spend_limit"}.get(e.trouble, "unavailable")
        failure = Failure.model_validate({"kind": kind, "error_type": e.error_type or e.trouble, "message": e.message})
        flying, self._flying = self._flying, {}
        self._flights.let_go()
        self._books.hits.landed()
        for question in flying.values():
            self._books.answered(question.body, None, self._clock.now())
            question.reply.put(failure)

    def _stop(self, why: BaseException, futures: Sequence["Future[object]"]) -> None:
        """No session is answered any more: each ends as interrupted, and can be resumed."""
        for future in futures:
            future.cancel()
        with self._changed:
            self._stopped = why
            left = [*self._waiting.values(), *self._flying.values()]
            self._waiting, self._flying = {}, {}
        for question in left:
            question.reply.put(_told(why))


def _told(why: BaseException) -> BaseException:
    """What is raised in a session: each thread its own."""
    if isinstance(why, Interrupted):
        return Interrupted(why.signal)
    return Interrupted("SIGINT") if isinstance(why, KeyboardInterrupt) else Stopped(str(why))
