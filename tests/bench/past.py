"""What gaps of seven minutes cost more than gaps of ten seconds, by what is known of them: the table of docs/economics.md.

The sessions of one source follow each other, as those of one agent would. With a past, each starts with what the one before it
says (the first with nothing); announced, with `expected_gap_s`; known, under the setting that is best for such gaps.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from agentloop.adapters.model_table import models
from agentloop.importers import neutral
from agentloop.policies import FourMarks, PolicySettings, Rent, Whole
from agentloop.prior import counted
from agentloop.recorded import started
from agentloop.types.past import Prior
from agentloop.types.usage import ModelCard
from agentloop.whatif.driver import Played, play
from tests.bench.traces import sessions

SHORT_S, LONG_S = 10.0, 420.0
KNOWN = ("nothing", "one past session", "announced", "set to 1h")


class Costs(NamedTuple):
    """Of sessions, in USD: 10 seconds apart, and 7 minutes apart by what was known."""

    short: Decimal
    long: tuple[Decimal, ...]


class Case(NamedTuple):
    """One session, and the one before it of the same source."""

    session: dict[str, Any]
    before: dict[str, Any] | None
    model: str
    facts: bool


def table(names: Sequence[str], processes: int) -> Iterator[str]:
    """A Markdown table: a line for each model, with and without facts."""
    yield f"| model | facts | {' | '.join(KNOWN)} |"
    yield "|---" * (2 + len(KNOWN)) + "|"
    with ProcessPoolExecutor(processes) as pool:
        for model in names:
            for facts in (False, True):
                found = list(pool.map(_costs, _cases(model, facts)))
                short = sum((c.short for c in found), Decimal(0))
                ratios = [sum(column, Decimal(0)) / short for column in zip(*(c.long for c in found), strict=True)]
                yield f"| {model} | {'yes' if facts else 'no'} | {' | '.join(f'{r:.3f}' for r in ratios)} |"


def _cases(model: str, facts: bool) -> Iterator[Case]:
    for _, of_source in groupby(sessions(), key=lambda s: s[0]):
        ordered = [session for _, session in of_source]
        for before, session in pairwise([None, *ordered]):
            assert session is not None
            yield Case(session, before, model, facts)


def _costs(case: Case) -> Costs:
    card = models()[case.model].card
    settings = PolicySettings() if case.facts else PolicySettings(facts=Whole())
    prior = Prior(sessions=(counted(_gaps(case.before)),)) if case.before is not None else None
    hour = {"caching": FourMarks(static_ttl="1h", state_ttl="1h", tail_ttl="1h"), "compaction": Rent(ttl="1h")}
    long = (
        _played(case.session, card, settings, LONG_S),
        _played(case.session, card, settings, LONG_S, prior=prior),
        _played(case.session, card, settings, LONG_S, expected_gap_s=LONG_S),
        _played(case.session, card, settings.model_copy(update=hour), LONG_S),
    )
    return Costs(_played(case.session, card, settings, SHORT_S).cost_usd, tuple(one.cost_usd for one in long))


def _played(session: dict[str, Any], card: ModelCard, settings: PolicySettings, gap_s: float, **known: object) -> Played:
    recording = neutral.recording(session, session["id"])
    start = started(recording, "past", card, {}).model_copy(update=known)
    return play(recording, card, settings.policies(), gap_s, start=start)


def _gaps(session: dict[str, Any]) -> list[float]:
    return [LONG_S] * (len(neutral.recording(session, session["id"]).steps) - 1)
