"""The index: the exact values of what was left out (paths, ids, names, numbers), those that the call is about first."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from agentloop.policies.facts import asked
from agentloop.policies.facts.budget import Meter

MAX_CHARS = 200_000
"""So much of a text is read for values: two thirds from its start, one from its end."""
MAX_VALUES = 10_000
MAX_QUOTED = 40
_WORD_CHARS = 60
_CHUNK = re.compile(r"[\w@#%+~$./:&?=\-]+")
_LINE_NUMBER = re.compile(r"^[ \t]*\d+(?:→|\t)", re.M)
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_WINDOWS_PATH = re.compile(r"\b[A-Za-z]:(?:\\{1,2}[\w.-]{1,60}){1,12}(?<=[\w-]{3})")
_CODE_POINT = re.compile(r"\\u((?!d[89a-f])[0-9a-f]{4})", re.IGNORECASE)
_PHRASE = re.compile(r"[A-ZÀ-ÞΑ-ΩА-Я][\w'’]{1,30}(?: [A-ZÀ-ÞΑ-ΩА-Я][\w'’]{1,30}){1,3}")
_QUOTED = re.compile(r"[\"“«「]([^\"“”«»「」\n]{8,80})[\"”»」]")
_TROUBLE = re.compile(r"\b(?:fail|error|invalid|cannot|could not|unable|missing|denied|not found|refused)")
_PART = re.compile(r"[^=:?&$%~+]+")
_NAME = re.compile(r"\w+(?:-\w+)*")
_SHAPED = re.compile(r"[a-z][A-Z]|[A-Z]{2}[a-z]|\w_\w|[A-Za-z]\d|\d[A-Za-z]|^[A-Z][A-Z0-9_]{3,}$")
_CAMEL = re.compile(r"[a-z][A-Z]|[a-z]_[a-z]")
_SLUG = re.compile(r"-.*-|-\d|\d\D*-")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:T[\d:.]+Z?)?")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_ROUND = re.compile(r"[1-9]0+|(?:19|20)\d\d")
_FILE = re.compile(r".*[\w-]\.[A-Za-z][A-Za-z0-9]{0,7}")
_STRIP = ".,:;-?=&+~$%"


class Index(NamedTuple):
    """The values that fit, and how many did not."""

    names: tuple[str, ...]
    phrases: tuple[str, ...]
    more: int

    def lines(self) -> list[str]:
        """As lines to show."""
        more = f"; {self.more} more" if self.more else ""
        said = [f"[values left out: {' '.join(self.names)}{more}]"] if self.names else []
        return [*said, *([f"[names and texts left out: {', '.join(self.phrases)}]"] if self.phrases else [])]


FRAME = 30_000
"""Room for the words around the values."""


def index(found: Sequence[str], shown: str, near: str, words: Sequence[str], room: int, meter: Meter, dotted: bool) -> Index:
    """Of the values found in a result those that are not in what is shown, as many as fit, best first."""
    known = set(values(shown, dotted))
    known.update(part for v in list(known) for part in parts(v))
    close = set(values(near, dotted))
    wanted = [v for v in found if v not in known]
    taken: list[str] = []
    named = _named(wanted, words)
    for value in sorted(wanted, key=lambda v: 0 if v in named else _rank(v, close)):
        takes = meter.line(value) + (meter.weights.mark if " " in value else 0)
        if value in known:
            continue
        if takes <= room:
            taken.append(value)
            room -= takes
            known.update(parts(value))
        elif room < 3_000:
            break
    names = tuple(v for v in taken if " " not in v)
    phrases = tuple(v for v in taken if " " in v)
    return Index(names, phrases, len(set(wanted) - known - set(taken)))


def parts(path: str) -> list[str]:
    """The ends of a path and the names in it: whoever sees the path sees them."""
    if "/" not in path:
        return []
    names = [n for n in path.split("/") if n]
    return [*names, *("/".join(names[i:]) for i in range(len(names)))]


def cost(found: Iterable[str], meter: Meter) -> int:
    """What an index of all these values would take."""
    return meter.cost(" ".join(found))


def _read(text: str) -> str:
    return text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS * 2 // 3]}\n{text[-(MAX_CHARS // 3) :]}"


def _named(found: Sequence[str], words: Sequence[str]) -> set[str]:
    """The values that a word of the call stands in."""
    low = asked.folded("\n".join(found))
    starts = list(accumulate((len(v) + 1 for v in found), initial=0))
    named: set[str] = set()
    for word in words:
        at = low.find(word)
        while at >= 0:
            i = bisect_right(starts, at) - 1
            named.add(found[i])
            at = low.find(word, starts[i + 1])
    return named


def _rank(value: str, close: set[str]) -> int:
    """Small is good: near a match, a place or an id, a name, a number, a phrase."""
    base = 1 if value in close else 2
    if " " in value:
        return base + (6 if value[:1].isupper() else 7)
    if _NUMBER.fullmatch(value):
        return base + (5 if len(value) < 5 or "." in value else 3)
    return base + (3 if len(value) > 80 else 2 if "/" in value and len(value) > 40 else 1)


def values(text: str, dotted: bool) -> list[str]:
    """The exact values in a text, in the order in which they first stand there."""
    text = _LINE_NUMBER.sub("", _read(text))
    found: dict[str, None] = {}
    if "\\" in text:
        found.update(dict.fromkeys(_WINDOWS_PATH.findall(text)))
        text = _unescaped(_WINDOWS_PATH.sub(" ", text))
    for chunk in dict.fromkeys(_CHUNK.findall(text)):
        found.update(dict.fromkeys((_of_word if len(chunk) <= _WORD_CHARS else _of_chunk)(chunk, dotted)))
        if len(found) > MAX_VALUES:
            break
    found.update(dict.fromkeys(_PHRASE.findall(text)))
    found.update(dict.fromkeys([q for q in _QUOTED.findall(text) if " " in q and _TROUBLE.search(q)][:MAX_QUOTED]))
    return list(found)


def _unescaped(text: str) -> str:
    """A text in which the escapes of JSON and of source code no longer cling to the names behind them."""
    text = _CODE_POINT.sub(lambda m: chr(int(m[1], 16)), text)
    return text.replace("\\n", "\n").replace("\\t", "\t").replace("\\/", "/")


@lru_cache(maxsize=8_192)
def _of_word(chunk: str, dotted: bool) -> tuple[str, ...]:
    """The same of a short one, once: a result, what is shown of it and what stands near are mostly the same words."""
    return tuple(_of_chunk(chunk, dotted))


def _of_chunk(chunk: str, dotted: bool) -> Iterable[str]:
    """The values in a run of characters without spaces and quotes."""
    if "://" in chunk:
        return [chunk.strip(_STRIP)] if len(chunk) <= 300 else []
    if "@" in chunk and _EMAIL.search(chunk):
        return _EMAIL.findall(chunk)
    return [v for part in _PART.findall(chunk) for v in _of_part(part.strip(_STRIP), dotted)]


def _of_part(part: str, dotted: bool) -> Iterable[str]:
    if not 3 <= len(part) <= 200:
        return []
    part = part.lstrip("/") if part.startswith("//") else part
    if "/" in part:
        return [part] if any(len(p) > 2 and not p.isdigit() for p in part.split("/")) else []
    if _DATE.fullmatch(part) or part.startswith("#"):
        return [part]
    if _NUMBER.fullmatch(part):
        return [part] if sum(map(str.isdigit, part)) > 2 and (len(part) > 3) else []
    if "." in part:
        if dotted or (_FILE.fullmatch(part) and part.count(".") == 1 and part.rpartition(".")[2] in _EXTENSIONS):
            return [part]
        return [v for piece in part.split(".") for v in _of_part(piece, dotted)]
    if _NAME.fullmatch(part) and (_SHAPED.search(part) or _SLUG.search(part)):
        return [part] if len(part) <= 120 else []
    return []


_EXTENSIONS = frozenset((
    "go", "py", "pyi", "ts", "tsx", "js", "jsx", "mjs", "cjs", "vue", "svelte", "json", "jsonl", "md", "mdx", "rst",
    "txt", "yaml", "yml", "toml", "ini", "cfg", "conf", "env", "sh", "bash", "zsh", "fish", "ps1", "log", "css",
    "scss", "less", "html", "htm", "xml", "svg", "png", "jpg", "jpeg", "gif", "webp", "pdf", "csv", "tsv", "sql",
    "rs", "c", "h", "cc", "cpp", "hpp", "cs", "java", "kt", "kts", "scala", "rb", "php", "pl", "lua", "r", "jl",
    "swift", "m", "mm", "ex", "exs", "erl", "hs", "clj", "dart", "zig", "nim", "lock", "mod", "sum", "gradle",
    "proto", "service", "plist", "desktop", "zip", "gz", "tar", "tgz", "xlsx", "docx", "ipynb", "tf", "tfvars", "tpl",
    "tmpl", "gitignore", "dockerfile", "local", "example", "test", "spec",
))  # fmt: skip
