"""A model is asked: what is written before, what comes of each attempt, and when another one is too much."""

from collections.abc import Iterator
from datetime import datetime

from agentloop.core import extraction, wire
from agentloop.core.decide import BudgetPolicy, CallModel, Extract
from agentloop.core.folding import evolve
from agentloop.core.state import State
from agentloop.engine.shell import Happened, Shell
from agentloop.types import blocks
from agentloop.types.events import Event, ModelFailed, ModelReplied, ModelRequested, ResultExtracted
from agentloop.types.request import Failure, Request


def asked(effect: CallModel, state: State, budget: BudgetPolicy, shell: Shell, now: datetime) -> Iterator[Happened]:
    """The request and what came of it."""
    requested = _requested(effect.request, state.asked + 1).model_copy(update={"decision": effect.decision})
    yield from _attempts(requested, wire.body(effect.request), state, budget, shell, now)


def extracted(effect: Extract, state: State, budget: BudgetPolicy, shell: Shell, now: datetime) -> Iterator[Happened]:
    """The question about a result, where it was not asked before; then what is shown of the result."""
    assert effect.result.raw is not None
    data = shell.blobs.find(effect.result.raw.digest)
    text = data.decode("utf-8", "replace") if data is not None else ""
    said = state.extraction
    if said is None and effect.max_tokens and text:
        for happened in _about(effect, text, state, budget, shell, now):
            yield happened
            if isinstance(happened.body, ModelReplied):
                said = blocks.text_of(happened.body.reply.content) if happened.body.reply.stop_reason == "end_turn" else ""
    yield Happened(shell.clock.now(), _shown(effect, text, said))


def _about(effect: Extract, text: str, state: State, budget: BudgetPolicy, shell: Shell, now: datetime) -> Iterator[Happened]:
    card, settings = effect.card.facts_card, effect.card.facts_settings
    assert card is not None
    assert settings is not None
    request = extraction.request(effect.call, text, settings, card, effect.max_tokens)
    requested = _requested(request, state.asked).model_copy(update={"call_id": effect.call.id, "asked_of": card})
    for happened in _attempts(requested, wire.body(request), state, budget, shell, now):
        if isinstance(happened.body, ModelReplied) and happened.body.reply.priced_by is None:
            reply = happened.body.reply.model_copy(update={"priced_by": card})
            happened = Happened(happened.at, happened.body.model_copy(update={"reply": reply}))
        yield happened


def _shown(effect: Extract, text: str, said: str | None) -> ResultExtracted:
    """What the model said, as far as the result bears it out; nothing where that is not shorter than the result."""
    raw = effect.result.raw
    assert raw is not None
    result = ResultExtracted(turn=effect.result.turn, call_id=effect.call.id)
    facts = extraction.supported(said, text) if said else ""
    if not facts:
        why = effect.detail or ("the result is not there" if not text else "the model gave nothing that can be used")
        return result.model_copy(update={"detail": why})
    note = f'[made by a model of {raw.tokens:,} tokens; recall(handle="{raw.digest[:12]}") gives the whole]'
    if len(shown := f"{facts}\n{note}") >= len(text):
        return result.model_copy(update={"detail": "the answer is no shorter than the result"})
    return result.model_copy(update={"content": shown})


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
    turn, purpose = requested.turn, requested.purpose
    yield Happened(now, requested)
    risked = evolve(state, Event(seq=0, at=now, body=requested))
    started = shell.clock.monotonic()
    for answer in shell.model.ask(body):
        if isinstance(answer, Failure):
            at = shell.clock.now()
            failed = ModelFailed(turn=turn, purpose=purpose, failure=answer)
            risked = evolve(risked, Event(seq=0, at=at, body=failed))
            if answer.retry_in_s is not None and (stop := budget.stop(risked, at)) is not None:
                last = answer.model_copy(
                    update={"retry_in_s": None, "message": f"{answer.message}; not tried again: {stop[1]}"}
                )
                yield Happened(at, ModelFailed(turn=turn, purpose=purpose, failure=last))
                return
            yield Happened(at, failed)
        else:
            took = round(shell.clock.monotonic() - started, 6)
            yield Happened(shell.clock.now(), ModelReplied(turn=turn, purpose=purpose, reply=answer, duration_s=took))
