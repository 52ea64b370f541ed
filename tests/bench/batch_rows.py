"""A batch run of many rows from its input file to its results file: peak memory of the whole process, and processor time.

The API is a fake end of the SDK's transport, which keeps what it is sent on the disk, so that what is measured is ours.

    python -m tests.bench.batch_rows              1,000, 10,000 and 100,000 rows
    python -m tests.bench.batch_rows 10000 FOLDER one run, in this process
"""

import json
import random
import re
import resource
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2

from agentloop.adapters.batches_api import BatchesApi
from agentloop.adapters.model_table import models
from agentloop.adapters.system_clock import SystemClock
from agentloop.batching import results_file
from agentloop.batching import rows as input_rows
from agentloop.batching.bill import summary
from agentloop.batching.means import Means
from agentloop.batching.run import BatchRun, prepare
from agentloop.batching.store import BatchStore
from agentloop.submitting import Order, prepared
from tests.bench.memory import peak_bytes

ROWS = (1_000, 10_000, 100_000)
MODEL = "claude-haiku-5-5"
MB = 1_000_000
TEXT = "The parcel was to come on Monday and has not. The page says that it was delivered. " * 4
_ID = re.compile(rb'"custom_id":"([^"]+)"')
_KEPT = 128
"""Bytes of a piece that may hold the beginning of an id."""


class Api(httpx2.BaseTransport):
    """A Message Batches API whose batches have ended as soon as they are made, with shuffled results."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.bytes_sent = 0
        self.at = datetime.now(UTC)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """A batch made, shown, or its results."""
        if request.method == "POST":
            self.batches.append(self._ids(request))
            return self._shown(len(self.batches) - 1)
        number = int(request.url.path.split("/")[4].removeprefix("msgbatch_"))
        if request.url.path.endswith("/results"):
            return httpx2.Response(200, content=self._results(number))
        return self._shown(number)

    def _ids(self, request: httpx2.Request) -> list[bytes]:
        assert isinstance(request.stream, httpx2.SyncByteStream)
        found, left = [], b""
        for chunk in request.stream:
            self.bytes_sent += len(chunk)
            piece = left + chunk
            ends = [m.end() for m in _ID.finditer(piece)]
            found += _ID.findall(piece)
            left = piece[max([len(piece) - _KEPT, *ends[-1:]]) :]
        random.Random(len(found)).shuffle(found)
        return found

    def _shown(self, number: int) -> httpx2.Response:
        counts = dict.fromkeys(("processing", "errored", "canceled", "expired"), 0)
        data = {"id": f"msgbatch_{number}", "processing_status": "ended", "created_at": self.at.isoformat(),
                "expires_at": (self.at + timedelta(days=1)).isoformat(),
                "request_counts": counts | {"succeeded": len(self.batches[number])}}  # fmt: skip
        return httpx2.Response(200, json=data)

    def _results(self, number: int) -> Iterator[bytes]:
        usage = {"input_tokens": 150, "output_tokens": 20, "service_tier": "batch"}
        for i, custom_id in enumerate(self.batches[number]):
            message = {"id": f"msg_{i}", "type": "message", "role": "assistant", "model": MODEL, "stop_reason": "end_turn",
                       "content": [{"type": "text", "text": f"shipping, for the parcel of {custom_id.decode()}"}],
                       "usage": usage}  # fmt: skip
            yield (
                json.dumps({"custom_id": custom_id.decode(), "result": {"type": "succeeded", "message": message}}).encode()
                + b"\n"
            )


def run(n: int, folder: Path) -> None:
    """One run of so many rows. Prints what it took."""
    source, clock, api = folder / "rows.jsonl", SystemClock(), Api()
    with source.open("w") as file:
        file.writelines(json.dumps({"id": i, "text": f"{i}: {TEXT}"}) + "\n" for i in range(n))
    began = time.process_time()
    took: dict[str, float] = {}
    took_mb: dict[str, float] = {}

    def lap(name: str) -> None:
        took[name] = time.process_time() - began - sum(took.values())
        took_mb[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MB

    lap("start")
    order = Order(rows=input_rows.RowFile(source), template="Which queue? {{text}}", max_tokens=64, id_field="id", name="rows")
    made = prepared(order, models()[MODEL], clock)
    lap("read and check")
    means = Means(
        api=BatchesApi(api_key="x", base_url="http://api", http_client=httpx2.Client(transport=api)),
        now=clock.now,
        sleep=time.sleep,
        check=lambda text: None,
    )
    with BatchStore(folder, None).log("rows") as log:
        prepare(log, made, order.rows, clock.now)
        lap("write the rows")
        state = BatchRun(log, means).carry_on(collects=False)
        lap("send")
    del state, order
    with BatchStore(folder, None).log("rows") as log:
        state = BatchRun(log, means).carry_on()
        lap("collect")
        results_file.write(state, log, folder / "out.jsonl")
    lap("write results")
    told = summary(state, "log")
    assert told.outcomes == {"succeeded": n}
    assert told.cost_usd > Decimal(0)
    assert sum(1 for _ in (folder / "out.jsonl").open()) == n
    print(json.dumps({"rows": n, "sent_mb": api.bytes_sent / MB, "s": took, "peak_mb": took_mb}))


def main() -> None:
    """The three sizes, each in a process of its own."""
    for n in ROWS:
        with TemporaryDirectory() as folder:
            began = time.perf_counter()
            peak = peak_bytes("-m", "tests.bench.batch_rows", str(n), folder)
            taken = time.perf_counter() - began
        print(f"{n:>8,} rows {taken:8.1f} s {taken / n * 1e3:8.3f} ms a row {peak / MB:8.0f} MB at most", flush=True)


if __name__ == "__main__":
    run(int(sys.argv[1]), Path(sys.argv[2])) if len(sys.argv) > 2 else main()
