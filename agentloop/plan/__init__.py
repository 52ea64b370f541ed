"""What a run will cost, before it runs: the agent's past sessions, decided again under today's prefix, policies and prices.

Each past session is played offline (`whatif/driver.py`), so its bill is that of the whole engine for the same words. Token
estimates are corrected by what recorded usage has taught (`core/calibration.py`), output is what was recorded. Then the
costs of all of them give the range of the next (`ranges.py`). Bills are never touched by any of this.
"""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Literal, NamedTuple

from pydantic import PlainSerializer

from agentloop.core import costs
from agentloop.core.calibration import Calibration
from agentloop.core.measuring import prefix_tokens
from agentloop.plan.costing import Costs, costs_of
from agentloop.plan.defaults import KINDS, usual
from agentloop.plan.past import Past
from agentloop.plan.ranges import Range, predicted
from agentloop.policies import ModelLedger, PolicySettings, Whole
from agentloop.types.base import Frozen
from agentloop.types.events import SessionStarted
from agentloop.types.usage import ModelCard

__all__ = ["Asked", "Forecast", "Money", "Past", "Range", "Span", "forecast"]

Money = Annotated[Decimal, PlainSerializer(lambda d: f"{d:f}", return_type=str)]


class Span(Frozen):
    """Low, expected, high, in USD."""

    low: Money
    expected: Money
    high: Money


class Turns(Frozen):
    """Low, expected, high."""

    low: int
    expected: int
    high: int


class Forecast(Frozen):
    """What one run will cost, and on what that rests."""

    agent: str
    model: str
    policy: str
    basis: Literal["past sessions", "defaults"]
    sessions: tuple[str, ...]
    """Those that it rests on."""
    turns: Turns
    prefix_tokens: int
    """Estimated tokens of tools and system prompt, as they are today."""
    cost_usd: Span
    never_usd: Span
    """The same, cached, with whole results and nothing ever cut."""
    naive_usd: Span
    """The same in the plain loop: everything sent anew on each turn, nothing cached."""
    corrected_by: int
    """Replies of this model whose usage corrected the estimates; 0: they stand as they are."""
    notes: tuple[str, ...]
    """What is not in it."""
    warnings: tuple[str, ...]


class Asked(NamedTuple):
    """What is planned: the first line that the run's log would have, and what it will be told to do."""

    start: SessionStarted
    policies: PolicySettings
    task: str | None = None
    turns: int | None = None


def forecast(
    asked: Asked, past: Sequence[Past], learned: Calibration, others: Mapping[str, ModelCard] = costs.NO_OTHERS
) -> Forecast:
    """The forecast of a run; with no past sessions, from what sessions usually are.

    `others` are today's cards of the models that were asked besides, such as for facts.
    """
    start = asked.start
    known = _known(asked, past, learned, others)
    run, never, naive = (_span(past, values) for values in zip(*((c.run, c.never, c.naive) for c in known), strict=True))
    return Forecast(
        agent=start.agent,
        model=start.card.id,
        policy=asked.policies.compaction.kind,
        basis="past sessions" if past else "defaults",
        sessions=tuple(p.session_id for p in past),
        turns=_lengths(asked, past, known),
        prefix_tokens=prefix_tokens(start.prefix, start.card),
        cost_usd=run,
        never_usd=never,
        naive_usd=naive,
        corrected_by=learned.samples,
        notes=tuple(_notes(asked, past, known, learned)),
        warnings=tuple(_warnings(asked, run)),
    )


def _known(asked: Asked, past: Sequence[Past], learned: Calibration, others: Mapping[str, ModelCard]) -> list[Costs]:
    """What each session that counts would cost; three made-up ones where there is none."""
    start, turns, policies = asked.start, _turns(asked), asked.policies
    sessions = [(p.with_task(asked.task) if asked.task is not None else p).of_turns(turns) for p in past]
    if not past:  # what is made up has the size of facts already
        policies = policies.model_copy(update={"facts": Whole()})
        lengths = [turns or _at_most(kind.turns, start) for kind in KINDS]
        sessions = [usual(kind, n, asked.task, start.card) for kind, n in zip(KINDS, lengths, strict=True)]
    return [costs_of(session, start, policies, learned, others) for session in sessions]


def _span(past: Sequence[Past], values: Sequence[Decimal]) -> Span:
    found = predicted(values) if past else Range(*values)
    return Span(**found._asdict())


def _lengths(asked: Asked, past: Sequence[Past], known: Sequence[Costs]) -> Turns:
    if (turns := _turns(asked)) is not None:
        return Turns(low=turns, expected=turns, high=turns)
    found = predicted([Decimal(c.turns) for c in known]) if past else Range(*(Decimal(c.turns) for c in known))
    low, expected, high = max(1, int(found.low)), round(found.expected), _at_most(math.ceil(found.high), asked.start)
    return Turns(low=low, expected=expected, high=max(expected, high))


def _turns(asked: Asked) -> int | None:
    return _at_most(asked.turns, asked.start) if asked.turns is not None else None


def _at_most(turns: int, start: SessionStarted) -> int:
    most = start.limits.max_turns
    return turns if most is None else min(turns, most)


def _notes(asked: Asked, past: Sequence[Past], known: Sequence[Costs], learned: Calibration) -> list[str]:
    start, found = asked.start, []
    if not past:
        found.append(
            f"no past sessions of '{start.agent}' here: {', '.join(str(_turns(asked) or k.turns) for k in KINDS)} turns of the "
            "usual kind are assumed, as far as max_turns allows"
        )
    if not learned.samples:
        found.append(f"no recorded usage of {start.card.id} here: its tokens are estimated (docs/tokens.md)")
    if isinstance(asked.policies.ledger, ModelLedger) and not any(b.summary for p in past for b in p.besides):
        found.append("what asking the model for the session state costs is not in it")
    for one in past:
        found += [f"session '{one.session_id}' is played without {what}" for what in one.recording.left_out]
        if one.pings:
            pings = f"the {one.pings} pings" if one.pings > 1 else "the ping"
            found.append(f"session '{one.session_id}' is played without {pings} that kept its cache warm: its waits go cold")
    if too_long := sum(not c.fits for c in known):
        found.append(
            f"{too_long} of {len(known)} sessions do not fit the model's window uncut: 'never' and the plain loop end early"
        )
    return found


def _warnings(asked: Asked, cost: Span) -> list[str]:
    limits, found = asked.start.limits, []
    if asked.turns is not None and asked.turns != _turns(asked):
        found.append(f"{asked.turns} turns were asked for, and max_turns is {limits.max_turns}: the run would stop there")
    budget = limits.max_budget_usd
    if budget is not None and budget < cost.low:
        found.append(
            f"the budget of {budget:f} USD is below the low end of the forecast, {cost.low:.4f} USD: "
            "the run will stop before its end (it can be resumed); raise max_budget_usd"
        )
    elif budget is not None and budget < cost.high:
        found.append(
            f"the budget of {budget:f} USD is below the high end of the forecast, {cost.high:.4f} USD: it may not last"
        )
    return found
