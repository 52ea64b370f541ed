"""How many tokens a text is, estimated from its characters. Bills never use this; forecasts and the emulator do.

Characters are weighed by kind, which gives, within 5 %, the characters per token measured for current models on prose
(3.0), source code (2.8), JSON (2.2) and logs (1.9), and for the tokenizer before Opus 4.7 on the same texts (4.4, 3.7,
2.85, 2.2). See docs/tokens.md.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, Protocol

from agentloop.types.base import Json, compact
from agentloop.types.blocks import Block


class Weights(NamedTuple):
    """Thousandths of a token for one character of each kind (`other`: for one byte beyond ASCII)."""

    letter: int
    digit: int
    mark: int
    other: int
    frame: int
    """Whole tokens that the API puts around every prompt."""


WEIGHTS: dict[str, Weights] = {
    "claude-4.7-plus": Weights(letter=310, digit=750, mark=600, other=350, frame=6),
    "claude-3-to-4.6": Weights(letter=210, digit=700, mark=500, other=350, frame=7),
}
DEFAULT_FAMILY = "claude-4.7-plus"


class Tokenizer(Protocol):
    """Counts the tokens of a text exactly."""

    def count(self, text: str) -> int:
        """Tokens of a text by itself, without any frame."""
        ...


_EXACT: dict[str, Tokenizer] = {}

_LETTERS = bytes(b for b in range(128) if chr(b).isalpha() or chr(b).isspace())
_DIGITS = b"0123456789"
_HIGH = bytes(range(128, 256))
_TOOL_USE_TOKENS = 12
_TOOL_RESULT_TOKENS = 8
_IMAGE_TOKENS = 1_600
_MEMO_CHARS = 16_000
"""Longer texts are weighed anew each time: the memory of what was weighed stays below 70 MB."""


def register(family: str, tokenizer: Tokenizer, frame: int) -> None:
    """Make a family of tokenizers known, under a name of its own, whose texts are counted and not estimated. A name that is
    known already keeps its meaning."""
    if family not in WEIGHTS:
        WEIGHTS[family] = WEIGHTS[DEFAULT_FAMILY]._replace(frame=frame)
        _EXACT[family] = tokenizer


def weights(family: str) -> Weights:
    """The weights of a tokenizer family; an unknown one counts as the newest, which gives the most tokens."""
    return WEIGHTS.get(family, WEIGHTS[DEFAULT_FAMILY])


def estimate(text: str, family: str = DEFAULT_FAMILY) -> int:
    """Tokens of a text, rounded up."""
    return _estimate(text, family) if len(text) < _MEMO_CHARS else rounded_up(thousandths(text, family))


@lru_cache(maxsize=4_096)
def _estimate(text: str, family: str) -> int:
    return rounded_up(thousandths(text, family))


def rounded_up(thousandths: int) -> int:
    """Whole tokens."""
    return -(-thousandths // 1000)


def thousandths(text: str, family: str) -> int:
    """Thousandths of a token: those of a text are the sum over its pieces, where they are estimated."""
    if (exact := _EXACT.get(family)) is not None:
        return 1000 * exact.count(text)
    w = weights(family)
    data = text.encode("utf-8", "replace")
    digits = len(data) - len(data.translate(None, _DIGITS))
    other = 0 if text.isascii() else len(data) - len(data.translate(None, _HIGH))
    letters = len(data) - len(data.translate(None, _LETTERS))
    marks = len(data) - digits - other - letters
    return letters * w.letter + digits * w.digit + marks * w.mark + other * w.other


def json_tokens(value: object, family: str) -> int:
    """Tokens of a JSON value."""
    return estimate(compact(value).decode(), family)


def block_tokens(block: Block, family: str) -> int:
    """Tokens of one content block."""
    match block.get("type"):
        case "text":
            return estimate(str(block.get("text", "")), family)
        case "tool_use":
            return _TOOL_USE_TOKENS + estimate(str(block.get("name")), family) + json_tokens(block.get("input"), family)
        case "tool_result":
            return _TOOL_RESULT_TOKENS + _content_tokens(block.get("content") or "", family)
        case "thinking":
            return estimate(str(block.get("thinking") or str(block.get("signature", ""))[::4]), family)
        case "document":
            return _document_tokens(block, family)
        case "image":
            return _IMAGE_TOKENS
        case _:
            return json_tokens(_unmarked(block), family)


def _document_tokens(block: Block, family: str) -> int:
    """A document in words by its words; any other, whose pages nobody has counted, as one page."""
    source = block.get("source")
    source = source if isinstance(source, dict) else {}
    about = estimate(f"{block.get('title') or ''}{block.get('context') or ''}", family)
    match source.get("type"):
        case "text":
            return about + estimate(str(source.get("data") or ""), family)
        case "content":
            return about + _content_tokens(source.get("content") or "", family)
        case _:
            return about + _IMAGE_TOKENS


def _content_tokens(content: str | list[Block], family: str) -> int:
    return estimate(content, family) if isinstance(content, str) else blocks_tokens(content, family)


def blocks_tokens(blocks: Iterable[Block], family: str) -> int:
    """Tokens of several content blocks."""
    return sum(block_tokens(b, family) for b in blocks)


def tool_tokens(definition: Json, family: str) -> int:
    """Tokens of one tool definition."""
    return json_tokens(_unmarked(definition), family)


def _unmarked(value: Json) -> Json:
    """Without its cache mark, which costs nothing."""
    return {k: v for k, v in value.items() if k != "cache_control"}
