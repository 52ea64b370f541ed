"""How much of a result may be shown, and what a piece of text takes of that."""

from collections.abc import Iterable
from typing import NamedTuple

from agentloop.core import tokens

_DIGITS = b"0123456789"
_HIGH = bytes(range(128, 256))
_LETTERS = bytes(b for b in range(128) if chr(b).isalpha() or chr(b).isspace())


class Meter(NamedTuple):
    """Measures text in thousandths of a token, so that what pieces take adds up to what the whole takes."""

    weights: tokens.Weights

    def cost(self, text: str) -> int:
        """What a text takes."""
        data = text.encode("utf-8", "replace")
        letters = len(data) - len(data.translate(None, _LETTERS))
        digits = len(data) - len(data.translate(None, _DIGITS))
        other = 0 if len(data) == len(text) else len(data) - len(data.translate(None, _HIGH))
        marks = len(data) - letters - digits - other
        w = self.weights
        return letters * w.letter + digits * w.digit + marks * w.mark + other * w.other

    def line(self, text: str) -> int:
        """What a text takes with its line end."""
        return self.cost(text) + self.weights.letter


def meter(family: str) -> Meter:
    """The meter of a tokenizer family."""
    return Meter(tokens.weights(family))


def fitting(lines: Iterable[str], room: int, meter: Meter) -> list[str]:
    """Those of the lines that fit, first come first served."""
    taken = []
    for line in lines:
        takes = meter.line(line)
        if takes <= room:
            taken.append(line)
            room -= takes
    return taken
