"""One session as a worker runs it: it can be stopped between two of its steps, and what goes wrong is said, not raised.

Usually many run in threads of one process. One that is suspected of ending its process runs in a process of its own
(`python -m agentloop.queue_run WORKSPACE ANSWERS`): that gets the job on its standard input, and what to stop for as a further
line; where the worker dies, the input ends, and the session stops too. What it counted is counted here when it has ended.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import structlog

from agentloop.core.folding import begin, evolve, fold
from agentloop.core.state import State
from agentloop.errors import AgentLoopError, SessionHeld, SessionLost, StoreUnavailable
from agentloop.operation import METRICS, observing
from agentloop.ports import SessionStore
from agentloop.stores import store_of
from agentloop.types.events import SessionEnded, SessionStarted
from agentloop.types.jobs import Job
from agentloop.types.queues import Ran, Stopped
from agentloop.unattended import follow_up, run_job
from agentloop.workspace import Settings, configuration, user_file

TRY_LATER_S = 5.0
"""Seconds after which a session that another process holds is tried again."""
_ASK_S = 0.2
"""Seconds between two looks whether a session that runs alone is to stop."""
_ORPHANED = "SIGTERM"
_GOES_ON = ("interrupted", "sleeping", "waiting_for_approval")
"""Outcomes with which a run that is tried again finds out by itself what there is to do."""


def runner(workspace: Path, settings: Settings) -> Callable[..., Ran | None]:
    """Runs the jobs of a workspace."""

    def run(job: Job, stopped: Stopped, *, alone: bool) -> Ran | None:
        return _alone(job, workspace, settings, stopped) if alone else here(job, workspace, settings, stopped)

    return run


def ended_since(job: Job, workspace: Path, settings: Settings, since: datetime) -> Ran | None:
    """What came of a session whose worker died after the session had ended and before the queue knew it: it is not run once
    more. None where it has not ended since then, or goes on by itself."""
    store = store_of(workspace, settings)
    try:
        events = store.events(job.session_id) if store.exists(job.session_id) else []
    except AgentLoopError:
        return None  # whoever runs it is told the same, and says it
    last = events[-1] if events else None
    if last is None or not isinstance(last.body, SessionEnded) or last.at < since or last.body.outcome in _GOES_ON:
        return None
    state = fold(events)
    follow_up(job, workspace, settings)
    return Ran(last.body.outcome, state.detail, state.spent_usd)


def here(job: Job, workspace: Path, settings: Settings, stopped: Stopped) -> Ran:
    """Run a session in this thread."""
    try:
        result = run_job(job, workspace, settings, stopped=stopped)
        return Ran(result.outcome, result.detail, result.cost, result.until)
    except KeyboardInterrupt:  # stopped before the engine had begun, or after it had ended
        return Ran("interrupted")
    except SessionLost as e:  # whoever has it now ends it; where that is nobody, the worker queues it again
        return Ran("interrupted", str(e))
    except (SessionHeld, StoreUnavailable) as e:
        return Ran("try_later", str(e), until=datetime.now(UTC) + timedelta(seconds=TRY_LATER_S))
    except AgentLoopError as e:
        structlog.get_logger("agentloop").error("session_failed", session=job.session_id, error=str(e))
        return Ran("failed", str(e))
    except Exception as e:  # noqa: BLE001  one broken session must not take the others of this worker along
        structlog.get_logger("agentloop").exception("session_broke", session=job.session_id)
        return Ran("failed", f"internal error: {type(e).__name__}: {e}")


def _alone(job: Job, workspace: Path, settings: Settings, stopped: Stopped) -> Ran | None:
    store = store_of(workspace, settings)
    seen = _events(store, job.session_id)
    ran = in_a_process(job, workspace, stopped)
    with contextlib.suppress(AgentLoopError):
        _count(store, job.session_id, seen)
    return ran


def _events(store: SessionStore, session_id: str) -> int:
    """How many there are already; 0 where nobody can tell: the session's own process says why."""
    try:
        return sum(1 for _ in store.stream(session_id)) if store.exists(session_id) else 0
    except AgentLoopError:
        return 0


def _count(store: SessionStore, session_id: str, seen: int) -> None:
    """What another process did from this event on is in the metrics of this one. Raises LogError, UnknownSession."""
    state: State | None = None
    for event in store.stream(session_id):
        state = (
            begin(event.body, event.at) if isinstance(event.body, SessionStarted) else evolve(state, event) if state else None
        )
        if state is not None and event.seq >= seen:
            METRICS.observe(event, state)


def in_a_process(job: Job, workspace: Path, stopped: Stopped) -> Ran | None:
    """Run a session in a process of its own. None where that ended before it could say what came of it."""
    answers, told = os.pipe()
    command = [sys.executable, "-P", "-m", "agentloop.queue_run", str(workspace), str(told)]
    with os.fdopen(answers) as answer:
        try:
            # A session of its own: Ctrl-C at the worker's terminal is not for it, it is told what to stop for.
            process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[told], text=True, start_new_session=True)
        finally:
            os.close(told)
        _say(process, job.model_dump_json())
        asked = threading.Thread(target=_pass_on, args=(process, stopped), daemon=True)
        asked.start()
        said = answer.readline()
        process.wait()
    return _read(json.loads(said)) if said.endswith("\n") else None


def _pass_on(process: "subprocess.Popen[str]", stopped: Stopped) -> None:
    """Tell the process once that it is to stop."""
    while process.poll() is None:
        if (by := stopped()) is not None:
            _say(process, by)
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ASK_S)


def _say(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it is gone; what came of it is found out where its answer is read
        process.stdin.write(line + "\n")
        process.stdin.flush()


def _written(ran: Ran) -> dict[str, str | None]:
    cost = None if ran.cost_usd is None else f"{ran.cost_usd:f}"
    until = None if ran.until is None else ran.until.isoformat()
    return {"outcome": ran.outcome, "detail": ran.detail, "cost_usd": cost, "until": until}


def _read(said: dict[str, Any]) -> Ran:
    cost, until = said["cost_usd"], said["until"]
    return Ran(said["outcome"], said["detail"], cost and Decimal(cost), until and datetime.fromisoformat(until))


def _listening(worker: IO[str]) -> Iterator[str | None]:
    """What the worker says: nothing yet, or why to stop."""
    heard: list[str] = []

    def listen() -> None:
        heard.append(worker.readline().strip() or _ORPHANED)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield heard[0] if heard else None


def main(workspace: Path, answers: int) -> None:
    """The process of one session. It ends when it has answered: a tool that was given up may still hold a thread."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # of a whole group: the worker says what it means
        signal.signal(number, lambda *_: None)
    os.set_inheritable(answers, False)
    worker = _own_input()
    job = Job.model_validate_json(worker.readline())
    settings = configuration(workspace, user_file=user_file(os.environ)).settings
    observing.logging_to(workspace, settings)
    ran = here(job, workspace, settings, _listening(worker).__next__)
    with os.fdopen(answers, "w") as answer:
        answer.write(json.dumps(_written(ran)) + "\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _own_input() -> IO[str]:
    """What the worker says is for this process alone: a program that a tool starts finds nothing on its standard input."""
    worker = os.fdopen(os.dup(0), encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return worker


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
