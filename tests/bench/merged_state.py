"""What it would save at most to merge the segments of a session's state into one on each cold turn, which writes them anew.

No value stands in two segments, so a merge that loses nothing drops the head lines of all but one. Recorded sessions under the
rent policy that were cut more than once; a merge is taken to cost nothing and to happen on every cold turn.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from itertools import product
from typing import Any, NamedTuple

from agentloop.adapters.model_table import models
from agentloop.core import costs
from agentloop.core.costs import MILLION
from agentloop.core.state import State
from agentloop.core.tokens import estimate
from agentloop.importers import neutral
from agentloop.policies.ledger import HEADER
from agentloop.types.events import Event, ModelRequested
from agentloop.types.usage import TTL_SECONDS
from agentloop.whatif.driver import play
from agentloop.whatif.grid import Choice
from agentloop.whatif.schedule import schedule
from tests.bench.traces import sessions

MODEL = "claude-sonnet-4-6"
GAPS = ("7m", "9*10s+58m30s")
CHOICES = (Choice("rent", True), Choice("rent", True, "5m"), Choice("rent", False, "5m"))


class Saved(NamedTuple):
    """One session that was cut more than once."""

    label: str
    gap: str
    cost: Decimal
    saved: Decimal
    state_tokens: int
    heads: int
    """Tokens of the head lines that a merge would drop at the end."""


class Merging:
    """An observer that adds up what merged segments would not have cost."""

    def __init__(self) -> None:
        self.saved = Decimal(0)
        self._merged = 0

    def __call__(self, before: State, event: Event, after: State) -> None:
        """One more event."""
        if not isinstance(event.body, ModelRequested) or before.sent is None:
            return
        cold = (event.at - before.sent.at).total_seconds() > TTL_SECONDS[before.sent.ttl or "5m"]
        self._merged = len(before.segments) if cold else self._merged
        p = costs.prices_for(before.card, before.prompt_tokens)
        price = p.cache_write_5m if cold else p.cache_read
        self.saved += heads(before, self._merged) * price / MILLION


def heads(state: State, merged: int) -> int:
    """Tokens of all head lines but one of so many segments."""
    return max(0, merged - 1) * estimate(HEADER.format(first=100, last=120), state.card.tokenizer)


def measured(session: dict[str, Any]) -> list[Saved]:
    """Every choice and gap on one session."""
    recording = neutral.recording(session, session["id"])
    found = []
    for choice, gap in product(CHOICES, GAPS):
        merging = Merging()
        played = play(recording, models()[MODEL].card, choice.settings().policies(), schedule(gap).gaps_s, merging)
        state = played.state
        if len(played.cuts) > 1:
            last = heads(state, len(state.segments))
            found.append(Saved(choice.label, gap, played.cost_usd, merging.saved, state.state_tokens, last))
    return found


def main() -> None:
    """A Markdown table."""
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        rows = [row for some in pool.map(measured, [s for _, s in sessions()]) for row in some]
    print(
        "| policy | gaps | sessions cut more than once | state, tokens | of it head lines | saved, share of the bill | most |"
    )
    print("|---|---|---|---|---|---|---|")
    for choice, gap in product(CHOICES, GAPS):
        these = [r for r in rows if (r.label, r.gap) == (choice.label, gap)]
        if these:
            share, most = sum(r.saved for r in these) / sum(r.cost for r in these), max(r.saved / r.cost for r in these)
            state, dropped = (sum(getattr(r, name) for r in these) // len(these) for name in ("state_tokens", "heads"))
            print(f"| {choice.label} | {gap} | {len(these)} | {state:,} | {dropped:,} | {share:.3%} | {most:.3%} |")


if __name__ == "__main__":
    main()
