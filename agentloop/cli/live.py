"""The live line of a session: turn, tokens, cache share, dollars, budget left."""

import threading
from decimal import Decimal

from agentloop.cli.rewritten import RewrittenLine
from agentloop.core.state import State
from agentloop.types.events import Event, ModelReplied, ToolFinished, ToolStarted
from agentloop.types.leaves import DELEGATE


class LiveLine:
    """An observer that rewrites one line after each reply, and after each step of a leaf."""

    def __init__(self, wanted: bool) -> None:
        """Speak only if wanted, and only to a terminal."""
        self._line = RewrittenLine(wanted)
        self._leaves: _Leaves | None = None
        self._lock = threading.Lock()

    def __call__(self, event: Event, state: State) -> None:
        """Show where the session stands."""
        if not self._line.is_on:
            return
        with self._lock:
            if isinstance(event.body, ToolStarted) and event.body.name == DELEGATE:
                self._leaves = _Leaves(state, _tasks(event.body.call_id, state))
                self._show(self._leaves.parts())
            elif (said := _said(event, state)) is not None:
                self._leaves = None
                self._show([*said, *_money(state)])

    def leaf(self, event: Event, state: State) -> None:
        """Show where the leaves of the session stand: one of them has taken a step. May be called from any thread."""
        if not self._line.is_on:
            return
        with self._lock:
            if self._leaves is not None:
                self._leaves.seen(state)
                self._show(self._leaves.parts())

    def _show(self, parts: list[str]) -> None:
        self._line.show(" · ".join(parts))

    def done(self) -> None:
        """Leave the terminal as it was."""
        self._line.done()


class _Leaves:
    """The leaves of a call that runs, as their own steps tell."""

    def __init__(self, parent: State, tasks: int) -> None:
        self._parent, self._tasks = parent, tasks
        self._states: dict[str, State] = {}

    def seen(self, state: State) -> None:
        """One of them has taken a step."""
        self._states[state.session_id] = state

    def parts(self) -> list[str]:
        """What there is to say."""
        ended = sum(state.outcome is not None for state in self._states.values())
        spent = sum((state.spent_usd for state in self._states.values()), Decimal(0))
        told = f"leaves: {ended} ended, {len(self._states) - ended} running of {self._tasks}"
        return [f"turn {self._parent.asked}", told, *_money(self._parent, spent)]


def _tasks(call_id: str, state: State) -> int:
    """How many tasks a call delegates."""
    given = next((c.input.get("tasks") for c in state.open_calls if c.id == call_id and isinstance(c.input, dict)), None)
    return len(given) if isinstance(given, list) else 0


def _money(state: State, running_usd: Decimal = Decimal(0)) -> list[str]:
    """What was spent, and what is left; `running_usd`: by leaves that are not counted to the session yet."""
    spent, by_leaves = state.spent_usd + running_usd, state.leaves_usd + running_usd
    parts = [f"${spent:.4f}" + (f" (${by_leaves:.4f} by leaves)" if by_leaves else "")]
    if state.limits.max_budget_usd is not None:
        parts.append(f"${state.limits.max_budget_usd - spent:.2f} left")
    return parts


def _said(event: Event, state: State) -> list[str] | None:
    """What there is to say of an event; None where it is nothing."""
    match event.body:
        case ModelReplied(reply=reply):
            usage = reply.usage
            share = usage.cache_read_input_tokens / usage.prompt_tokens if usage.prompt_tokens else 0.0
            return [f"turn {state.asked}", f"{usage.prompt_tokens:,} tokens", f"{share:.0%} cached"]
        case ToolFinished(leaves=tuple(leaves)):
            return [f"turn {state.asked}", f"{len(leaves)} leaves back"]
        case _:
            return None
