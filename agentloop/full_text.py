"""Passages found by their words, best first: SQLite's FTS5 in memory, ranked by bm25. https://sqlite.org/fts5.html

English endings and accents do not count, and a word is found by its beginning. Scripts that write words without spaces
between them are found by pairs of characters.
"""

import re
import sqlite3
import threading
from collections.abc import Iterable
from typing import NamedTuple

MOST_WORDS = 32
_PREFIX_LETTERS = 3
"""A shorter word is found whole only."""
_HEADING_WEIGHT = 2.0
_OPEN, _CLOSE = "\x01", "\x02"
_MARKED = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_CHARACTER = re.compile(f"[{_UNSPACED}]")
_RUN = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_SCHEMA = """
CREATE VIRTUAL TABLE passages USING fts5(heading, text, tokenize='porter unicode61 remove_diacritics 2')
"""
_SEARCH = f"""
SELECT rowid, round(bm25(passages, {_HEADING_WEIGHT}, 1.0), 6) AS rank_of_it, highlight(passages, 1, char(1), char(2))
FROM passages WHERE passages MATCH ? ORDER BY rank_of_it, rowid DESC LIMIT ?
"""


class Passage(NamedTuple):
    """A few lines of something."""

    source: str
    """What they belong to, such as a handle or a path."""
    first_line: int
    text: str
    heading: str = ""
    """What they stand under."""


class Match(NamedTuple):
    """A passage that holds words that were searched for."""

    passage: Passage
    rank: float
    """By bm25: less is better."""
    lines: dict[int, int]
    """Numbers of the lines that hold some, each with how many different ones."""
    starts: dict[int, int]
    """Where in these lines the first one begins, in characters."""


class FullText:
    """Passages, and what is found in them. The same passages in the same order give the same answers."""

    def __init__(self) -> None:
        """There are no passages yet."""
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.execute(_SCHEMA)
        self._passages: dict[int, Passage] = {}
        self._of_source: dict[str, list[int]] = {}
        self._next = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many passages there are."""
        return len(self._passages)

    def add(self, passages: Iterable[Passage]) -> None:
        """Take these too; of two that are as good, the later one is found first."""
        with self._lock:
            for passage in passages:
                row = (self._next, _spaced(passage.heading), _spaced(passage.text))
                self._db.execute("INSERT INTO passages (rowid, heading, text) VALUES (?, ?, ?)", row)
                self._passages[self._next] = passage
                self._of_source.setdefault(passage.source, []).append(self._next)
                self._next += 1

    def drop(self, source: str) -> None:
        """Forget the passages of this source."""
        with self._lock:
            for number in self._of_source.pop(source, ()):
                self._db.execute("DELETE FROM passages WHERE rowid = ?", (number,))
                del self._passages[number]

    def search(self, words: str, most: int) -> list[Match]:
        """The best passages that hold any of these words. Raises ValueError where there is no word to search for."""
        question = _question(words)
        with self._lock:
            found = self._db.execute(_SEARCH, (question, most)).fetchall()
            return [_match(self._passages[number], rank, marked) for number, rank, marked in found]


def around(text: str, start: int, most: int) -> str:
    """A text, or as much of a long one as stands around this character."""
    if len(text) <= most:
        return text
    first = max(0, min(start - most // 4, len(text) - most))
    before, after = "…" if first else "", "…" if first + most < len(text) else ""
    return f"{before}{text[first : first + most]}{after}"


def _question(words: str) -> str:
    """The FTS5 expression: every word in quotes, so that none is an operator."""
    terms = dict.fromkeys(t for word in words.replace('"', " ").split() for t in _terms(word))
    if not terms:
        raise ValueError(f"{words[:80]!r} holds no word to search for")
    return " OR ".join(list(terms)[:MOST_WORDS])


def _terms(word: str) -> list[str]:
    terms = []
    for run in _RUN.findall(word.replace("\x00", "")):
        if _CHARACTER.match(run):
            terms += [f'"{_spaced(run[i : i + 2]).strip()}"' for i in range(max(1, len(run) - 1))]
        elif re.search(r"[^\W_]", run):
            last = re.split(r"[\W_]+", run.rstrip("_-.,;:!?)]}'"))[-1]
            terms.append(f'"{run}"' + (" *" if len(last) >= _PREFIX_LETTERS else ""))
    return terms


def _spaced(text: str) -> str:
    """The text with every character of an unspaced script as a word of its own; line ends stay where they are."""
    text = text.replace(_OPEN, " ").replace(_CLOSE, " ").replace("\x00", " ")
    return text if text.isascii() else _CHARACTER.sub(r" \g<0> ", text)


def _match(passage: Passage, rank: float, marked: str) -> Match:
    lines: dict[int, int] = {}
    starts: dict[int, int] = {}
    for i, line in enumerate(marked.split("\n")):
        if found := {m.casefold() for m in _MARKED.findall(line)}:
            lines[passage.first_line + i] = len(found)
            before = line[: line.index(_OPEN)]
            starts[passage.first_line + i] = len(before) - 2 * len(_CHARACTER.findall(before))
    return Match(passage, rank, lines, starts)
