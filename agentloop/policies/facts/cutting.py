"""A result cut to facts: its kind is told, lines or fields are chosen, the index takes what room is left."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from agentloop.policies.facts import (
    code_facts,
    html_facts,
    index,
    json_facts,
    kinds,
    lines,
    log_facts,
    table_facts,
    text_facts,
)  # fmt: skip
from agentloop.policies.facts.budget import Meter
from agentloop.policies.facts.lines import Page
from agentloop.types.base import parsed

INDEX_SHARE = 0.55
"""At most so much of the room is set aside for the index; what it does not need goes to lines."""
ROWS_INDEX_SHARE = 0.3
"""The same for what consists of records: a whole record says more than its values strewn."""
RECORDS = frozenset(("json", "json_lines", "table", "log"))
_LINE_TOKENS = 150
"""A JSON line that is longer than this is shown by its structure."""


class Wanted(NamedTuple):
    """What the call and the tool's settings want to see."""

    words: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()
    """Values that the model can see elsewhere."""


class Cut(NamedTuple):
    """The facts, without the note, and what they leave out."""

    text: str
    left_out: str


def facts(content: str, wanted: Wanted, room: int, meter: Meter) -> Cut:
    """The facts of a result, within the room. May be empty, where nothing fits."""
    page = lines.page_of(content, wanted.words, wanted.keep)
    kind = kinds.kind(content, page.lines)
    match kind:
        case "json":
            cut = _json(content, wanted, room, meter)
            return cut if cut is not None else _lines(page, "text", room, meter, wanted.known)
        case "json_lines":
            short = partial(_short_json, wanted=wanted, meter=meter)
            return _lines(replace(page, short=short), "json_lines", room, meter, wanted.known)
        case "html":
            text = html_facts.readable(content)
            page = replace(lines.page_of(text, wanted.words, wanted.keep), numbered=False)
            cut = _lines(page, "html", room, meter, wanted.known)
            return cut._replace(left_out=f"markup and {cut.left_out} of text")
        case _:
            return _lines(page, kind, room, meter, wanted.known)


def _json(content: str, wanted: Wanted, room: int, meter: Meter) -> Cut | None:
    """The facts of a JSON text; None where it is none."""
    try:
        value = parsed(content)
    except ValueError:
        return None
    found = [v for v in index.values(content, dotted=True) if v not in wanted.known]
    inner = room - min(index.cost(found, meter) + index.FRAME, int(room * ROWS_INDEX_SHARE))
    shown = json_facts.shown(value, wanted.words, wanted.fields, inner, meter)
    if not shown:
        return None
    said = f"[{json_facts.outline(value)}]"
    left = room - meter.line(shown) - meter.line(said) - index.FRAME
    values = index.index(found, shown, "", wanted.words, left, meter, dotted=True)
    return Cut("\n".join([shown, said, *values.lines()]), f"parts of {len(content):,} characters of JSON")


def _short_json(line: str, wanted: Wanted, meter: Meter) -> str:
    if len(line) <= lines.LONG:
        return line
    try:
        value: Any = parsed(line)
    except ValueError:
        return lines.shortened(line)
    return json_facts.shown(value, wanted.words, wanted.fields, _LINE_TOKENS * 1_000, meter) or lines.shortened(line)


def _lines(page: Page, kind: kinds.Kind, room: int, meter: Meter, known: frozenset[str]) -> Cut:
    """The facts of a text whose lines count. What the index leaves is filled with more lines."""
    dotted = kind != "code"
    found = [v for v in index.values(page.text, dotted) if v not in known]
    aside = min(index.cost(found, meter) + index.FRAME, int(room * (ROWS_INDEX_SHARE if kind in RECORDS else INDEX_SHARE)))
    chosen, shown = _chosen(page, kind, room - aside, meter)
    near = page.near_matches()
    for _ in range(2):
        left = room - meter.line(shown) - index.FRAME
        values = index.index(found, shown, near, page.asked, left, meter, dotted)
        spare = left - index.cost((*values.names, *values.phrases), meter)
        if values.more or spare < room // 20:
            break
        aside = room - meter.line(shown) - spare
        chosen, shown = _chosen(page, kind, room - aside, meter)
    left = room - meter.line(shown) - index.FRAME
    values = index.index(found, shown, near, page.asked, left, meter, dotted)
    count = len(page.lines) + page.more
    return Cut("\n".join([shown, *values.lines()]), f"{count - len(chosen)} of {count} lines")


def _chosen(page: Page, kind: kinds.Kind, room: int, meter: Meter) -> tuple[list[int], str]:
    """The lines that fit, and what is shown of them and about them."""
    about = table_facts.summary(page, room // 3, meter) if kind == "table" else []
    room -= sum(map(meter.line, about))
    aside = room // 8 if kind == "log" else 0
    chosen = lines.choose(page, _ranked(page, kind), room - aside, meter)
    if kind == "log":
        about = log_facts.repeats(page, chosen, aside, meter)
    return chosen, "\n".join([lines.with_gaps(page, chosen), *about])


def _ranked(page: Page, kind: kinds.Kind) -> Iterator[int]:
    match kind:
        case "code":
            return code_facts.ranked(page)
        case "log":
            return log_facts.ranked(page)
        case "table" | "json_lines":
            return table_facts.ranked(page)
        case _:
            return text_facts.ranked(page)


def head_and_tail(content: str, room: int, meter: Meter) -> Cut:
    """The first and the last lines, as many as fit: what is shown where nothing better can be."""
    page = lines.page_of(content, ())
    count = len(page.lines)
    chosen = lines.choose(page, _from_both_ends(count), room, meter)
    return Cut(lines.with_gaps(page, chosen), f"{count + page.more - len(chosen)} of {count + page.more} lines")


def _from_both_ends(count: int) -> Sequence[int]:
    most = min(count, 2_000)
    return [i for n in range(most) for i in ((n, count - 1 - n) if n % 3 == 0 else (n,)) if i < count]
