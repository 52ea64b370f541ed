"""Source code: its definitions, outermost first, the lines that the call's words name, and the head."""

import re
from collections.abc import Iterator

from agentloop.policies.facts import lines
from agentloop.policies.facts.lines import Page, bare

HEAD, TAIL = 3, 1
_DEFINITION = re.compile(
    r"(?:(?:export|default|public|private|protected|internal|static|async|pub(?:\(\w+\))?|final|abstract|override|inline|"
    r"extern|unsafe|virtual|sealed|declare|const|open|data)\s+)*(?:(?:func|def|class|fn|function|interface|struct|enum|trait|"
    r"impl|type|module|namespace|package|macro_rules!|protocol|object|record|sub|proc|CREATE|create|resource|describe|it|test)"
    r"\b[\s(]|(?:const|let|var|val)\s+[\w{]|[A-Z_]{4,}\s*=)"
)
_C_LIKE = re.compile(r"\w[\w\s*&<>:,\[\]]{2,80}\([^;]{0,200}\{\s*$")
_NOT = re.compile(r"(?:if|else|for|while|switch|return|catch|case|elif|with|except)\b")


def ranked(page: Page) -> Iterator[int]:
    """The lines, those first that are worth most."""
    count = len(page.lines)
    yield from page.kept()
    yield from page.named()
    yield from lines.ends(count, HEAD, TAIL)
    yield from page.best_matches()[:12]
    yield from definitions(page)
    yield from lines.around(page.best_matches(), count, 1, 1)
    yield from range(count)


def definitions(page: Page) -> list[int]:
    """The lines that define something, those with the least indent first."""
    found = []
    for i, line in enumerate(page.lines[: lines.SCANNED]):
        text = bare(line)
        inner = text.lstrip()
        if defines(inner[:300]):
            found.append((len(text[: len(text) - len(inner)].expandtabs(4)), i))
    return [i for _, i in sorted(found)]


def defines(line: str) -> bool:
    """Whether a line, without its indent, opens a definition in one of the common languages."""
    if _DEFINITION.match(line):
        return True
    return line[-1:] == "{" and not _NOT.match(line) and _C_LIKE.match(line) is not None
