"""A text by lines: which are shown, best first, and how the gaps between them are marked."""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

from agentloop.policies.facts import asked
from agentloop.policies.facts.budget import Meter

LONG = 400
"""A longer line is shown by its beginning, and says so."""
SCANNED = 40_000
"""So many lines are looked at for shapes; beyond them only for words."""
MAX_LINES = 200_000
"""So many lines are looked at, at all."""
MAX_TRIES = 200
"""Lines that do not fit are passed over this often before the choice ends."""
_NUMBERED = re.compile(r"[ \t]*\d+(?:→|\t|: |\| ?)")
_NEAR = 2
_RARE = 250
"""The weight of a line with a word that stands in four lines."""


@dataclass(frozen=True)
class Page:
    """A result by lines, and what the call asked about."""

    text: str
    asked: tuple[str, ...]
    keep: tuple[str, ...] = ()
    """Words whose lines are always kept."""
    numbered: bool = True
    """Whether gaps say their line numbers: not where the lines are not those of the raw result."""
    more: int = 0
    """Lines that follow and are not looked at."""
    short: Callable[[str], str] = field(default_factory=lambda: shortened)
    """How a line is shown that is too long."""

    @cached_property
    def lines(self) -> list[str]:
        """The lines, without their ends."""
        return self.text.split("\n")

    @cached_property
    def starts(self) -> list[int]:
        """Where each line starts in the text."""
        return list(accumulate((len(line) + 1 for line in self.lines[:-1]), initial=0))

    @cached_property
    def low(self) -> str:
        """The text in lower case."""
        return asked.folded(self.text)

    @cached_property
    def matches(self) -> Counter[int]:
        """The lines that hold what the call asked about, with a weight each."""
        return asked.hits(self.low, self.starts, self.asked)

    def best_matches(self, most: int = 200) -> list[int]:
        """The lines with the rarest of the call's words, best first."""
        return [i for i, weight in sorted(self.matches.items(), key=lambda m: (-m[1], m[0]))[:most] if weight > 20]

    def named(self) -> list[int]:
        """The lines that hold a word of the call which hardly another line holds."""
        return [i for i in self.best_matches(20) if self.matches[i] >= _RARE]

    def kept(self) -> list[int]:
        """The lines that the tool's settings always keep."""
        return sorted(asked.hits(self.low, self.starts, [asked.folded(w) for w in self.keep]))

    def holding(self, wanted: Sequence[str]) -> list[int]:
        """The lines that hold one of these words, in order."""
        return sorted({self.line_at(p) for word in wanted for p in asked.places(self.low, word)})

    def line_at(self, place: int) -> int:
        """The line that a place in the text is in."""
        return bisect_right(self.starts, place) - 1

    def near_matches(self) -> str:
        """The best matching lines and the lines around them."""
        around = dict.fromkeys(j for i in self.best_matches(40) for j in range(i - _NEAR, i + _NEAR + 1))
        return "\n".join(self.lines[j] for j in around if 0 <= j < len(self.lines))


def page_of(text: str, words: tuple[str, ...], keep: tuple[str, ...] = ()) -> Page:
    """The page of a result; of one with very many lines, the page of the first."""
    more = text.count("\n") + 1 - MAX_LINES
    if more <= 0:
        return Page(text, words, keep)
    return Page("\n".join(text.split("\n", MAX_LINES)[:MAX_LINES]), words, keep, more=more)


def bare(line: str) -> str:
    """A line without the line number that a tool put before it."""
    found = _NUMBERED.match(line)
    return line[found.end() :] if found else line


def ends(count: int, head: int, tail: int) -> list[int]:
    """The first and the last of so many lines."""
    return [*range(min(head, count)), *range(max(head, count - tail), count)]


def around(chosen: Iterable[int], count: int, before: int, after: int) -> Iterator[int]:
    """Each line followed by those around it."""
    for i in chosen:
        yield i
        yield from (j for j in range(max(0, i - before), min(count, i + after + 1)) if j != i)


def choose(page: Page, ranked: Iterable[int], room: int, meter: Meter) -> list[int]:
    """The lines that fit into the room, best first taken, in their own order."""
    lines, count = page.lines, len(page.lines)
    marker = meter.line(gap(page, count, count + 1))
    room -= marker
    chosen: set[int] = set()
    misses = 0
    for i in ranked:
        if i in chosen or not lines[i].strip():
            continue
        gaps = 1 - (i == 0 or i - 1 in chosen) - (i == count - 1 or i + 1 in chosen)
        takes = meter.line(page.short(lines[i])) + gaps * marker
        if takes <= room:
            chosen.add(i)
            room -= takes
        else:
            misses += 1
            if misses > MAX_TRIES:
                break
    return sorted(chosen)


def with_gaps(page: Page, chosen: Sequence[int]) -> str:
    """The chosen lines, each gap marked by its line numbers, counted from 1."""
    lines = page.lines
    shown, expected = [], 0
    for i in [*chosen, len(lines) + page.more]:
        if i == expected + 1 and expected < len(lines) and not lines[expected]:
            shown.append(lines[expected])
        elif i > expected:
            shown.append(gap(page, expected + 1, i))
        if i < len(lines):
            shown.append(page.short(lines[i]))
        expected = i + 1
    return "\n".join(shown)


def gap(page: Page, first: int, last: int) -> str:
    """What stands for these lines."""
    if not page.numbered:
        return "[…]"
    return f"[… {first}-{last}]" if last > first else f"[… {first}]"


def shortened(line: str) -> str:
    """A line; a very long one by its beginning, up to the end of a word."""
    if len(line) <= LONG:
        return line
    cut = line.rfind(" ", LONG // 2, LONG)
    start = line[: cut if cut > 0 else LONG]
    return f"{start}[… {len(line) - len(start)} characters]"
