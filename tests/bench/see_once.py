"""What it costs, and what it brings, to show a large result whole in one request before its facts take its place.

Recorded sessions under the rent policy, offline, results whole, as facts, and seen once. Two shares: *need-recall* as in the
other tables, and *uses*: of the values that a reply used, those that came in the message just before it counted too, how many
stood in the request that it answered. Only the second can tell facts from a result that is seen once, since what a turn takes
from the result that it was just given is no need. *With recalls* prices each use that is missing as a turn that asks for it.

Recorded thinking is left out, so that prices alone differ: a model that checks what stands before its thinking may not do this.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from itertools import product
from typing import Any, NamedTuple

from agentloop.adapters.model_table import models
from agentloop.importers import neutral
from agentloop.policies import PolicySettings, Whole
from agentloop.policies.facts import ByKind
from agentloop.recorded import seen_once
from agentloop.types.usage import ModelCard
from agentloop.whatif.driver import play
from agentloop.whatif.grid import baselines, recalls
from agentloop.whatif.needs import Met, Seen, met, needs
from agentloop.whatif.schedule import schedule
from tests.bench.traces import sessions

MODELS = ("claude-sonnet-4-6", "claude-sonnet-5-5")
GAP = "10s"
PROCESSES = min(4, os.cpu_count() or 1)


class Way(NamedTuple):
    """How large results are shown."""

    name: str
    facts: ByKind | Whole
    once: bool = False


WAYS = (
    Way("whole", Whole()),
    Way("facts", ByKind()),
    Way("see_once", ByKind(), once=True),
    Way("see_once, half the facts", ByKind(share=0.225), once=True),
    Way("see_once over 2,000 tokens", ByKind(over_tokens=2_000), once=True),
    Way("facts over 2,000 tokens", ByKind(over_tokens=2_000)),
)


class Row(NamedTuple):
    """One way on one session."""

    model: str
    way: str
    cost: Decimal
    plain: Decimal
    recalls: Decimal
    once: int
    """Requests that carried something whole."""
    needs: Met
    uses: Met


def main() -> None:
    """A table for each model's prices."""
    recorded = sorted((s for _, s in sessions()), key=lambda s: -len(s["messages"]))
    with ProcessPoolExecutor(PROCESSES) as pool:
        rows = [row for some in pool.map(measured, recorded) for row in some]
    for model in MODELS:
        print(f"\n{model}'s prices, gaps: {GAP}\n")
        print("\n".join(table([r for r in rows if r.model == model])), flush=True)


def measured(session: dict[str, Any]) -> list[Row]:
    """Every way on one session, at every model's prices."""
    recording = neutral.recording(session, session["id"])
    seen = Seen()
    needed, used = needs(recording, seen), needs(recording, seen, just_given=True)
    found = []
    for model, way in product(MODELS, WAYS):
        card = _card(model)
        shown = seen_once(recording) if way.once else recording
        played = play(shown, card, PolicySettings(facts=way.facts).policies(), schedule(GAP).gaps_s)
        views = [t.request.messages for t in played.turns]
        uses = [met(wanted, view, seen) for wanted, view in zip(used, views, strict=True)]
        found.append(
            Row(
                model=model,
                way=way.name,
                cost=played.cost_usd,
                plain=baselines(recording, card, schedule(GAP)).naive_usd,
                recalls=recalls(played.turns, uses, card),
                once=sum(bool(t.request.once) for t in played.turns),
                needs=sum((met(wanted, view, seen) for wanted, view in zip(needed, views, strict=True)), Met()),
                uses=sum(uses, Met()),
            )
        )
    return found


def _card(model: str) -> ModelCard:
    """The model's prices, without its rules for thinking."""
    return models()[model].card.model_copy(update={"checks_thinking_prefix": False})


COLUMNS = (
    "results", "bill / plain", "with recalls", "need-recall", "whole turns", "uses", "whole turns of uses", "requests with one",
)  # fmt: skip


def table(rows: Sequence[Row]) -> list[str]:
    """A Markdown table, a line for each way."""
    return [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *(_line(w, rows) for w in WAYS)]


def _line(way: Way, rows: Sequence[Row]) -> str:
    these = [r for r in rows if r.way == way.name]
    cost, plain = sum(r.cost for r in these), sum(r.plain for r in these)
    needed, used = sum((r.needs for r in these), Met()), sum((r.uses for r in these), Met())
    dearer = cost + sum(r.recalls for r in these)
    shares = [cost / plain, dearer / plain, needed.recall, needed.whole, used.recall, used.whole]
    return f"| {way.name} | {' | '.join(f'{s:.4f}' for s in shares)} | {sum(r.once for r in these):,} |"


if __name__ == "__main__":
    main()
