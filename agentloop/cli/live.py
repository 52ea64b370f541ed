"""The live line: turn, tokens, cache share, dollars, budget left. On standard error, and only where a person looks."""

import sys

from agentloop.core.state import State
from agentloop.types.events import Event, ModelReplied, ToolFinished, ToolStarted
from agentloop.types.leaves import DELEGATE


class LiveLine:
    """An observer that rewrites one line after each reply."""

    def __init__(self, wanted: bool) -> None:
        """Speak only if wanted, and only to a terminal."""
        self._on = wanted and sys.stderr.isatty()
        self._width = 0

    def __call__(self, event: Event, state: State) -> None:
        """Show where the session stands."""
        if not self._on or (said := _said(event, state)) is None:
            return
        parts = [*said, f"${state.spent_usd:.4f}"]
        if state.leaves_usd:
            parts[-1] += f" (${state.leaves_usd:.4f} by leaves)"
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


def _said(event: Event, state: State) -> list[str] | None:
    """What there is to say of an event; None where it is nothing."""
    match event.body:
        case ModelReplied(reply=reply):
            usage = reply.usage
            share = usage.cache_read_input_tokens / usage.prompt_tokens if usage.prompt_tokens else 0.0
            return [f"turn {state.asked}", f"{usage.prompt_tokens:,} tokens", f"{share:.0%} cached"]
        case ToolStarted(name=name) if name == DELEGATE:
            return [f"turn {state.asked}", "leaves at work"]
        case ToolFinished(leaves=tuple(leaves)):
            return [f"turn {state.asked}", f"{len(leaves)} leaves back"]
        case _:
            return None
