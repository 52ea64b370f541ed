"""Where a request asks for cache entries: at most four, each where a later request will look."""

from collections.abc import Sequence
from typing import Literal

from pydantic import model_validator

from agentloop.core import finding, lifetimes
from agentloop.core.lifetimes import Lifetimes, WrittenTtl
from agentloop.core.state import State
from agentloop.core.wire import SYSTEM
from agentloop.types.base import Settings
from agentloop.types.blocks import THINKING, Message
from agentloop.types.request import Breakpoint

ChosenTtl = WrittenTtl | Literal["auto"]
_ORDER: dict[ChosenTtl, int] = {"1h": 0, "5m": 1}


class FourMarks(Settings):
    """1 the end of tools and system; 2 the end of the session state; 3 where the last request ended; 4 the end now.

    3 makes any number of parallel results safe: the API looks back over 20 positions only, and from there it finds the
    last request's entry at once. Longer lifetimes must come first (docs/build-with-claude/prompt-caching).
    A tail that will hardly be read before it dies is not written at all. Nor is a result that is shown once: 4 stands before
    the first of them, and what follows in their message is written one request later, when its bytes are those that stay.
    """

    kind: Literal["four_marks"] = "four_marks"
    static_ttl: ChosenTtl = "auto"
    """`auto`: what is cheapest, if the next gaps are as the last were."""
    state_ttl: ChosenTtl = "auto"
    tail_ttl: ChosenTtl = "auto"
    cuts: bool = True
    """Whether the compaction policy cuts a history that has gone cold: then less of it has to be written again."""
    edition: Literal[1, 2, 3] = 3
    """1: as it was planned before the length to which rent lets a history grow was taken into account; 2: before it was counted
    how much of what should be in the cache is found there."""

    @model_validator(mode="after")
    def _longest_first(self) -> "FourMarks":
        written = [t for t in (self.static_ttl, self.state_ttl, self.tail_ttl) if t not in ("off", "auto")]
        if written != sorted(written, key=_ORDER.__getitem__):
            raise ValueError("the API wants 1h entries before 5m entries: static_ttl, then state_ttl, then tail_ttl")
        return self

    def lifetimes(self, state: State) -> Lifetimes:
        """Those that are set; the others as they are cheapest, in the order that the API wants."""
        given = (self.static_ttl, self.state_ttl, self.tail_ttl)
        found = finding.share(state.found) if self.edition > 2 else lifetimes.ALL
        plan = lifetimes.planned(state, self.cuts, bounded=self.edition > 1, found=found)
        static, behind, tail = (own if ttl == "auto" else ttl for ttl, own in zip(given, plan, strict=True))
        if tail == "1h" and "5m" in (static, behind):
            tail = "5m" if "5m" in given[:2] else tail
            static, behind = (tail if ttl == "5m" else ttl for ttl in (static, behind))
        if behind == "1h" and static == "5m":
            static, behind = ("1h", behind) if self.static_ttl == "auto" else (static, "5m")
        return Lifetimes(static, behind, tail)

    def breakpoints(self, state: State, messages: Sequence[Message]) -> tuple[Breakpoint, ...]:
        """The breakpoints of a request that carries these messages, first to last."""
        ttl = self.lifetimes(state)
        static = _mark(SYSTEM, 0, ttl.static) if state.prefix.system or state.prefix.tools else None
        # in a view of one message, the last request ended inside of what the state's mark covers
        behind_state = len(messages) > 1 or ttl.state == "off"
        once_from = state.once.first if state.once is not None else None
        marks = (
            _previous_end(state, messages, ttl.tail if behind_state else ttl.state),
            _last(messages, len(messages) - 1, ttl.tail, once_from),
            _last(messages, 0, ttl.state),
            static,
        )
        return tuple(sorted({(m.message, m.block): m for m in marks if m is not None}.values()))


def _previous_end(state: State, messages: Sequence[Message], ttl: WrittenTtl) -> Breakpoint | None:
    """Where the last request ended. After a cut there is nothing left to be read there."""
    sent = state.sent
    if sent is None or sent.cut or sent.lost:
        return None
    if sent.given_blocks:
        return _last(messages, len(messages) - 1, ttl, sent.given_blocks if sent.once_from is None else sent.once_from)
    question = len(messages) - (3 if state.given else 2)
    return _last(messages, question, ttl, sent.once_from) if question >= 0 else None


def _last(messages: Sequence[Message], index: int, ttl: WrittenTtl, before: int | None = None) -> Breakpoint | None:
    """A mark on the last block of a message that can carry one: thinking cannot. `before`: the block that it has to stand
    before, if only at the end of the message before."""
    content = messages[index].content[:before]
    block = next((i for i in range(len(content) - 1, -1, -1) if content[i].get("type") not in THINKING), None)
    if block is None:
        return _last(messages, index - 1, ttl) if before is not None else None
    return _mark(index, block, ttl)


def _mark(message: int, block: int, ttl: WrittenTtl) -> Breakpoint | None:
    return None if ttl == "off" else Breakpoint(message, block, ttl)


Caching = FourMarks
