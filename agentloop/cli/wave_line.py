"""The progress line of a wave: sessions that are over, replies, dollars."""

import threading
import time
from decimal import Decimal

from agentloop.cli.rewritten import RewrittenLine
from agentloop.core.state import State
from agentloop.types.events import Event

EVERY_S = 0.1
"""Seconds between two writings of the line, at least: a thousand sessions tell more than anybody reads."""


class WaveLine:
    """An observer of all sessions of a wave. For any thread."""

    own = True

    def __init__(self, wanted: bool, sessions: int) -> None:
        """Speak only if wanted, and only to a terminal."""
        self._line, self._sessions = RewrittenLine(wanted), sessions
        self._over: set[str] = set()
        self._stands: dict[str, tuple[int, Decimal]] = {}
        """By session: replies, and what was spent."""
        self._lock = threading.Lock()
        self._shown_at = 0.0

    def __call__(self, event: Event, state: State) -> None:
        """One session has taken a step."""
        if self._line.is_on:
            with self._lock:
                self._stands[state.session_id] = state.asked, state.spent_usd
                self._show()

    def over(self, session_id: str) -> None:
        """One session has stopped."""
        if self._line.is_on:
            with self._lock:
                self._over.add(session_id)
                self._show()

    def done(self) -> None:
        """Leave the terminal as it was."""
        with self._lock:
            self._line.done()

    def _show(self) -> None:
        now = time.monotonic()
        if now < self._shown_at + EVERY_S and len(self._over) < self._sessions:
            return
        self._shown_at = now
        replies = sum(asked for asked, _ in self._stands.values())
        spent = sum((usd for _, usd in self._stands.values()), Decimal(0))
        self._line.show(f"{len(self._over):,}/{self._sessions:,} sessions over · {replies:,} replies · ${spent:.4f}")
