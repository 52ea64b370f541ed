"""Where in a session some words stand: in what the user said, in replies and calls, in whole results, also those that have
left the view. Made of log and blobs when it is first asked, and brought up to date at each question; never kept."""

import hashlib
import threading
from collections.abc import Iterator

from agentloop.full_text import FullText, Match, Passage, around
from agentloop.ports import Blobs, News
from agentloop.result_text import readable
from agentloop.types import blocks
from agentloop.types.base import compact
from agentloop.types.blocks import Call
from agentloop.types.events import Event, InputGiven, ModelReplied, ToolFinished

PASSAGE_LINES = 24
PASSAGE_CHARS = 3_000
MOST_PASSAGES = 200
MOST_PLACES = 8
LINES_A_PLACE = 6
LINE_CHARS = 240
MOST_CHARS = 6_000
"""What one answer may hold, some 2,000 tokens."""
_ARGUMENT_CHARS = 100
SEARCHES = frozenset({"recall", "search_knowledge"})
"""Tools whose calls hold the words of a question; what `recall` gives back was there before."""


class SessionIndex:
    """The search over one session.

    What stands in the reply that is being answered, or is written while it is, is not searched: so the answer does not
    depend on which of its calls came back first.
    """

    def __init__(self, news: News, blobs: Blobs) -> None:
        """Over what this log says from now on, and these whole results."""
        self._news, self._blobs = news, blobs
        self._texts = FullText()
        self._lock = threading.Lock()
        self._labels: dict[str, str] = {}
        self._known: set[bytes] = set()
        """Digests of the texts: what is seen again, word for word, is found once."""
        self._by_seq: dict[int, str] = {}
        self._calls: dict[str, Call] = {}
        self._waiting: list[Event] = []

    def search(self, words: str) -> str:
        """The places that fit the words best, each with its handle, its turn and the lines that hold them."""
        with self._lock:
            self._catch_up()
            return self._found(words)

    def _found(self, words: str) -> str:
        by_source: dict[str, list[Match]] = {}
        for match in self._texts.search(words, MOST_PASSAGES):
            by_source.setdefault(match.passage.source, []).append(match)
        if not by_source:
            return f"[nothing in this session fits; {len(self._labels)} things were searched]"
        shown: list[str] = []
        size = 0
        for source, matches in list(by_source.items())[:MOST_PLACES]:
            text = "\n".join([f"[{source}] {self._labels[source]}", *_lines(matches)])
            size += len(text) + 1
            if shown and size > MOST_CHARS:
                break
            shown.append(text)
        left = len(by_source) - len(shown)
        note = f"\n[{left} more places fit less well]" if left else ""
        return "\n".join(shown) + note

    def text(self, handle: str) -> str:
        """The whole of what a handle stands for. Raises ValueError where there is no such thing."""
        if handle.startswith("#"):
            with self._lock:
                self._catch_up()
            if handle[1:].isdecimal() and (text := self._by_seq.get(int(handle[1:]))) is not None:
                return text
        elif (data := self._blobs.find(handle)) is not None:
            return data.decode("utf-8", "replace")
        raise ValueError(f"no result with handle '{handle}' in this session; use the handle as it was shown")

    def _catch_up(self) -> None:
        for event in self._news():
            if isinstance(event.body, ModelReplied) and event.body.purpose == "turn":
                self._take_waiting()
            self._waiting.append(event)

    def _take_waiting(self) -> None:
        for event in self._waiting:
            for source, label, text in self._seen(event):
                digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
                if digest not in self._known:
                    self._known.add(digest)
                    self._labels[source] = label
                    self._texts.add(passages(source, label, text))
        self._waiting = []

    def _seen(self, event: Event) -> Iterator[tuple[str, str, str]]:
        """What an event shows: its handle, what it is, and its text."""
        match event.body:
            case InputGiven(content=content, source="user"):
                yield self._kept(event.seq, "the user", blocks.text_of(content))
            case ModelReplied(purpose="turn", turn=turn, reply=reply):
                calls = blocks.calls(reply.content)
                self._calls = {c.id: c for c in calls}
                long = [c for c in calls if c.name not in SEARCHES and _shown(c).endswith("…")]
                texts = (blocks.text_of(reply.content), *(f"{c.name} {readable(compact(c.input).decode())}" for c in long))
                if text := "\n".join(t for t in texts if t.strip()):
                    yield self._kept(event.seq, f"turn {turn}, your reply", text)
            case ToolFinished(name=name) as finished if name != "recall":
                call = self._calls.get(finished.call_id)
                label = f"turn {finished.turn}, {_shown(call) if call else name}"
                data = self._blobs.find(finished.raw.digest) if finished.raw is not None else None
                if finished.raw is not None and data is not None:
                    yield finished.raw.digest[:12], label, readable(data.decode("utf-8", "replace"))
                else:
                    yield self._kept(event.seq, label, blocks.result_text(finished.content))
            case _:
                pass

    def _kept(self, seq: int, label: str, text: str) -> tuple[str, str, str]:
        """Something that has no blob: the number of its event is its handle."""
        self._by_seq[seq] = text
        return f"#{seq}", label, readable(text)


def _shown(call: Call) -> str:
    """A call in one line, which stands over its result; one whose arguments are longer is searched by itself too."""
    arguments = compact(call.input).decode()
    return f"{call.name} {arguments if len(arguments) <= _ARGUMENT_CHARS else arguments[:_ARGUMENT_CHARS] + '…'}"


def passages(source: str, heading: str, text: str) -> Iterator[Passage]:
    """A text in pieces of a few lines, which are ranked by themselves: a large one is not at a disadvantage."""
    lines = text.split("\n")
    start = size = 0
    for i, line in enumerate(lines):
        if i > start and (i - start >= PASSAGE_LINES or size + len(line) > PASSAGE_CHARS):
            yield Passage(source, start + 1, "\n".join(lines[start:i]), heading)
            start, size = i, 0
        size += len(line)
    yield Passage(source, start + 1, "\n".join(lines[start:]), heading)


def _lines(matches: list[Match]) -> list[str]:
    """The lines that hold the most of the words, in their order; the first line of a passage whose heading alone fits."""
    found = {n: (line, m.starts[n]) for m in matches for n, line in _with_words(m)}
    words = {n: count for m in matches for n, count in m.lines.items()}
    if not found:
        first = min((m.passage for m in matches), key=lambda p: p.first_line)
        return [f"{first.first_line}: {around(first.text.partition(chr(10))[0], 0, LINE_CHARS)}"]
    best = sorted(found, key=lambda n: (-words[n], n))[:LINES_A_PLACE]
    return [f"{n}: {around(*found[n], LINE_CHARS)}" for n in sorted(best)]


def _with_words(match: Match) -> Iterator[tuple[int, str]]:
    lines = match.passage.text.split("\n")
    return ((n, lines[n - match.passage.first_line]) for n in match.lines)
