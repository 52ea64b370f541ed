"""What the model is shown of a large tool result: the facts, and a handle to the rest.

A result is cut before the model first sees it, so the cached history never changes afterwards. Whole lines and whole
fields only, and what was left out is said. `recall` gives any part back.
"""

import re
from typing import Literal

from pydantic import Field

from agentloop.core import tokens
from agentloop.core.choices import Shown
from agentloop.core.state import State
from agentloop.policies.facts import asked, budget, cutting, floor, seen
from agentloop.types.base import Settings, compact
from agentloop.types.blocks import Call
from agentloop.types.events import RawResult
from agentloop.types.tools import FactsSettings

__all__ = ["ByKind", "Facts", "FactsSettings", "HeadTailMatches", "Whole"]

_WORD = re.compile(r"[A-Za-z0-9_][\w.@/-]{2,}")
_LINE_CHARS = 400
TRIMMED: frozenset[str] = frozenset({"facts", "see_once"})
"""Modes of a tool in which its large results become facts, at once or after they were seen whole."""


class Whole(Settings):
    """Show every result whole."""

    kind: Literal["whole"] = "whole"

    def shown(
        self,
        call: Call,
        content: str,
        mode: str,
        handle: str,
        family: str,
        settings: FactsSettings | None = None,
        state: State | None = None,
    ) -> Shown:
        """The result as it is."""
        return Shown(content)


class ByKind(Settings):
    """What matters in a result of its kind, and an index of the exact values that are left out."""

    kind: Literal["by_kind"] = "by_kind"
    over_tokens: int = Field(default=750, ge=50)
    """A result of at most this many tokens is shown whole."""
    share: float = Field(default=0.45, gt=0, le=1)
    """What is shown of one that is just larger, at most."""
    growth: float = Field(default=0.5, gt=0, le=1)
    """How what is shown grows with the result: as this power of its size. A long text repeats its names (Heaps' law)."""
    at_most_tokens: int = Field(default=4_000, ge=50)

    def shown(
        self,
        call: Call,
        content: str,
        mode: str,
        handle: str,
        family: str,
        settings: FactsSettings | None = None,
        state: State | None = None,
    ) -> Shown:
        """The result, or its facts where it is large and the tool wants facts. Never longer than the result."""
        size = tokens.estimate(content, family)
        own = settings or FactsSettings()
        if mode not in TRIMMED or size <= (own.over_tokens or self.over_tokens):
            return Shown(content)
        most = size * own.share if own.share else self._room(size, own.over_tokens or self.over_tokens)
        most = min(int(most), self.at_most_tokens)
        once = mode == "see_once"
        share = most / size if once else own.share or self.share
        if state is not None and size <= floor.floor(state, call.name, share, once):
            return Shown(content)
        room = most * 1_000
        known = seen.values(state) if state is not None else frozenset()
        wanted = cutting.Wanted(asked.words(call), own.fields, own.keep_lines, known)
        text, left_out = _within(content, wanted, room, handle, budget.meter(family))
        if len(text) >= len(content) or tokens.estimate(text, family) >= size:
            return Shown(content)
        raw = len(content.encode("utf-8", "replace"))
        return Shown(text, RawResult(digest=handle, bytes=raw, tokens=size, extractor=self.kind, left_out=left_out))

    def _room(self, size: int, over_tokens: int) -> float:
        """Tokens that may be shown of a result of this size."""
        return float(self.share * over_tokens * (size / over_tokens) ** self.growth)


def _within(content: str, wanted: cutting.Wanted, room: int, handle: str, meter: budget.Meter) -> tuple[str, str]:
    """The facts with their note; head and tail where they cannot be made, or are nothing, or too much."""
    room -= meter.line(_note(f"parts of {len(content):,} characters of JSON", handle))
    try:
        cut = cutting.facts(content, wanted, room, meter)
        good = bool(cut.text.strip()) and meter.cost(cut.text) <= room
    except Exception:  # noqa: BLE001  whatever an extractor stumbles over, the session goes on with less
        good = False
    if not good:
        cut = cutting.head_and_tail(content, room, meter)
    return f"{cut.text}\n{_note(cut.left_out, handle)}", cut.left_out


def _note(left_out: str, handle: str) -> str:
    return f'[{left_out} left out; recall(handle="{handle[:12]}") gives any of them back]'


class HeadTailMatches(Settings):
    """The first lines, the last lines, and the lines that the call's own words name."""

    kind: Literal["head_tail_matches"] = "head_tail_matches"
    over_tokens: int = Field(default=1_000, ge=50)
    """A result of at most this many tokens is shown whole."""
    head_lines: int = Field(default=20, ge=0)
    tail_lines: int = Field(default=10, ge=0)
    matches: int = Field(default=30, ge=0)

    def shown(
        self,
        call: Call,
        content: str,
        mode: str,
        handle: str,
        family: str,
        settings: FactsSettings | None = None,
        state: State | None = None,
    ) -> Shown:
        """The result, or its facts where it is large and the tool wants facts. Never longer than the result."""
        size = tokens.estimate(content, family)
        if mode not in TRIMMED or size <= self.over_tokens:
            return Shown(content)
        facts, left_out = self._facts(call, content, handle)
        if len(facts) >= len(content):
            return Shown(content)
        raw = len(content.encode("utf-8", "replace"))
        return Shown(facts, RawResult(digest=handle, bytes=raw, tokens=size, extractor=self.kind, left_out=left_out))

    def _facts(self, call: Call, content: str, handle: str) -> tuple[str, str]:
        lines = content.split("\n")
        kept = self._kept(lines, call)
        shown = _with_gaps(lines, kept)
        left_out = f"{len(lines) - len(kept)} of {len(lines)} lines"
        note = f'[{left_out} left out; recall(handle="{handle[:12]}") gives any of them back]'
        return f"{shown}\n{note}", left_out

    def _kept(self, lines: list[str], call: Call) -> list[int]:
        words = {w.casefold() for w in _WORD.findall(compact(call.input).decode())}
        ends = {*range(min(self.head_lines, len(lines))), *range(max(0, len(lines) - self.tail_lines), len(lines))}
        named = [
            i for i, line in enumerate(lines) if i not in ends and not words.isdisjoint(map(str.casefold, _WORD.findall(line)))
        ]
        return sorted(ends | set(named[: self.matches]))


def _with_gaps(lines: list[str], kept: list[int]) -> str:
    """The kept lines, each gap marked by its line numbers; a very long line is cut, and says so."""
    shown, expected = [], 0
    for i in kept:
        if i > expected:
            shown.append(f"[… lines {expected + 1}-{i}]")
        line = lines[i]
        shown.append(line if len(line) <= _LINE_CHARS else f"{line[:_LINE_CHARS]}[… {len(line) - _LINE_CHARS} characters]")
        expected = i + 1
    return "\n".join(shown)


Facts = Whole | ByKind | HeadTailMatches
