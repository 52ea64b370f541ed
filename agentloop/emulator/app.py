"""The emulator: a request comes in as method, path, headers and body, an answer goes out. No HTTP, no port."""

import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, unquote

from agentloop.emulator import breaking, calls, catalogue, rows
from agentloop.emulator.answers import (
    Answer,
    ApiError,
    answer,
    delayed,
    error_answer,
    invalid,
    json_answer,
    not_found,
    stream_answer,
    too_large,
)
from agentloop.emulator.batches import Batches, Item
from agentloop.emulator.calls import MAX_REQUEST_BYTES, Call
from agentloop.emulator.catalogue import ModelRow
from agentloop.emulator.faults import OUTAGES, REFUSALS, Endpoint, Fault, Faults
from agentloop.emulator.limits import BATCHING, COUNTING, Limits
from agentloop.emulator.messages import Circumstance, Messages
from agentloop.emulator.script import Script
from agentloop.emulator.settings import EmulatorSettings
from agentloop.types.base import Json

__all__ = ["MAX_REQUEST_BYTES", "Emulator", "EmulatorSettings"]

DEFAULTS = EmulatorSettings()
NO_FAULTS = Faults()


class Emulator:
    """A Messages API that a script answers, with the API's checks, cache and usage.

    The same requests at the same times get the same bytes. API keys are asked for, and forgotten. Threads may share an
    emulator: what it keeps stands behind locks, and streams are made outside of them.
    """

    def __init__(
        self,
        script: Script,
        models: Mapping[str, ModelRow],
        *,
        clock: Callable[[], float] = time.time,
        settings: EmulatorSettings = DEFAULTS,
        faults: Faults = NO_FAULTS,
    ) -> None:
        self._models = rows.adapted(models, settings)
        self._clock, self._settings, self._faults = clock, settings, faults
        self._messages = Messages(script, self._models, settings)
        queue = settings.limits.queued_batch_requests
        self._batches = Batches(self._item, settings.batches, settings.seed, queue)
        self._limits = Limits(settings.limits)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._arrived: Counter[str] = Counter()
        self._hit: deque[Json] = deque(maxlen=settings.reported_requests)
        self._here = {
            "anthropic-organization-id": settings.organization_id,
            "anthropic-workspace-id": settings.workspace_id,
        }

    def handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer to one request; `path` may carry a query."""
        path, _, query = path.partition("?")
        lowered = {name.lower(): value for name, value in headers.items()}
        call = Call(lowered, dict(parse_qsl(query)), body, self._clock(), f"req_emulator_{next(self._numbers):08d}")
        try:
            return self._answer(method.upper(), path, call).with_headers(self._here)
        except ApiError as e:
            return error_answer(e, call.request_id).with_headers(self._here)
        except RecursionError:
            error = invalid("The request body is nested too deeply")
            return error_answer(error, call.request_id).with_headers(self._here)

    def report(self) -> Json:
        """What has been billed so far: what `GET /emulator/report` answers."""
        self._batches.advance(self._clock())
        with self._lock:
            return self._messages.report() | {"faults": list(self._hit)}

    def _answer(self, method: str, path: str, call: Call) -> Answer:
        if len(call.body) > calls.limit_bytes(path):
            raise too_large()
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if (method, parts) == ("GET", ["emulator", "report"]):
            return json_answer(self.report(), call.request_id)
        calls.check_key(call.headers)
        if parts[0] != "v1":
            raise not_found(f"{method} {path}: Not found")
        match method, parts[1:]:
            case "POST", ["messages"]:
                return self._create(call)
            case "POST", ["messages", "count_tokens"]:
                return self._count(call)
            case _, ["messages", "batches", *rest]:
                return self._batch(method, rest, path, call)
            case "GET", ["models", *rest] if len(rest) < 2:
                return self._model(rest, call)
            case _:
                raise not_found(f"{method} {path}: Not found")

    def _create(self, call: Call) -> Answer:
        fault = self._fault("messages", call)
        if fault is not None and fault.fault in OUTAGES:
            return breaking.outage(fault, call.request_id)
        version, body = calls.version(call.headers), self._parsed(call)
        streams = body.get("stream") is True
        if fault is not None and not streams:
            breaking.refuse_whole(fault)
        model = self._metered(body)
        self._limits.admit(model, call.at)
        self._batches.advance(call.at)
        first_byte_s = self._settings.first_byte_s + breaking.waits(fault)
        message = self._messages.create(
            body,
            Circumstance(
                call.at,
                call.request_id,
                version,
                calls.betas(call.headers),
                ready_at=call.at + first_byte_s,
                reshaped=breaking.reshaped(fault),
            ),
        )
        self._limits.use(model, message["usage"], call.at)
        if streams:
            chunks = breaking.streamed(fault, message, self._settings.second_message_delta)
            made = stream_answer(delayed(first_byte_s, chunks), call.request_id)
        else:
            made = answer("application/json", delayed(first_byte_s, breaking.whole(fault, message)), call.request_id)
        return made.with_headers(self._limits.headers(model, call.at))

    def _parsed(self, call: Call) -> Json:
        """The body of a Messages request, without what only a planned fault has put into it."""
        body = calls.parsed(call.body)
        return breaking.taken_back(body) if self._faults.rules else body

    def _count(self, call: Call) -> Answer:
        if (broken := self._outage("count_tokens", call)) is not None:
            return broken
        version, body = calls.version(call.headers), self._parsed(call)
        self._limits.admit(COUNTING, call.at)
        counted = json_answer(self._messages.count(body, version, calls.betas(call.headers)), call.request_id)
        return counted.with_headers(self._limits.headers(COUNTING, call.at))

    def _batch(self, method: str, rest: list[str], path: str, call: Call) -> Answer:
        if (broken := self._outage("batches", call)) is not None:
            return broken
        version = calls.version(call.headers)
        self._limits.admit(BATCHING, call.at)
        host = f"http://{call.headers.get('host', 'emulator')}"
        match method, rest:
            case "POST", []:
                shown = self._batches.create(calls.parsed(call.body), call.at, version, calls.betas(call.headers), host)
            case "GET", []:
                shown = self._batches.list(call.query, call.at, host)
            case "GET", [id]:
                shown = self._batches.retrieve(id, call.at, host)
            case "GET", [id, "results"]:
                return answer("application/x-jsonl", self._batches.results(id, call.at), call.request_id)
            case "POST", [id, "cancel"]:
                shown = self._batches.cancel(id, call.at, host)
            case "DELETE", [id]:
                shown = self._batches.delete(id, call.at)
            case _:
                raise not_found(f"{method} {path}: Not found")
        return json_answer(shown, call.request_id).with_headers(self._limits.headers(BATCHING, call.at))

    def _model(self, rest: list[str], call: Call) -> Answer:
        if (broken := self._outage("models", call)) is not None:
            return broken
        calls.version(call.headers)
        if rest:
            shown = catalogue.info(rest[0], self._models, self._settings)
        else:
            shown = catalogue.page(self._models, call.query, self._settings)
        return json_answer(shown, call.request_id)

    def _item(self, item: Item) -> Json:
        """The message that answers an item of a batch."""
        asked = Circumstance(
            item.at,
            item.request_id,
            item.version,
            item.betas,
            service_tier="batch",
            ready_at=item.done_at,
            siblings=item.siblings,
        )
        return self._messages.create(item.params, asked)

    def _metered(self, body: Json) -> str:
        """The model whose limits a request takes from; one that is not known has none to speak of."""
        name = body.get("model")
        row = self._models.get(name) if isinstance(name, str) else None
        return row.card.id if row is not None else ""

    def _fault(self, endpoint: Endpoint, call: Call) -> Fault | None:
        """The fault that is planned for this request. Raises ApiError where it is a refusal."""
        if not self._faults.rules:
            return None
        model = calls.model(call.body) if endpoint == "messages" and self._faults.ask_for_models else None
        with self._lock:
            self._arrived[endpoint] += 1
            number = self._arrived[endpoint]
            fault = self._faults.at(endpoint, number, model)
            if fault is not None:
                hit = {"endpoint": endpoint, "request": number, "fault": fault.fault, "request_id": call.request_id}
                self._hit.append(hit)
        if fault is not None and fault.fault in REFUSALS:
            raise breaking.refusal(fault)
        return fault

    def _outage(self, endpoint: Endpoint, call: Call) -> Answer | None:
        fault = self._fault(endpoint, call)
        return breaking.outage(fault, call.request_id) if fault is not None else None
