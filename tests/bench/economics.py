"""What each policy costs and loses on recorded sessions, against the offline optimum: the tables of docs/economics.md.

Bills are those of `agentloop whatif`, which are the engine's to the last digit (`tests/property/test_whatif.py`); need-recall
is that of `needs.py`, which lies beside the traces, and, in the last table, our own beside it. A cron's day is bursts of ten
requests 10 s apart, one burst an hour.
"""

import math
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from agentloop.adapters.model_table import models
from agentloop.core.choices import CompactionPolicy, FactsPolicy, LedgerPolicy, Policies, Shown
from agentloop.core.state import State
from agentloop.importers import neutral
from agentloop.importers.recording import Recording, Step
from agentloop.policies import PolicySettings
from agentloop.types import blocks
from agentloop.types.blocks import Call
from agentloop.types.events import Decision
from agentloop.types.tools import FactsSettings
from agentloop.types.usage import ModelCard
from agentloop.whatif.driver import play
from agentloop.whatif.grid import Cell, Choice, Row, cells
from agentloop.whatif.schedule import schedule
from tests.bench import past
from tests.bench.traces import needs_module, sessions

MODELS = ("claude-sonnet-4-6", "claude-sonnet-5-5")
GAPS = {"10s": "10 s", "7m": "7 min", "9*10s+58m30s": "a day's cron"}
POLICIES = ("never", "every_turn", "keep_pairs", "threshold:50000", "rent")
LONG_TOKENS = 50_000
"""A session is long where its whole history ends above this."""
TURNS, TOKENS = 400, 150_000
"""The session whose decisions are timed."""
PROCESSES = min(4, os.cpu_count() or 1)


class Found(NamedTuple):
    """One cell, with what `needs.py` says of it."""

    row: Row
    met: int
    needs: int
    whole: int
    turns_with_needs: int
    whole_tokens: int
    """The last prompt of the history that was never cut, results whole."""


def main() -> None:
    """Every table."""
    recorded = [s for _, s in sessions()]
    for model in MODELS:
        found = measured(recorded, model)
        for gap, name in GAPS.items():
            print(f"\n{model}, gaps: {name}\n")
            print("\n".join(table([f for f in found if f.row.gap == gap])), flush=True)
    print(f"\nneed-recall, ours beside that of `needs.py` ({model}, 10 s)\n")
    print("\n".join(recalls([f for f in found if f.row.gap == "10s"])), flush=True)
    print("\n7 minutes between requests, the bill of the rent policy as a multiple of that at 10 s, by what is known before\n")
    print("\n".join(past.table(MODELS, PROCESSES)), flush=True)
    print(f"\nmachine time of one turn's decision (policy, ledger, facts), turns {TURNS - 50} to {TURNS}\n")
    print("\n".join(timings()))


def measured(traces: Sequence[dict[str, Any]], model: str) -> list[Found]:
    """Every cell of every session, on all processors; the longest sessions first."""
    ordered = sorted(traces, key=lambda s: -len(s["messages"]))
    cases = [(session, model) for session in ordered]
    with ProcessPoolExecutor(PROCESSES) as pool:
        return [found for some in pool.map(_measured, cases) for found in some]


def _measured(case: tuple[dict[str, Any], str]) -> list[Found]:
    session, model = case
    recording = neutral.recording(session, session["id"])
    choices = [Choice(p, f) for p in POLICIES for f in (False, True)]
    known = needs_module().Cache()
    wanted = needs_module().needs(session, known)
    found = []
    whole_tokens = 0
    for cell in cells(recording, choices, [_card(model)], [schedule(gap) for gap in GAPS]):
        if cell.choice == Choice("never", False):
            whole_tokens = cell.row.last_prompt_tokens
        counts = _recall(session, cell, wanted, known)
        (met, needs), (whole, turns) = counts["recall"], counts["turns_whole"]
        found.append(Found(cell.row, met, needs, whole, turns, whole_tokens))
    return found


@cache
def _card(model: str) -> ModelCard:
    return models()[model].card


def _recall(session: dict[str, Any], cell: Cell, wanted: Any, known: Any) -> dict[str, Any]:
    views = [[{"role": m.role, "content": list(m.content)} for m in t.request.messages] for t in cell.played.turns]
    counts: dict[str, Any] = needs_module().recall(session, views, wanted, known)["counts"]
    return counts


COLUMNS = (
    "policy", "facts", "bill / plain", "with recalls", "bill / automatic", "mean of sessions", "dearest", "over 50,000",
    "need-recall", "whole turns", "of optimum", "worst", "cuts",
)  # fmt: skip


def table(found: Sequence[Found]) -> list[str]:
    """A Markdown table of one model and schedule: a line for each policy, then optimum and floor."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for facts in (False, True):
        groups = [[f for f in found if f.row.policy == policy and f.row.facts == facts] for policy in POLICIES]
        lines += [_line(group) for group in groups]
        lines += list(_references(groups[-1]))
    return lines


def _line(found: Sequence[Found]) -> str:
    rows = [f.row for f in found]
    bill, plain = _sum(rows, "cost_usd"), _sum(rows, "naive_usd")
    each = [float(r.cost_usd / r.automatic_caching_usd) for r in rows]
    figures = [
        bill / plain,
        (bill + _sum(rows, "recalls_usd")) / plain,
        bill / _sum(rows, "automatic_caching_usd"),
        _mean(each),
        max(each),
        _over([f for f in found if f.whole_tokens > LONG_TOKENS], "cost_usd"),
        sum(f.met for f in found) / sum(f.needs for f in found),
        sum(f.whole for f in found) / sum(f.turns_with_needs for f in found),
        _sum(rows, "modelled_usd") / _sum(rows, "optimum_usd"),
        max(r.ratio_to_optimum or 0 for r in rows),
    ]
    name = f"{rows[0].policy} | {'yes' if rows[0].facts else 'no'}"
    return f"| {name} | {' | '.join(f'{f:.3f}' for f in figures)} | {sum(r.compactions for r in rows):,} |"


def _references(found: Sequence[Found]) -> Iterator[str]:
    rows = [f.row for f in found]
    for name, figure in (("*offline optimum*", "optimum_usd"), ("*free cutting*", "floor_usd")):
        each = [float(getattr(r, figure) / r.automatic_caching_usd) for r in rows]
        shares = [_sum(rows, figure) / _sum(rows, "naive_usd"), _sum(rows, figure) / _sum(rows, "automatic_caching_usd")]
        long = _over([f for f in found if f.whole_tokens > LONG_TOKENS], figure)
        facts = "yes" if rows[0].facts else "no"
        yield (
            f"| {name} | {facts} | {shares[0]:.3f} | | {shares[1]:.3f} | {_mean(each):.3f} | {max(each):.3f} | {long:.3f} "
            f"| | | {_sum(rows, figure) / _sum(rows, 'optimum_usd'):.3f} | | |"
        )


def _sum(rows: Sequence[Row], name: str) -> float:
    return float(sum((getattr(r, name) for r in rows), Decimal(0)))


def _over(found: Sequence[Found], name: str) -> float:
    rows = [f.row for f in found]
    return _sum(rows, name) / (_sum(rows, "automatic_caching_usd") or math.nan)


def _mean(ratios: Sequence[float]) -> float:
    """The geometric mean."""
    return math.exp(statistics.fmean(map(math.log, ratios)))


def recalls(found: Sequence[Found]) -> list[str]:
    """A Markdown table: both ways to count, by policy."""
    lines = ["| policy | facts | ours | needs.py | whole turns, ours | needs.py |", "|---|---|---|---|---|---|"]
    for policy in POLICIES:
        for facts in (False, True):
            these = [f for f in found if f.row.policy == policy and f.row.facts == facts]
            ours = sum(f.row.needs_met for f in these) / sum(f.row.needs for f in these)
            whole = sum(f.row.turns_whole for f in these) / sum(f.row.turns_with_needs for f in these)
            theirs = sum(f.met for f in these) / sum(f.needs for f in these)
            their_whole = sum(f.whole for f in these) / sum(f.turns_with_needs for f in these)
            shares = " | ".join(f"{s:.3f}" for s in (ours, theirs, whole, their_whole))
            lines.append(f"| {policy} | {'yes' if facts else 'no'} | {shares} |")
    return lines


@dataclass
class Timed:
    """Policies that note how long each turn's decisions took."""

    compaction: CompactionPolicy
    facts: FactsPolicy
    seconds: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    prompts: dict[int, int] = field(default_factory=dict)

    @property
    def keep_pairs(self) -> int | None:
        """As the policy has it."""
        return self.compaction.keep_pairs

    def weigh(self, state: State, ledger: LedgerPolicy, now: datetime) -> Decision:
        """As the policy decides."""
        began = time.perf_counter()
        decision = self.compaction.weigh(state, ledger, now)
        self.seconds[state.asked] += time.perf_counter() - began
        self.prompts[state.asked] = state.prompt_tokens
        return decision

    def shown(
        self, call: Call, content: str, mode: str, handle: str, family: str, settings: FactsSettings | None = None,
        state: State | None = None,
    ) -> Shown:  # fmt: skip
        """As the policy shows it."""
        began = time.perf_counter()
        result = self.facts.shown(call, content, mode, handle, family, settings, state)
        if state is not None:
            self.seconds[state.asked] += time.perf_counter() - began
        return result


def timings() -> list[str]:
    """A Markdown table: a session that is cut, and one whose whole history stands and is weighed on every turn."""
    lines = ["| session | prompt tokens | median, ms | p99, ms |", "|---|---|---|---|"]
    settings = PolicySettings()
    free = _card(MODELS[0]).model_copy(
        update={"prices": (_card(MODELS[0]).prices[0].model_copy(update={"cache_read": Decimal(0)}),)}
    )
    for name, card in (("as the rent policy cuts it", _card(MODELS[0])), ("nothing cut, reads being free", free)):
        seconds, prompts = [], []
        for seed in range(4):
            timed = _timed(settings, card, seed)
            seconds += [s for turn, s in timed.seconds.items() if turn > TURNS - 50]
            prompts += [p for turn, p in timed.prompts.items() if turn > TURNS - 50]
        ordered = sorted(seconds)
        p99 = ordered[int(0.99 * (len(ordered) - 1))]
        lines.append(f"| {name} | {max(prompts):,} | {statistics.median(ordered) * 1e3:.2f} | {p99 * 1e3:.2f} |")
    return lines


def _timed(settings: PolicySettings, card: ModelCard, seed: int) -> Timed:
    policies: Policies = settings.policies()
    roomy = settings.compaction.model_copy(update={"hard_cap_tokens": 10**9})
    timed = Timed(roomy, policies.facts)
    play(_session(seed), card, replace(policies, compaction=timed, facts=timed), 10.0)
    return timed


def _session(seed: int) -> Recording:
    """A session of so many turns that ends at so many tokens; every tenth result is large enough for facts."""
    steps, results = [], {}
    for turn in range(TURNS + 1):
        call = f"toolu_{seed}_{turn}"
        large = turn % 10 == 5
        results[call] = blocks.tool_result(call, _result(seed, turn, 60 if large else 11))
        use = [blocks.tool_use(call, "look", {"at": f"/srv/{seed}/part-{turn}.json"})] if turn < TURNS else []
        told = (blocks.text("Look at every part."),) if turn == 0 else ()
        steps.append(Step(told, (blocks.text(f"Now part {turn}, then the next."), *use)))
    tool = {"name": "look", "description": "Look.", "input_schema": {"type": "object"}}
    return Recording(f"timed-{seed}", "", "You look at parts. " * 40, (tool,), tuple(steps), results)


def _result(seed: int, turn: int, rows: int) -> str:
    return "\n".join(
        f"row {i}: order W-{seed}{turn:03d}{i:02d} is on its way to customer-{(turn * 7 + i) % 311}, "
        f"total {turn * i + seed}.50, as it was asked for"
        for i in range(rows)
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["--timings"]:
        print("\n".join(timings()))
    elif sys.argv[1:] == ["--past"]:
        print("\n".join(past.table(MODELS, PROCESSES)))
    else:
        main()
