"""Recorded sessions of other people's agents under each policy: the bill, and what the policy would have lost.

Read from `../shared/traces`, or from the folder that AGENTLOOP_TRACES names (the neutral format, `needs.py` beside it).
Each session runs through the whole engine against the emulator over HTTP, no request may be refused, and each log has to
replay with equal digests. Need-recall is the share of the values that a recorded agent went on to use which still stood in
what it was shown.
"""

import gzip
import importlib.util
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.model_table import models
from agentloop.core import view
from agentloop.core.folding import begin, evolve
from agentloop.core.state import State
from agentloop.importers import neutral
from agentloop.policies import Whole, preset
from agentloop.reenact import reenact
from agentloop.replay import replay
from agentloop.report import report
from agentloop.types.events import Event, ModelReplied, SessionStarted

TRACES = Path(os.environ.get("AGENTLOOP_TRACES", Path(__file__).parents[2].parent / "shared" / "traces"))
POLICIES = ("never", "every_turn", "keep_pairs", "rent")
MODEL = "claude-sonnet-4-6"


class Row(NamedTuple):
    """One session under one policy."""

    source: str
    policy: str
    turns: int
    cost: Decimal
    plain: Decimal
    automatic: Decimal
    needs_met: int
    needs: int
    whole_turns: int
    turns_with_needs: int
    compactions: int


class Case(NamedTuple):
    """One session to play, and how."""

    source: str
    session: dict[str, Any]
    policy: str
    facts: bool
    model: str = MODEL
    gap_s: float = 10.0


def sessions(folder: Path = TRACES) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every recorded session, with the name of its source."""
    for path in sorted((folder / "dev").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                yield path.name.partition(".")[0], json.loads(line)


def table(facts: bool, model: str = MODEL, gap_s: float = 10.0) -> list[Row]:
    """Every session under every policy, on all processors."""
    cases = [Case(source, s, policy, facts, model, gap_s) for source, s in sessions() for policy in POLICIES]
    with ProcessPoolExecutor() as pool:
        return list(pool.map(played, cases, chunksize=4))


def played(case: Case) -> Row:
    """One session under one policy."""
    recording = neutral.recording(case.session, case.session["id"])
    log = MemoryLog()
    policies = preset(case.policy)
    policies = policies if case.facts else policies.model_copy(update={"facts": Whole()})
    reenact(
        recording,
        log,
        MemoryBlobs(),
        session_id="trace",
        model=case.model,
        models=models(),
        policies=policies,
        gap_s=case.gap_s,
        over_http=True,
    )
    events = list(log.events())
    bill = report(events)
    assert bill.turns == len(recording.steps), f"{recording.id} ended early: {bill.detail}"
    assert bill.failed_attempts == 0, f"{recording.id}: a request was refused"
    assert replay(events, policies.policies()).same, f"{recording.id} replays differently"
    assert bill.baselines is not None
    found = needs_module().recall(case.session, contexts(events))["counts"]
    met, needs = found["recall"]
    whole, with_needs = found["turns_whole"]
    naive, automatic = bill.baselines.naive_usd, bill.baselines.automatic_caching_usd
    turns, cuts = bill.turns, bill.compactions
    return Row(case.source, case.policy, turns, bill.cost_usd, naive, automatic, met, needs, whole, with_needs, cuts)


def contexts(events: Sequence[Event]) -> list[list[dict[str, Any]]]:
    """The messages of each request for a turn, as they were sent."""
    start = events[0].body
    assert isinstance(start, SessionStarted)
    state: State = begin(start, events[0].at)
    shown = []
    for event in events[1:]:
        if isinstance(event.body, ModelReplied) and event.body.purpose == "turn":
            shown.append([{"role": m.role, "content": list(m.content)} for m in view.messages(state)])
        state = evolve(state, event)
    return shown


def needs_module() -> ModuleType:
    """`needs.py`, from beside the traces."""
    spec = importlib.util.spec_from_file_location("needs", TRACES / "needs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines(rows: Sequence[Row]) -> list[str]:
    """A Markdown table: by source and policy, then in all."""
    columns = ["source", "policy", "sessions", "turns", "bill / plain loop", "bill / automatic caching"]
    columns += ["need-recall", "whole turns", "cuts"]
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    sources = [*dict.fromkeys(r.source for r in rows), "all"]
    return head + [
        _line(s, p, [r for r in rows if s in (r.source, "all") and r.policy == p]) for s in sources for p in POLICIES
    ]


def _line(source: str, policy: str, rows: Sequence[Row]) -> str:
    cost = sum(r.cost for r in rows)
    plain, automatic = sum(r.plain for r in rows), sum(r.automatic for r in rows)
    recall = sum(r.needs_met for r in rows) / max(1, sum(r.needs for r in rows))
    whole = sum(r.whole_turns for r in rows) / max(1, sum(r.turns_with_needs for r in rows))
    turns, cuts = sum(r.turns for r in rows), sum(r.compactions for r in rows)
    return (
        f"| {source} | {policy} | {len(rows)} | {turns:,} | {cost / plain:.3f} | {cost / automatic:.3f} "
        f"| {recall:.3f} | {whole:.3f} | {cuts} |"
    )


if __name__ == "__main__":
    for with_facts in (False, True):
        print(f"\n{'results as facts' if with_facts else 'results whole'}, {MODEL}, 10 s between requests\n")
        print("\n".join(lines(table(with_facts))))
