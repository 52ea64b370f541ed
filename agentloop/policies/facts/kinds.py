"""Which kind a text is: JSON, JSON lines, HTML, a table, a log, source code, or just text."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from agentloop.policies.facts.lines import bare

Kind = Literal["json", "json_lines", "html", "table", "log", "code", "text"]

SAMPLE = 400
"""So many lines are looked at, half of them from the start and half from the middle on."""
_HTML = re.compile(r"<(?:!doctype html|html|head|body|div|table|ul|p|h[1-6]|span|section|article)\b", re.IGNORECASE)
_LOG = re.compile(
    r"^\W{0,3}(?:\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d|\[?\d\d:\d\d:\d\d|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{10,13}[. ])"
    r"|^\W{0,2}(?:DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|TRACE|CRITICAL)\b"
    r"|^(?:--- |=== |\s*)(?:PASS|FAIL|RUN|SKIP|ok|PASSED|FAILED|XFAIL)\b"
    r"|^\S+(?:\.\w+|::\S+) (?:PASSED|FAILED|SKIPPED|ERROR|\.+|F+)"
    r"|^Traceback \(|^\s+at \S+ ?\(|^\s+File \"|^(?:error|warning)(?:\[\w+\])?: |^\S+:\d+:\d+: (?:error|warning)"
)
FOUND = re.compile(r"([^\s:]{3,200}):\d+[:-](?!.{0,10}\b(?:error|warning|fatal)\b)")
"""A line that a search printed, `path:line: text`; no complaint of a compiler."""
_CODE = re.compile(
    r"^\s*(?:(?:export|public|private|protected|static|async|pub|final|abstract|default|override|inline|extern|unsafe)\s+)*"
    r"(?:func|def|class|fn|function|interface|struct|enum|trait|impl|import|from|package|use|using|namespace|module|return|if|"
    r"for|while|const|let|var|type|elif|else|switch|case|try|except|catch|#include|require|end|defer|async|await)\b"
    r"|[;{}]\s*$|^\s*[})\]]|^\s*(?://|/\*|\*|#!|@\w+)|^\s*[\w.\[\]]+\s*(?::=|[-+*|]?=)[^=]|\)\s*(?:->\s*[^:]+)?:\s*$|^\s*[\w.]+\(.*[(,)]\s*$"
)


def kind(text: str, lines: Sequence[str]) -> Kind:
    """The kind of a text, told from its beginning and its middle."""
    start = text[:2_000].lstrip("\ufeff \t\n")
    if start[:1] in ("{", "["):
        return "json_lines" if json_lines(lines) else "json"
    if (start[:1] == "<" and _HTML.match(start)) or len(_HTML.findall(text[:20_000])) > 20:
        return "html"
    middle = max(SAMPLE // 2, len(lines) // 2)
    sample = [line for line in (*lines[: SAMPLE // 2], *lines[middle : middle + SAMPLE // 2]) if line.strip()]
    plain = [bare(line)[:300] for line in sample]
    if not sample:
        return "text"
    if sum(1 for line in sample if FOUND.match(line)) >= 0.6 * len(sample):
        return "text"
    if delimiter(sample) or delimiter(plain):
        return "table"
    for name, shape, share in (("log", _LOG, 0.35), ("code", _CODE, 0.35)):
        if sum(1 for line in plain if shape.search(line)) >= share * len(plain):
            return name  # type: ignore[return-value]
    return "text"


def json_lines(lines: Sequence[str]) -> bool:
    """Whether each of the first lines looks like a whole JSON value of its own."""
    first = [line.strip() for line in lines[:20] if line.strip()]
    return len(first) > 1 and all(line[0] + line[-1] in ("{}", "[]") for line in first)


def delimiter(lines: Sequence[str]) -> str:
    """The delimiter of a table: the one that stands equally often in nearly every line; none where there is none."""
    if len(lines) < 5 or _counted(lines):
        return ""
    for mark in ("\t", "|", ",", ";"):
        counts = Counter(len(cells(line, mark)) for line in lines)
        width, times = counts.most_common(1)[0]
        if width > (2 if mark in ",;" else 1) and times >= 0.9 * len(lines):
            return mark
    return ""


def _counted(lines: Sequence[str]) -> bool:
    """Whether these are only lines behind their numbers, a tab between: no table of two columns."""
    pairs = [line.strip(" ").split("\t", 1) for line in lines[:20]]
    numbers = [int(p[0]) for p in pairs if len(p) == 2 and p[0].isascii() and p[0].isdigit() and len(p[0]) < 9]
    return len(numbers) == len(pairs) and all(b == a + 1 for a, b in pairwise(numbers)) and "\t" not in pairs[0][1]


def cells(line: str, mark: str) -> list[str]:
    """The cells of a row; quoted ones may hold the delimiter."""
    if mark == "|":
        return [c.strip() for c in line.strip().strip("|").split("|")]
    if '"' not in line:
        return line.split(mark)
    try:
        return next(csv.reader([line], delimiter=mark), [])
    except csv.Error:
        return line.split(mark)
