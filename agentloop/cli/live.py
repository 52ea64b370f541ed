"""The live line: turn, tokens, cache share, dollars, budget left. On standard error, and only where a person looks."""

import sys

from agentloop.core.state import State
from agentloop.types.events import Event, ModelReplied


class LiveLine:
    """An observer that rewrites one line after each reply."""

    def __init__(self, wanted: bool) -> None:
        """Speak only if wanted, and only to a terminal."""
        self._on = wanted and sys.stderr.isatty()
        self._width = 0

    def __call__(self, event: Event, state: State) -> None:
        """Show where the session stands."""
        if not self._on or not isinstance(event.body, ModelReplied):
            return
        usage = event.body.reply.usage
        share = usage.cache_read_input_tokens / usage.prompt_tokens if usage.prompt_tokens else 0.0
        parts = [f"turn {state.asked}", f"{usage.prompt_tokens:,} tokens", f"{share:.0%} cached", f"${state.spent_usd:.4f}"]
        if state.limits.max_budget_usd is not None:
            parts.append(f"${state.limits.max_budget_usd - state.spent_usd:.2f} left")
        line = " · ".join(parts)
        sys.stderr.write(f"\r{line.ljust(self._width)}")
        sys.stderr.flush()
        self._width = len(line)

    def done(self) -> None:
        """Leave the terminal as it was."""
        if self._on and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
