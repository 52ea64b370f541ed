"""A chart of cost against turns, as SVG written by hand: the same figures give the same bytes."""

from collections.abc import Sequence
from decimal import Decimal
from html import escape
from itertools import accumulate, zip_longest
from math import ceil, floor, log10
from typing import NamedTuple

WIDTH, HEIGHT = 880, 500
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 48, 56
LEGEND_LINE = 20
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22")
DASHES = ("", "6 3", "2 3")
_TICKS = 6


class Curve(NamedTuple):
    """One line: what was paid by the end of each turn."""

    label: str
    usd: tuple[Decimal, ...]


def curve(label: str, sessions: Sequence[Sequence[Decimal]]) -> Curve:
    """The costs of each session's turns, turn by turn over all sessions, added up."""
    by_turn = (sum(column, Decimal(0)) for column in zip_longest(*sessions, fillvalue=Decimal(0)))
    return Curve(label, tuple(accumulate(by_turn)))


def svg(title: str, curves: Sequence[Curve]) -> str:
    """The chart, dearest curve first in its legend."""
    drawn = sorted((c for c in curves if c.usd), key=lambda c: (-c.usd[-1], c.label))
    turns = max((len(c.usd) for c in drawn), default=1)
    dearest = max((float(c.usd[-1]) for c in drawn), default=1.0) or 1.0
    plane = _Plane(turns, dearest)
    height = HEIGHT + LEGEND_LINE * len(drawn)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            'font-family="system-ui, sans-serif" font-size="12" fill="#333">',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            f'<text x="{LEFT}" y="26" font-size="15">{escape(title)}</text>',
            *_axes(plane),
            *(_line(i, c, plane) for i, c in enumerate(drawn)),
            *(line for i, c in enumerate(drawn) for line in _legend(i, c)),
            "</svg>",
            "",
        ]
    )


class _Plane(NamedTuple):
    turns: int
    dearest: float

    def x(self, turn: float) -> str:
        """Where a turn is; 0 is the start."""
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * turn / self.turns:.1f}"

    def y(self, usd: float) -> str:
        """Where an amount is."""
        return f"{HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * usd / self.dearest:.1f}"


def _axes(plane: _Plane) -> list[str]:
    lines = []
    for usd in _ticks(plane.dearest):
        y = plane.y(usd)
        lines.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y}" dy="4" text-anchor="end">{usd:g}</text>')
    for turn in _ticks(plane.turns):
        x = plane.x(turn)
        lines.append(f'<path d="M{x} {HEIGHT - BOTTOM}v5" stroke="#333"/>')
        lines.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{turn:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) // 2
    return [
        *lines,
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#333"/>',
        f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">turn</text>',
        f'<text x="18" y="{HEIGHT // 2}" text-anchor="middle" transform="rotate(-90 18 {HEIGHT // 2})">USD so far</text>',
    ]


def _ticks(most: float) -> list[float]:
    """Round numbers from 0 up."""
    rough = most / _TICKS
    power = 10.0 ** floor(log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough)
    return [round(i * step, 10) for i in range(ceil(most / step) + 1) if i * step <= most * 1.0000001]


def _line(number: int, curve: Curve, plane: _Plane) -> str:
    points = " ".join(f"{plane.x(i + 1)},{plane.y(float(usd))}" for i, usd in enumerate(curve.usd))
    start = f"{plane.x(0)},{plane.y(0)}"
    return f'<polyline points="{start} {points}" fill="none" {_stroke(number)}/>'


def _legend(number: int, curve: Curve) -> list[str]:
    x, y = LEFT, HEIGHT + LEGEND_LINE * number
    return [
        f'<path d="M{x} {y - 4}h22" {_stroke(number)}/>',
        f'<text x="{x + 28}" y="{y}">{escape(curve.label)}: {curve.usd[-1]:.4f} USD</text>',
    ]


def _stroke(number: int) -> str:
    dash = DASHES[number // len(COLOURS) % len(DASHES)]
    return f'stroke="{COLOURS[number % len(COLOURS)]}" stroke-width="2"' + (f' stroke-dasharray="{dash}"' if dash else "")
