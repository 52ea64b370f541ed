"""Sessions that are killed at the named places of `agentloop.crash_points`, resumed, and looked at.

Run as a program, it reads cases from its standard input, one JSON object a line, and answers each with one line. Every
life of a session is a process of its own, forked from this one, where everything is imported already.
"""

import json
import os
import resource
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from agentloop import crash_points
from agentloop.adapters.blob_dir import BlobDir
from agentloop.adapters.jsonl_log import JsonlLog
from agentloop.core import wire
from agentloop.engine.recovery import UNKNOWN
from agentloop.errors import LogWriteFailed
from agentloop.ports import Answer, Blobs, Log, ToolRunner, Wakes, never
from agentloop.replay import replay
from agentloop.types.blocks import Call
from agentloop.types.events import Event, ModelRequested, SessionEnded, ToolFinished
from agentloop.types.tools import ToolCard
from tests.e2e import agent_lives
from tests.e2e.crash_shapes import SHAPES
from tests.property.histories import Played, World, play, told


class Store(NamedTuple):
    """Where a session is kept, and its whole results."""

    log: Callable[[], AbstractContextManager[Log]]
    """Held for as long as the block lasts."""
    events: Callable[[], list[Event]]
    blobs: Blobs


def store(folder: Path, database: str | None) -> Store:
    """Files in this folder; or the session that is called like it, in this database."""
    if database is None:
        log = JsonlLog(folder / "session")
        blobs = BlobDir(folder / "session" / "blobs")
        return Store(lambda: log, lambda: list(log.events()) if log.path.exists() else [], blobs)
    from agentloop import postgres
    from agentloop.postgres_sessions import PostgresSessions

    kept, name = PostgresSessions(postgres.shared(database)), f"{folder.parent.name}-{folder.name}"
    return Store(lambda: kept.log(name), lambda: list(kept.log(name).events()), kept.blobs(name))


AGENT = "an agent"
"""The shape that is no scenario: `agent_lives` plays it."""

# what lies outside of the session, and stays when its process dies


class Diary(list[Any]):
    """A list that is also written to a file, an entry a line, before anything else happens."""

    def __init__(self, path: Path, entry: Callable[[Any], str]) -> None:
        super().__init__()
        self._path, self._entry = path, entry

    def append(self, thing: Any) -> None:
        with self._path.open("a") as file:
            file.write(self._entry(thing) + "\n")
        super().append(thing)


def world(folder: Path, blobs: Blobs) -> World:
    """Tools and a model that write down what they do."""
    ran: Diary = Diary(folder / "ran", lambda r: f"{r.tool} {r.key}")
    return World(ran=ran, sent=Diary(folder / "sent", wire.digest), blobs=blobs)


def lines(file: Path) -> list[str]:
    """What was written down."""
    return file.read_text().splitlines() if file.exists() else []


# one life


def live(folder: Path, shape: str, database: str | None, hook: crash_points.Hook = lambda name: None) -> None:
    """Carry the session on to its end."""
    if shape == AGENT:
        with crash_points.watching(hook):
            agent_lives.live(folder)
        return
    kept = store(folder, database)
    with crash_points.watching(hook), kept.log() as log:
        play(SHAPES[shape], log, world(folder, kept.blobs))


def killer(point: str, nth: int) -> crash_points.Hook:
    """Kills this process where the point is reached for the nth time."""
    seen = 0

    def hook(name: str) -> None:
        nonlocal seen
        seen += name == point
        if seen == nth and name == point:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()  # the signal may arrive a moment after the call: nothing more is done until then

    return hook


def on_a_full_disk(folder: Path, shape: str, size: int) -> dict[str, Any]:
    """A life in which no file can grow beyond so many bytes; the error that ended it, and what it had begun by then."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write itself fails, after a part of it was done
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        live(folder, shape, None)
    except LogWriteFailed as e:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return {"refused": str(e), "sent": lines(folder / "sent"), "ran": lines(folder / "ran")}
    return {"refused": None}


def counted(folder: Path, shape: str, database: str | None) -> Counter[str]:
    """How often each point is reached in an unbroken life."""
    found: Counter[str] = Counter()
    live(folder, shape, database, lambda name: found.update([name]))
    return found


# what it became


class Instead:
    """Tools of which some calls are answered as of unknown outcome."""

    def __init__(self, tools: ToolRunner, unknown: frozenset[str]) -> None:
        self._tools, self._unknown = tools, unknown

    def card(self, name: str) -> ToolCard | None:
        return self._tools.card(name)

    def invalid(self, call: Call) -> str | None:
        return self._tools.invalid(call)

    def run(
        self, calls: Sequence[Call], idempotency_key: Callable[[Call], str], wakes_in_s: Wakes = never
    ) -> Iterator[Answer | None]:
        if [c for c in calls if c.id in self._unknown]:
            assert len(calls) == 1
            yield Answer(UNKNOWN, "unknown", 0.0)
        else:
            yield from self._tools.run(calls, idempotency_key, wakes_in_s)


@cache
def unbroken(shape: str, unknown: frozenset[str] = frozenset()) -> Played:
    """The session as it is when nobody kills it, and the answers to these calls are lost."""
    return play(SHAPES[shape], runner=lambda tools: Instead(tools, unknown))


def check(folder: Path, shape: str, database: str | None, before: Sequence[Event], done: Counter[str]) -> None:
    """Whether the session went on as if nothing had happened. Raises AssertionError."""
    kept = store(folder, database)
    events = kept.events()
    answers = [e.body for e in events if isinstance(e.body, ToolFinished)]
    unknown = frozenset(a.call_id for a in answers if a.outcome == "unknown")
    whole = unbroken(shape, unknown)

    assert [e.seq for e in events] == list(range(len(events))), "a gap in the numbers"
    assert events[: len(before)] == list(before), "what was committed has changed"
    assert isinstance(events[-1].body, SessionEnded), "the session does not end"
    assert told(events) == told(whole.events), "another session than the one that was not interrupted"
    assert _in_order(lines(folder / "sent")) == _in_order([wire.digest(b) for b in whole.bodies]), "other requests"
    asked = [e.body.digest for e in events if isinstance(e.body, ModelRequested)]
    assert set(lines(folder / "sent")) <= set(asked), "a request that is not on record"
    assert replay(events, whole.policies).difference is None, "replay decides differently"
    _check_effects(answers, before, done, Counter(lines(folder / "ran")), _effects(whole))
    for answer in answers:
        assert answer.raw is None or kept.blobs.find(answer.raw.digest) is not None, "a whole result is lost"


def _check_effects(
    answers: Sequence[ToolFinished], before: Sequence[Event], done: Counter[str], now: Counter[str], expected: Counter[str]
) -> None:
    """What happened outside, by the tools' own account."""
    assert len(answers) == len({(a.turn, a.call_id) for a in answers}), "a call with two answers"
    for key in expected.keys() | now.keys():
        if key.startswith("send_note"):
            assert now[key] <= 1, f"{key} happened twice"
    for key, times in expected.items():
        assert now[key] >= times, f"{key} never happened"
    for body in (e.body for e in before):
        if isinstance(body, ToolFinished):
            key = f"{body.name} random:{body.call_id}"
            assert now[key] == done[key], f"{key} was finished, and was repeated"


def _effects(whole: Played) -> Counter[str]:
    return Counter(f"{r.tool} {r.key}" for r in whole.world.ran)


def _in_order(digests: Sequence[str]) -> list[str]:
    """The requests, without those that were asked again."""
    return [d for i, d in enumerate(digests) if i == 0 or d != digests[i - 1]]


# the program


def forked(act: Callable[[], Any]) -> tuple[int, Any]:
    """Do this in a process of its own; its exit code, and what came of it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            text = json.dumps(act())
        except BaseException:  # noqa: BLE001  whatever it is, the parent has to be told
            text = json.dumps({"error": traceback.format_exc()})
        with os.fdopen(writing, "w") as pipe:
            pipe.write(text)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, json.loads(said) if said else None


def last_life(folder: Path, shape: str, database: str | None) -> None:
    """Let the session end, and look at what it became."""
    if shape == AGENT:
        last_of_an_agent(folder)
        return
    before, done = store(folder, database).events(), Counter(lines(folder / "ran"))
    live(folder, shape, database)
    check(folder, shape, database, before, done)


def last_of_an_agent(folder: Path) -> None:
    """Let the agent's session end, and compare it with one that nobody killed."""
    before = agent_lives.events(folder)
    agent_lives.live(folder)
    agent_lives.live(folder / "unbroken")

    events, whole = agent_lives.events(folder), agent_lives.events(folder / "unbroken")
    assert events[: len(before)] == before, "what was committed has changed"
    assert _unpriced(events) == _unpriced(whole), "another session than the one that was not interrupted"
    ran, expected = (Counter(lines(f / "world" / "ran")) for f in (folder, folder / "unbroken"))
    assert ran.keys() == expected.keys()
    assert all(times <= expected[key] + 1 for key, times in ran.items())


def _unpriced(events: Sequence[Event]) -> list[Any]:
    """What a log tells, but for what the API counts: it had heard a request whose reply was lost."""
    kept = [dict(body) for _, body in told(events)]
    for body in kept:
        if "decision" in body:
            body["decision"] = {"keep_from": body["decision"].get("keep_from")}
        if "reply" in body:
            body["reply"] = {k: v for k, v in body["reply"].items() if k not in ("usage", "cache_miss", "request_id")}
    return kept


def case(folder: Path, shape: str, kills: Sequence[tuple[str, int]], database: str | None) -> dict[str, Any]:
    """Kill the session at these points, one in each life; let it end; say what is wrong, and how often it was killed."""
    codes: list[int] = []
    for point, nth in kills:
        code, said = forked(lambda point=point, nth=nth: live(folder, shape, database, killer(point, nth)))  # type: ignore[misc]
        if said is not None:
            return {"wrong": said["error"], "codes": codes}
        codes.append(code)
    _, said = forked(lambda: last_life(folder, shape, database))
    return {"wrong": said["error"] if said is not None else None, "codes": codes}


def main() -> None:
    """A case for each line of the standard input."""
    for line in sys.stdin:
        asked = json.loads(line)
        folder, shape, database = Path(asked["folder"]), asked["shape"], asked["database"]
        folder.mkdir(parents=True)
        if "size" in asked:
            _, answer = forked(lambda: on_a_full_disk(folder, shape, asked["size"]))  # noqa: B023
            _, said = forked(lambda: last_life(folder, shape, database))  # noqa: B023
            answer |= {"wrong": said["error"] if said is not None else None}
        elif asked["kills"] is None:
            _, answer = forked(lambda: counted(folder, shape, database))  # noqa: B023  it ends before the next line
        else:
            if shape != AGENT:
                unbroken(shape)
            answer = case(folder, shape, asked["kills"], database)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
