"""Many requests from many threads: no account is lost or mixed, what is kept stays bounded, and it is the same every time.

python -m tests.bench.soak
"""

import itertools
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from agentloop.adapters.model_table import models
from agentloop.emulator import Answer, Emulator, EmulatorSettings, Function
from agentloop.types.base import Json
from agentloop.types.blocks import text

REQUESTS, THREADS = 20_032, 16
STEP_S = 0.5
"""The clock moves so far with every request: entries of five minutes come and go."""
KEPT = 500
TURNS = 8
HEADERS = {"x-api-key": "soak", "anthropic-version": "2026-10-21"}
SUMMED = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
_MODELS = models()


class Soaked(NamedTuple):
    """What came of it."""

    by_thread: list[list[tuple[int, ...]]]
    """The usage of every request, as each thread saw it."""
    report: Json
    kept: list[int]
    """What `measured` said after each quarter."""

    def summed(self) -> dict[str, int]:
        """The tokens that the threads saw, all together."""
        totals: Counter[str] = Counter()
        for usage in itertools.chain.from_iterable(self.by_thread):
            totals.update(dict(zip(SUMMED, usage, strict=True)))
        return dict(totals)

    def reported(self) -> dict[str, int]:
        """The same as the report has it."""
        totals = self.report["totals"]
        written = totals["ephemeral_5m_input_tokens"] + totals["ephemeral_1h_input_tokens"]
        return {name: totals.get(name, written) for name in SUMMED}


def soak(requests: int, threads: int = THREADS, measured: Callable[[], int] = lambda: 0) -> Soaked:
    """So many requests from so many threads, each of them holding one conversation after another."""
    moments = itertools.count()
    emulator = Emulator(
        Function("soak", lambda request, step: [text(f"Answer {step}. " * 5)]),
        _MODELS,
        clock=lambda: 1_795_300_000.0 + next(moments) * STEP_S,
        settings=EmulatorSettings(reported_requests=KEPT, remembered_messages=KEPT),
    )
    by_thread: list[list[tuple[int, ...]]] = [[] for _ in range(threads)]
    kept = []
    with ThreadPoolExecutor(threads) as pool:
        for quarter in range(4):
            work = [pool.submit(_talk, emulator, n, quarter, requests // threads // 4, by_thread[n]) for n in range(threads)]
            for done in work:
                done.result()
            kept.append(measured())
    return Soaked(by_thread, emulator.report(), kept)


def _talk(emulator: Emulator, thread: int, quarter: int, requests: int, seen: list[tuple[int, ...]]) -> None:
    asked = _conversations(f"thread {thread} quarter {quarter}")
    for n, body in enumerate(itertools.islice(asked, requests)):
        message = _message(emulator.handle("POST", "/v1/messages", HEADERS, json.dumps(body | {"stream": n % 3 == 0}).encode()))
        assert message["id"].startswith("msg_soak_")
        seen.append(tuple(message["usage"][name] for name in SUMMED))


def _conversations(who: str) -> Iterator[Json]:
    """Requests, each of which extends the one before it, until the next conversation begins."""
    for n in itertools.count():
        system = [{"type": "text", "text": f"{who} talk {n}. " * 100, "cache_control": {"type": "ephemeral"}}]
        messages: list[Json] = []
        for turn in range(TURNS):
            messages = [*messages, {"role": "user", "content": f"Question {turn} of {who}. " * 20}]
            yield {
                "model": "claude-sonnet-5-5",
                "max_tokens": 1_000,
                "system": system,
                "messages": messages,
                "cache_control": {"type": "ephemeral"},
                "diagnostics": {"previous_message_id": None},
            }
            messages = [*messages, {"role": "assistant", "content": f"Answer {turn}."}]


def _message(answer: Answer) -> Any:
    """The message, whole or put together from its stream's first event and last usage."""
    body = b"".join(c for c in answer.chunks if isinstance(c, bytes))
    assert answer.status == 200, body
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return json.loads(body)
    events = [json.loads(line[6:]) for line in body.decode().split("\n") if line.startswith("data: ")]
    message, delta = events[0]["message"], events[-2]
    return message | {"usage": message["usage"] | delta["usage"]}


def resident_kb() -> int:
    """The most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


def main() -> None:
    """The whole soak, twice."""
    started = time.perf_counter()
    first = soak(REQUESTS, measured=resident_kb)
    took = time.perf_counter() - started
    again = soak(REQUESTS)
    assert first.report["totals"]["requests"] == REQUESTS
    assert first.summed() == first.reported(), "the threads saw other figures than the report"
    assert first.by_thread == again.by_thread, "another run gave other usage"
    print(f"{f'{REQUESTS:,} requests from {THREADS} threads':44}{took:9.1f} s    every account in the report, twice the same")
    print(f"{'peak memory after each quarter':44}{', '.join(f'{kb / 1024:.0f}' for kb in first.kept):>9} MB")


if __name__ == "__main__":
    main()
