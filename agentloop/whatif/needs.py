"""Need-recall: of the exact values that a recorded agent went on to use, how many a policy would still have shown it.

A need is a value (a path, an id, a name of somebody's own making, a number, a date, a phrase) in the input of a tool call
or in the text of a turn, which came into the session in a tool result or in what the user said, and not only in the
message just before that turn. What stands in tools or system prompt is always there, and what the agent wrote first was
its own idea: neither is a need. Which values a text has, `policies/facts/index.py` says.

This is lexical: a state that tells a fact in other words scores nothing for it, and one that keeps a value without its
meaning scores fully. It takes what the recorded agent did as what was needed.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from agentloop.importers.recording import Recording
from agentloop.policies.facts import index
from agentloop.types import blocks
from agentloop.types.base import compact
from agentloop.types.blocks import Block, Message

ALWAYS = -1
"""The place of tools and system prompt, before all messages."""

_FIELD_CHARS = 120
_LONG_NAME = 9
_LINES = re.compile(r"\d+-\d+")


class Need(NamedTuple):
    """A value that a turn used."""

    value: str
    in_call: bool
    """It stands in the input of a tool call, not only in what was said."""


class Met(NamedTuple):
    """Need-recall as counts, so that sessions add up."""

    met: int = 0
    needs: int = 0
    whole_turns: int = 0
    """Turns that were shown everything that their tool calls needed."""
    turns: int = 0
    """Turns whose tool calls needed something."""

    def __add__(self, other: tuple[Any, ...]) -> "Met":
        return Met(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def recall(self) -> float | None:
        """The share of needs that were met."""
        return self.met / self.needs if self.needs else None

    @property
    def whole(self) -> float | None:
        """The share of turns that were shown all that they needed."""
        return self.whole_turns / self.turns if self.turns else None


class Seen:
    """Which values stand in a message; each text is read once."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self._messages: dict[int, tuple[Message, frozenset[str]]] = {}
        self._texts: dict[str, frozenset[str]] = {}

    def of(self, message: Message) -> frozenset[str]:
        """The values of a message, in every form."""
        found = self._messages.get(id(message))
        if found is None:  # the message is kept beside its values: so no other one can get its id
            found = self._messages[id(message)] = (message, self.forms(_texts(message.content)))
        return found[1]

    def forms(self, texts: Iterable[str]) -> frozenset[str]:
        """Every form under which a value can be met in these texts: itself, the parts of a path, of a dotted name."""
        return frozenset().union(*(self._text(t) for t in texts))

    def _text(self, text: str) -> frozenset[str]:
        if text not in self._texts:
            found = {*index.values(text, dotted=True), *index.values(text, dotted=False)}
            self._texts[text] = frozenset(found).union(*(index.parts(v) for v in found))
        return self._texts[text]


def needs(recording: Recording, seen: Seen, just_given: bool = False) -> tuple[tuple[Need, ...], ...]:
    """The needs of each turn of a recording. `just_given`: with those that came only in the message just before the turn."""
    forms = seen.forms
    first: dict[str, int] = dict.fromkeys(forms([recording.system, compact(recording.tools).decode()]), ALWAYS)
    answers: Sequence[Block] = ()
    found = []
    for turn, step in enumerate(recording.steps):
        for value in forms(_texts((*answers, *step.told))):
            first.setdefault(value, 2 * turn)
        found.append(tuple(_used(step.reply, partial(_came_earlier, first, 2 * turn + just_given))))
        for value in forms(_texts(step.reply)):
            first.setdefault(value, 2 * turn + 1)
        answers = [recording.results[c.id] for c in blocks.calls(step.reply) if c.id in recording.results]
    return tuple(found)


def met(wanted: Sequence[Need], view: Sequence[Message], seen: Seen) -> Met:
    """How many of a turn's needs the messages of its request show."""
    if not wanted:
        return Met()
    shown = [any(need.value in seen.of(m) for m in reversed(view)) for need in wanted]
    calls = [there for need, there in zip(wanted, shown, strict=True) if need.in_call]
    return Met(sum(shown), len(shown), int(bool(calls) and all(calls)), int(bool(calls)))


def _came_earlier(first: Mapping[str, int], place: int, value: str) -> bool:
    """Whether a value first stood in a user's message before this place."""
    at = first.get(value, ALWAYS)
    return at >= 0 and at % 2 == 0 and at < place


def _used(reply: Sequence[Block], came_earlier: Callable[[str], bool]) -> Iterator[Need]:
    """The values that a reply used, calls first; of a path the longest end that came earlier."""
    known: set[str] = set()
    called = [text for c in blocks.calls(reply) for text in _leaves(c.input)]
    for texts, in_call in ((called, True), ([blocks.text_of(reply)], False)):
        for value in (v for text in texts for v in _exact(text)):
            need = next((form for form in (value, *_ends(value)) if came_earlier(form)), None)
            if need is not None and need not in known:
                known.add(need)
                yield Need(need, in_call)


def _exact(text: str) -> Iterator[str]:
    """The values of a text that say where to look or what to name. In something longer than a field (code, a letter) short
    names are its writer's own, a dotted name is an expression, and texts in quotes are new; numbers with a dash are lines."""
    is_field = "\n" not in text and len(text) <= _FIELD_CHARS
    for value in index.values(text, dotted=is_field):
        words = value.count(" ")
        if _LINES.fullmatch(value) or words > 3:
            continue
        if is_field or words or "/" in value or "." in value or len(value) >= _LONG_NAME:
            yield value


def _ends(value: str) -> list[str]:
    """The ends of a path, longest first."""
    names = [n for n in value.split("/") if n] if "/" in value else []
    return ["/".join(names[i:]) for i in range(len(names))]


def _texts(content: Iterable[Block]) -> Iterator[str]:
    for block in content:
        match block.get("type"):
            case "text":
                yield str(block.get("text") or "")
            case "tool_result":
                yield blocks.result_text(block.get("content") or "")
            case "tool_use":
                yield "\n".join(_leaves(block.get("input")))


def _leaves(value: Any) -> Iterator[str]:
    """The texts and numbers in a JSON value, as they read, not as they are escaped."""
    match value:
        case dict():
            for inner in value.values():
                yield from _leaves(inner)
        case list():
            for inner in value:
                yield from _leaves(inner)
        case None | bool():
            return
        case _:
            yield str(value)
