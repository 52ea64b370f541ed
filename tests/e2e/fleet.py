"""A workspace whose sessions leave a trace outside, and worker processes that can be killed."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from agentloop import queueing
from agentloop.queueing import SessionQueue
from agentloop.types.jobs import Job
from agentloop.types.queues import Queued
from agentloop.workspace import Settings, configuration
from tests.e2e.workplace import PLAIN

TRACE = "trace.jsonl"
_SETTINGS = """\
provider = "scripted"
model = "claude-sonnet-5-5"
"""
_PROMPT = """\
---
name: {name}
playbook: {name}.playbook.yaml
grants: [put, send]
---
You do as you are told.
"""
_TOOLS = '''\
"""Each effect is a line in a file that is written in one piece."""

import json
import os
import signal
import time

from agentloop import current_call, tool


def _trace(did: str) -> None:
    call = current_call()
    line = json.dumps({"did": did, "key": call.idempotency_key, "pid": os.getpid(), "at": time.time()}) + "\\n"
    handle = os.open(os.environ["FLEET_TRACE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, line.encode())
    os.close(handle)


def _act(name: str, seconds: float) -> str:
    _trace(f"{name} in")
    time.sleep(seconds)
    _trace(name)
    return f"{name} is done"


@tool(effect="read")
def look(seconds: float) -> str:
    """Look something up.

    Args:
        seconds: How long that takes.
    """
    return _act("look", seconds)


@tool(effect="idempotent")
def put(seconds: float) -> str:
    """Put something where it belongs.

    Args:
        seconds: How long that takes.
    """
    return _act("put", seconds)


@tool(effect="once")
def send(seconds: float) -> str:
    """Send something to somebody.

    Args:
        seconds: How long that takes.
    """
    return _act("send", seconds)


@tool(effect="read")
def crash() -> str:
    """End the process that runs it."""
    _trace("crash")
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"
'''
STEPS: Mapping[str, Sequence[str]] = {
    "busy": ("look", "put", "send", "look", "send", "put"),
    "short": ("send",),
    "fatal": ("look", "crash"),
}
"""What each agent calls, one call a turn."""


class Trace(NamedTuple):
    """Something that a tool did."""

    did: str
    key: str
    """`session:call`, the same for each run of one call."""
    pid: int
    at: float
    """Unix time, in seconds."""

    @property
    def session(self) -> str:
        return self.key.partition(":")[0]


class Killed(NamedTuple):
    """A worker that was killed."""

    pid: int
    at: float
    """Unix time, in seconds."""


class Fleet:
    """A workspace, its queue, and the workers that were started."""

    def __init__(self, folder: Path, queue: SessionQueue, settings: Settings, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.queue = queue
        self.settings = settings
        self._environment = environment
        self.workers: list[subprocess.Popen[bytes]] = []
        self._machines: dict[int, str] = {}

    def start(self, *arguments: str, machine: str = "here") -> subprocess.Popen[bytes]:
        """One more worker process. With a database that is shared, each machine has a workspace of its own."""
        command = [sys.executable, "-m", "agentloop", "worker", "--name", machine, *arguments]
        with (self.folder / "workers.log").open("ab") as log:
            worker = subprocess.Popen(
                command,
                cwd=self._on(machine),
                env={**PLAIN, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.workers.append(worker)
        self._machines[worker.pid] = machine
        return worker

    def _on(self, machine: str) -> Path:
        if self.settings.database_url is None:
            return self.folder
        there = self.folder / f"on-{machine}"
        for part in ("tools", "prompts"):
            shutil.copytree(self.folder / part, there / part, dirs_exist_ok=True)
        shutil.copy(self.folder / "agentloop.toml", there)
        return there

    def kill_one(self) -> Killed | None:
        """Kill a worker, whichever of those that are at work, and start another on the same machine. The last one lives."""
        at_work = {str(s["worker"]).split(".")[-2] for s in self.logged("worker_started")}
        living = [w for w in self.workers if w.poll() is None and str(w.pid) in at_work]
        if len(living) < 2:
            return None
        victim = random.choice(living)
        victim.send_signal(signal.SIGKILL)
        killed = Killed(victim.pid, time.time())
        victim.wait()
        self.start(machine=self._machines[victim.pid])
        return killed

    def take_over_s(self, killed: Sequence[Killed]) -> list[float]:
        """Seconds from each kill until another worker had queued the dead one's sessions again, where it had any."""
        said = {str(s["dead"]).split(".")[-2]: str(s["timestamp"]) for s in self.logged("worker_taken_over") if s["runs"]}
        return [datetime.fromisoformat(said[str(k.pid)]).timestamp() - k.at for k in killed if str(k.pid) in said]

    def submit(self, session_id: str, agent: str = "busy", queue: str = "default", priority: int = 0) -> None:
        """Queue a session."""
        job = Job(session_id=session_id, agent=agent, prompt="Do it.", name=agent, priority=priority)
        assert self.queue.submit(job, queue).new

    def traces(self) -> list[Trace]:
        """What all tools did, in the order in which they did it."""
        path = self.folder / TRACE
        lines = path.read_text().splitlines() if path.exists() else []
        return [Trace(**json.loads(line)) for line in lines]

    def logged(self, event: str) -> list[dict[str, object]]:
        """What the workers said."""
        lines = (self.folder / "workers.log").read_text(errors="replace").splitlines()
        said = [json.loads(line) for line in lines if line.startswith("{")]
        return [s for s in said if s.get("event") == event]

    def runs(self) -> dict[str, Queued]:
        """Every run that was ever queued, by its name."""
        return {q.run: q for q in self.queue.runs()}

    def wait(self, until: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait for something. Fails with what the workers said where it does not come."""
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                said = (self.folder / "workers.log").read_text(errors="replace")[-4_000:]
                raise AssertionError(f"it did not come within {seconds} s: {self.runs()}\n{said}")
            time.sleep(0.05)

    def standing(self, run: str) -> str | None:
        """How a run stands."""
        return self.runs()[run].standing if run in self.runs() else None

    def stop(self) -> None:
        """Kill what is left."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGKILL)
            worker.wait()


@contextmanager
def fleet(
    folder: Path,
    url: str | None = None,
    *,
    queues: str = "",
    pace_s: float = 0.02,
    steps: Mapping[str, Sequence[str]] = STEPS,
    **variables: str,
) -> Iterator[Fleet]:
    """A workspace in this folder, its queue in this database, or beside it."""
    _write(folder / "agentloop.toml", _SETTINGS + queues)
    _write(folder / "tools" / "acting.py", _TOOLS)
    for name, calls in steps.items():
        _write(folder / "prompts" / f"{name}.md", _PROMPT.format(name=name))
        _write(folder / "prompts" / f"{name}.playbook.yaml", json.dumps(_playbook(name, calls, pace_s)))
    environment = {} if url is None else {"AGENTLOOP_DATABASE_URL": url}
    environment |= {"AGENTLOOP_LOG_LEVEL": "info", "FLEET_TRACE": str(folder / TRACE), **variables}
    settings = configuration(folder, environment=environment).settings
    with queueing.opened(folder, settings) as queue:
        made = Fleet(folder, queue, settings, environment)
        try:
            yield made
        finally:
            made.stop()


def _playbook(name: str, calls: Sequence[str], pace_s: float) -> dict[str, object]:
    steps: list[dict[str, object]] = [
        {"say": f"I {c}.", "call": [{c: {} if c == "crash" else {"seconds": pace_s}}]} for c in calls
    ]
    return {"name": name, "steps": [*steps, {"say": "It is done."}]}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
