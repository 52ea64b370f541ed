"""What a session's log gets that the engine does not write: its start, what a person says, a resumption."""

from agentloop.core.folding import begin, evolve
from agentloop.core.state import State
from agentloop.engine.loop import Observer
from agentloop.errors import UsageError
from agentloop.ports import Clock, Log
from agentloop.types import blocks
from agentloop.types.events import InputGiven, SessionResumed, SessionStarted


class Writer:
    """Writes the events that the engine does not, and tells the observer of them as the engine does."""

    def __init__(self, log: Log, clock: Clock, observe: Observer, state: State | None = None) -> None:
        """Write into this log; `state` is what it folds to so far, where there is something in it."""
        self._log, self._clock, self._observe, self._state = log, clock, observe, state

    def __call__(self, body: SessionStarted | SessionResumed | InputGiven) -> None:
        """Write one event."""
        event = self._log.append(body, self._clock.now())
        if isinstance(body, SessionStarted):
            self._state = begin(body, event.at)
        elif self._state is not None:
            self._state = evolve(self._state, event)
        assert self._state is not None
        self._observe(event, self._state)


def said_by_user(text: str) -> InputGiven:
    """A user message. Raises UsageError where it says nothing, or is no text that can be sent."""
    if not text.strip():
        raise UsageError("the user message is empty; say what is to be done")
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise UsageError("the user message is not valid UTF-8; check the encoding of the terminal or the pipe") from e
    return InputGiven(content=(blocks.text(text),))
