"""The folders of documents that an agent may search: cut into passages, found by words, given only as far as they fit.

The files are looked at again at each search, so what changes is found as it is now; nothing of it stands in the prefix.
"""

import os
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from agentloop import rooted
from agentloop.errors import ConfigError
from agentloop.full_text import FullText, Match, Passage, around
from agentloop.html_text import readable
from agentloop.tooling import Tool, tool

SUFFIXES = frozenset({".md", ".markdown", ".txt", ".text", ".rst", ".html", ".htm", ".csv", ".tsv"})
MAX_FILES = 2_000
MAX_FILE_BYTES = 5_000_000
MAX_TOTAL_BYTES = 50_000_000
PASSAGE_CHARS = 1_600
"""A passage ends at the first paragraph behind which it would be longer."""
MOST_PASSAGES = 5
MOST_CHARS = 7_000
"""What one answer may hold, some 2,300 tokens."""
HEADING_CHARS = 1_000
"""What a passage keeps of the headings over it, or of the names of its columns."""
_LOOKED_AT = 200
NAME = "search_knowledge"
_HEADING = re.compile(r"(#{1,6})\s+(\S.*)")
_FENCE = re.compile(r"\s*(```|~~~)")


class _Seen(NamedTuple):
    """A file as it was when it was read: another time, size or inode means that it has changed."""

    mtime_ns: int
    size: int
    inode: int


class Knowledge:
    """What stands in some folders under a root."""

    def __init__(self, root: Path, folders: Sequence[str]) -> None:
        """Raises ConfigError where a folder is missing, outside of the root, or holds nothing that can be read."""
        self._root, self._folders = root, tuple(folders)
        self._texts = FullText()
        self._lock = threading.Lock()
        self._seen: dict[str, _Seen] = {}
        self._binary: set[str] = set()
        self.left_out: tuple[str, ...] = ()
        """Files that are not searched, each with the reason."""
        for folder in self._folders:
            self._check(folder)

    def search(self, query: str) -> str:
        """The passages that fit a query best, each with its file and lines. Raises ValueError where it holds no word, or
        nothing is left to search."""
        with self._lock:
            return self._found(query)

    def _found(self, query: str) -> str:
        self._catch_up()
        searched = len(self._seen) - len(self._binary)
        if not searched:
            why = f" ({'; '.join(self.left_out[:5])})" if self.left_out else ""
            raise ValueError(f"there is nothing to search any more in {', '.join(self._folders)}{why}")
        shown: list[str] = []
        size = 0
        # those that are as good stand by file and line: which of them was read first must not count
        found = sorted(self._texts.search(query, _LOOKED_AT), key=lambda m: (m.rank, m.passage.source, m.passage.first_line))
        for match in found:
            text = _shown(match)
            size += len(text) + 2
            if shown and (size > MOST_CHARS or len(shown) == MOST_PASSAGES):
                break
            shown.append(text)
        files = f"{searched} files" if searched > 1 else "1 file"
        notes = [f"[left out: {'; '.join(self.left_out[:5])}]"] if self.left_out else []
        return "\n\n".join([*(shown or [f"[nothing fits; {files} were searched. Try other words]"]), *notes])

    def _check(self, folder: str) -> None:
        where = f"knowledge folder '{folder}'"
        try:
            place = rooted.rooted(folder, self._root)
        except ValueError as e:
            raise ConfigError(f"{where}: {e}") from e
        if not place.is_dir():
            what = "is not a folder" if place.exists() else "does not exist"
            raise ConfigError(f"{where} {what}: expected {place}; make it, or take it out of the agent's 'knowledge'")
        found, left_out = _files(self._root, [folder])
        if not found:
            why = f" ({left_out[0]})" if left_out else ""
            ends = ", ".join(sorted(SUFFIXES))
            raise ConfigError(f"{where} holds nothing that can be searched{why}; files may end in {ends}")

    def _catch_up(self) -> None:
        """Read what is new or has changed; forget what has gone."""
        found, left_out = _files(self._root, self._folders)
        for path in sorted({p for p, seen in self._seen.items() if found.get(p) != seen}):
            self._texts.drop(path)
            self._binary.discard(path)
            del self._seen[path]
        for path in sorted(found.keys() - self._seen.keys()):
            try:
                data = rooted.read_bytes(self._root, path)
            except (ValueError, FileNotFoundError) as e:
                left_out.append(str(e))
                continue
            if b"\x00" in data[:8_192]:
                self._binary.add(path)
            else:
                self._texts.add(passages(path, data.decode("utf-8-sig", "replace").replace("\r\n", "\n")))
            self._seen[path] = found[path]
        self.left_out = (*left_out, *(f"{path} is binary" for path in sorted(self._binary)))


def knowledge_tool(root: Path, folders: Sequence[str]) -> Tool:
    """The built-in `search_knowledge` tool, over folders under a root. Raises ConfigError as `Knowledge` does."""
    knowledge = Knowledge(root, folders)

    def search_knowledge(query: str) -> str:
        return knowledge.search(query)

    search_knowledge.__doc__ = f"""Find passages in the documents of {", ".join(folders)}, with file and line numbers.

        Use it before you rely on what you only believe to know of what is written there.

        Args:
            query: The words that the passage should hold, best exact names and terms.
        """
    return tool(effect="read", facts="keep", timeout_s=60)(search_knowledge)


def _files(root: Path, folders: Sequence[str]) -> tuple[dict[str, _Seen], list[str]]:
    """The files that are searched, and those that would be but for their size or number."""
    found: dict[str, _Seen] = {}
    left_out: list[str] = []
    total = 0
    for path, size in _listed(root, folders):
        if path in found:
            continue
        if size > MAX_FILE_BYTES:
            left_out.append(f"{path} is larger than {MAX_FILE_BYTES // 1_000_000} MB")
        elif len(found) == MAX_FILES or total + size > MAX_TOTAL_BYTES:
            left_out.append(f"{path} is beyond the first {MAX_FILES:,} files or {MAX_TOTAL_BYTES // 1_000_000} MB")
        elif (seen := _stat(root / path)) is not None:
            found[path] = seen
            total += size
    return found, left_out


def _listed(root: Path, folders: Sequence[str]) -> Iterator[tuple[str, int]]:
    for folder in folders:
        try:
            files = rooted.files_in(root, folder)
        except (FileNotFoundError, ValueError):  # gone since the session started
            continue
        yield from (f for f in files if f.bytes and PurePosixPath(f.path).suffix.lower() in SUFFIXES)


def _stat(path: Path) -> _Seen | None:
    try:
        now = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return _Seen(now.st_mtime_ns, now.st_size, now.st_ino)


def passages(path: str, text: str) -> Iterator[Passage]:
    """A document in passages: by headings and paragraphs, a table by some rows at a time. Lines of a page count as they are
    read, not as they are marked up."""
    match PurePosixPath(path).suffix.lower():
        case ".csv" | ".tsv":
            yield from _of_table(path, text.split("\n"))
        case ".html" | ".htm":
            yield from _of_text(path, readable(text).split("\n"))
        case _:
            yield from _of_text(path, text.split("\n"))


def _of_table(path: str, lines: Sequence[str]) -> Iterator[Passage]:
    """Rows, with the names of the columns over each passage."""
    if not "".join(lines[1:]).strip():
        yield from _of_text(path, lines)
        return
    start, size = 1, 0
    columns = around(lines[0], 0, HEADING_CHARS)
    for i in range(1, len(lines)):
        if size and size + len(lines[i]) > PASSAGE_CHARS:
            yield Passage(path, start + 1, "\n".join(lines[start:i]), columns)
            start, size = i, 0
        size += len(lines[i]) + 1
    yield Passage(path, start + 1, "\n".join(lines[start:]), columns)


def _of_text(path: str, lines: Sequence[str]) -> Iterator[Passage]:
    """Paragraphs under their headings, several to a passage while they are short."""
    over: list[tuple[int, str]] = []
    start, size, fence = 0, 0, ""
    for i, line in enumerate(lines):
        if (mark := _FENCE.match(line)) is not None and fence in ("", mark[1]):
            fence = "" if fence else mark[1]
        heading = None if fence else _HEADING.match(line)
        after_blank = i > 0 and not lines[i - 1].strip()
        if heading or size > 2 * PASSAGE_CHARS or (size > PASSAGE_CHARS and after_blank):
            yield from _passage(path, lines, start, i, over)
            start, size = i, 0
        if heading:
            depth = len(heading[1])
            over = [*(o for o in over if o[0] < depth), (depth, heading[2].strip("# \t"))]
        size += len(line) + 1
    yield from _passage(path, lines, start, len(lines), over)


def _passage(path: str, lines: Sequence[str], start: int, end: int, over: Sequence[tuple[int, str]]) -> Iterator[Passage]:
    while start < end and not lines[start].strip():
        start += 1
    while end > start and not lines[end - 1].strip():
        end -= 1
    if start < end and not (end - start == 1 and _HEADING.match(lines[start])):
        heading = around(" > ".join(h for _, h in over), 0, HEADING_CHARS)
        yield Passage(path, start + 1, "\n".join(lines[start:end]), heading)


def _shown(match: Match) -> str:
    passage = match.passage
    last = passage.first_line + passage.text.count("\n")
    lines = f"lines {passage.first_line}-{last}" if last > passage.first_line else f"line {last}"
    heading = f" · {passage.heading}" if passage.heading else ""
    head = f"{passage.source}, {lines}{heading}\n"
    return head + around(passage.text, _first_word(match), MOST_CHARS - len(head) - 2)


def _first_word(match: Match) -> int:
    """Where in a passage the first word that was searched for begins, in characters."""
    if not match.starts:
        return 0
    line = min(match.starts)
    before = match.passage.text.split("\n")[: line - match.passage.first_line]
    return sum(len(one) + 1 for one in before) + match.starts[line]
