"""How a case is put to a model: alone, or with others in a batch at half price."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from agentloop.batch_calls import BatchCallFailed, body_of, request_line
from agentloop.batch_life import LONGEST_CUSTOM_ID, Batches, Limits, Matching, Sent, parted
from agentloop.core import costs
from agentloop.core.stream import StreamBroken, whole
from agentloop.core.tokens import estimate
from agentloop.crash_points import reached
from agentloop.errors import AgentLoopError, ConfigError, UnknownModel
from agentloop.ports import Clock, ModelClient
from agentloop.routing.cases import Case
from agentloop.routing.results import Answer, Collected, Intended, Results, Submitted, Unanswered, keep
from agentloop.types import blocks
from agentloop.types.base import Json, compact
from agentloop.types.request import Failure, Reply
from agentloop.types.usage import ModelCard

_FAILS_THE_CASE = frozenset({"prompt_too_long", "request_too_large"})
"""Failures that are the model's answer to a case: it cannot take it."""
_LIMITS = Limits()


class Speaker(NamedTuple):
    """A model under test, as it is asked."""

    card: ModelCard
    effort: str | None
    max_tokens: int


class Ask(NamedTuple):
    """One request."""

    case: str
    speaker: Speaker
    params: Json

    @property
    def key(self) -> str:
        """What tells it from every other: its own bytes, and the case."""
        return hashlib.sha256(self.case.encode() + b"\x00" + compact(self.params)).hexdigest()

    def most_usd(self, in_batch: bool) -> Decimal:
        """The most that it can cost (USD)."""
        tokens = estimate(compact(self.params).decode(), self.speaker.card.tokenizer)
        worst = costs.worst_case(self.speaker.card, tokens, self.speaker.max_tokens)
        return worst * costs.BATCH if in_batch else worst


class NoAnswer(AgentLoopError):
    """The model cannot be asked now."""

    exit_code = 75
    usd = Decimal(0)
    """What the attempts cost, and may have cost."""


class CannotBeAsked(ConfigError):
    """The case, or the model, is not one that can be asked."""

    usd = Decimal(0)
    """What the attempts cost, and may have cost."""


def ask_of(case: Case, speaker: Speaker) -> Ask:
    """A case as a request to a model."""
    messages = [{"role": "user", "content": case.input}] if isinstance(case.input, str) else case.input
    params: Json = {"model": speaker.card.id, "max_tokens": speaker.max_tokens}
    if speaker.effort is not None:
        params["output_config"] = {"effort": speaker.effort}
    if case.system:
        params["system"] = case.system
    if case.tools:
        params["tools"] = case.tools
    return Ask(case.id, speaker, {**params, "messages": messages})


def live(client: ModelClient, ask: Ask, clock: Clock) -> Answer:
    """The answer to one request, attempts that failed counted. Raises NoAnswer, CannotBeAsked, both with what was spent."""
    spent, risk = Decimal(0), Decimal(0)
    failure: Failure | None = None
    for came in client.ask(compact({**ask.params, "stream": True})):
        if isinstance(came, Reply):
            if came.priced_by is not None and came.priced_by.id != ask.speaker.card.id:
                raise _another(ask, came, spent + risk)
            found = _kept(ask.key, ask.case, ask.speaker.card, came, clock.now(), in_batch=False)
            return found.model_copy(update={"cost_usd": found.cost_usd + spent, "at_risk_usd": risk})
        failure = came
        if came.usage is not None:
            spent += costs.cost(came.usage, ask.speaker.card)
        elif came.possibly_billed:
            risk += ask.most_usd(in_batch=False)
    if failure is not None and failure.kind in _FAILS_THE_CASE:
        return _unanswered(ask, failure.kind, failure.message, clock.now()).model_copy(update={"cost_usd": spent})
    stopped = _stopped(ask, failure.message if failure else "no attempt was made", failure.kind if failure else "unavailable")
    stopped.usd = spent + risk
    raise stopped


def _another(ask: Ask, reply: Reply, before_usd: Decimal) -> CannotBeAsked:
    error = CannotBeAsked(
        f"{ask.speaker.card.id} was asked and {reply.model} answered case '{ask.case}': evidence about one model "
        "cannot come from another. Name the model that answers"
    )
    error.usd = before_usd + costs.cost(reply.usage, reply.priced_by or ask.speaker.card)
    return error


def _kept(key: str, case: str, card: ModelCard, reply: Reply, at: datetime, in_batch: bool) -> Answer:
    usage = reply.usage.model_copy(update={"service_tier": "batch"}) if in_batch else reply.usage
    details = reply.stop_details if isinstance(reply.stop_details, dict) else {}
    billed = reply.stop_reason != "refusal" or costs.refusal_is_billed(details.get("category"), reply.content, at.date())
    return Answer(
        key=key,
        case=case,
        model=card.id,
        text=blocks.text_of(reply.content),
        stop_reason=reply.stop_reason,
        detail=str(details.get("category") or ""),
        usage=usage,
        cost_usd=costs.cost(usage, card) if billed else Decimal(0),
        batch=in_batch,
        at=at,
    )


def _unanswered(ask: Ask, kind: str, message: str, at: datetime) -> Answer:
    return Answer(key=ask.key, case=ask.case, model=ask.speaker.card.id, text="", stop_reason=kind, detail=message[:300], at=at)


def _stopped(ask: Ask, message: str, kind: str) -> NoAnswer | CannotBeAsked:
    said = f"{ask.speaker.card.id} did not answer case '{ask.case}': {message}"
    if kind in ("invalid_request", "model_not_found"):
        return CannotBeAsked(f"{said}\nmend the case or name another model; what was answered before is kept")
    return NoAnswer(f"{said}\nwhat was answered is kept: run the same command again later")


class CaseBatches:
    """Cases asked in batches: written down, made once, found again, their results taken whole."""

    def __init__(self, batches: Batches, card_of: Callable[[str], ModelCard], limits: Limits = _LIMITS) -> None:
        """Make them there; `card_of` finds the card of the model that answered, and raises UnknownModel."""
        self._batches, self._card_of, self._limits = batches, card_of, limits

    def answer(self, asks: Sequence[Ask], results: Results) -> None:
        """Ask all of these in a batch, or more where they are too many for one, and write down what comes of it. Raises
        NoAnswer, ConfigError."""
        sized = ((ask, len(request_line("-" * LONGEST_CUSTOM_ID, ask.params))) for ask in asks)
        for part in parted(sized, self._limits):
            self._asked(part, results)

    def _asked(self, asks: Sequence[Ask], results: Results) -> None:
        at = self._batches.now()
        name = hashlib.sha256(f"{at.isoformat()} {asks[0].key}".encode()).hexdigest()[:16]
        most = sum((a.most_usd(in_batch=True) for a in asks), Decimal(0))
        intended = Intended(name=name, keys=tuple(a.key for a in asks), at=at, most_usd=most)
        results.add(intended)
        reached("route.batch_intended")
        with _told():
            self._make(intended, body_of([request_line(f"{name}-{i}", a.params) for i, a in enumerate(asks)]), results)
            self._collect(intended, results.batch_id(name), {a.key: a for a in asks}, results)

    def _make(self, intended: Intended, body: bytes, results: Results) -> None:
        try:
            batch_id = self._batches.api.create(body).id
        except BatchCallFailed as e:
            if e.trouble != "unknown":
                results.add(Collected(name=intended.name))
                raise
            if not self._found(intended, results):
                raise
            return
        reached("route.batch_made")
        results.add(Submitted(name=intended.name, batch_id=batch_id))

    def take_over(self, results: Results, known: dict[str, Ask]) -> int:
        """Write down what came of batches that an earlier run left behind. Returns how many answers that brought."""
        before = len(results.answers)
        with _told():
            for intended, batch_id in results.open_batches:
                if batch_id is not None or self._found(intended, results):
                    self._collect(intended, results.batch_id(intended.name), known, results)
        return len(results.answers) - before

    def _found(self, intended: Intended, results: Results) -> bool:
        """Whether a batch of which only the intention is known was made; that is written down."""
        sent = Sent(intended.at, len(intended.keys), results.batch_ids)
        found = self._batches.found(sent, lambda custom_id: custom_id.startswith(f"{intended.name}-"))
        if found is None:
            results.add(Collected(name=intended.name))
            return False
        results.add(Submitted(name=intended.name, batch_id=found.id))
        return True

    def _collect(self, intended: Intended, batch_id: str, known: dict[str, Ask], results: Results) -> None:
        items = {f"{intended.name}-{i}": key for i, key in enumerate(intended.keys)}
        matching = Matching(items, lambda custom_id: custom_id if custom_id in items else None)
        try:
            batch = self._batches.ended(batch_id)
            with self._batches.results(batch) as lines:
                lines_of = {custom_id: line for line in lines if (custom_id := matching.key(line)) is not None}
        except BatchCallFailed as e:
            if not self._is_gone(intended, e):
                raise
            lost = Collected(name=intended.name, batch_id=batch_id, lost_usd=intended.most_usd, at=self._batches.now())
            results.add(lost)
            return
        if matching.missing:
            raise NoAnswer(
                f"the results of batch {batch_id} lack {len(matching.missing)} of {len(items)} items; none of them was taken\n"
                "run the same command again: they are fetched anew, and not paid twice"
            )
        reached("route.batch_ended")
        # in the order in which they were asked: in which results come may have to do with what they say
        records = (self._record(intended, key, known.get(key), lines_of[i]) for i, key in items.items())
        keep(results, (r for r in records if r is not None and r.key not in results.answers))
        results.add(Collected(name=intended.name, batch_id=batch_id))

    def _is_gone(self, intended: Intended, e: BatchCallFailed) -> bool:
        """Whether the results of a batch cannot be had any more: they are kept for 29 days."""
        kept = timedelta(seconds=self._batches.patience.kept_s)
        return e.trouble == "no_results" or (e.trouble == "missing" and self._batches.now() > intended.at + kept)

    def _record(self, intended: Intended, key: str, ask: Ask | None, line: Json) -> Answer | Unanswered | None:
        """What an item brought; None where it may be asked again, for nothing was paid: expired, canceled, an error of the
        API. `ask` is None where this run asks something else: the answer is paid for, and kept for a run that asks it."""
        result, at = line.get("result"), self._batches.now()
        if not isinstance(result, dict) or result.get("type") == "succeeded":
            found = self._answered(key, ask, result or {}, at)
            return found or Unanswered(key=key, usd=intended.most_usd / len(intended.keys), at=at)
        error = _inner(_inner(result, "error"), "error")
        if ask is not None and error.get("type") in ("invalid_request_error", "request_too_large"):
            return _unanswered(ask, "errored", str(error.get("message")), at)
        return None

    def _answered(self, key: str, ask: Ask | None, result: Any, at: datetime) -> Answer | Unanswered | None:
        """The answer; what it cost, where another model gave it than was asked; None where it cannot be read."""
        try:
            size = len(compact(ask.params)) if ask is not None else 0
            reply = whole(_inner(result, "message"), None, size)
            card = self._card_of(reply.model)
        except (StreamBroken, UnknownModel):
            return None
        found = _kept(key, ask.case if ask is not None else "", card, reply, at, in_batch=True)
        if ask is not None and card.id != ask.speaker.card.id:  # evidence about one model cannot come from another
            return Unanswered(key=key, usd=found.cost_usd, at=at)
        return found


def _inner(value: Any, name: str) -> Mapping[str, Any]:
    """The object in a field of an object; an empty one where there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong with batches, in our words. Raises NoAnswer, ConfigError."""
    try:
        yield
    except BatchCallFailed as e:
        said = f"the batch API did not do it ({e.error_type or e.trouble}): {e.message[:300]}"
        if e.trouble in ("unauthorized", "refused", "missing"):
            raise ConfigError(
                f"{said}\nuse the key of the workspace in which batches were made; what was answered is kept"
            ) from e
        raise NoAnswer(f"{said}\nrun the same command again: a batch that was made is taken over, not paid twice") from e
    except OSError as e:
        raise NoAnswer(
            f"a temporary file cannot be written: {e.strerror or e}; free the disk, then run the command again"
        ) from e
