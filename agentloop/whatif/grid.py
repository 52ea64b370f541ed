"""Recordings under every combination of policies, lifetimes, facts, models and gaps: a row for each, and the totals."""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import groupby, product
from typing import NamedTuple

from agentloop.baselines import Baselines, OtherHands
from agentloop.core import costs
from agentloop.core.costs import MILLION
from agentloop.core.folding import begin
from agentloop.errors import UsageError
from agentloop.importers.recording import Recording
from agentloop.policies import (
    PRESETS,
    EngineLedger,
    ModelLedger,
    Never,
    PolicySettings,
    Threshold,
    Whole,
    from_settings,
    preset,
)
from agentloop.policies.caching import ChosenTtl
from agentloop.recorded import RecordedClock, seen_once, started
from agentloop.report import Usd
from agentloop.types.base import Frozen
from agentloop.types.usage import ModelCard
from agentloop.whatif import fixed, needs, optimum
from agentloop.whatif.driver import Played, Turn, play
from agentloop.whatif.needs import Met, Need, Seen
from agentloop.whatif.schedule import Schedule

_THRESHOLD = re.compile(r"threshold:([1-9]\d{0,2}(?:_?\d{3}){0,4}|[1-9]\d{0,14})", re.ASCII)
REFERENCE = "rent"
"""The policy whose trajectory the optimum is found on."""
RECALL_OUTPUT, RECALL_RESULT = 90, 250
"""Tokens of a `recall` call and of what it brings back, where a miss is priced as one."""


class Choice(NamedTuple):
    """One policy of the grid."""

    policy: str
    facts: bool
    ttl: ChosenTtl | None = None
    """None: as the policy chooses itself."""
    see_once: bool = False
    """Whether what becomes facts is seen whole once before."""

    def settings(self) -> PolicySettings:
        """The policies of this name. Raises UsageError."""
        chosen = _named(self.policy)
        if self.ttl is not None:
            timed = from_settings(chosen, static_ttl=self.ttl, state_ttl=self.ttl, tail_ttl=self.ttl)
            chosen = timed.model_copy(update={"facts": chosen.facts})
        return chosen if self.facts else chosen.model_copy(update={"facts": Whole()})

    @property
    def label(self) -> str:
        """For a person."""
        facts = " + see_once" if self.see_once else " + facts" if self.facts else ""
        return f"{self.policy}{facts}{f', {self.ttl}' if self.ttl else ''}"


def _named(policy: str) -> PolicySettings:
    if found := _THRESHOLD.fullmatch(policy):
        return preset("never").model_copy(update={"compaction": Threshold(over_tokens=int(found[1]))})
    if policy in PRESETS:
        return preset(policy)
    raise UsageError(f"policy '{policy}' is none that is known: expected {', '.join(PRESETS)} or threshold:TOKENS")


class Row(Frozen):
    """One policy on one session, or on all of them."""

    session: str
    policy: str
    facts: bool
    see_once: bool = False
    ttl: str | None
    model: str
    gap: str
    sessions: int = 1
    turns: int
    outcome: str = ""
    cost_usd: Usd
    naive_usd: Usd
    automatic_caching_usd: Usd
    optimum_usd: Usd
    floor_usd: Usd
    modelled_usd: Usd
    """The policy's cuts in the terms in which the optimum was found; where it has no such terms (such as what is seen once),
    its bill."""
    recalls_usd: Usd
    """What it would cost besides if the model had asked for each missing value with a `recall` of its own."""
    ratio_to_naive: float | None
    ratio_to_automatic_caching: float | None
    ratio_to_optimum: float | None
    need_recall: float | None
    whole_turns: float | None
    needs: int
    needs_met: int
    turns_with_needs: int
    turns_whole: int
    compactions: int
    last_prompt_tokens: int
    ended_early: int = 0
    """Sessions that did not come to their end, such as one that outgrew the window: what they cost is held against nothing."""


class Cell(NamedTuple):
    """A row, and the session that it tells of."""

    choice: Choice
    row: Row
    played: Played

    @property
    def cost_by_turn(self) -> tuple[Decimal, ...]:
        """USD of each turn."""
        return tuple(t.cost_usd for t in self.played.turns)


def cells(
    recording: Recording, choices: Sequence[Choice], cards: Sequence[ModelCard], schedules: Sequence[Schedule]
) -> Iterator[Cell]:
    """Every combination for one recording."""
    seen = Seen()
    wanted = needs.needs(recording, seen)
    for card, schedule in product(cards, schedules):
        others = baselines(recording, card, schedule)
        references: dict[bool, _Reference] = {}
        for choice in choices:
            if choice.facts not in references:
                references[choice.facts] = _Reference(recording, card, schedule, choice.facts)
            yield _cell(recording, choice, card, schedule, others, references[choice.facts], wanted, seen)


def baselines(recording: Recording, card: ModelCard, schedule: Schedule) -> Baselines:
    """The same trajectory in other hands."""
    first = started(recording, "whatif", card, {})
    hands = OtherHands(begin(first, RecordedClock(recording, schedule.gaps_s).now()))
    play(recording, _roomy(card), PolicySettings(compaction=Never(), facts=Whole()).policies(), schedule.gaps_s, hands.take)
    return hands.baselines()


def _roomy(card: ModelCard) -> ModelCard:
    """The card without the end of its window: a baseline is the bill of the whole trajectory."""
    return card.model_copy(update={"context_window": 1 << 40})


class _Reference:
    """What a policy's cuts are held against."""

    def __init__(self, recording: Recording, card: ModelCard, schedule: Schedule, facts: bool) -> None:
        shown = fixed.ShownResults()
        play(recording, card, Choice(REFERENCE, facts).settings().policies(), schedule.gaps_s, shown)
        self.fixed = fixed.trajectory(shown.recording(recording), card, EngineLedger(), schedule.gaps_s)
        self.optimum = optimum.optimum(self.fixed.sizes, card)
        self.floor_usd = optimum.floor(self.fixed.sizes, card)

    def modelled(self, played: Played, settings: PolicySettings) -> Decimal:
        """The bill of a policy's cuts, with the sizes that the optimum has."""
        if not isinstance(settings.ledger, EngineLedger):
            return played.cost_usd
        return fixed.priced(self.fixed, {c.request: c.keep_from for c in played.cuts}, settings.caching).cost_usd


def _cell(
    recording: Recording, choice: Choice, card: ModelCard, schedule: Schedule, others: Baselines, reference: _Reference,
    wanted: Sequence[Sequence[Need]], seen: Seen,
) -> Cell:  # fmt: skip
    settings = choice.settings()
    if isinstance(settings.ledger, ModelLedger):
        settings = settings.model_copy(update={"ledger": settings.ledger.engine})
    played = play(seen_once(recording) if choice.see_once else recording, card, settings.policies(), schedule.gaps_s)
    met = [needs.met(needed, turn.request.messages, seen) for needed, turn in zip(wanted, played.turns, strict=False)]
    row = _row(
        session=recording.id,
        policy=choice.policy,
        facts=choice.facts,
        see_once=choice.see_once,
        ttl=choice.ttl,
        model=card.id,
        gap=schedule.name,
        turns=len(played.turns),
        outcome=played.state.outcome or "",
        cost_usd=played.cost_usd,
        naive_usd=others.naive_usd,
        automatic_caching_usd=others.automatic_caching_usd,
        optimum_usd=reference.optimum.cost_usd,
        floor_usd=reference.floor_usd,
        modelled_usd=played.cost_usd if choice.see_once else reference.modelled(played, settings),
        recalls_usd=recalls(played.turns, met, card),
        compactions=len(played.cuts),
        ended_early=int(len(played.turns) < len(recording.steps)),
        last_prompt_tokens=played.turns[-1].usage.prompt_tokens if played.turns else 0,
        met=sum(met, Met()),
    )
    return Cell(choice, row, played)


def _row(*, met: Met, **figures: object) -> Row:
    """A row with its shares."""
    known: dict[str, object] = {"ratio_to_naive": None, "ratio_to_automatic_caching": None, "ratio_to_optimum": None}
    row = Row.model_validate(
        figures
        | known
        | {
            "need_recall": met.recall,
            "whole_turns": met.whole,
            "needs": met.needs,
            "needs_met": met.met,
            "turns_with_needs": met.turns,
            "turns_whole": met.whole_turns,
        }
    )
    if row.ended_early:
        return row
    return row.model_copy(
        update={
            "ratio_to_naive": _share(row.cost_usd, row.naive_usd),
            "ratio_to_automatic_caching": _share(row.cost_usd, row.automatic_caching_usd),
            "ratio_to_optimum": _share(row.modelled_usd, row.optimum_usd),
        }
    )


def _share(part: Decimal, whole: Decimal) -> float | None:
    return round(float(part / whole), 6) if whole else None


def recalls(turns: Sequence[Turn], met: Sequence[Met], card: ModelCard) -> Decimal:
    """Each miss as a turn of its own that only asks for `recall`: the prompt is read once more, the call is written and
    carried with its answer to the end (ECONOMICS §7). USD."""
    total = Decimal(0)
    for i, (turn, found) in enumerate(zip(turns, met, strict=False)):
        p = costs.prices_for(card, turn.usage.prompt_tokens)
        carried = (RECALL_OUTPUT + RECALL_RESULT) * (p.cache_write_5m + p.cache_read * (len(turns) - i))
        once = turn.usage.prompt_tokens * p.cache_read + RECALL_OUTPUT * p.output + carried
        total += (found.needs - found.met) * once / MILLION
    return total


def totals(rows: Sequence[Row]) -> list[Row]:
    """Rows of several sessions, added up by everything else that tells them apart."""
    ordered = sorted(enumerate(rows), key=lambda r: (_kind(r[1]), r[0]))
    sums = [[row for _, row in group] for _, group in groupby(ordered, key=lambda r: _kind(r[1]))]
    first = {_kind(row): i for i, row in reversed(list(enumerate(rows)))}
    return [_total(group) for group in sorted(sums, key=lambda g: first[_kind(g[0])])]


def _kind(row: Row) -> tuple[str, str, str, bool, bool, str]:
    return row.model, row.gap, row.policy, row.facts, row.see_once, row.ttl or ""


_ADDED = (
    "sessions", "turns", "cost_usd", "naive_usd", "automatic_caching_usd", "optimum_usd", "floor_usd", "modelled_usd",
    "recalls_usd", "compactions", "ended_early",
)  # fmt: skip


def _total(rows: Sequence[Row]) -> Row:
    head = {name: getattr(rows[0], name) for name in ("policy", "facts", "see_once", "ttl", "model", "gap")}
    added = {name: sum((getattr(r, name) for r in rows[1:]), getattr(rows[0], name)) for name in _ADDED}
    met = Met(*(sum(getattr(r, n) for r in rows) for n in ("needs_met", "needs", "turns_whole", "turns_with_needs")))
    return _row(session="all", **head, **added, last_prompt_tokens=max(r.last_prompt_tokens for r in rows), met=met)
