"""The session state: what stands for the turns that have left the view.

Append-only: each compaction adds one segment, and no segment changes once it was sent, so the cached state before it
stays cached. The engine writes it without asking a model: for each pair, what was done and how it went, what the user
said, and an index of the exact values (ids, paths, numbers, names) that a later turn may need and that stand nowhere
else in the state.
"""

import re
from functools import lru_cache
from typing import Literal, NamedTuple

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
_ARGUMENT_CHARS = 120
_VALUES_A_RESULT = 400


class _Pair(NamedTuple):
    """One removed pair, read once."""

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
    told_chars: int = Field(default=1_000, ge=0)
    """How much of each thing the user said is kept, word for word."""

    def segment(self, state: State, keep_from: int) -> str:
        """The segment for the turns from the last cut to this one."""
        pairs = [(r.turn, _read(r.reply, r.answer)) for r in _pairs(state, keep_from)]
        known = "\n".join(s.text for s in state.segments) + blocks.text_of(state.opening)
        room = self.chars_per_pair * len(pairs)
        lines = [HEADER.format(first=pairs[0][0] + 1, last=pairs[-1][0] + 1)]
        lines += [line for turn, pair in pairs for line in self._story(turn, pair)]
        room -= sum(map(len, lines))
        return "\n".join([*lines, *_index(pairs, known + "\n".join(lines), room)])

    def question(self, state: State, keep_from: int) -> str | None:
        """The engine needs to ask nobody."""
        return None

    def from_summary(self, state: State, keep_from: int, summary: str) -> str:
        """Not used: nothing was asked."""
        return self.segment(state, keep_from)

    def _story(self, turn: int, pair: _Pair) -> list[str]:
        head = f"{turn + 1}. {_short(pair.said, self.said_chars)}".rstrip()
        told = [f"   user: {_short(pair.told, self.told_chars)}"] if pair.told else []
        return [head, *(f"   {d}" for d in pair.done), *told]


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
        pairs = [(r.turn, _read(r.reply, r.answer)) for r in _pairs(state, keep_from)]
        known = "\n".join(s.text for s in state.segments) + blocks.text_of(state.opening) + summary
        head = HEADER.format(first=pairs[0][0] + 1, last=pairs[-1][0] + 1)
        index = _index(pairs, known, self.engine.chars_per_pair * len(pairs) - len(summary))
        return "\n".join([head, summary, *index])


def _pairs(state: State, keep_from: int) -> tuple[cuts.Removed, ...]:
    return cuts.removed(state, keep_from)


def _read(reply: blocks.Blocks, answer: blocks.Blocks) -> _Pair:
    return _read_once(_Identity(reply), _Identity(answer))


class _Identity(NamedTuple):
    """Blocks as a key: the same tuple of a log is the same pair."""

    blocks: blocks.Blocks

    def __hash__(self) -> int:
        return id(self.blocks)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.blocks is other.blocks


@lru_cache(maxsize=2_048)
def _read_once(reply: _Identity, answer: _Identity) -> _Pair:
    results = {b["tool_use_id"]: b for b in answer.blocks if b.get("type") == "tool_result"}
    calls = blocks.calls(reply.blocks)
    done = tuple(_done(c, results.get(c.id)) for c in calls)
    said, told = blocks.text_of(reply.blocks), blocks.text_of(answer.blocks)
    used = "\n".join([said, *(compact(c.input).decode() for c in calls)])
    results_text = "\n".join(blocks.result_text(r.get("content") or "") for r in results.values())
    values = dict.fromkeys([*_values(used), *_values(told), *_values(results_text)[:_VALUES_A_RESULT]])
    return _Pair(said, done, told, tuple(values))


def _done(call: Call, result: blocks.Block | None) -> str:
    arguments = _short(compact(call.input).decode(), _ARGUMENT_CHARS)
    if result is None:
        return f"{call.name} {arguments}"
    outcome = _short(blocks.result_text(result.get("content") or ""), 100 if result.get("is_error") else 60)
    return f"{call.name} {arguments} → {'error: ' if result.get('is_error') else ''}{outcome}"


def _values(text: str) -> list[str]:
    found = dict.fromkeys(m.group().strip(".,:;-") for m in _VALUE.finditer(text))
    return [v for v in found if len(v) >= 3 and _SHAPED.search(v)]


def _index(pairs: list[tuple[int, _Pair]], known: str, room: int) -> list[str]:
    """The values that stand nowhere yet, each pair's own first, until the room is full."""
    new: dict[str, None] = {}
    size = 0
    for value in (v for _, pair in pairs for v in pair.values):
        if value in new or value in known:
            continue
        size += len(value) + 1
        if size > room:
            break
        new[value] = None
    return ["   values: " + " ".join(new)] if new else []


def _short(text: str, chars: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= chars else line[: max(0, chars - 1)] + "…"


Ledger = EngineLedger | ModelLedger
