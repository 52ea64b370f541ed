"""Does this request extend the last one? Is anything in the prefix volatile?

A cached prefix is worth money only while it stays the same, byte for byte. So what changes from run to run (a date, a
random id, a path of this machine) is refused before the first request; and where a later request does not extend the
one before it, the difference is named with the API's own reasons.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from agentloop.types.base import compact
from agentloop.types.request import Prefix, Request

DivergenceKind = Literal["model_changed", "tools_changed", "system_changed", "messages_changed"]

_CONTEXT = 40
_OF_ENVIRONMENT = "the value of $"
_VOLATILE: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("a uuid", re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.I)),
    ("a date", re.compile(r"\b(?:19|20)\d\d-[01]\d-[0-3]\d(?:T[\d:.]+(?:Z|[+-][\d:]+)?)?\b")),
    (
        "a date",
        re.compile(
            r"\b(?:[0-3]?\d(?:st|nd|rd|th)? )?(?:January|February|March|April|May|June|July|August|September|October"
            r"|November|December)(?: [0-3]?\d(?:st|nd|rd|th)?,?)? (?:19|20)\d\d\b"
        ),
    ),
    ("a date", re.compile(r"\b[0-3]?\d[./][01]?\d[./](?:19|20)\d\d\b")),
    ("a time of day", re.compile(r"\b[0-2]?\d:[0-5]\d:[0-5]\d\b")),
    ("a unix time", re.compile(r"(?<![\w.])1[5-9]\d{8}(?:\d{3})?(?![\w.])")),
    ("a random id", re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{16,}\b")),
    ("a memory address", re.compile(r"\b0x[0-9a-f]{8,}\b")),
    ("a temporary path", re.compile(r"(?:/tmp|/var/tmp|/var/folders|/private/tmp|/dev/shm)/[\w./-]+")),
)


class Volatile(NamedTuple):
    """Something in the prefix that will not be the same next time."""

    where: str
    """Such as `system` or `tools.read_file.description`."""
    line: int
    what: str
    value: str


class Divergence(NamedTuple):
    """Where a request stops extending the one before it."""

    kind: DivergenceKind
    where: str
    byte: int
    before: str
    after: str


def volatile(prefix: Prefix, environment: Mapping[str, str], allowed: Sequence[str] = ()) -> tuple[Volatile, ...]:
    """Everything volatile in a prefix: dates, times, ids, temporary paths, and values of these environment variables.

    `allowed` are texts that are known to stay the same.
    """
    found = []
    for where, text in _texts(prefix):
        for what, value, at in _in_text(text, environment):
            if not any(value in a or a in value for a in allowed if a):
                shown = value if not what.startswith(_OF_ENVIRONMENT) else "(not shown)"
                found.append(Volatile(where, text.count("\n", 0, at) + 1, what, shown))
    return tuple(found)


def _texts(prefix: Prefix) -> list[tuple[str, str]]:
    named = [("system", prefix.system)]
    for tool in prefix.tools:
        name = str(tool.get("name"))
        named += [(f"tools.{name}.{key}", v if isinstance(v, str) else compact(v).decode()) for key, v in tool.items()]
    return named


def _in_text(text: str, environment: Mapping[str, str]) -> list[tuple[str, str, int]]:
    found = [(what, m.group(), m.start()) for what, pattern in _VOLATILE for m in pattern.finditer(text)]
    for name, value in environment.items():
        if len(value) >= 8 and not value.isalpha() and (at := text.find(value)) >= 0:
            found.append((f"{_OF_ENVIRONMENT}{name}", value, at))
    return sorted(found, key=lambda f: f[2])


def divergence(before: Request, after: Request) -> Divergence | None:
    """Where `after` stops extending `before`; None where it extends it, as it does between two compactions. In the place of
    a result that was shown once, another answer to the same call may stand."""
    if before.prefix.model != after.prefix.model:
        return Divergence("model_changed", "model", 0, before.prefix.model, after.prefix.model)
    if before.prefix.tools != after.prefix.tools:
        return first_difference("tools_changed", "tools", compact(before.prefix.tools), compact(after.prefix.tools))
    if before.prefix.system != after.prefix.system:
        return first_difference("system_changed", "system", before.prefix.system.encode(), after.prefix.system.encode())
    same = _same_messages(before, after)
    old, new = _blocks(before, same), _blocks(after, same)
    for i, one in enumerate(old):
        if i >= len(new):
            return Divergence("messages_changed", one.where, 0, _shown(one.data, 0), "")
        if new[i].data != one.data and not (one.once and new[i].answers == one.answers):
            return first_difference("messages_changed", one.where, one.data, new[i].data)
    return None


def _same_messages(before: Request, after: Request) -> int:
    """How many messages at the front are the same. Most are the very same object, so this costs next to nothing."""
    pairs = enumerate(zip(before.messages, after.messages, strict=False))
    return next((i for i, (a, b) in pairs if a is not b and a.wire != b.wire), min(len(before.messages), len(after.messages)))


class _Placed(NamedTuple):
    where: str
    data: bytes
    """The block with its role: consecutive messages of one role are one turn."""
    answers: object
    """The call that it is the result of."""
    once: bool
    """Whether it was shown once: the next request need not repeat it."""


def _blocks(request: Request, first: int) -> list[_Placed]:
    """The blocks of the messages from `first` on."""
    last = len(request.messages) - 1
    return [
        _Placed(
            where=f"messages.{i}.content.{j}",
            data=message.role.encode() + b" " + compact(block),
            answers=block.get("tool_use_id"),
            once=i == last and j in request.once,
        )
        for i, message in enumerate(request.messages[first:], first)
        for j, block in enumerate(message.content)
    ]


def first_difference(kind: DivergenceKind, where: str, before: bytes, after: bytes) -> Divergence:
    """The first byte in which two texts differ, with what stands around it."""
    at = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
    return Divergence(kind, where, at, _shown(before, at), _shown(after, at))


def _shown(data: bytes, at: int) -> str:
    return data[max(0, at - _CONTEXT) : at + _CONTEXT].decode("utf-8", "replace")
