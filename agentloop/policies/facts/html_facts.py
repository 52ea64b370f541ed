"""HTML as the text that a reader sees: headings, paragraphs, table rows, links with their addresses."""

import html
import re
from collections.abc import Iterator

_HIDDEN = ("script", "style", "noscript", "svg", "template")
_BLOCKS = frozenset((
    "p", "div", "section", "article", "header", "footer", "main", "nav", "ul", "ol", "li", "table", "tr", "br", "hr",
    "h1", "h2", "h3", "h4", "h5", "h6", "pre", "blockquote", "dl", "dt", "dd", "form", "title", "option", "aside",
    "figure", "caption", "thead", "tbody", "body", "head", "html",
))  # fmt: skip
_CELLS = frozenset(("td", "th"))
_HREF = re.compile(r"\bhref\s*=\s*(?:\"([^\"]{1,500})\"|'([^']{1,500})'|([^\s>\"']{1,500}))", re.IGNORECASE)
_TAG = re.compile(r"/?([a-zA-Z][a-zA-Z0-9]*)")


def readable(text: str) -> str:
    """The text of a page, one block a line; a heading behind its marks, a link before its address, cells between bars."""
    lines = ("".join(pieces).split() for pieces in _blocks(text))
    return "\n".join(" ".join(words).strip("| ") for words in lines if words)


def _blocks(text: str) -> Iterator[list[str]]:
    """The pieces of each block."""
    block: list[str] = []
    hidden, address = "", ""
    first, *rest = text.split("<")
    block.append(first)
    for part in rest:
        inside, closed, said = part.partition(">")
        match = _TAG.match(inside)
        if not closed or (match is None and inside[:1] not in ("!", "?")):
            block.append("" if hidden else "<" + part)
            continue
        name = match[1].lower() if match else ""
        closing = inside.startswith("/")
        if hidden:
            hidden = "" if closing and name == hidden else hidden
            said = "" if hidden else said
        elif name in _HIDDEN and not inside.endswith("/"):
            hidden, said = ("", said) if closing else (name, "")
        if name in _BLOCKS:
            yield block
            block = ["#" * int(name[1]) + " "] if name[0] == "h" and name[1:].isdigit() and not closing else []
        elif name in _CELLS and not closing:
            block.append(" | ")
        elif name == "a":
            if closing and address:
                block.append(f" ({address}) ")
            address = "" if closing else _address(inside)
        block.append(html.unescape(said) if "&" in said else said)
    yield block


def _address(inside: str) -> str:
    found = _HREF.search(inside)
    address = next((g for g in found.groups() if g), "") if found else ""
    return "" if address.startswith(("#", "javascript:")) else html.unescape(address)
