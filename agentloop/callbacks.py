"""A caller's callback, kept apart from the session that it is told of: it may raise, and it may never come back."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Queue
from typing import NamedTuple

from agentloop.core.state import State
from agentloop.engine.loop import Observer
from agentloop.types.events import Event

PATIENCE_S = 10.0
"""Seconds that a session waits for a callback, on the monotonic clock."""

Warn = Callable[[str, str], None]


@contextmanager
def isolated(told: Observer | None, warn: Warn, patience_s: float = PATIENCE_S) -> Iterator[Observer]:
    """An observer that tells this callback, for as long as the block runs. What it raises is a warning; Ctrl-C and
    `Interrupted` alone come through. One of agentloop's own (`own = True`) is trusted, and told in the session's thread."""
    if told is None or getattr(told, "own", False):
        yield told or (lambda event, state: None)
        return
    apart = _Apart(told, warn, patience_s)
    try:
        yield apart
    finally:
        apart.close()


def one_by_one(told: Observer) -> Observer:
    """The same for any thread: whoever comes second waits."""
    lock = threading.Lock()

    def tell(event: Event, state: State) -> None:
        with lock:
            told(event, state)

    return tell


class _Told(NamedTuple):
    event: Event
    state: State
    done: threading.Event


class _Apart:
    """The callback in a thread of its own, told of everything in order. Where it does not come back, the session goes on
    without it, and what it has not heard yet is kept for it."""

    def __init__(self, told: Observer, warn: Warn, patience_s: float) -> None:
        self._told, self._warn, self._patience_s = told, warn, patience_s
        self._queue: Queue[_Told | None] = Queue()
        self._late = False
        """Whether it is still busy with something that it was told before."""
        self._last = threading.Event()
        self._last.set()
        self._interrupt: BaseException | None = None
        self._thread = threading.Thread(target=self._tell, name="agentloop callback", daemon=True)
        self._thread.start()

    def __call__(self, event: Event, state: State) -> None:
        """Tell it of one more event, and wait until it knows, if that is soon."""
        self._late = not self._last.is_set()
        news = _Told(event, state, threading.Event())
        self._last = news.done
        self._queue.put(news)
        if not self._late and not news.done.wait(self._patience_s):
            self._warn("callback_late", f"it was told of event {event.seq} and has not come back; the session goes on")
        if (stop := self._interrupt) is not None:
            self._interrupt = None
            raise stop

    def close(self) -> None:
        """Tell it the rest, and let its thread end; one that hangs is left behind with the process."""
        self._queue.put(None)
        self._thread.join(self._patience_s if not self._late or self._last.is_set() else 0.0)

    def _tell(self) -> None:
        while (news := self._queue.get()) is not None:
            try:
                self._told(news.event, news.state)
            except Exception as e:  # noqa: BLE001  whatever a callback does, the turn is committed
                self._warn("callback_failed", f"{type(e).__name__}: {e}")
            except BaseException as e:  # noqa: BLE001  a request to stop: raised in the session's own thread
                self._interrupt = e
            finally:
                news.done.set()
