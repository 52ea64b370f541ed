"""Logs and test output: the first errors with their surroundings, the summary, what was asked, and repeated lines counted."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from agentloop.policies.facts import lines
from agentloop.policies.facts.budget import Meter, fitting
from agentloop.policies.facts.lines import Page

HEAD, TAIL = 3, 12
TROUBLE = (
    "error", "errors", "fail", "failed", "failure", "failures", "fatal", "panic", "exception", "traceback", "critical",
    "denied", "refused", "timeout", "undefined", "abort", "aborted", "assertionerror", "warning", "warn",
)  # fmt: skip
SUMMARY = ("passed", "total", "summary", "finished", "completed", "exit", "coverage", "succeeded", "skipped")
_CHANGING = re.compile(r"0x[0-9a-fA-F]+|[0-9a-f]{8,}|\d+")
_MAX_GROUPS = 12
SHAPED = 20_000
"""So many lines are compared with one another."""


def ranked(page: Page) -> Iterator[int]:
    """The lines, those first that are worth most."""
    count, like = len(page.lines), shapes(page)
    yield from page.kept()
    yield from page.named()
    yield from lines.ends(count, 1, 2)
    troubles = firsts(like, troubled(page))
    yield from lines.around(troubles[:3], count, 2, 5)
    yield from lines.ends(count, HEAD, TAIL)
    yield from troubles[:30]
    yield from page.best_matches()[:20]
    yield from firsts(like, page.holding(SUMMARY))[:10]
    yield from lines.around(troubles, count, 1, 2)
    yield from firsts(like, range(count))
    yield from reversed(range(count))


def troubled(page: Page) -> list[int]:
    """The lines that tell of trouble, the worst words first."""
    return list(dict.fromkeys([*page.holding(TROUBLE[:12]), *page.holding(TROUBLE[12:]), *camel_errors(page)]))


def camel_errors(page: Page) -> list[int]:
    """The lines with a name like `ValueError:`."""
    found: list[int] = []
    at = page.low.find("error:")
    while at >= 0 and len(found) < 100:
        found.append(page.line_at(at))
        at = page.low.find("error:", at + 6)
    return found


def firsts(shapes: Sequence[str], numbers: Iterable[int]) -> list[int]:
    """Of lines that differ only in their numbers, the first."""
    seen: dict[str, int] = {}
    for i in numbers:
        if i < len(shapes):
            seen.setdefault(shapes[i], i)
    return list(seen.values())


@lru_cache(maxsize=1)
def shapes(page: Page) -> list[str]:
    """The lines with their numbers and ids taken out."""
    whole = "\n".join(page.lines[:SHAPED])
    return _CHANGING.sub("", whole).split("\n")


def repeats(page: Page, chosen: Sequence[int], room: int, meter: Meter) -> list[str]:
    """How often a chosen line comes again with other numbers, the most frequent first."""
    like = shapes(page)
    counts = Counter(like)
    first = firsts(like, (i for i in chosen if page.lines[i].strip()))
    often = sorted(((counts[like[i]], i) for i in first if counts[like[i]] > 3), key=lambda o: (-o[0], o[1]))
    said = [f"[{times} lines are like line {i + 1}]" for times, i in often[:_MAX_GROUPS]]
    return fitting(said, room, meter)
