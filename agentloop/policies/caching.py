"""Where a request asks for cache entries: at most four, each where a later request will look."""

from collections.abc import Sequence
from typing import Literal

from pydantic import model_validator

from agentloop.core.state import State
from agentloop.core.wire import SYSTEM
from agentloop.types.base import Settings
from agentloop.types.blocks import THINKING, Message
from agentloop.types.request import Breakpoint
from agentloop.types.usage import Ttl

WrittenTtl = Ttl | Literal["off"]
_ORDER: dict[WrittenTtl, int] = {"1h": 0, "5m": 1, "off": 1}


class FourMarks(Settings):
    """1 the end of tools and system; 2 the end of the session state; 3 where the last request ended; 4 the end now.

    3 makes any number of parallel results safe: the API looks back over 20 positions only, and from there it finds the
    last request's entry at once. Longer lifetimes must come first (docs/build-with-claude/prompt-caching).
    """

    kind: Literal["four_marks"] = "four_marks"
    static_ttl: WrittenTtl = "5m"
    state_ttl: WrittenTtl = "5m"
    tail_ttl: WrittenTtl = "5m"

    @model_validator(mode="after")
    def _longest_first(self) -> "FourMarks":
        written = [t for t in (self.static_ttl, self.state_ttl, self.tail_ttl) if t != "off"]
        if written != sorted(written, key=_ORDER.__getitem__):
            raise ValueError("the API wants 1h entries before 5m entries: static_ttl, then state_ttl, then tail_ttl")
        return self

    def breakpoints(self, state: State, messages: Sequence[Message]) -> tuple[Breakpoint, ...]:
        """The breakpoints of a request that carries these messages, first to last."""
        static = _mark(SYSTEM, 0, self.static_ttl) if state.prefix.system or state.prefix.tools else None
        # in a view of one message, the last request ended inside of what the state's mark covers
        behind_state = len(messages) > 1 or self.state_ttl == "off"
        marks = (
            _previous_end(state, messages, self.tail_ttl if behind_state else self.state_ttl),
            _last(messages, len(messages) - 1, self.tail_ttl),
            _last(messages, 0, self.state_ttl),
            static,
        )
        return tuple(sorted({(m.message, m.block): m for m in marks if m is not None}.values()))


def _previous_end(state: State, messages: Sequence[Message], ttl: WrittenTtl) -> Breakpoint | None:
    """Where the last request ended. After a cut there is nothing left to be read there."""
    sent = state.sent
    if sent is None or sent.cut:
        return None
    if sent.given_blocks:
        return _mark(len(messages) - 1, sent.given_blocks - 1, ttl)
    question = len(messages) - (3 if state.given else 2)
    return _last(messages, question, ttl) if question >= 0 else None


def _last(messages: Sequence[Message], index: int, ttl: WrittenTtl) -> Breakpoint | None:
    """A mark on the last block of a message that can carry one: thinking cannot."""
    content = messages[index].content
    block = next((i for i in range(len(content) - 1, -1, -1) if content[i].get("type") not in THINKING), None)
    return _mark(index, block, ttl) if block is not None else None


def _mark(message: int, block: int, ttl: WrittenTtl) -> Breakpoint | None:
    return None if ttl == "off" else Breakpoint(message, block, ttl)


Caching = FourMarks
