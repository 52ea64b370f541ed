"""What a durable log adds to a turn: files, each line on the disk, and PostgreSQL, each line committed there; against the
same engine with its log in memory, and against the bare loop of the SDK. Ratios of one run: `python -m tests.bench.durable`.

The PostgreSQL is one of our own on this machine, with everything on that makes a commit durable.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.messages_api import MessagesApi
from agentloop.adapters.system_clock import SystemClock
from agentloop.adapters.toolbox import Toolbox
from agentloop.conformance import NOON
from agentloop.engine import Shell, run
from agentloop.policies import Whole, preset
from agentloop.ports import Blobs, Log, SessionStore
from agentloop.postgres import Postgres
from agentloop.postgres_sessions import PostgresSessions
from agentloop.sessions import Sessions
from agentloop.testing import given, started
from agentloop.tooling import Registry
from tests.bench.against_loop import KEY, SYSTEM, TASK, URL, Api, bare, look
from tests.postgres import installed, private_postgres

TURNS, ROUNDS = 60, 7
EVENTS = 500
"""Lines of the appends that are measured by themselves."""


def main() -> None:
    """A line for each way to keep a session."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        stores: dict[str, SessionStore] = {
            "files, fsync never": Sessions(Path(folder) / "never", fsync="never"),
            "files, fsync always": Sessions(Path(folder) / "always", fsync="always"),
        }
        if installed():
            database = Postgres(stack.enter_context(private_postgres(durable=True)).new_database())
            stack.callback(database.close)
            stores["PostgreSQL"] = PostgresSessions(database)
        turns(stores)
        print(flush=True)
        appends(stores)


def turns(stores: dict[str, SessionStore]) -> None:
    """Seconds of a turn, the whole of it; the sides in turns, the ratios within each round."""
    sides: dict[str, Callable[[int], None]] = {
        "bare loop": lambda round_: bare(_api(round_)),
        "engine, log in memory": in_memory,
        **{f"engine, {name}": _stored(store) for name, store in stores.items()},
    }
    rounds = [{name: _seconds(side, n) for name, side in sides.items()} for n in range(ROUNDS + 1)][1:]
    for name in sides:
        median = statistics.median(r[name] for r in rounds) / (TURNS + 1)
        memory = statistics.median(r[name] / r["engine, log in memory"] for r in rounds)
        loop = statistics.median(r[name] / r["bare loop"] for r in rounds)
        print(f"{f'{name}, a turn of {TURNS}':44}{median * 1e3:9.2f} ms   {memory:6.2f} x memory   {loop:6.2f} x the bare loop")


def appends(stores: dict[str, SessionStore]) -> None:
    """Milliseconds of one line of a kilobyte, by itself: the median and the slowest of a hundred."""
    base = 0.0
    for name, store in stores.items():
        with store.log("appends") as log:
            log.append(started(), NOON)
            taken = sorted(_append_s(log, n) for n in range(EVENTS))
        median = statistics.median(taken)
        base = base or median
        slow = taken[int(len(taken) * 0.99)] * 1e3
        print(f"{f'one line, {name}':44}{median * 1e3:9.2f} ms   {median / base:6.1f} x the first   99 of 100: {slow:.2f} ms")


def _append_s(log: Log, number: int) -> float:
    body = given(f"{number:04}" * 256)
    began = time.perf_counter()
    log.append(body, NOON)
    return time.perf_counter() - began


def in_memory(round_: int) -> None:
    """One session that is gone when the process is."""
    _session(MemoryLog(), MemoryBlobs(), round_)


def _stored(store: SessionStore) -> Callable[[int], None]:
    def session(round_: int) -> None:
        name = f"turns-{round_}"
        with store.log(name) as log:
            _session(log, store.blobs(name), round_)

    return session


def _session(log: Log, blobs: Blobs, round_: int) -> None:
    registry, settings = Registry([look]), preset("never").model_copy(update={"facts": Whole()})
    log.append(started(system=SYSTEM, tools=registry.definitions, tool_cards=registry.cards, policies=settings), NOON)
    log.append(given(TASK), NOON)
    model = MessagesApi(api_key=KEY, base_url=URL, http_client=_api(round_).client())
    with TemporaryDirectory() as root:
        toolbox = Toolbox(registry, session_id="bench", root=Path(root))
        state = run(log, Shell(model, toolbox, blobs, SystemClock()), settings.policies())
    assert state.outcome == "completed", state.detail


def _api(round_: int) -> Api:
    return Api(TURNS, first_place=1 + round_ * 10_000)


def _seconds(side: Callable[[int], None], round_: int) -> float:
    began = time.perf_counter()
    side(round_)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
