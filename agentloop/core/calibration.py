"""How far the estimates of tokens are off for one model, learned from the usage of its real replies. Forecasts use it, and
where a session's prompt is held against a limit its own last reply; bills never do.

Each kind of content has a ratio of its own: real tokens to estimated ones. The ratios are those with the least squares of
relative error over all samples, held near 1 by a prior that a few samples outweigh.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from agentloop.core import tokens
from agentloop.types.base import Json
from agentloop.types.blocks import THINKING, Block
from agentloop.types.usage import ModelCard

Kind = Literal["tools", "system", "text", "calls", "results", "thinking", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LEAST, MOST = 0.5, 2.0
"""No estimate is off by more: a sample that says so was not counted as we count."""
PRIOR = 0.01
"""How much a ratio of 1 weighs against one sample, all of whose tokens are of that kind."""

_OF_BLOCK: dict[str, Kind] = {
    "text": "text",
    "tool_use": "calls",
    "tool_result": "results",
    **dict.fromkeys(THINKING, "thinking"),
}
_Row = tuple[float, ...]
_ZEROS: _Row = (0.0,) * len(KINDS)


class Sample(NamedTuple):
    """One request: its estimated tokens by kind, and what the API counted."""

    estimated: Mapping[Kind, int]
    fixed: int
    """Tokens that are known and not estimated: the frame, and what the API adds for tools."""
    actual: int


class Calibration(NamedTuple):
    """What has been learned of one model. Learning gives a new one."""

    products: tuple[_Row, ...] = (_ZEROS,) * len(KINDS)
    """Sums of the products of the samples' shares, kind by kind."""
    sums: _Row = _ZEROS
    samples: int = 0

    def learned(self, sample: Sample) -> "Calibration":
        """With one sample more. A sample without estimated tokens, or beyond the bounds, teaches nothing."""
        estimated, actual = sum(sample.estimated.values()), sample.actual - sample.fixed
        if estimated <= 0 or not LEAST <= actual / estimated <= MOST:
            return self
        shares = [sample.estimated.get(kind, 0) / actual for kind in KINDS]
        products = tuple(
            tuple(p + a * b for p, b in zip(row, shares, strict=True)) for row, a in zip(self.products, shares, strict=True)
        )
        return Calibration(products, tuple(s + a for s, a in zip(self.sums, shares, strict=True)), self.samples + 1)

    def ratios(self) -> dict[Kind, float]:
        """Real tokens to estimated ones, by kind; 1 where nothing is known."""
        matrix = [[p + (PRIOR if i == j else 0.0) for j, p in enumerate(row)] for i, row in enumerate(self.products)]
        solved = _solved(matrix, [s + PRIOR for s in self.sums])
        return {kind: min(MOST, max(LEAST, ratio)) for kind, ratio in zip(KINDS, solved, strict=True)}

    def tokens(self, estimated: Mapping[Kind, int], fixed: int = 0) -> int:
        """The tokens that a prompt will probably have."""
        ratios = self.ratios()
        return fixed + round(sum(ratios[kind] * size for kind, size in estimated.items()))


def factor(estimated: int, actual: int) -> float | None:
    """Real tokens of one prompt to estimated ones; None where they are further apart than any estimate is off."""
    if estimated <= 0 or not LEAST <= actual / estimated <= MOST:
        return None
    return actual / estimated


def sample(body: Json, card: ModelCard, actual: int) -> Sample:
    """What a request's body and the prompt tokens of its usage teach."""
    return Sample(estimated(body, card.tokenizer), fixed(body, card), actual)


def fixed(body: Json, card: ModelCard) -> int:
    """The tokens of a prompt that are none of its content."""
    return tokens.weights(card.tokenizer).frame + (card.tool_system_tokens if body.get("tools") else 0)


def estimated(body: Json, family: str) -> dict[Kind, int]:
    """The estimated tokens of a request's body, by kind of content."""
    found: dict[Kind, int] = {"tools": sum(tokens.tool_tokens(t, family) for t in body.get("tools") or [])}
    found["system"] = tokens.blocks_tokens(_blocks(body.get("system") or []), family)
    for block in (b for m in body.get("messages") or [] for b in _blocks(m["content"])):
        kind = _OF_BLOCK.get(str(block.get("type")), "other")
        found[kind] = found.get(kind, 0) + tokens.block_tokens(block, family)
    return {kind: size for kind, size in found.items() if size}


def _blocks(content: Any) -> Iterable[Block]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _solved(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """The solution of symmetric positive definite equations, by elimination."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i, row in enumerate(rows):
        for other in rows[i + 1 :]:
            factor = other[i] / row[i]
            for j in range(i, len(row)):
                other[j] -= factor * row[j]
    solution = [0.0] * len(rows)
    for i in reversed(range(len(rows))):
        known = sum(rows[i][j] * solution[j] for j in range(i + 1, len(rows)))
        solution[i] = (rows[i][-1] - known) / rows[i][i]
    return solution
