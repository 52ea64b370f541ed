"""Where sessions wait for answers: each in its seat, with one question; and how the coordinator sees and answers them.

Every session has a thread of its own. What it asks is put into the room and waits there, first to be taken, then in a batch
that is under way; whoever has its answer goes on.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from agentloop.core import wire
from agentloop.engine.recovery import Interrupted
from agentloop.types.request import Failure, Reply
from agentloop.waves.flights import Key

Said = Reply | Failure | BaseException | None
"""What a session hears: an answer, what ends it, or None: ask live."""
QUICK_S, SLOW_S = 0.05, 1.0
"""Seconds that a session has for itself before the next one is answered; and those that sessions which take longer may take
away from one batch in all."""


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
    reply: "SimpleQueue[Said]" = field(default_factory=SimpleQueue)
    key: Key = field(init=False)
    """Who wants what answered."""

    def __post_init__(self) -> None:
        """The digest is the asking thread's work."""
        self.key = self.session_id, wire.digest(self.body)


class Room:
    """Everyone who waits. Each method is for any thread."""

    def __init__(self, at_once: int) -> None:
        """So many sessions run at a time."""
        self.changed = threading.Condition()
        """Notified when there may be something to do."""
        self._at_once = at_once
        self._waiting: dict[str, Question] = {}
        self._flying: dict[Key, Question] = {}
        self._open: dict[str, Question] = {}
        """All that have no answer, wherever they are: one that the coordinator has just taken is in neither of the others."""
        self._left = 0
        self._stopped: BaseException | None = None

    # what sessions do

    def ask(self, question: Question) -> Said:
        """Wait for the answer."""
        with self.changed:
            if self._stopped is not None:
                return _told(self._stopped)
            self._waiting[question.session_id] = self._open[question.session_id] = question
            if self.is_quiet or len(self._waiting) == 1:
                self.changed.notify_all()
        said = question.reply.get()
        del self._open[question.session_id]
        return said

    def leave(self) -> None:
        """A session is over."""
        with self.changed:
            self._left -= 1
            self.changed.notify_all()

    # what the coordinator does

    def expect(self, sessions: int) -> None:
        """So many sessions will come."""
        self._left = sessions

    @property
    def left(self) -> int:
        """Sessions that are not over."""
        return self._left

    @property
    def is_quiet(self) -> bool:
        """Whether every session that runs waits for the model."""
        return len(self._waiting) + len(self._flying) >= min(self._left, self._at_once)

    @property
    def has_flying(self) -> bool:
        """Whether anybody waits for a batch."""
        return bool(self._flying)

    def waits_since(self) -> float | None:
        """When the one that has waited longest came; None where nobody waits to be taken."""
        return next((q.since for q in self._waiting.values()), None)

    def take(self, may_go: Callable[[Question], bool]) -> list[Question]:
        """Those that may go, out of the room, by session."""
        with self.changed:
            taken = sorted((q for q in self._waiting.values() if may_go(q)), key=lambda q: q.session_id)
            for question in taken:
                del self._waiting[question.session_id]
            return taken

    def put_back(self, question: Question) -> None:
        """It waits on."""
        with self.changed:
            self._waiting[question.session_id] = question

    def fly(self, questions: Iterable[Question]) -> None:
        """Batches have these, or are about to."""
        with self.changed:
            self._flying |= {q.key: q for q in questions}

    def flying(self, key: Key) -> Question:
        """The question that a batch has."""
        return self._flying[key]

    def land(self, keys: Iterable[Key] | None = None, said: Said = None) -> Sequence[Question]:
        """What batches were to answer (None: all of it) is answered so. Returns whose questions that were."""
        with self.changed:
            landed = [self._flying.pop(key) for key in list(self._flying if keys is None else keys)]
        for question in landed:
            question.reply.put(said)
        return landed

    def hand_out(self, replies: Sequence[tuple[Key, Reply | Failure]]) -> None:
        """Hand each session its answer, and leave the processor to it while it is quick: a thousand that wake up at once are
        in each other's way."""
        slow_s = 0.0
        with self.changed:
            for key, said in replies:
                self._flying.pop(key).reply.put(said)
                if slow_s < SLOW_S and not self.changed.wait_for(lambda: self.is_quiet, QUICK_S):
                    slow_s += QUICK_S

    def stop(self, why: BaseException) -> None:
        """No session is answered any more: each ends as interrupted, and can be resumed."""
        with self.changed:
            self._stopped = why
            left = list(self._open.values())
            self._waiting, self._flying = {}, {}
        for question in left:
            question.reply.put(_told(why))


def _told(why: BaseException) -> BaseException:
    """What is raised in a session: each thread its own."""
    if isinstance(why, Interrupted):
        return Interrupted(why.signal)
    return Interrupted("SIGINT") if isinstance(why, KeyboardInterrupt) else Stopped(str(why))
