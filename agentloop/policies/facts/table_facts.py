"""Tables and CSV: the header, the first rows, the rows that the call asked about, and what each column holds."""

from collections import Counter
from collections.abc import Iterator, Sequence

from agentloop.policies.facts import kinds, lines
from agentloop.policies.facts.budget import Meter, fitting
from agentloop.policies.facts.lines import Page, bare

HEAD, TAIL = 4, 1
_MAX_ROWS = 10_000
_FEW = 6
"""A column with at most so many values is told value by value."""


def ranked(page: Page) -> Iterator[int]:
    """The lines, those first that are worth most."""
    count = len(page.lines)
    yield 0
    yield from page.kept()
    yield from page.named()
    yield from lines.ends(count, HEAD, TAIL + 1)
    yield from page.best_matches()
    yield from range(count)


def summary(page: Page, room: int, meter: Meter) -> list[str]:
    """The number of rows, and for each column its range or its values, as many columns as fit."""
    rows = _rows(page)
    if len(rows) < 3:
        return []
    header, body = rows[0], [r for r in rows[1:] if not all(set(c) <= set("-: ") for c in r)]
    first = f"the first {len(body)} of " if len(page.lines) > _MAX_ROWS else ""
    count = len(page.lines) + page.more if first else len(body)
    said = [f"[{first}{count} rows; columns: {', '.join(header)}]"]
    said += [f"[{name}: {told}]" for c, name in enumerate(header) if (told := _column([r[c] for r in body if c < len(r)]))]
    return fitting(said, room, meter)


def _rows(page: Page) -> list[list[str]]:
    plain = [line for line in page.lines[:_MAX_ROWS] if line.strip()]
    if not (mark := kinds.delimiter(plain[: kinds.SAMPLE])):
        plain = [bare(line) for line in plain]
        mark = kinds.delimiter(plain[: kinds.SAMPLE])
    return [[c.strip()[:200] for c in kinds.cells(line, mark)] for line in plain] if mark else []


def _column(values: Sequence[str]) -> str:
    """What a column holds: few values counted, numbers by their range and sum, else how many differ."""
    filled = [v for v in values if v]
    counts = Counter(filled)
    if not filled or len(counts) == 1:
        return f"all {filled[0]}" if filled else ""
    if len(counts) <= _FEW and len(filled) > 2 * len(counts):
        return ", ".join(f"{value} ×{times}" for value, times in counts.most_common())
    numbers = [n for v in filled if (n := _number(v)) is not None]
    if len(numbers) == len(filled):
        return f"{min(numbers):g} to {max(numbers):g}, sum {sum(numbers):.12g}"
    return f"{len(counts)} different" if len(counts) < len(filled) else ""


def _number(text: str) -> float | None:
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return None
    return value if value - value == 0 else None
