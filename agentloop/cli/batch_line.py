"""The progress line of a batch run: a bar of rows, batches under way, dollars."""

from agentloop.batch_calls import Standing
from agentloop.batching.state import BatchState
from agentloop.cli.rewritten import RewrittenLine

WIDTH = 24


class ProgressLine:
    """Rewrites one line after each event, and after each look at a batch."""

    def __init__(self, wanted: bool) -> None:
        """Speak only if wanted, and only to a terminal."""
        self._line = RewrittenLine(wanted)
        self._said = ""

    def __call__(self, state: BatchState, standing: Standing | None) -> None:
        """Show where the run stands."""
        if standing is not None:
            self._said = standing.status.replace("_", " ")
        if self._line.is_on:
            self._line.show(told(state, self._said))

    def done(self) -> None:
        """Leave the terminal as it was."""
        self._line.done()


def told(state: BatchState, said: str) -> str:
    """A bar of the rows that have a result, and what they cost."""
    share = len(state.items) / state.prepared.rows
    bar = "█" * int(share * WIDTH) + "░" * (WIDTH - int(share * WIDTH))
    batches = sum(p.is_open for p in state.parts.values())
    parts = [f"{bar} {len(state.items):,}/{state.prepared.rows:,}", f"{batches} under way", said, f"${state.spent_usd:.4f}"]
    return " · ".join(p for p in parts if p)
