"""What a call asked about: its words, and the lines of the result that hold them."""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any

from agentloop.types.blocks import Call

_WORD = re.compile(r"\w[\w-]{2,}")
_MAX_WORDS = 40
_MAX_TEXT = 4_000
_MAX_HITS = 400
"""A word that stands in more places than this tells nothing; the search for it stops."""
_STOP = frozenset((
    "the", "and", "for", "with", "from", "that", "this", "not", "all", "any", "are", "was", "has", "have", "into",
    "what", "when", "where", "which", "how", "please", "find", "show", "get", "read", "true", "false", "null", "none",
    "http", "https", "www", "com", "org", "src", "lib", "usr", "bin", "var", "tmp", "home", "users", "name", "path",
    "file", "type", "text",
))  # fmt: skip


def words(call: Call) -> tuple[str, ...]:
    """The words of a call's arguments and of its tool's name, lower case, those of the arguments first."""
    found: dict[str, None] = {}
    for text in _texts(call.input):
        found.update(dict.fromkeys(w for w in _WORD.findall(folded(text[:_MAX_TEXT])) if w not in _STOP))
    found.update(dict.fromkeys(w for w in _WORD.findall(folded(call.name.replace("_", " "))) if w not in _STOP))
    return tuple(islice(found, _MAX_WORDS))


def _texts(value: Any) -> list[str]:
    """The texts and numbers in a JSON value, breadth first, so that its depth does not matter."""
    found: list[str] = []
    level = [value]
    while level and len(found) < _MAX_WORDS:
        found += [str(v) for v in level if isinstance(v, str | int | float) and not isinstance(v, bool)]
        level = [
            inner for v in level for inner in (v.values() if isinstance(v, dict) else v if isinstance(v, list | tuple) else ())
        ]
    return found


def folded(text: str) -> str:
    """Lower case, each character in its place: only İ grows when it is lowered."""
    return (text if text.isascii() else text.replace("İ", "I")).lower()


def hits(low: str, starts: Sequence[int], wanted: Sequence[str]) -> Counter[int]:
    """The lines that hold a wanted word, with a weight each: a word that is rare in the text weighs most."""
    found: Counter[int] = Counter()
    for word in wanted:
        at = {bisect_right(starts, p) - 1 for p in places(low, word)}
        for line in at:
            found[line] += 1_000 // len(at)
    return found


def places(low: str, word: str) -> list[int]:
    """Where a word stands in a lower-case text; nowhere, where it stands nearly everywhere."""
    found: list[int] = []
    at = low.find(word) if word else -1
    while at >= 0:
        if _whole(low, at, at + len(word)):
            found.append(at)
            if len(found) > _MAX_HITS:
                return []
        at = low.find(word, at + len(word))
    return found


def _whole(low: str, start: int, end: int) -> bool:
    """Whether it is no part of a longer ASCII word; other scripts may write without spaces."""
    joined = _joined(low[start - 1 : start], low[start]) or _joined(low[end - 1], low[end : end + 1])
    return not joined


def _joined(left: str, right: str) -> bool:
    pair = left + right
    return pair.isascii() and left.isalnum() and right.isalnum()
