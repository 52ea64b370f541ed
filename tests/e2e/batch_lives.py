"""Lives of a batch run, each a process of its own that ends at its end or by `kill -9`, against one emulator on a port.

The clock is a number that all of them share: a run that waits moves it.
"""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from agentloop.adapters.batches_api import BatchesApi
from agentloop.adapters.model_table import models
from agentloop.batch_life import Limits, Patience
from agentloop.batching.means import Means
from agentloop.batching.outputs import Output, check_of
from agentloop.batching.run import BatchRun, prepare
from agentloop.batching.store import BatchStore
from agentloop.crash_points import watching
from agentloop.submitting import Order, prepared
from agentloop.types.base import Json
from tests.batch_runs import DAY_S, MODEL, structured

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.e2e.batch_lives"])
LIFE_S = 60.0
KINDS = ("bug", "praise", "question")


class Work(NamedTuple):
    """What a run is for, and in which batches it goes."""

    name: str
    rows: list[Json]
    template: str
    system: str
    structured: bool
    items: int
    """Of one batch, at most."""


WORKS = {
    "tickets": Work(
        "tickets",
        [{"id": f"T{i}", "text": f"The {('app', 'bill', 'parcel')[i % 3]} of order {i} is not right."} for i in range(500)],
        "Classify ticket {{id}}: {{text}}",
        "You classify tickets.",
        True,
        180,
    ),
    "documents": Work(
        "documents",
        [{"title": f"Report {i}", "body": f"In week {i} of the year the shop sold {i * 7} chairs. " * 40} for i in range(200)],
        "Summarise {{title}} in a sentence:\n{{body}}",
        "You summarise reports. " * 700,
        False,
        90,
    ),
    "records": Work(
        "records",
        [{"line": f"2026-11-22 order={i} total={i * 3}.50 EUR"} for i in range(1_000)],
        "Extract the fields of: {{line}}",
        "You extract fields.",
        True,
        400,
    ),
}


class Place(NamedTuple):
    """Where a life is led."""

    folder: str
    url: str
    database_url: str | None
    now: Any
    """The shared clock: seconds since the epoch."""


def live(work: str, place: Place, dies_at: int) -> None:
    """One life: carry the run on from wherever it is. It dies when so many named places are reached; 0: it does not."""
    left = [dies_at]

    def reached(name: str) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    with watching(reached):
        _run(WORKS[work], place)


def _run(work: Work, place: Place) -> None:
    def now() -> datetime:
        return datetime.fromtimestamp(place.now.value, UTC)

    def sleep(seconds: float) -> None:
        with place.now.get_lock():
            place.now.value += seconds

    class Clock:
        def now(self) -> datetime:
            return now()

        def monotonic(self) -> float:
            return float(place.now.value)

    order = Order(
        rows=work.rows,
        template=work.template,
        system=work.system,
        max_tokens=512,
        output=structured() if work.structured else Output(),
        name=work.name,
    )
    run = prepared(order, models()[MODEL], Clock())
    means = Means(
        api=BatchesApi(api_key="emulator", base_url=place.url, sleep=sleep),
        now=now,
        sleep=sleep,
        check=check_of(run.ask, Path("nowhere")),
        limits=Limits(items=work.items),
        patience=Patience(poll_longest_s=3_600.0, poll_growth=3.0),
    )
    with BatchStore(Path(place.folder), place.database_url).log(work.name) as log:
        prepare(log, run, work.rows, now)
        BatchRun(log, means).carry_on(max_wait_s=5 * DAY_S)


def life(work: str, place: Place, dies_at: int = 0, dies_after_s: float | None = None) -> int | None:
    """Lead one; returns its exit code."""
    process = CONTEXT.Process(target=live, args=(work, place, dies_at))
    process.start()
    if dies_after_s is not None:
        time.sleep(dies_after_s)
        process.kill()
    process.join(LIFE_S)
    assert process.exitcode is not None, "a life did not end"
    return process.exitcode


def lives(work: str, place: Place, kills: int, seed: int, elsewhere: Callable[[int], Place] | None = None) -> list[int | None]:
    """Lives that are ended at random, half of them at a named place and half by the clock; then one that ends by itself."""
    chance = random.Random(seed)
    codes = []
    for n in range(kills):
        here = elsewhere(n) if elsewhere is not None else place
        by_place = n % 2 == 0
        moment = {"dies_at": chance.randint(1, 3)} if by_place else {"dies_after_s": chance.uniform(0.005, 0.08)}
        codes.append(life(work, here, **moment))
    codes.append(life(work, elsewhere(kills) if elsewhere is not None else place))
    return codes
