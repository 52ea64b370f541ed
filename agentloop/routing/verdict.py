"""What a finding of the evals makes of a row of the table."""

from datetime import date
from decimal import Decimal
from typing import NamedTuple

from agentloop.routing.evaluation import Finding, Trial, per_solved
from agentloop.routing.table import Evidence, Row, Verdict


class Kept(NamedTuple):
    """The row as it is from now on."""

    row: Row
    changed: bool
    """Whether there is something to write."""


def row_after(row: Row, trial: Trial, finding: Finding, day: date) -> Kept:
    """The row with what was found. A verdict that stands in it is not replaced by less than a verdict."""
    if not finding.seen or (finding.verdict is None and row.evidence is not None and row.evidence.verdict != "undecided"):
        return Kept(row, changed=False)
    evidence = evidence_of(trial, finding, day)
    cheap, other = trial.candidate, trial.against
    same = {"evidence": evidence}
    if evidence.verdict == "demote" and row.model != cheap.card.id:
        chain = (other.card.id, *(m for m in row.fallback if m not in (cheap.card.id, other.card.id)))
        taken = {"model": cheap.card.id, "effort": cheap.effort, "max_tokens": cheap.max_tokens, "fallback": chain}
        return Kept(Row.model_validate({**row.model_dump(), **taken, **same, "reason": _demoted(evidence)}), changed=True)
    if evidence.verdict == "promote" and row.model != other.card.id:
        chain = tuple(m for m in row.fallback if m != other.card.id)
        taken = {"model": other.card.id, "effort": other.effort, "fallback": chain}
        return Kept(Row.model_validate({**row.model_dump(), **taken, **same, "reason": _promoted(evidence)}), changed=True)
    return Kept(row.model_copy(update=same), changed=True)


def evidence_of(trial: Trial, finding: Finding, day: date) -> Evidence:
    """What was found, as it stands in the table."""
    tally = finding.standing.tally
    cheap = per_solved((s.candidate, s.candidate_grade) for s in finding.seen)
    other = per_solved((s.against, s.against_grade) for s in finding.seen)
    return Evidence(
        verdict=_verdict(finding, cheap, other),
        candidate=trial.candidate.card.id,
        against=trial.against.card.id,
        n=tally.n,
        wins=tally.wins,
        losses=tally.losses,
        delta=trial.delta,
        wealth=round(finding.standing.not_worse, 4),
        worse_wealth=round(finding.standing.worse, 4),
        day=day,
        candidate_usd_per_solved=cheap,
        against_usd_per_solved=other,
        candidate_effort=trial.candidate.effort,
        against_effort=trial.against.effort,
        pairs=finding.pairs,
    )


def _verdict(finding: Finding, cheap: Decimal | None, other: Decimal | None) -> Verdict:
    if finding.verdict is None:
        return "undecided"
    if finding.verdict == "demote" and (cheap is None or (other is not None and cheap >= other)):
        return "dearer"  # not worse, but no cheaper for each case that is solved: prompts beyond a price step, long answers
    return finding.verdict


def _demoted(e: Evidence) -> str:
    return (
        f"Not worse than {e.against} by {e.delta:g} on {e.n} cases (wealth {e.wealth:.1f}): "
        f"{_usd(e.candidate_usd_per_solved)} against {_usd(e.against_usd_per_solved)} for each solved case."
    )


def _promoted(e: Evidence) -> str:
    return (
        f"{e.candidate} is worse by more than {e.delta:g} on {e.n} cases (wealth {e.worse_wealth:.1f}): "
        f"it lost {e.losses} and won {e.wins}."
    )


def _usd(amount: Decimal | None) -> str:
    return "nothing solved" if amount is None else f"{amount.normalize():f} USD"
