"""The engine and the bare SDK loop, side by side: the same requests over one transport that answers with ready-made bytes.

Neither side pays for whoever answers. The bare loop is the one of the SDK's own documentation, with streaming; it keeps
replies as plain dictionaries, which is the cheapest it can do. What it lacks is what the engine adds: a durable log,
estimates, cache marks, deadlines for tools.
"""

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import httpx2
from anthropic import Anthropic
from anthropic.types import MessageParam, ToolParam

from agentloop.adapters.blob_dir import BlobDir
from agentloop.adapters.jsonl_log import JsonlLog
from agentloop.adapters.messages_api import MessagesApi
from agentloop.adapters.system_clock import SystemClock
from agentloop.adapters.toolbox import Toolbox
from agentloop.emulator import sse
from agentloop.engine import Shell, run
from agentloop.policies import PolicySettings, Whole, preset
from agentloop.testing import NOON, card, given, started
from agentloop.tooling import Registry, tool
from agentloop.types import blocks
from agentloop.types.base import Json

SYSTEM = "You look at places, two at a time, until every place was looked at."
TASK = "Look at every place."
MODEL = card().id
KEY, URL = "bench", "http://bench"
MAX_TOKENS = 64_000
_USAGE = {"input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 1_000, "output_tokens": 100}
_HEADERS = {"content-type": "text/event-stream", "request-id": "req_bench"}


@tool(effect="read")
def look(place: int) -> str:
    """Look at a place.

    Args:
        place: Which one.
    """
    return seen(place)


@cache
def seen(place: int) -> str:
    """About 450 tokens, others for each place."""
    return "\n".join(f"row {row} of place {place}: value {row * place}, owner person-{row % 7}" for row in range(24))


class Api:
    """Answers one session after another: so many turns with two calls each, then a last word."""

    def __init__(self, turns: int, first_place: int, keep: bool = False) -> None:
        """Make every answer now. With `keep`, every body is kept."""
        self._answers = [b"".join(sse.events(message)) for message in _messages(turns, first_place)]
        self._next = iter(self._answers)
        self._keep = keep
        self.bodies: list[Json] = []
        self.bytes = 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """The next answer."""
        self.bytes += len(request.content)
        if self._keep:
            self.bodies.append(json.loads(request.content))
        return httpx2.Response(200, headers=_HEADERS, content=next(self._next))

    def client(self) -> httpx2.Client:
        """A client whose every request is answered here."""
        return httpx2.Client(transport=httpx2.MockTransport(self), base_url=URL)


def _messages(turns: int, first_place: int) -> Iterator[Json]:
    for turn in range(turns):
        places = [first_place + 2 * turn + k for k in range(2)]
        calls = [blocks.tool_use(f"toolu_{place}", "look", {"place": place}) for place in places]
        yield _message(turn, "tool_use", blocks.text(f"Now the places {places[0]} and {places[1]}."), *calls)
        for place in places:
            seen(place)  # neither side pays for the tool
    yield _message(turns, "end_turn", blocks.text("Every place was looked at."))


def _message(number: int, stop_reason: str, *content: Json) -> Json:
    head = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": MODEL, "content": list(content)}
    return {**head, "stop_reason": stop_reason, "stop_sequence": None, "stop_details": None, "usage": _USAGE}


def engine(api: Api) -> None:
    """The session as the engine runs it: every event in a log file (not synced), facts whole, nothing ever cut."""
    registry = Registry([look])
    settings: PolicySettings = preset("never").model_copy(update={"facts": Whole()})
    with TemporaryDirectory() as folder, JsonlLog(Path(folder) / "bench", fsync="never") as log:
        session(log, api, registry, settings)


def session(log: JsonlLog, api: Api, registry: Registry, settings: PolicySettings) -> None:
    """The same in a log that stays."""
    start = started(system=SYSTEM, tools=registry.definitions, tool_cards=registry.cards, policies=settings)
    log.append(start, NOON)
    log.append(given(TASK), NOON)
    model = MessagesApi(api_key=KEY, base_url=URL, http_client=api.client())
    toolbox = Toolbox(registry, session_id="bench", root=log.folder)
    state = run(log, Shell(model, toolbox, BlobDir(log.folder / "blobs"), SystemClock()), settings.policies())
    assert state.outcome == "completed", state.detail


def bare(api: Api) -> None:
    """The session as a loop around the SDK."""
    client = Anthropic(api_key=KEY, base_url=URL, http_client=api.client(), max_retries=0)
    tools = cast(list[ToolParam], list(Registry([look]).definitions))
    messages: list[MessageParam] = [{"role": "user", "content": [{"type": "text", "text": TASK}]}]
    while True:
        with client.messages.stream(
            model=MODEL,
            max_tokens=MAX_TOKENS,
            system=[{"type": "text", "text": SYSTEM}],
            tools=tools,
            messages=messages,
        ) as stream:
            reply = stream.get_final_message()
        messages.append({"role": "assistant", "content": cast(Any, [block.to_dict() for block in reply.content])})
        if reply.stop_reason != "tool_use":
            return
        results = [
            blocks.tool_result(block.id, look(**cast(dict[str, int], block.input)))
            for block in reply.content
            if block.type == "tool_use"
        ]
        messages.append({"role": "user", "content": cast(Any, results)})


SIDES: dict[str, Callable[[Api], None]] = {"engine": engine, "bare": bare}


def cpu_seconds(side: str, turns: int, round_: int) -> tuple[float, int]:
    """Processor seconds of one session, and the bytes it sent. Each round has its own texts: no memo knows them."""
    api = Api(turns, first_place=1 + round_ * 10_000)
    gc.collect()
    began = time.process_time()
    SIDES[side](api)
    return time.process_time() - began, api.bytes


def same_requests(turns: int) -> bool:
    """Whether both sides send requests that mean the same: all but the cache marks and what the engine asks besides."""
    sent = []
    for side in SIDES.values():
        api = Api(turns, first_place=1, keep=True)
        side(api)
        sent.append([{k: _unmarked(v) for k, v in body.items() if k != "diagnostics"} for body in api.bodies])
    return len(sent[0]) == turns + 1 and sent[0] == sent[1]


def _unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _unmarked(v) for k, v in value.items() if k != "cache_control"}
    return [_unmarked(v) for v in value] if isinstance(value, list) else value


if __name__ == "__main__":
    SIDES[sys.argv[1]](Api(int(sys.argv[2]), first_place=1))
