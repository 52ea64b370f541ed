"""How a case is put to a model: alone, or with others in a batch at half price."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from agentloop.core import costs
from agentloop.core.stream import StreamBroken, whole
from agentloop.core.tokens import estimate
from agentloop.crash_points import reached
from agentloop.errors import AgentLoopError, ConfigError
from agentloop.ports import Clock, ModelClient
from agentloop.routing.cases import Case
from agentloop.routing.results import Answer, Collected, Intended, Results, Submitted, keep
from agentloop.types import blocks
from agentloop.types.base import Json, compact
from agentloop.types.request import Failure, Reply
from agentloop.types.usage import ModelCard

if TYPE_CHECKING:
    from anthropic import Anthropic

_FAILS_THE_CASE = frozenset({"prompt_too_long", "request_too_large"})
"""Failures that are the model's answer to a case: it cannot take it."""
FIRST_POLL_S, LONGEST_POLL_S = 2.0, 60.0
_CLOCKS_APART = timedelta(minutes=5)
_NEWEST = 200
"""So many of the newest batches are looked through for one whose id was lost."""


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
    """The answer to one request, attempts that failed counted. Raises NoAnswer, ConfigError."""
    spent, risk = Decimal(0), Decimal(0)
    failure: Failure | None = None
    for came in client.ask(compact({**ask.params, "stream": True})):
        if isinstance(came, Reply):
            found = _answer(ask, came, clock.now(), in_batch=False)
            return found.model_copy(update={"cost_usd": found.cost_usd + spent, "at_risk_usd": risk})
        failure = came
        if came.usage is not None:
            spent += costs.cost(came.usage, ask.speaker.card)
        elif came.possibly_billed:
            risk += ask.most_usd(in_batch=False)
    if failure is not None and failure.kind in _FAILS_THE_CASE:
        return _unanswered(ask, failure.kind, failure.message, clock.now()).model_copy(update={"cost_usd": spent})
    raise _stopped(ask, failure.message if failure else "no attempt was made", failure.kind if failure else "unavailable")


def _answer(ask: Ask, reply: Reply, at: datetime, in_batch: bool) -> Answer:
    if reply.priced_by is not None and reply.priced_by.id != ask.speaker.card.id:
        raise ConfigError(
            f"{ask.speaker.card.id} was asked and {reply.model} answered case '{ask.case}': evidence about one model "
            "cannot come from another. Name the model that answers"
        )
    usage = reply.usage.model_copy(update={"service_tier": "batch"}) if in_batch else reply.usage
    details = reply.stop_details if isinstance(reply.stop_details, dict) else {}
    billed = reply.stop_reason != "refusal" or costs.refusal_is_billed(details.get("category"), reply.content, at.date())
    return Answer(
        key=ask.key,
        case=ask.case,
        model=ask.speaker.card.id,
        text=blocks.text_of(reply.content),
        stop_reason=reply.stop_reason,
        detail=str(details.get("category") or ""),
        usage=usage,
        cost_usd=costs.cost(usage, ask.speaker.card) if billed else Decimal(0),
        batch=in_batch,
        at=at,
    )


def _unanswered(ask: Ask, kind: str, message: str, at: datetime) -> Answer:
    return Answer(key=ask.key, case=ask.case, model=ask.speaker.card.id, text="", stop_reason=kind, detail=message[:300], at=at)


def _stopped(ask: Ask, message: str, kind: str) -> AgentLoopError:
    said = f"{ask.speaker.card.id} did not answer case '{ask.case}': {message}"
    if kind in ("invalid_request", "model_not_found"):
        return ConfigError(f"{said}\nmend the case or name another model; what was answered before is kept")
    return NoAnswer(f"{said}\nwhat was answered is kept: run the same command again later")


class Batches:
    """Batches over the official SDK: made once, found again, waited for, written down."""

    def __init__(self, client: "Anthropic", clock: Clock, sleep: Callable[[float], None] = time.sleep) -> None:
        """`client` makes no second attempt at a request (`max_retries` 0): a batch must not be made twice."""
        self._client, self._clock, self._sleep = client, clock, sleep

    def answer(self, asks: Sequence[Ask], results: Results) -> None:
        """Ask all of these in one batch and write down what comes of it. Raises NoAnswer, ConfigError."""
        at = self._clock.now()
        name = hashlib.sha256(f"{at.isoformat()} {asks[0].key}".encode()).hexdigest()[:16]
        intended = Intended(name=name, keys=tuple(a.key for a in asks), at=at)
        results.add(intended)
        reached("route.batch_intended")
        requests: list[Any] = [{"custom_id": f"{name}-{i}", "params": a.params} for i, a in enumerate(asks)]
        batch_id = self._call(lambda: self._client.messages.batches.create(requests=requests)).id
        reached("route.batch_made")
        results.add(Submitted(name=name, batch_id=batch_id))
        self._collect(intended, batch_id, {a.key: a for a in asks}, results)

    def take_over(self, results: Results, known: dict[str, Ask]) -> int:
        """Write down what came of batches that an earlier run left behind. Returns how many answers that brought."""
        before = len(results.answers)
        for intended, batch_id in results.open_batches:
            if (found := batch_id or self._find(intended)) is None:
                results.add(Collected(name=intended.name))
                continue
            if batch_id is None:
                results.add(Submitted(name=intended.name, batch_id=found))
            self._collect(intended, found, known, results)
        return len(results.answers) - before

    def _find(self, intended: Intended) -> str | None:
        """The batch whose items have these names; None where there is none: then nothing was made, and nothing paid."""
        for i, batch in enumerate(self._recent()):
            if i >= _NEWEST or batch.created_at < intended.at - _CLOCKS_APART:
                return None
            if sum(batch.request_counts.to_dict().values()) != len(intended.keys):
                continue
            self._wait(batch.id)
            first = next(iter(self._results(str(batch.id))), None)
            if first is not None and str(first["custom_id"]).startswith(f"{intended.name}-"):
                return str(batch.id)
        return None

    def _recent(self) -> Iterator[Any]:
        return iter(self._call(lambda: self._client.messages.batches.list(limit=100)))

    def _collect(self, intended: Intended, batch_id: str, known: dict[str, Ask], results: Results) -> None:
        self._wait(batch_id)
        lines = self._results(batch_id)
        items = {f"{intended.name}-{i}": key for i, key in enumerate(intended.keys)}
        if missing := items.keys() - {str(line["custom_id"]) for line in lines}:
            raise NoAnswer(
                f"the results of batch {batch_id} lack {len(missing)} of {len(items)} items; nothing of them was taken\n"
                "run the same command again: they are fetched anew, and not paid twice"
            )
        reached("route.batch_ended")
        asked = ((known.get(items.get(str(line["custom_id"]), "")), line["result"]) for line in lines)
        kept = (self._item(ask, result) for ask, result in asked if ask is not None)
        keep(results, (a for a in kept if a is not None and a.key not in results.answers))
        results.add(Collected(name=intended.name, batch_id=batch_id))

    def _item(self, ask: Ask, result: Json) -> Answer | None:
        """An item's answer; None where it may be asked again, for nothing was paid: expired, canceled, an error of the API."""
        kind, at = result.get("type"), self._clock.now()
        if kind == "succeeded":
            try:
                return _answer(ask, whole(result.get("message"), None, len(compact(ask.params))), at, in_batch=True)
            except StreamBroken:
                return None
        error = (result.get("error") or {}).get("error") or {}
        if kind == "errored" and error.get("type") in ("invalid_request_error", "request_too_large"):
            return _unanswered(ask, "errored", str(error.get("message")), at)
        return None

    def _wait(self, batch_id: str) -> None:
        pause = FIRST_POLL_S
        while self._call(lambda: self._client.messages.batches.retrieve(batch_id)).processing_status != "ended":
            self._sleep(pause)
            pause = min(LONGEST_POLL_S, pause * 1.5)

    def _results(self, batch_id: str) -> list[Json]:
        return [line.to_dict(mode="json") for line in self._call(lambda: list(self._client.messages.batches.results(batch_id)))]

    def _call(self, call: Callable[[], Any]) -> Any:
        """What the SDK says. Raises NoAnswer."""
        import anthropic
        import httpx2

        try:
            return call()
        except (anthropic.AnthropicError, httpx2.HTTPError, ValueError) as e:  # ValueError: a line that is no JSON
            raise NoAnswer(
                f"the batch API did not answer ({type(e).__name__}): {str(e)[:300]}\n"
                "run the same command again: a batch that was made is taken over, not paid twice"
            ) from e
