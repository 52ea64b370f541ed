"""The progress line of a batch run: on standard error, and only where a person looks."""

import sys

from agentloop.batch_calls import Standing
from agentloop.batching.state import BatchState

WIDTH = 24


class ProgressLine:
    """Rewrites one line after each event, and after each look at a batch."""

    def __init__(self, wanted: bool) -> None:
        """Speak only if wanted, and only to a terminal."""
        self._on = wanted and sys.stderr.isatty()
        self._width = 0
        self._said = ""

    def __call__(self, state: BatchState, standing: Standing | None) -> None:
        """Show where the run stands."""
        if not self._on:
            return
        if standing is not None:
            self._said = standing.status.replace("_", " ")
        line = told(state, self._said)
        sys.stderr.write(f"\r{line.ljust(self._width)}")
        sys.stderr.flush()
        self._width = len(line)

    def done(self) -> None:
        """Leave the terminal as it was."""
        if self._on and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()


def told(state: BatchState, said: str) -> str:
    """A bar of the rows that have a result, and what they cost."""
    share = len(state.items) / state.prepared.rows
    bar = "█" * int(share * WIDTH) + "░" * (WIDTH - int(share * WIDTH))
    batches = sum(p.is_open for p in state.parts.values())
    parts = [f"{bar} {len(state.items):,}/{state.prepared.rows:,}", f"{batches} under way", said, f"${state.spent_usd:.4f}"]
    return " · ".join(p for p in parts if p)
