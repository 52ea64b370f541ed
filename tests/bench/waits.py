"""What pings do to the bill: the same session with one tool that takes its time, announced and not.

    python -m tests.bench.waits

Each session runs through the whole engine against the emulator: so many pages of some 1,800 tokens, ten seconds each, then the
tool, then 25 pages more. Where in the life of a history the wait falls decides what a cold cache costs, so it is moved: the
figures are sums over waits behind 4, 6, ... 30 pages.
"""

from decimal import Decimal
from typing import NamedTuple

from tests.unit.waited import Waited, waited

MODELS = ("claude-sonnet-4-6", "claude-sonnet-5-5")
MINUTES = (9, 20, 40, 120)
BEFORE = range(4, 32, 2)
AFTER = 25
PAGE_LINES = 100


class Sum(NamedTuple):
    """One row."""

    model: str
    minutes: int
    kept_warm: int
    """In how many of the sessions there were pings."""
    silent_usd: Decimal
    announced_usd: Decimal
    shares: tuple[Decimal, ...]
    """What each session saved, of its bill without the announcement."""


def measured(model: str, minutes: int) -> Sum:
    """All the sessions of one model and one wait."""
    pairs = [(_played(model, minutes, n, True), _played(model, minutes, n, False)) for n in BEFORE]
    spent = [(announced.state.spent_usd, silent.state.spent_usd) for announced, silent in pairs]
    return Sum(
        model,
        minutes,
        sum(bool(announced.pings) for announced, _ in pairs),
        sum((silent for _, silent in spent), Decimal(0)),
        sum((announced for announced, _ in spent), Decimal(0)),
        tuple(1 - announced / silent for announced, silent in spent),
    )


def _played(model: str, minutes: int, looks: int, announced: bool) -> Waited:
    seconds = minutes * 60
    return waited(seconds, seconds if announced else None, looks, PAGE_LINES, AFTER, model)


def main() -> None:
    """The table of docs/economics.md."""
    print("| model | wait | kept warm | silent, USD | announced, USD | saved | best | worst |")
    print("|---|---|---|---|---|---|---|---|")
    for row in (measured(model, minutes) for model in MODELS for minutes in MINUTES):
        saved = 1 - row.announced_usd / row.silent_usd
        print(
            f"| {row.model} | {row.minutes} min | {row.kept_warm} of {len(BEFORE)} | {row.silent_usd:.2f} | "
            f"{row.announced_usd:.2f} | {saved:.1%} | {max(row.shares):.1%} | {min(row.shares):.1%} |"
        )


if __name__ == "__main__":
    main()
