"""Batch runs on the emulator, whose clock the runs themselves move: nothing sleeps."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
from anthropic import Anthropic

from agentloop.adapters.batches_api import BatchesApi, Persistence
from agentloop.adapters.messages_api import MessagesApi, Patience
from agentloop.adapters.model_table import models
from agentloop.batch_calls import BatchClient
from agentloop.batch_life import Limits
from agentloop.batch_life import Patience as Waits
from agentloop.batching.events import Prepared
from agentloop.batching.means import Means
from agentloop.batching.outputs import Output, check_of
from agentloop.batching.run import BatchRun, prepare
from agentloop.batching.state import BatchState
from agentloop.batching.store import BatchStore
from agentloop.core import costs
from agentloop.core.stream import read_usage
from agentloop.emulated import EmulatedApi
from agentloop.emulator import EmulatorSettings, Faults
from agentloop.emulator.settings import BatchSettings
from agentloop.emulator.transport import BASE_URL
from agentloop.emulator.transport import client as in_process
from agentloop.ports import NothingShared, Purse
from agentloop.submitting import Order, prepared
from agentloop.types.base import Json

MODEL = "claude-haiku-4-5-20251001"
DAY_S = 86_400.0
SCHEMA: Json = {
    "type": "object",
    "properties": {"kind": {"enum": ["bug", "praise", "question"]}, "score": {"type": "integer", "minimum": 0}},
    "required": ["kind", "score"],
    "additionalProperties": False,
}
FITS = '{"kind":"bug","score":3}'


class Clock:
    """The emulator's clock, as a run sees it."""

    def __init__(self, api: EmulatedApi) -> None:
        self.api = api

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.api.now, UTC)

    def monotonic(self) -> float:
        return self.api.now


def tickets(n: int) -> list[Json]:
    return [{"id": f"T{i}", "text": f"ticket number {i}"} for i in range(n)]


def order(rows: Sequence[Json], **more: Any) -> Order:
    asked: dict[str, Any] = {"template": "Classify: {{text}}", "max_tokens": 256, "name": "tickets"} | more
    return Order(rows=rows, **asked)


def made(api: EmulatedApi, wanted: Order, model: str = MODEL) -> Prepared:
    return prepared(wanted, models()[model], Clock(api))


def store(folder: Path) -> BatchStore:
    return BatchStore(folder, None)


def batches(api: EmulatedApi, http: httpx2.Client | None = None, **more: Any) -> BatchesApi:
    http = http or in_process(api.emulator, api.pass_)
    persistence = Persistence(attempts=4, first_wait_s=0.5)
    return BatchesApi(
        api_key="emulator", base_url=BASE_URL, http_client=http, sleep=api.pass_, **{"persistence": persistence} | more
    )


def means(api: EmulatedApi, run: Prepared, client: BatchClient | None = None, purse: Purse | None = None, **more: Any) -> Means:
    def live() -> MessagesApi:
        http = in_process(api.emulator, api.pass_)
        return MessagesApi(
            api_key="emulator", base_url=BASE_URL, http_client=http, patience=Patience(attempts=2), sleep=api.pass_
        )

    known: dict[str, Any] = {"limits": Limits(), "patience": Waits(poll_longest_s=3_600.0, poll_growth=3)} | more
    return Means(
        api=client or batches(api),
        now=Clock(api).now,
        sleep=api.pass_,
        check=check_of(run.ask, Path("nowhere")),
        live=live,
        card_of=lambda name: models()[name].card if name in models() else None,
        purse=purse or NothingShared(),
        **known,
    )


@contextmanager
def opened(folder: Path, api: EmulatedApi, wanted: Order, give_up: bool = False, **more: Any) -> Iterator[BatchRun]:
    """The run of an order: begun, or taken up where its log ends."""
    run = made(api, wanted)
    with store(folder).log(run.name) as log:
        prepare(log, run, wanted.rows, Clock(api).now)
        yield BatchRun(log, means(api, run, **more), give_up=give_up)


def finished(folder: Path, api: EmulatedApi, wanted: Order, **more: Any) -> BatchState:
    """The run at its end."""
    with opened(folder, api, wanted, **more) as run:
        return run.carry_on(max_wait_s=3 * DAY_S)


def verdicts(state: BatchState) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in state.items.values():
        found[item.verdict] = found.get(item.verdict, 0) + 1
    return found


def paid(api: EmulatedApi) -> Decimal:
    """What the emulator billed, over all requests."""
    return api.bill().cost_usd


Go = Callable[[], httpx2.Response]
Way = Callable[[httpx2.Request, Callable[[], httpx2.Response]], httpx2.Response]
"""What is done with a request; the function sends it on."""


class Wire(httpx2.BaseTransport):
    """The way to the emulator, on which a test does what it likes to requests and answers."""

    def __init__(
        self, api: EmulatedApi, on: Callable[[httpx2.Request, Callable[[], httpx2.Response]], httpx2.Response]
    ) -> None:
        self._inner = in_process(api.emulator, api.pass_)
        self._on = on

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        def go() -> httpx2.Response:
            return self._inner.send(self._inner.build_request(
                request.method, request.url, headers=dict(request.headers), content=request.read()
            ))  # fmt: skip

        return self._on(request, go)


def by_wire(api: EmulatedApi, on: Way) -> BatchesApi:
    return batches(api, httpx2.Client(transport=Wire(api, on), base_url=BASE_URL))


def changed_results(response: httpx2.Response, change: Callable[[list[Json]], list[Json]]) -> httpx2.Response:
    """A response with other lines."""
    lines = [json.loads(line) for line in response.read().splitlines()]
    data = b"".join(json.dumps(line).encode() + b"\n" for line in change(lines))
    return httpx2.Response(200, headers={"content-type": "application/x-jsonl"}, content=data)


def cost_of_results(client: Anthropic, batch_ids: Sequence[str], model: str = MODEL) -> tuple[Decimal, int]:
    """What the results of batches cost, computed apart from the run: and how many succeeded."""
    total, n = Decimal(0), 0
    for batch_id in batch_ids:
        for line in client.messages.batches.results(batch_id):
            data = line.to_dict()["result"]
            assert isinstance(data, dict)
            if data["type"] == "succeeded":
                usage = read_usage(data["message"]["usage"])
                assert usage is not None
                total, n = total + costs.cost(usage, models()[model].card), n + 1
    return total, n


def structured() -> Output:
    from anthropic import transform_schema

    return Output(SCHEMA, transform_schema(SCHEMA))


def said(request: Json, step: int) -> str:
    return f"about {request['messages'][0]['content'].rpartition(' ')[2]}"


def emulated(script: Any = said, faults: Faults | None = None, **settings: Any) -> EmulatedApi:
    api = EmulatedApi(script, EmulatorSettings(batches=BatchSettings(**settings)))
    if faults is not None:
        api.play(script, EmulatorSettings(batches=BatchSettings(**settings)), faults=faults)
    return api


def sometimes_wrong(request: Json, step: int) -> str:
    prompt = request["messages"][0]["content"]
    return FITS if "could not be used" in prompt or int(prompt.split()[-1]) % 5 else '{"kind":"rant","score":1}'


__all__ = ["BatchRun", "prepare"]
