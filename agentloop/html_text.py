"""What a person would read of an HTML page: headings, text, links as `[text](url)`, a table's rows each on a line."""

import time
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

PIECE_CHARS = 65_536
SECONDS = 5.0

_SKIPPED = frozenset({"script", "style", "noscript", "template", "svg", "iframe", "object", "select"})
_BLOCKS = frozenset(
    {"address", "article", "aside", "blockquote", "body", "dd", "div", "dl", "dt", "fieldset", "figcaption", "figure"}
    | {"footer", "form", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "table", "title", "tr", "ul"}
)
_HEADINGS = {f"h{n}": "#" * n for n in range(1, 7)}
_LINKED = frozenset({"http", "https", "mailto"})


def readable(html: str, base: str = "") -> str:
    """The text of a page, whatever state its markup is in; links are completed with the page's own address."""
    reader = _Reader(base)
    until = time.monotonic() + SECONDS
    # Piece by piece and never closed: what is left open at the end of a hostile page is searched again and again by the
    # parser otherwise, in time that grows with the square of the page's size.
    for start in range(0, len(html), PIECE_CHARS):
        reader.feed(html[start : start + PIECE_CHARS])
        if time.monotonic() > until:
            reader.lines.append("[cut: the page took too long to read]")
            break
    return reader.text()


class _Reader(HTMLParser):
    """Collects lines; the pieces of the line that is being read stand in `_pieces`."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._base = base
        self._pieces: list[str] = []
        self._skipping: list[str] = []
        self._link: tuple[int, str] | None = None
        self._in_row = False
        self._as_it_is = False

    def text(self) -> str:
        self._break()
        return "\n".join(line for line in self.lines if line)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SKIPPED:
            self._skipping.append(tag)
        if self._skipping:
            return
        match tag:
            case "a":
                self._end_link()
                self._begin_link(dict(attrs).get("href"))
            case "br":
                self._break() if not self._in_row and self._link is None else self._pieces.append(" ")
            case "td" | "th":
                self._pieces.append(" | " if self._pieces else "")
            case "img":
                self._pieces.append(dict(attrs).get("alt") or "")
            case _ if tag in _HEADINGS or tag in _BLOCKS:
                self._begin_block(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._skipping:
            if tag == self._skipping[-1]:
                self._skipping.pop()
            return
        if tag == "a":
            self._end_link()
        elif tag in _HEADINGS or tag in _BLOCKS:
            self._end_block(tag)

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            self._pieces.append(data)

    def _begin_block(self, tag: str) -> None:
        if self._inside(tag):
            return
        self._break()
        self._in_row = tag == "tr"
        self._as_it_is = tag == "pre"
        if tag in _HEADINGS or tag in ("li", "title"):
            self._pieces.append({"li": "-", "title": "#"}.get(tag) or _HEADINGS[tag])
            self._pieces.append(" ")

    def _end_block(self, tag: str) -> None:
        if self._inside(tag):
            return
        self._break()
        self._in_row = self._as_it_is = False

    def _inside(self, tag: str) -> bool:
        """Whether a block stands in a table's row or in a link, whose text stays on one line."""
        inside = (self._in_row and tag not in ("tr", "table")) or self._link is not None
        if inside:
            self._pieces.append(" ")
        return inside

    def _begin_link(self, target: str | None) -> None:
        if not target:
            return
        try:
            address = urljoin(self._base, target.strip())
            known = urlsplit(address).scheme in _LINKED
        except ValueError:  # an address that cannot be one
            return
        if known:
            self._link = (len(self._pieces), address)

    def _end_link(self) -> None:
        if self._link is None:
            return
        (start, address), self._link = self._link, None
        words = " ".join("".join(self._pieces[start:]).split())
        self._pieces[start:] = [f"[{words}]({address})"] if words else []

    def _break(self) -> None:
        self._end_link()
        line = "".join(self._pieces)
        self._pieces.clear()
        line = line.strip("\n") if self._as_it_is else " ".join(line.split())
        if line.strip("#- |\n"):
            self.lines.append(line)
