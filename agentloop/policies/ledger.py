"""The session state: what stands for the turns that have left the view.

Append-only: each compaction adds one segment, and no segment changes once it was sent, so the cached state before it
stays cached. The engine writes it without asking a model: for each pair, what was done and how it went, what the user
said, and an index of the exact values (ids, paths, numbers, names) that a later turn may need and that stand nowhere
else in the state.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache, reduce
from itertools import chain, zip_longest
from typing import Any, Literal, NamedTuple

from pydantic import Field

from agentloop.core import cuts, tokens
from agentloop.core.cuts import Removed
from agentloop.core.state import State, Turn
from agentloop.types import blocks
from agentloop.types.base import Settings, compact
from agentloop.types.blocks import Call, Same

HEADER = "[Session state, kept by agentloop: turns {first} to {last} are no longer shown. Results can be recalled.]"
QUESTION = (
    "[agentloop] Before the oldest turns of this session leave your view, write down what a colleague who takes over "
    "would need: what was asked, what was done and found, decisions and their reasons, exact ids, paths, numbers and "
    "names, and what is still open. Plain text, no tool calls, at most {words} words. Only about turns {first} to {last}."
)

_NAME_CHARS = "{1,255}"  # no name is longer; without a bound, a long run of such characters is read again from each of them
_VALUE = re.compile(
    r"https?://[^\s\"'<>)\]}|,]+"
    rf"|[\w.+-]{_NAME_CHARS}@[\w-]+\.[A-Za-z][\w.-]+"
    rf"|(?:~|\.{{1,2}})?/?(?:[\w.@+-]{_NAME_CHARS}/)+[\w.@+-]*"
    r"|\b\d{4}-\d{2}-\d{2}\b"
    rf"|\b[\w-]{_NAME_CHARS}(?:\.[\w-]+)+\b"
    r"|#\d{2,}\b"
    r"|\b\w+(?:-\w+)+\b"
    r"|\b[^\W\d]\w*\b"
    r"|\b\d[\d,]*(?:\.\d+)?\b"
)
_ONCE = {_NAME_CHARS: "+", r"\w+(?:-\w+)+": r"[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)+", r"[^\W\d]\w*": r"[A-Za-z_]\w*"}
_VALUE_BEFORE = re.compile(reduce(lambda pattern, part: pattern.replace(*part), _ONCE.items(), _VALUE.pattern))
"""What was a value when the index had no bound in tokens."""
_SHAPED = re.compile(r"\d|_|[a-z][A-Z]|[A-Z]{3,}|[./@#:]")
_SMALL_NUMBER = re.compile(r"\d{1,3}")
_HANDLE = re.compile(r'recall\(handle="[0-9a-f]+"\)')
_ARGUMENT_CHARS, _OUTCOME_CHARS, _ERROR_CHARS = 120, 60, 100
_VALUES_A_RESULT = 400
_LEAST_INDEX = 40
"""Tokens of the index that a pair is given however small it was."""
_WORD = re.compile(r"[\w-]{2,}")
_WORDS_A_CALL, _LEAST_WORD, _RARE, _AROUND = 20, 4, 4, 160
"""A word of a call that stands in at most so many places of its result tells which of its records was asked about."""


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
    chars_per_pair: int = Field(default=4_000, ge=100)
    """How much of a pair is kept, on average over the pairs of a cut."""
    index_share: float | None = Field(default=0.3, gt=0, le=1)
    """What the index of exact values may take of the tokens that it stands for, at most. None: the index as it was made
    before there was this bound, for logs that do not name it."""
    said_chars: int = Field(default=200, ge=0)
    told_chars: int = Field(default=20_000, ge=0)
    """How much of each thing the user said is kept, word for word. It does not count against `chars_per_pair`."""

    def segment(self, state: State, keep_from: int) -> str:
        """The segment for the turns from the last cut to this one."""
        pairs = _pairs(state, keep_from, self.before)
        stories = [self._story(*both) for both in zip(state.turns, pairs, strict=False)]
        lines = [_header(pairs), *(line for story in stories for line in story.lines)]
        known = _known(state, self.before).union(*(story.values for story in stories))
        told = sum(min(len(p.told), self.told_chars) for p in pairs)
        room = self.chars_per_pair * len(pairs) - sum(map(len, lines)) + told
        most = self.index_tokens(state, keep_from, len(pairs))
        return "\n".join([*lines, *_index(pairs, known, room, most, state.card.tokenizer)])

    def _story(self, turn: Turn, pair: _Pair) -> "_Story":
        how = (self.said_chars, self.told_chars, self.before)
        return turn.once((_story, id(pair), *how), lambda: _story(pair, *how))

    @property
    def before(self) -> bool:
        """Whether the index is made as it was for older logs, which replay by it."""
        return self.index_share is None

    def index_tokens(self, state: State, keep_from: int, pairs: int) -> int | None:
        """The most tokens that the index of a segment may take; None where only its characters count."""
        if self.index_share is None:
            return None
        return max(int(cuts.removed_tokens(state, keep_from) * self.index_share), _LEAST_INDEX * pairs)

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
        lines = [f"- {_short(p.said, self.chars)}" for p in _pairs(state, keep_from, before=False)]
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
        before = self.engine.before
        pairs = _pairs(state, keep_from, before)
        known = _known(state, before) | _value_set(summary, before)
        most = self.engine.index_tokens(state, keep_from, len(pairs))
        room = self.engine.chars_per_pair * len(pairs) - len(summary)
        index = _index(pairs, known, room, most, state.card.tokenizer)
        handles = [f"   {d}" for p in pairs for d in p.done if _HANDLE.search(d)]
        return "\n".join([_header(pairs), summary, *handles, *index])


class _Story(NamedTuple):
    """What is told of one pair, and the exact values that stand in it."""

    lines: tuple[str, ...]
    values: frozenset[str]


def _header(pairs: Sequence[_Pair]) -> str:
    return HEADER.format(first=pairs[0].turn + 1, last=pairs[-1].turn + 1)


def _story(pair: _Pair, said_chars: int, told_chars: int, before: bool) -> _Story:
    head = f"{pair.turn + 1}. {_short(pair.said, said_chars)}".rstrip()
    told = [f"   user: {_short(pair.told, told_chars)}"] if pair.told else []
    lines = (head, *(f"   {d}" for d in pair.done), *told)
    return _Story(lines, _value_set("\n".join(lines), before))


def _pairs(state: State, keep_from: int, before: bool) -> list[_Pair]:
    """The pairs that a cut removes, read; each is read once, however often a cut is weighed."""
    return [_pair(turn, r, before) for turn, r in zip(state.turns, cuts.removed(state, keep_from), strict=False)]


def _pair(turn: Turn, removed: Removed, before: bool) -> _Pair:
    return turn.once((_read, removed.turn, Same(removed.answer), before), lambda: _read(removed, before))


def _read(removed: Removed, before: bool) -> _Pair:
    turn, reply, answer, _ = removed
    results = {b["tool_use_id"]: b for b in answer if b.get("type") == "tool_result"}
    calls = blocks.calls(reply)
    done = tuple(_done(c, results.get(c.id)) for c in calls)
    said, told = blocks.text_of(reply), blocks.text_of(answer)
    used = "\n".join([said, *(text for c in calls for text in _texts(c.input))])
    found = [blocks.result_text(r.get("content") or "") for r in results.values()]
    asked = () if before else (c for c in calls if c.id in results)
    near = "\n".join(_near(blocks.result_text(results[c.id].get("content") or ""), c) for c in asked)
    rest = _values("\n".join(found), before)[:_VALUES_A_RESULT]
    values = dict.fromkeys([v for text in (used, told, near) for v in _values(text, before)] + rest)
    return _Pair(turn, said, done, told, tuple(values))


def _near(text: str, call: Call) -> str:
    """What stands around the rarest words of a call in its result: of many records, the ones it asked about."""
    low = text.lower()
    spots: list[str] = []
    for word in _WORD.findall("\n".join(_texts(call.input)).lower())[:_WORDS_A_CALL]:
        if len(word) >= _LEAST_WORD and low.count(word) <= _RARE:
            at = low.find(word)
            while at >= 0:
                spots.append(text[max(0, at - _AROUND) : at + len(word) + _AROUND])
                at = low.find(word, at + len(word))
    return "\n".join(spots)


def _known(state: State, before: bool) -> frozenset[str]:
    """The values that stand in what is sent anyway: the task, and the session state so far."""
    texts = (blocks.text_of(state.opening), *(s.text for s in state.segments))
    return frozenset().union(*(_value_set(text, before) for text in texts))


@lru_cache(maxsize=4_096)
def _value_set(text: str, before: bool) -> frozenset[str]:
    return frozenset(_values(text, before))


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


def _values(text: str, before: bool) -> list[str]:
    found = dict.fromkeys(m.group().strip(".,:;-") for m in (_VALUE_BEFORE if before else _VALUE).finditer(text))
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


def _index(pairs: Sequence[_Pair], known: frozenset[str], room: int, most: int | None, family: str) -> list[str]:
    """The values that stand nowhere yet, the best of every pair first, until the room (characters) or the most (tokens)
    is full. Without a most, pair after pair."""
    new: list[str] = []
    rows = [p.values for p in pairs]
    left = None if most is None else most * 1_000
    for value in dict.fromkeys(v for v in (_in_turns(rows) if most is not None else chain(*rows)) if v not in known):
        room -= len(value) + 1
        if left is not None:
            left -= tokens.thousandths(value + " ", family)
        if room < 0 or (left is not None and left < 0):
            break
        new.append(value)
    return ["   values: " + " ".join(new)] if new else []


def _in_turns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first of each row, then the second of each, and so on."""
    for column in zip_longest(*rows):
        yield from (v for v in column if v is not None)


def _short(text: str, chars: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= chars else line[: max(0, chars - 1)] + "…"


Ledger = EngineLedger | LinesLedger | ModelLedger
