"""A model is asked: what is written before, what comes of each attempt, and when another one is too much."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from agentloop.core import extraction, wire
from agentloop.core.choices import BudgetPolicy
from agentloop.core.decide import AskAbout, CallModel, KeepWarm, Settle
from agentloop.core.folding import evolve, most_usd
from agentloop.core.state import State, changed
from agentloop.core.tokens import DEFAULT_FAMILY, estimate
from agentloop.crash_points import reached
from agentloop.engine.shell import Happened, Shell
from agentloop.errors import BudgetUnknown
from agentloop.ports import Blobs, Purse
from agentloop.types.events import BudgetSeen, Event, ModelFailed, ModelReplied, ModelRequested, RawResult, ResultExtracted
from agentloop.types.request import Failure, Purpose, Request


def asked(effect: CallModel, state: State, budget: BudgetPolicy, shell: Shell, now: datetime) -> Iterator[Happened]:
    """The request and what came of it."""
    requested = _requested(effect.request, state.asked + 1).model_copy(update={"decision": effect.decision})
    yield from _attempts(requested, wire.body(effect.request), state, budget, shell, now)


def about(effect: AskAbout, state: State, budget: BudgetPolicy, shell: Shell, now: datetime) -> Iterator[Happened]:
    """The question about a result and what came of it, priced as the model that is asked."""
    card, settings, raw = effect.card.facts_card, effect.card.facts_settings, effect.result.raw
    assert card is not None
    assert settings is not None
    assert raw is not None
    text = _whole(raw, shell.blobs)
    request = extraction.request(effect.call, text, settings, card, effect.max_tokens, raw.digest)
    requested = _requested(request, state.asked).model_copy(update={"call_id": effect.call.id, "asked_of": card})
    for happened in _attempts(requested, wire.body(request), state, budget, shell, now):
        if isinstance(happened.body, ModelReplied) and happened.body.reply.priced_by is None:
            reply = happened.body.reply.model_copy(update={"priced_by": card})
            happened = Happened(happened.at, happened.body.model_copy(update={"reply": reply}))
        yield happened


def kept_warm(effect: KeepWarm, state: State, shell: Shell, now: datetime) -> Iterator[Happened]:
    """A ping and what came of it; nothing where the shared budgets have no room for it, or nobody can say. It is tried once:
    the answers of the calls wait for one attempt at most."""
    body, turn = wire.body(effect.request), state.asked
    requested = _requested(effect.request, turn).model_copy(update={"decision": effect.decision})
    if not _room_for(requested, state, shell.purse):
        return
    yield Happened(now, requested)
    started = shell.clock.monotonic()
    answer = next(shell.model.ask(body))
    if isinstance(answer, Failure):
        failure = answer.model_copy(update={"retry_in_s": None})
        yield Happened(shell.clock.now(), ModelFailed(turn=turn, purpose="keepalive", failure=failure))
    else:
        took = round(shell.clock.monotonic() - started, 6)
        yield Happened(shell.clock.now(), ModelReplied(turn=turn, purpose="keepalive", reply=answer, duration_s=took))


def _room_for(requested: ModelRequested, state: State, purse: Purse) -> bool:
    """Whether there is room for what can be left undone. It is set aside then, until the session says what it has spent."""
    try:
        room = purse.reserve(state.charged_usd, most_usd(state, requested))
    except BudgetUnknown:  # the calls that run are not to be given up for it
        return False
    return room is None or room.granted


def settled(effect: Settle, blobs: Blobs) -> ResultExtracted:
    """What is shown: what the model said, as far as the result bears it out; the facts that are there where that is nothing."""
    raw = effect.result.raw
    assert raw is not None
    result = ResultExtracted(turn=effect.result.turn, call_id=effect.call.id, detail=effect.detail)
    if not effect.said:
        return result
    text = _whole(raw, blobs)
    note = f'[made by a model of {raw.tokens:,} tokens; recall(handle="{raw.digest[:12]}") gives the whole]'
    room = max(0, effect.max_tokens - estimate(note))
    facts = extraction.supported(effect.said, text, DEFAULT_FAMILY, room)
    if not facts or len(shown := f"{facts}\n{note}") >= len(text):
        return result.model_copy(update={"detail": "the model gave nothing that can be used"})
    return result.model_copy(update={"content": shown})


def _whole(raw: RawResult, blobs: Blobs) -> str:
    data = blobs.find(raw.digest)
    return data.decode("utf-8", "replace") if data is not None else ""


def _requested(request: Request, turn: int) -> ModelRequested:
    body = wire.body(request)
    return ModelRequested(
        turn=turn,
        purpose=request.purpose,
        digest=wire.digest(body),
        body_bytes=len(body),
        breakpoints=request.breakpoints,
        max_tokens=request.max_tokens,
    )


def _attempts(
    requested: ModelRequested, body: bytes, state: State, budget: BudgetPolicy, shell: Shell, now: datetime
) -> Iterator[Happened]:
    most = most_usd(state, requested)
    if (seen := _shared(shell.purse, most, state, budget, requested.purpose, now)) is not None:
        yield Happened(now, seen)
        return
    reached("budget.reserved")
    yield Happened(now, requested)
    reached("request.recorded")
    yield from awaited(requested, body, evolve(state, Event(seq=0, at=now, body=requested)), budget, shell)


def awaited(requested: ModelRequested, body: bytes, state: State, budget: BudgetPolicy, shell: Shell) -> Iterator[Happened]:
    """What comes of a request that is on record, attempt by attempt."""
    turn, purpose, risked = requested.turn, requested.purpose, state
    most = most_usd(state, requested)
    started = shell.clock.monotonic()
    for answer in shell.model.ask(body):
        at = shell.clock.now()
        if isinstance(answer, Failure):
            failed = ModelFailed(turn=turn, purpose=purpose, failure=answer)
            risked = evolve(risked, Event(seq=0, at=at, body=failed))
            if answer.retry_in_s is not None and (stop := _no_more(shell.purse, most, risked, budget, at)) is not None:
                last = answer.model_copy(update={"retry_in_s": None, "message": f"{answer.message}; not tried again: {stop}"})
                yield Happened(at, ModelFailed(turn=turn, purpose=purpose, failure=last))
                break
            reached("attempt.failed")
            yield Happened(at, failed)
            reached("attempt.recorded")
        else:
            took = round(shell.clock.monotonic() - started, 6)
            replied = ModelReplied(turn=turn, purpose=purpose, reply=answer, duration_s=took)
            risked = evolve(risked, Event(seq=0, at=at, body=replied))
            reached("reply.received")
            yield Happened(at, replied)
            reached("reply.recorded")
    shell.purse.settle(risked.own_usd)


def _shared(
    purse: Purse, most: Decimal, state: State, budget: BudgetPolicy, purpose: Purpose, now: datetime
) -> BudgetSeen | None:
    """Set the request's worst case aside; what there is to say first, where a shared budget has little or no room."""
    room = purse.reserve(state.own_usd, most)
    if room is None:
        return None
    seen = BudgetSeen(scope=room.scope, limit_usd=room.limit_usd, left_usd=room.left_usd, refused=not room.granted)
    if not room.granted:
        return seen
    if purpose == "extraction" or budget.notice(changed(state, near=seen), now) is None:
        return None
    purse.settle(state.own_usd)
    return seen


def _no_more(purse: Purse, most: Decimal, risked: State, budget: BudgetPolicy, at: datetime) -> str | None:
    """Why another attempt is too much; None where it is not."""
    if (stop := budget.stop(risked, at)) is not None:
        return stop[1]
    if not budget.fits(risked, most):
        return f"the same request may cost {most:.4f} USD, which is more than the budget has left"
    room = purse.reserve(risked.own_usd, most)
    return None if room is None or room.granted else f"{room.left_usd:.4f} of {room.limit_usd} USD are left to {room.scope}"
