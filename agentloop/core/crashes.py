"""Whether a session that ends its process gets any further: one that does not is not tried for ever."""

from collections.abc import Iterable
from typing import NamedTuple

from agentloop.types.events import Compacted, Event, FellBack, InputGiven, ModelReplied, ResultExtracted, ToolFinished


class Crashes(NamedTuple):
    """How often in a row a session's process died with it, and how far it had come each time."""

    progress: int = 0
    times: int = 0

    def after(self, progress: int) -> "Crashes":
        """One more death; the count starts anew where the session had come further since the last one."""
        return Crashes(progress, self.times + 1 if progress <= self.progress else 1)


def progress(events: Iterable[Event]) -> int:
    """How many steps a session has behind it. What each new start writes by itself is none: requests, failed attempts,
    calls that were only started, and calls whose outcome nobody knows."""
    return sum(_forward(e) for e in events)


def _forward(event: Event) -> bool:
    match event.body:
        case ToolFinished(outcome=outcome):
            return outcome != "unknown"
        case InputGiven(source=source):
            return source == "user"
        case ModelReplied() | ResultExtracted() | Compacted() | FellBack():
            return True
        case _:
            return False
