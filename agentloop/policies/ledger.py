"""The session state: what stands for the turns that have left the view.

Append-only: each compaction adds one segment, and no segment changes once it was sent, so the cached state before it
stays cached. The engine writes it without asking a model: for each pair, what was done and how it went, what the user
said, and an index of the exact values (ids, paths, numbers, names) that a later turn may need and that stand nowhere
else in the state.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from pydantic import Field

from agentloop.core import cuts
from agentloop.core.state import State
from agentloop.types import blocks
from agentloop.types.base import Settings, compact
from agentloop.types.blocks import Call

HEADER = "[Session state, kept by agentloop: turns {first} to {last} are no longer shown. Results can be recalled.]"
QUESTION = (
    "[agentloop] Before the oldest turns of this session leave your view, write down what a colleague who takes over "
    "would need: what was asked, what was done and found, decisions and their reasons, exact ids, paths, numbers and "
    "names, and what is still open. Plain text, no tool calls, at most {words} words. Only about turns {first} to {last}."
)

_VALUE = re.compile(
    r"https?://[^\s\"'<>)\]}|,]+"
    r"|[\w.+-]+@[\w-]+\.[A-Za-z][\w.-]+"
    r"|(?:~|\.{1,2})?/?(?:[\w.@+-]+/)+[\w.@+-]*"
    r"|\b\d{4}-\d{2}-\d{2}\b"
    r"|\b[\w-]+(?:\.[\w-]+)+\b"
    r"|#\d{2,}\b"
    r"|\b[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)+\b"
    r"|\b[A-Za-z_]\w*\b"
    r"|\b\d[\d,]*(?:\.\d+)?\b"
)
_SHAPED = re.compile(r"\d|_|[a-z][A-Z]|[A-Z]{3,}|[./@#:]")
_SMALL_NUMBER = re.compile(r"\d{1,3}")
_HANDLE = re.compile(r'recall\(handle="[0-9a-f]+"\)')
_ARGUMENT_CHARS, _OUTCOME_CHARS, _ERROR_CHARS = 120, 60, 100
_VALUES_A_RESULT = 400


class _Pair(NamedTuple):
    """One removed pair, read once."""

    turn: int
    said: str
    done: tuple[str, ...]
    told: str
    values: tuple[str, ...]
    """Exact values in the order of their worth: those that the assistant used itself come first."""


class EngineLedger(Settings):
    """The engine keeps the state itself."""

    kind: Literal["engine"] = "engine"
    chars_per_pair: int = Field(default=1_500, ge=100)
    """How much of a pair is kept, on average over the pairs of a cut."""
    said_chars: int = Field(default=200, ge=0)
    told_chars: int = Field(default=20_000, ge=0)
    """How much of each thing the user said is kept, word for word. It does not count against `chars_per_pair`."""

    def segment(self, state: State, keep_from: int) -> str:
        """The segment for the turns from the last cut to this one."""
        pairs = _pairs(state, keep_from)
        stories = [_story(p.turn, p, self.said_chars, self.told_chars) for p in pairs]
        lines = [_header(pairs), *(line for story in stories for line in story.lines)]
        known = _known(state).union(*(story.values for story in stories))
        told = sum(min(len(p.told), self.told_chars) for p in pairs)
        room = self.chars_per_pair * len(pairs) - sum(map(len, lines)) + told
        return "\n".join([*lines, *_index(pairs, known, room)])

    def question(self, state: State, keep_from: int) -> str | None:
        """The engine needs to ask nobody."""
        return None

    def from_summary(self, state: State, keep_from: int, summary: str) -> str:
        """Not used: nothing was asked."""
        return self.segment(state, keep_from)


class LinesLedger(Settings):
    """The seed's way: the first words of what the assistant said, a line a turn, and nothing else."""

    kind: Literal["lines"] = "lines"
    chars: int = Field(default=200, ge=1)

    def segment(self, state: State, keep_from: int) -> str:
        """A line for each turn that leaves."""
        lines = [f"- {_short(p.said, self.chars)}" for p in _pairs(state, keep_from)]
        return "\n".join(lines if state.segments else ["Previous actions this session:", *lines])

    def question(self, state: State, keep_from: int) -> str | None:
        """Nobody is asked."""
        return None

    def from_summary(self, state: State, keep_from: int, summary: str) -> str:
        """Not used: nothing was asked."""
        return self.segment(state, keep_from)


class ModelLedger(Settings):
    """The model writes the state, asked at the end of the request that is already cached; the engine adds the index of
    exact values that it left out, and writes the state itself where the model fails three times in a row."""

    kind: Literal["model"] = "model"
    words: int = Field(default=400, ge=50)
    engine: EngineLedger = EngineLedger()
    give_up_after: int = Field(default=3, ge=1)

    def segment(self, state: State, keep_from: int) -> str:
        """The engine's own segment."""
        return self.engine.segment(state, keep_from)

    def question(self, state: State, keep_from: int) -> str | None:
        """What the model is asked; None once it has failed too often."""
        if state.summary_failures >= self.give_up_after:
            return None
        return QUESTION.format(words=self.words, first=state.keep_from + 1, last=keep_from)

    def from_summary(self, state: State, keep_from: int, summary: str) -> str:
        """The model's words, then the values that it left out."""
        pairs = _pairs(state, keep_from)
        known = _known(state) | _value_set(summary)
        index = _index(pairs, known, self.engine.chars_per_pair * len(pairs) - len(summary))
        handles = [f"   {d}" for p in pairs for d in p.done if _HANDLE.search(d)]
        return "\n".join([_header(pairs), summary, *handles, *index])


class _Story(NamedTuple):
    """What is told of one pair, and the exact values that stand in it."""

    lines: tuple[str, ...]
    values: frozenset[str]


def _header(pairs: Sequence[_Pair]) -> str:
    return HEADER.format(first=pairs[0].turn + 1, last=pairs[-1].turn + 1)


@lru_cache(maxsize=2_048)
def _story(turn: int, pair: _Pair, said_chars: int, told_chars: int) -> _Story:
    head = f"{turn + 1}. {_short(pair.said, said_chars)}".rstrip()
    told = [f"   user: {_short(pair.told, told_chars)}"] if pair.told else []
    lines = (head, *(f"   {d}" for d in pair.done), *told)
    return _Story(lines, _value_set("\n".join(lines)))


def _pairs(state: State, keep_from: int) -> list[_Pair]:
    """The pairs that a cut removes, read; each is read once, however often a cut is weighed."""
    return [_read(r.turn, _Same(r.reply), _Same(r.answer)) for r in cuts.removed(state, keep_from)]


class _Same:
    """Blocks as a key: the very same tuple is the same key, without comparing what is in it."""

    def __init__(self, content: blocks.Blocks) -> None:
        self.content = content

    def __hash__(self) -> int:
        return id(self.content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.content is other.content


@lru_cache(maxsize=2_048)
def _read(turn: int, reply: _Same, answer: _Same) -> _Pair:
    results = {b["tool_use_id"]: b for b in answer.content if b.get("type") == "tool_result"}
    calls = blocks.calls(reply.content)
    done = tuple(_done(c, results.get(c.id)) for c in calls)
    said, told = blocks.text_of(reply.content), blocks.text_of(answer.content)
    used = "\n".join([said, *(text for c in calls for text in _texts(c.input))])
    found = "\n".join(blocks.result_text(r.get("content") or "") for r in results.values())
    values = dict.fromkeys([*_values(used), *_values(told), *_values(found)[:_VALUES_A_RESULT]])
    return _Pair(turn, said, done, told, tuple(values))


def _known(state: State) -> frozenset[str]:
    """The values that stand in what is sent anyway: the task, and the session state so far."""
    return _value_set(blocks.text_of(state.opening)).union(*(_value_set(s.text) for s in state.segments))


@lru_cache(maxsize=256)
def _value_set(text: str) -> frozenset[str]:
    return frozenset(_values(text))


def _done(call: Call, result: blocks.Block | None) -> str:
    arguments = _short(compact(call.input).decode(), _ARGUMENT_CHARS)
    if result is None:
        return f"{call.name} {arguments}"
    text = blocks.result_text(result.get("content") or "")
    if result.get("is_error"):
        return f"{call.name} {arguments} → error: {_short(text, _ERROR_CHARS)}"
    handle = _HANDLE.search(text)
    recall = f" [{handle.group()}]" if handle else ""
    return f"{call.name} {arguments} → {_short(text, _OUTCOME_CHARS)}{recall}"


def _values(text: str) -> list[str]:
    found = dict.fromkeys(m.group().strip(".,:;-") for m in _VALUE.finditer(text))
    return [v for v in found if len(v) >= 3 and _SHAPED.search(v) and not _SMALL_NUMBER.fullmatch(v)]


def _texts(value: Any) -> list[str]:
    """The texts and numbers in a JSON value, as they read, not as they are escaped."""
    match value:
        case dict():
            return [text for v in value.values() for text in _texts(v)]
        case list():
            return [text for v in value for text in _texts(v)]
        case None | bool():
            return []
        case _:
            return [str(value)]


def _index(pairs: Sequence[_Pair], known: frozenset[str], room: int) -> list[str]:
    """The values that stand nowhere yet, each pair's own first, until the room is full."""
    new: list[str] = []
    for value in dict.fromkeys(v for pair in pairs for v in pair.values if v not in known):
        room -= len(value) + 1
        if room < 0:
            break
        new.append(value)
    return ["   values: " + " ".join(new)] if new else []


def _short(text: str, chars: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= chars else line[: max(0, chars - 1)] + "…"


Ledger = EngineLedger | LinesLedger | ModelLedger
