"""Which model can read the thinking of which other.

https://platform.claude.com/docs/en/build-with-claude/preserved-thinking
"""

import re

_NEW = {
    "fable-5-2": ("fable-5-2",),
    "fable-5-1": ("fable-5-1", "opus-5-5"),
    "opus-5-5": ("opus-5-5", "sonnet-5-5", "haiku-5-5"),
    "sonnet-5-5": ("sonnet-5-5", "haiku-5-5"),
    "haiku-5-5": ("haiku-5-5",),
}
"""Models whose thinking is preserved, and those of them that each can read."""
_OLD_FOR_SMALL = {"sonnet": (5, 0), "opus": (4, 8), "haiku": (4, 5)}
"""The newest model of each line, before those, that Sonnet 5.5 and Haiku 5.5 read."""
BOUND_TO_ACCOUNT = ("sonnet-5-5", "haiku-5-5")


def can_read(reader: str, author: str, newest_reads_earlier: bool) -> bool:
    """Whether a model can read what another one thought.

    `newest_reads_earlier`: Fable and Mythos 5.2 read what 5.1 reads; their documentation only says who reads theirs.
    """
    reader, author = _plain(reader), _plain(author)
    if reader not in _NEW:
        return author not in _NEW and (_line(author) not in ("fable", "mythos") or _line(reader) in ("fable", "mythos"))
    if author in _NEW[reader]:
        return True
    if reader == "fable-5-2":
        return newest_reads_earlier and (author == "fable-5-1" or can_read("fable-5-1", author, newest_reads_earlier))
    return author not in _NEW and _reads_old(reader, author)


def binds_account(model: str) -> bool:
    """Whether the model's thinking stays within the organisation that it was made for."""
    return _plain(model) in BOUND_TO_ACCOUNT


def _reads_old(reader: str, author: str) -> bool:
    line, version = _line(author), _version(author)
    match reader:
        case "fable-5-1":
            return True
        case "opus-5-5":
            return line in ("opus", "sonnet", "haiku")
        case _:
            return line in _OLD_FOR_SMALL and version <= _OLD_FOR_SMALL[line]


def _plain(model: str) -> str:
    """A model's name without `claude-` and day; a Mythos counts as the Fable of its version."""
    return re.sub(r"-\d{8}$", "", model.removeprefix("claude-")).replace("mythos", "fable")


def _line(model: str) -> str:
    return model.split("-")[0]


def _version(model: str) -> tuple[int, int]:
    numbers = [int(n) for n in re.findall(r"\d+", model)][:2]
    return (numbers[0], numbers[1] if len(numbers) > 1 else 0) if numbers else (0, 0)
