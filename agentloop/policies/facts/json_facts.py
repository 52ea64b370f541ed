"""JSON cut to its structure: every object's fields, the first elements of a list and those that the call asked about.

What is shown is JSON again, on one line. A list that lost elements ends in the text `[… 37 more]`; a long text is cut at a
word's end and says so. The note stands on a line of its own, outside the JSON.
"""

import json
from collections.abc import Sequence
from itertools import accumulate, islice
from typing import Any, NamedTuple

from agentloop.policies.facts import asked
from agentloop.policies.facts.budget import Meter
from agentloop.types.base import plain

_MAX_DEPTH = 60
_MAX_SEARCHED = 5_000


class _Size(NamedTuple):
    """How much of each part is shown."""

    elements: int
    chars: int
    fields: int
    depth: int = _MAX_DEPTH


_SIZES = (
    *(_Size(n, 2_000, 1_000) for n in (1_000, 300)),
    *(_Size(n, 400, 1_000) for n in (100, 60, 40, 30, 20, 15, 12, 10, 8, 6)),
    *(_Size(n, 160, 1_000) for n in (5, 4, 3)),
    _Size(3, 80, 200),
    _Size(2, 80, 100),
    _Size(1, 80, 60, 6),
    _Size(1, 40, 60, 6),
    _Size(1, 40, 40, 3),
    _Size(1, 20, 30, 3),
    _Size(1, 20, 20, 2),
    _Size(0, 40, 20, 2),
    _Size(0, 20, 20, 1),
    _Size(0, 20, 8, 1),
    _Size(0, 20, 3, 1),
)
"""From the most to the least."""


def shown(value: Any, words: Sequence[str], named: Sequence[str], room: int, meter: Meter) -> str:
    """As much of a value as fits, as JSON on one line; nothing where not even its outline fits."""
    if named and (projected := _project(value, named)) is not None:
        value = projected
    knife = _Knife(words)
    best = ""
    low, high = 0, len(_SIZES) - 1
    while low <= high:  # the sizes shrink, so the first that fits is found by halving
        middle = (low + high) // 2
        text = written(knife.reduced(value, _SIZES[middle]))
        if meter.cost(text) <= room:
            best, high = text, middle - 1
        else:
            low = middle + 1
    return best


def written(value: Any) -> str:
    """JSON on one line."""
    return plain(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


class _Knife:
    """Cuts a value to sizes; which elements of a list were asked about is found once."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._asked: dict[int, list[int]] = {}

    def reduced(self, value: Any, size: _Size) -> Any:
        """A value without the parts that the size does not allow; each gap says what was there."""
        inner = size._replace(depth=size.depth - 1)
        match value:
            case dict() | list() if size.depth <= 0 and value:
                return f"[… {len(value)} {'fields' if isinstance(value, dict) else 'elements'}]"
            case dict():
                kept = {k: self.reduced(v, inner) for k, v in islice(value.items(), size.fields)}
                return kept if len(value) <= size.fields else {**kept, "…": f"{len(value) - size.fields} more fields"}
            case list() if len(value) <= size.elements:
                return [self.reduced(v, inner) for v in value]
            case list():
                named = self._named(value)[: size.elements]
                chosen = sorted({*range(size.elements), *named})
                return [*(self.reduced(value[i], inner) for i in chosen), f"[… {len(value) - len(chosen)} more]"]
            case str() if len(value) > size.chars:
                return _text(value, size.chars)
            case _:
                return value

    def _named(self, value: list[Any]) -> list[int]:
        """The elements that hold the call's words, those with the rarest words first."""
        if id(value) not in self._asked:
            texts = [asked.folded(written(v)) for v in value[:_MAX_SEARCHED]]
            starts = list(accumulate((len(t) + 1 for t in texts[:-1]), initial=0))
            found = asked.hits("\n".join(texts), starts, self._words)
            best = sorted(found.items(), key=lambda h: (-h[1], h[0]))
            self._asked[id(value)] = [i for i, weight in best if weight > 20]
        return self._asked[id(value)]


def _text(value: str, chars: int) -> str:
    cut = value.rfind(" ", chars // 2, chars)
    start = value[: cut if cut > 0 else chars]
    return f"{start}[… {len(value) - len(start)} characters]"


def _project(value: Any, named: Sequence[str]) -> Any:
    """Only the named fields: by name wherever they stand, or by a path with dots, elements of lists passed through. None
    where no field of that name is there."""
    wanted = [tuple(n.split(".")) for n in named]
    return _projected(value, wanted, wanted, 0)


def _projected(value: Any, here: Sequence[tuple[str, ...]], wanted: Sequence[tuple[str, ...]], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, list):
        kept = [p for v in value if (p := _projected(v, here, wanted, depth + 1)) is not None]
        return kept or None
    if not isinstance(value, dict):
        return None
    found = {}
    for key, inner in value.items():
        if any(path == (key,) for path in here):
            found[key] = inner
        else:
            deeper = [*(p[1:] for p in here if len(p) > 1 and p[0] == key), *wanted]
            if (part := _projected(inner, deeper, wanted, depth + 1)) is not None:
                found[key] = part
    return found or None


def outline(value: Any) -> str:
    """What a value is, in a few words."""
    match value:
        case dict():
            lists = [f"{k}: {len(v)} elements" for k, v in value.items() if isinstance(v, list) and v][:6]
            return f"object of {len(value)} fields" + (f" ({', '.join(lists)})" if lists else "")
        case list():
            return f"list of {len(value)} elements"
        case str():
            return f"text of {len(value)} characters"
        case _:
            return "one value"
