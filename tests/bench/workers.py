"""Sessions per second through the queue, with 1, 2 and 4 workers, beside SQLite and PostgreSQL; ratios within one run.

`python -m tests.bench.workers [--sessions N] [--rounds N] [--only sqlite|postgres]`. A session is short: one call of a tool
that does nothing, two replies of a scripted model, ten events. PostgreSQL is a private server with `fsync=off`; logs in files
are synced. What is timed is from the first start of a session to the end of the last one.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.e2e.fleet import Fleet, fleet
from tests.postgres import installed, private_postgres

WORKERS = (1, 2, 4)
_QUEUE = "[queues.default]\nper_worker = 16\npoll_s = 0.05\n"


def main(sessions: int = 1_000, rounds: int = 3, only: str | None = None) -> None:
    """One line for each store that is there."""
    for store in ("sqlite", *(("postgres",) if installed() else ())):
        if only in (None, store):
            rates = {n: [_rate(store, n, sessions) for _ in range(rounds)] for n in WORKERS}
            print(_line(store, sessions, rates), flush=True)


def _line(store: str, sessions: int, rates: dict[int, list[float]]) -> str:
    medians = {n: statistics.median(r) for n, r in rates.items()}
    each = ", ".join(f"{n}: {medians[n]:.1f}/s ({min(rates[n]):.1f} to {max(rates[n]):.1f})" for n in WORKERS)
    ratios = ", ".join(f"{n} workers {medians[n] / medians[1]:.2f} times one" for n in WORKERS[1:])
    return f"queue on {store}, {sessions:,} short sessions by workers: {each}; {ratios}"


def _rate(store: str, workers: int, sessions: int) -> float:
    with _made(store) as made:
        for i in range(sessions):
            made.submit(f"s{i:05}", "short")
        for i in range(workers):
            made.start("--drain", machine=f"m{i}")
        for worker in made.workers:
            worker.wait()
        runs = made.queue.runs()
        assert {q.outcome for q in runs} == {"completed"}
        traces = [t.at for t in made.traces()]
        return sessions / (max(traces) - min(traces))


@contextmanager
def _made(store: str) -> Iterator[Fleet]:
    with TemporaryDirectory(prefix="agentloop-bench-") as folder:
        if store == "sqlite":
            with fleet(Path(folder), queues=_QUEUE, pace_s=0.0) as made:
                yield made
            return
        with private_postgres() as server, fleet(Path(folder), server.new_database(), queues=_QUEUE, pace_s=0.0) as made:
            yield made


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["sqlite", "postgres"])
    return parser.parse_args()


if __name__ == "__main__":
    began = time.monotonic()
    main(**vars(_arguments()))
    print(f"({time.monotonic() - began:.0f} s)")
