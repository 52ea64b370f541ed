"""Who runs a claimed session: this process, or the queue; and what a session's log says came of it."""

import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from agentloop.core.crashes import progress
from agentloop.core.state import State
from agentloop.engine import Interrupted
from agentloop.errors import EXIT_CODES, AgentLoopError, PrefixUnstable, SessionHeld
from agentloop.ports import SessionStore
from agentloop.queue_run import between_steps
from agentloop.queueing import SessionQueue
from agentloop.schedule.claims import Ended, Look, Seen
from agentloop.types.events import Event, SessionEnded
from agentloop.types.jobs import Job
from agentloop.unattended import run_job
from agentloop.workspace import Settings

Runner = Callable[[Job], Ended | None]
"""Runs a job to its outcome; None where it gave it to somebody else, and the session's log will tell."""


def in_process(workspace: Path, settings: Settings, stopping: threading.Event, look: Look) -> Runner:
    """Run it here. Once `stopping` is set, a session ends between two steps: recorded, to be carried on."""

    def stop(event: Event, state: State) -> None:
        if stopping.is_set() and between_steps(state):
            raise Interrupted("SIGTERM")

    def run(job: Job) -> Ended:
        result = run_job(job, workspace, settings, on_event=stop)
        ended = look(job.session_id).ended if result.outcome == "sleeping" else None
        until = ended.until if ended is not None else None
        return Ended(result.outcome, EXIT_CODES[result.outcome], result.detail, result.cost, until)

    return run


def submitting(queue: SessionQueue, name: str) -> Runner:
    """Give it to the queue of this name: some worker runs it. What is there already is not queued twice."""

    def submit(job: Job) -> None:
        queue.submit(job, name)

    return submit


def queued(queue: SessionQueue, look: Look) -> Look:
    """Reads what became of a session in the queue: there are ends that no log tells of. Of others, what the log says."""

    def asked(session_id: str) -> Seen:
        last = next((q for q in queue.runs() if q.session_id == session_id), None)
        if last is None:
            return look(session_id)
        match last.standing:
            case "done":
                outcome = last.outcome or "error"
                return Seen(0, Ended(outcome, EXIT_CODES.get(outcome, 1), last.detail, last.cost_usd))
            case "cancelled":
                return Seen(0, Ended("cancelled", 1, last.detail or "taken out of the queue"))
            case "held":
                return Seen(0, Ended("held", 75, last.detail))
            case _:
                return Seen()

    return asked


def looking(sessions: SessionStore) -> Look:
    """Reads what a session's log says."""

    def look(session_id: str) -> Seen:
        if not sessions.exists(session_id):
            return Seen()
        events = sessions.events(session_id)
        last = events[-1].body
        if not isinstance(last, SessionEnded):
            return Seen(progress(events))
        return Seen(progress(events), Ended(last.outcome, EXIT_CODES[last.outcome], last.detail, until=last.until))

    return look


def attempt(runner: Runner, job: Job) -> Ended | None:
    """Run it, and say what came of it, whatever that is."""
    try:
        return runner(job)
    except SessionHeld as e:
        return Ended("elsewhere", e.exit_code, str(e))
    except PrefixUnstable as e:
        return Ended("prefix_unstable", e.exit_code, str(e))
    except AgentLoopError as e:
        return Ended("error", e.exit_code, str(e))
    except Interrupted as e:
        return Ended("interrupted", 143, e.signal)
    except Exception as e:  # noqa: BLE001  one session's bug must not end the others; the reason is kept with its due time
        structlog.get_logger("agentloop.schedule").error("run_crashed", session=job.session_id, exc_info=True)
        return Ended("internal_error", 1, f"{type(e).__name__}: {str(e)[:500]}")
