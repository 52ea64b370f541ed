"""Questions about a session whose answers stand in its log: made without a model, the same ones each time.

`belongs`  which value belongs to what: a field of a result, by the arguments of its call
`source`   which tool gave a value
`failed`   which call it was that failed with an error
`decided`  what the assistant said: a sentence of its own with one value left out
`open`     how a task stands that was written into a list of tasks
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Literal, NamedTuple, TypeVar, get_args

from agentloop.importers.recording import Recording, Step
from agentloop.policies.facts import index
from agentloop.probe.readings import Field, arguments, fields, items
from agentloop.types import blocks
from agentloop.types.base import compact
from agentloop.types.blocks import Call

Kind = Literal["belongs", "source", "failed", "decided", "open"]
KINDS: tuple[Kind, ...] = get_args(Kind)
BLANK = "____"
_A_CALL, _A_REPLY = 4, 2
"""So many questions of one kind are made of one result, of one reply."""
_SENTENCE = re.compile(r"[^\s.!?](?:[^.!?\n]|[.!?](?=[^\s\"'”)*]))+")
_LEAST_WORDS, _MOST_CHARS = 4, 240
_ERROR_CHARS, _QUOTED_CHARS = 160, 60
_JOINED_BEFORE = re.compile(r"(?:\w|\d[.,]|[/@-])$")
_JOINED_BEHIND = re.compile(r"\w|[.,]\d|[/@-]\w")
_Any = TypeVar("_Any")


class Question(NamedTuple):
    """One question and its answer."""

    kind: Kind
    turn: int
    """Counted from 0: in whose call or words the answer stands."""
    call_id: str
    """The call in whose result it stands; empty where it stands elsewhere."""
    text: str
    answer: str
    about: tuple[str, ...]
    """Texts of the session that the question quotes: where they stand together with the answer, it can be answered."""


def questions(recording: Recording, turns: int) -> list[Question]:
    """Every question about the first turns of a recording, kind by kind, oldest first."""
    steps = recording.steps[:turns]
    results = [_Answered(i, c, *_result(recording, c)) for i, s in enumerate(steps) for c in blocks.calls(s.reply)]
    good = [a for a in results if not a.failed]
    made = chain(_belongs(good), _source(good, steps), _failed(results), _decided(steps), _open(steps))
    return _unambiguous(q for q in made if 2 <= len(q.answer) <= 80 and not _told(q))


def chosen(found: Sequence[Question], most: int) -> list[Question]:
    """So many of them: of each kind as many as can be, evenly over the session."""
    by_kind = {kind: [q for q in found if q.kind == kind] for kind in KINDS}
    in_turn = (kind for i in range(min(most, len(found))) for kind in KINDS if i < len(by_kind[kind]))
    wanted = Counter(islice(in_turn, most))
    kept = [q for kind in KINDS for q in _spread(by_kind[kind], wanted[kind])]
    return sorted(kept, key=lambda q: (q.turn, KINDS.index(q.kind), q.text))


class _Answered(NamedTuple):
    """A call and its whole result."""

    turn: int
    call: Call
    text: str
    failed: bool

    @property
    def named(self) -> str:
        """The call in words: the tool, and the arguments that tell it from others."""
        told = ", ".join(f'{name} "{value}"' for name, value in arguments(self.call.input))
        return f"{self.call.name}, called with {told}" if told else self.call.name

    @property
    def about(self) -> tuple[str, ...]:
        return tuple(value for _, value in arguments(self.call.input))


def _result(recording: Recording, call: Call) -> tuple[str, bool]:
    block = recording.results.get(call.id) or {}
    return blocks.result_text(block.get("content") or ""), bool(block.get("is_error"))


def _belongs(answered: Sequence[_Answered]) -> Iterator[Question]:
    found = [(one, fields(one.text)) for one in answered]
    times = Counter((one.call.name, f.name, f.value) for one, of_call in found for f in of_call)
    for one, of_call in found:
        for field in _spread([f for f in of_call if _tells(f) and times[one.call.name, f.name, f.value] == 1], _A_CALL):
            of = f' of the entry whose {field.key} is "{field.owner}"' if field.owner else ""
            text = f'In the result of {one.named}: what is "{field.name}"{of}?'
            about = (*one.about, *((field.owner,) if field.owner else ()), field.name.rpartition(".")[2])
            yield Question("belongs", one.turn, one.call.id, text, field.value, about)


def _tells(field: Field) -> bool:
    """Whether nobody would guess it: flags and short counts could be. (What a field always says is left out above.)"""
    return len(field.value) > 2 and field.value.casefold() not in ("true", "false", "null", "none")


def _source(answered: Sequence[_Answered], steps: Sequence[Step]) -> Iterator[Question]:
    """Values that came in the results of one tool, before anybody had spoken of them."""
    tools: dict[str, set[str]] = {}
    found = [(one, index.values(one.text, dotted=False)) for one in answered]
    for one, values in found:
        for value in values:
            tools.setdefault(value, set()).add(one.call.name)
    if len({one.call.name for one in answered}) < 2:
        return
    said = _first_said(steps)
    for one, values in found:
        alone = (v for v in values if tools[v] == {one.call.name} and said.get(v, one.turn + 1) > one.turn)
        new = [v for v in alone if " " not in v and any(map(str.isalnum, v))]
        for value in _spread(new, _A_CALL):
            text = f'Which tool gave you the value "{value}"? Answer with the name of the tool.'
            yield Question("source", one.turn, one.call.id, text, one.call.name, (value,))


def _first_said(steps: Sequence[Step]) -> dict[str, int]:
    """In which turn the user or the assistant first spoke of a value."""
    first: dict[str, int] = {}
    for turn, step in enumerate(steps):
        words = [blocks.text_of(step.told), blocks.text_of(step.reply), *(_written(c) for c in blocks.calls(step.reply))]
        for value in index.values("\n".join(words), dotted=False):
            first.setdefault(value, turn)
    return first


def _written(call: Call) -> str:
    return compact(call.input).decode()


def _failed(answered: Sequence[_Answered]) -> Iterator[Question]:
    """Errors that one call had, and the argument that tells which."""
    errors = Counter(_error(one) for one in answered if one.failed)
    for one in answered:
        given = arguments(one.call.input)
        if one.failed and errors[_error(one)] == 1 and given and (unsaid := [g for g in given if g[1] not in _error(one)]):
            name, value = unsaid[0]
            text = f'A call of {one.call.name} failed with: "{_error(one)}". What was its argument "{name}"?'
            yield Question("failed", one.turn, "", text, value, (one.call.name, _error(one)[:_QUOTED_CHARS]))


def _error(one: _Answered) -> str:
    return " ".join(one.text.split())[:_ERROR_CHARS]


def _decided(steps: Sequence[Step]) -> Iterator[Question]:
    for turn, step in enumerate(steps):
        sentences = [s[0].strip() for s in _SENTENCE.finditer(blocks.text_of(step.reply))]
        made = [q for s in sentences if len(s) <= _MOST_CHARS for q in _blanked(turn, s)]
        yield from _spread(made, _A_REPLY)


def _blanked(turn: int, sentence: str) -> Iterator[Question]:
    """The question about the last value of a sentence, if enough is left of it."""
    found = (v.removesuffix("'s").removesuffix("’s") for v in index.values(sentence, dotted=True))
    values = [v for v in found if _is_whole(v, sentence)]
    if not values:
        return
    rest = sentence.replace(values[-1], BLANK)
    if len(rest.split()) > _LEAST_WORDS:
        text = f'Earlier in this session you said: "{rest}". What stood in the place of {BLANK}?'
        yield Question("decided", turn, "", text, values[-1], tuple(part.strip() for part in rest.split(BLANK) if part.strip()))


def _is_whole(value: str, sentence: str) -> bool:
    """Whether it stands there once and is no part of something longer. Capitals that open a sentence may be no name."""
    if sentence.count(value) != 1 or (" " in value and sentence.startswith(value)):
        return False
    before, _, after = sentence.partition(value)
    return _JOINED_BEFORE.search(before) is None and _JOINED_BEHIND.match(after) is None


def _open(steps: Sequence[Step]) -> Iterator[Question]:
    """Each task as it was last written."""
    last: dict[str, tuple[int, str]] = {}
    for turn, step in enumerate(steps):
        for item in items(step.reply):
            last[item.text] = (turn, item.status)
    statuses = sorted({status for _, status in last.values()})
    if len(statuses) < 2:
        return
    for task, (turn, status) in last.items():
        text = f'How did the task "{task}" stand when you last wrote it down? Answer with one of: {", ".join(statuses)}.'
        yield Question("open", turn, "", text, status, (task,))


def _told(question: Question) -> bool:
    """Whether a question gives its answer away; how a task stands is one of a few words that are named."""
    return question.kind != "open" and question.answer.casefold() in question.text.casefold()


def _unambiguous(made: Iterable[Question]) -> list[Question]:
    """Those that have one answer."""
    answers: dict[str, set[str]] = {}
    last: dict[str, Question] = {}
    for question in made:
        answers.setdefault(question.text, set()).add(question.answer)
        last[question.text] = question
    return [q for q in last.values() if len(answers[q.text]) == 1]


def _spread(found: Sequence[_Any], most: int) -> list[_Any]:
    """So many of them, evenly from first to last."""
    if len(found) <= most:
        return list(found)
    return [found[i * (len(found) - 1) // max(1, most - 1)] for i in range(most)]
