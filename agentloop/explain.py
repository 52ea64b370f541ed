"""Why a turn cost what it did: what was read and written and why, what a cut or a trim saved, what broke the cache."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from agentloop.carried import Lifetime, Portion, chosen, new_tokens, portions
from agentloop.core import costs, view
from agentloop.core.costs import MILLION
from agentloop.core.cuts import removed_tokens
from agentloop.core.folding import begin, evolve
from agentloop.core.prefix import divergence
from agentloop.core.state import State
from agentloop.core.tokens import estimate
from agentloop.report import AttemptCost, Cause, Usd, report
from agentloop.trimmed import Trimmed, trimmed
from agentloop.types.base import Frozen
from agentloop.types.events import Compacted, Event, ModelReplied, ModelRequested, SessionStarted, ToolFinished
from agentloop.types.leaves import LeafRun
from agentloop.types.request import Request
from agentloop.types.usage import TTL_SECONDS, Usage


class Carried(Frozen):
    """What a request's prompt consisted of, in estimated tokens."""

    tools_and_system: int
    task: int
    state: int
    turns: int
    new: int
    """Behind where the last request ended."""


class Cut(Frozen):
    """A compaction that came before a request."""

    keep_from: int
    reason: str
    removed_tokens: int
    segment_tokens: int
    price_usd: Usd | None
    """What it cost, net, as it was weighed; negative where it made the very request cheaper."""
    saved_usd: Usd
    """What the turns since then would have cost more: the removed tokens, read again on each."""
    turns_since: int
    written_by: str = "engine"
    """Who wrote the state that stands for them: the engine or the model."""
    asked_usd: Usd = Decimal(0)
    """What asking the model for it cost."""


class Trim(Frozen):
    """A result that was shown as facts."""

    tool: str
    handle: str
    whole_tokens: int
    shown_tokens: int
    left_out: str
    saved_usd: Usd
    """What writing the rest once, and reading it on each turn it would have been carried, would have cost."""
    made_by: str = ""
    """The extractor that made the facts, or the model that was asked for them."""
    asked_usd: Usd = Decimal(0)
    """What asking a model cost, whether its facts were taken or not."""
    why_not: str = ""
    """Why the facts of the model that was to be asked do not stand there."""
    recalls: int = 0
    """How many later calls asked for a part of the rest."""
    once_usd: Usd = Decimal(0)
    """What carrying it whole once cost, which `saved_usd` counts already; 0 where it was not."""
    recalls_usd: Usd = Decimal(0)
    """What the turns cost that did nothing but ask for it."""


class Broken(Frozen):
    """Where a request stopped extending the one before it."""

    kind: str
    where: str
    byte: int
    before: str
    after: str


class TurnExplained(Frozen):
    """One request for a turn."""

    turn: int
    at: datetime
    cause: Cause
    gap_s: float | None
    """Seconds since the last request started."""
    usage: Usage
    cost_usd: Usd
    cost_by_kind: dict[str, Usd]
    carried: Carried
    rent_usd: Usd | None
    decision: str
    cut: Cut | None
    trims: tuple[Trim, ...]
    """Results of this turn's calls."""
    broken: Broken | None
    """Set where the prefix moved: by a compaction, by another prefix, or by what should not have happened."""
    cache_miss: str
    """The API's own reason."""
    portions: tuple[Portion, ...] = ()
    """The prompt part by part: what was read, written, and paid in full."""
    lifetimes: tuple[Lifetime, ...] = ()
    """How long each part was asked to live, and why."""
    kept_s: int | None = None
    """For how many seconds the end of the last request was asked to be kept; None where it was not, or there was none."""
    gave_way: bool = False
    """Whether results that the last request showed once have given way to their facts: all before them could be read."""
    leaves: tuple[LeafRun, ...] = ()
    """What this turn's calls delegated to; not in its cost."""
    besides: tuple[AttemptCost, ...] = ()
    """What else was asked around this turn: for facts, for the session state, or in vain."""


class _Asked(NamedTuple):
    """One answered request for a turn, the states before it was written down and after, and what came before it."""

    decided: State
    state: State
    requested: ModelRequested
    at: datetime
    replied: ModelReplied
    cut: tuple[State, Compacted] | None
    broken: Broken | None
    gave_way: bool


def explain(events: Sequence[Event]) -> list[TurnExplained]:
    """Every turn of a session. Raises ValueError where the log does not start with session_started."""
    billed = report(events, with_baselines=False).cost_by_turn
    asked = list(_asked(events))
    made, once, leaves = trimmed(events), _seen_once(asked), _leaves(events)
    return [
        _explained(one, billed, made.get(one.replied.turn, []), once, len(asked) - i - 1, _shown_for(asked, i), leaves)
        for i, one in enumerate(asked)
    ]


def _leaves(events: Sequence[Event]) -> dict[int, tuple[LeafRun, ...]]:
    """By turn, the leaves that its calls ran."""
    found: dict[int, tuple[LeafRun, ...]] = {}
    for body in (e.body for e in events):
        if isinstance(body, ToolFinished) and body.leaves:
            found[body.turn] = found.get(body.turn, ()) + body.leaves
    return found


def _shown_for(asked: Sequence[_Asked], i: int) -> int:
    """How many requests carried the results of a turn's calls: those up to the cut behind which the turn has left the view."""
    turn = asked[i].state.keep_from + len(asked[i].state.turns)
    later = asked[i + 1 :]
    return next((n for n, one in enumerate(later) if one.cut is not None and one.cut[1].keep_from > turn), len(later))


def _seen_once(asked: Sequence[_Asked]) -> dict[str, Decimal]:
    """By call, what it cost to carry its result whole, unwritten (USD)."""
    found: dict[str, Decimal] = {}
    for state in (one.state for one in asked):
        price = costs.prices_for(state.card, state.prompt_tokens).input
        for call_id, whole in (state.once.wholes if state.once is not None else {}).items():
            size = estimate(whole, state.card.tokenizer)
            found[call_id] = found.get(call_id, Decimal(0)) + size * price / MILLION
    return found


def _explained(
    one: _Asked,
    billed: Sequence[AttemptCost],
    shown: Sequence[Trimmed],
    once: Mapping[str, Decimal],
    later: int,
    shown_for: int,
    leaves: Mapping[int, tuple[LeafRun, ...]],
) -> TurnExplained:
    state, decision, turn = one.state, one.requested.decision, one.replied.turn
    of_turn = [a for a in billed if a.turn == turn]
    attempt = next(a for a in of_turn if a.purpose == "turn" and a.cause != "failed" and a.at == one.at)
    summaries = sum((a.cost_usd for a in of_turn if a.purpose == "summary"), Decimal(0))
    return TurnExplained(
        turn=one.replied.turn,
        at=one.at,
        cause=attempt.cause,
        gap_s=max(0.0, (one.at - state.sent.at).total_seconds()) if state.sent else None,
        usage=attempt.usage,
        cost_usd=attempt.cost_usd,
        cost_by_kind=costs.bill(attempt.usage, one.replied.reply.priced_by or state.card)._asdict(),
        carried=_carried(state),
        rent_usd=decision.rent_usd if decision else None,
        decision=decision.reason if decision else "",
        cut=_cut(state, one.cut, later, summaries) if one.cut is not None else None,
        trims=tuple(_trim(t, state, shown_for, once.get(t.call_id, Decimal(0))) for t in shown),
        broken=one.broken,
        cache_miss=attempt.cache_miss,
        portions=portions(state, attempt.usage),
        lifetimes=chosen(one.decided, one.requested.breakpoints, alone=len(view.messages(state)) == 1),
        kept_s=TTL_SECONDS[state.sent.ttl] if state.sent is not None and state.sent.ttl is not None else None,
        gave_way=one.gave_way,
        leaves=leaves.get(turn, ()),
        besides=tuple(a for a in of_turn if a is not attempt),
    )


def _asked(events: Sequence[Event]) -> Iterator[_Asked]:
    start = events[0].body if events else None
    if not isinstance(start, SessionStarted):
        raise ValueError("a log starts with session_started")
    state = begin(start, events[0].at)
    last: Request | None = None
    cut: tuple[State, Compacted] | None = None
    decided = state
    for event in events[1:]:
        match event.body:
            case Compacted() as compacted:
                cut = (state, compacted)
            case ModelRequested(purpose="turn"):
                decided = state
            case ModelReplied(purpose="turn") as replied if state.pending is not None and state.pending_at is not None:
                shown = view.messages(state)
                request = Request(state.prefix, shown, (), state.pending.max_tokens, once=view.shown_once(state))
                gave_way = last is not None and bool(last.once) and cut is None
                yield _Asked(decided, state, state.pending, state.pending_at, replied, cut, _broken(last, request), gave_way)
                last, cut = request, None
            case _:
                pass
        state = evolve(state, event)


def _broken(last: Request | None, request: Request) -> Broken | None:
    moved = divergence(last, request) if last is not None else None
    return Broken.model_validate(moved._asdict()) if moved is not None else None


def _carried(state: State) -> Carried:
    return Carried(
        tools_and_system=state.prefix_tokens,
        task=state.opening_tokens,
        state=state.state_tokens,
        turns=state.turns_tokens + (state.given_tokens if state.turns else 0),
        new=new_tokens(state) if state.turns else state.prompt_tokens,
    )


def _cut(state: State, cut: tuple[State, Compacted], later: int, asked_usd: Decimal) -> Cut:
    before, compacted = cut
    removed = removed_tokens(before, compacted.keep_from)
    segment = estimate(compacted.segment, state.card.tokenizer)
    read = costs.prices_for(state.card, state.prompt_tokens).cache_read
    return Cut(
        keep_from=compacted.keep_from,
        reason=compacted.decision.reason,
        removed_tokens=removed,
        segment_tokens=segment,
        price_usd=compacted.decision.price_usd,
        saved_usd=(removed - segment) * read * later / MILLION,
        turns_since=later,
        written_by=compacted.written_by,
        asked_usd=asked_usd,
    )


def _trim(one: Trimmed, state: State, shown_for: int, once_usd: Decimal) -> Trim:
    p = costs.prices_for(state.card, state.prompt_tokens)
    shown = estimate(one.shown, state.card.tokenizer)
    once_and_each_turn = p.cache_write_5m + p.cache_read * (shown_for - 1) if shown_for else Decimal(0)
    return Trim(
        tool=one.tool,
        handle=one.raw.digest[:12],
        whole_tokens=one.raw.tokens,
        shown_tokens=shown,
        left_out=one.raw.left_out,
        saved_usd=(one.raw.tokens - shown) * once_and_each_turn / MILLION - once_usd,
        made_by=one.made_by,
        asked_usd=one.asked_usd,
        why_not=one.why_not,
        recalls=one.recalls,
        once_usd=once_usd,
        recalls_usd=one.recalls_usd,
    )
