"""Plain text and Markdown: headings, the beginning, the end, what the call asked about, the first line of each paragraph."""

import re
from collections.abc import Iterator

from agentloop.policies.facts import lines
from agentloop.policies.facts.kinds import FOUND
from agentloop.policies.facts.lines import Page, bare

HEAD, TAIL = 6, 4
_HEADING = re.compile(r"#{1,6} \S|\*\*[^*]{2,80}\*\*:?$|\d+(?:\.\d+)*\.? [A-Z]|[A-Z][A-Z \d:&-]{5,60}$|={3,} .{2,}|-{3,} .{2,}")


def ranked(page: Page) -> Iterator[int]:
    """The lines, those first that are worth most."""
    count = len(page.lines)
    yield from page.kept()
    yield from page.named()
    yield from lines.ends(count, 2, 1)
    yield from sources(page)
    yield from lines.ends(count, HEAD, TAIL)
    yield from page.best_matches()[:20]
    yield from headings(page)
    yield from lines.around(page.best_matches(), count, 1, 1)
    yield from openings(page)
    yield from range(count)


def headings(page: Page) -> Iterator[int]:
    """The lines that look like headings."""
    for i, line in enumerate(page.lines[: lines.SCANNED]):
        if _HEADING.match(bare(line).strip()[:100]):
            yield i


def openings(page: Page) -> Iterator[int]:
    """The first line of each paragraph."""
    blank = True
    for i, line in enumerate(page.lines[: lines.SCANNED]):
        is_blank = not bare(line).strip()
        if blank and not is_blank:
            yield i
        blank = is_blank


def sources(page: Page) -> Iterator[int]:
    """In what a search printed (`path:line: text`), the first line of each file."""
    seen: set[str] = set()
    for i, line in enumerate(page.lines[: lines.SCANNED]):
        found = FOUND.match(line)
        if found and found[1] not in seen:
            seen.add(found[1])
            yield i
