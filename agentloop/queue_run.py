"""One session as a worker runs it: it can be stopped between two of its steps, and what goes wrong is said, not raised.

Usually many run in threads of one process. One that is suspected of ending its process runs in a process of its own
(`python -m agentloop.queue_run WORKSPACE`): that gets the job on its standard input, and what to stop for as a further line;
where the worker dies, the input ends, and the session stops too.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import structlog

from agentloop.core.state import State
from agentloop.engine import Interrupted
from agentloop.errors import AgentLoopError, SessionHeld, SessionLost, StoreUnavailable
from agentloop.types.events import Event
from agentloop.types.jobs import Job
from agentloop.types.queues import Ran, Stopped
from agentloop.unattended import run_job
from agentloop.workspace import Settings, configuration, user_file

TRY_LATER_S = 5.0
"""Seconds after which a session that another process holds is tried again."""
_ASK_S = 0.2
"""Seconds between two looks whether a session that runs alone is to stop."""
_ORPHANED = "SIGTERM"


def runner(workspace: Path, settings: Settings) -> Callable[..., Ran | None]:
    """Runs the jobs of a workspace."""

    def run(job: Job, stopped: Stopped, *, alone: bool) -> Ran | None:
        return in_a_process(job, workspace, stopped) if alone else here(job, workspace, settings, stopped)

    return run


def here(job: Job, workspace: Path, settings: Settings, stopped: Stopped) -> Ran:
    """Run a session in this thread."""
    try:
        result = run_job(job, workspace, settings, on_event=Watcher(stopped))
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


class Watcher:
    """The observer of a session in the queue: ends it where somebody wants that, but never in the middle of a step."""

    def __init__(self, stopped: Stopped) -> None:
        """Ask this between two steps."""
        self._stopped = stopped
        self._told = False

    def __call__(self, event: Event, state: State) -> None:
        """Raises Interrupted, once: what the engine writes to end the session is observed too."""
        if not self._told and between_steps(state) and (by := self._stopped()) is not None:
            self._told = True
            raise Interrupted(by)


def between_steps(state: State) -> bool:
    """Whether a session that ends here leaves nothing open: no request under way, no call that may have had its effect."""
    return state.outcome is None and state.pending is None and not any(c.id in state.started for c in state.open_calls)


def in_a_process(job: Job, workspace: Path, stopped: Stopped) -> Ran | None:
    """Run a session in a process of its own. None where that ended before it could say what came of it."""
    answers, told = os.pipe()
    command = [sys.executable, "-P", "-m", "agentloop.queue_run", str(workspace), str(told)]
    with os.fdopen(answers) as answer:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[told], text=True)
        finally:
            os.close(told)
        _say(process, job.model_dump_json())
        asked = threading.Thread(target=_pass_on, args=(process, stopped), daemon=True)
        asked.start()
        said = answer.read()
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


def _listening() -> Iterator[str | None]:
    """What the worker says: nothing yet, or why to stop."""
    heard: list[str] = []

    def listen() -> None:
        heard.append(sys.stdin.readline().strip() or _ORPHANED)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield heard[0] if heard else None


def main(workspace: Path, answers: int) -> None:
    """The process of one session."""
    job = Job.model_validate_json(sys.stdin.readline())
    settings = configuration(workspace, user_file=user_file(os.environ)).settings
    ran = here(job, workspace, settings, _listening().__next__)
    with os.fdopen(answers, "w") as answer:
        answer.write(json.dumps(_written(ran)) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
