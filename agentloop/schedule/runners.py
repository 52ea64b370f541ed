"""Who runs a claimed session: this process, or the queue; and what a session's log says came of it."""

import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from agentloop.core.crashes import progress
from agentloop.engine import Interrupted
from agentloop.errors import EXIT_CODES, AgentLoopError, PrefixUnstable, SessionHeld
from agentloop.queueing import SessionQueue
from agentloop.schedule.claims import Ended, Look, Seen
from agentloop.stores import store_of
from agentloop.types.events import SessionEnded
from agentloop.types.jobs import Job
from agentloop.unattended import run_job
from agentloop.waves import running
from agentloop.waves.outcome import standing
from agentloop.workspace import Settings

Runner = Callable[[Job], Ended | None]
"""Runs a job to its outcome; None where it gave it to somebody else, and the session's log will tell."""


def in_process(workspace: Path, settings: Settings, stopping: threading.Event) -> Runner:
    """Run it here. Once `stopping` is set, a session ends between two steps: recorded, to be carried on."""

    def run(job: Job) -> Ended:
        result = run_job(job, workspace, settings, stopped=lambda: "SIGTERM" if stopping.is_set() else None)
        return Ended(result.outcome, EXIT_CODES[result.outcome], result.detail, result.cost, result.until)

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


def looking(workspace: Path, settings: Settings) -> Look:
    """Reads what a session's log says, or the logs of all sessions of a wave."""
    sessions = store_of(workspace, settings)

    def look(session_id: str) -> Seen:
        if not sessions.exists(session_id):
            return of_wave(session_id)
        events = sessions.events(session_id)
        last = events[-1].body
        if not isinstance(last, SessionEnded):
            return Seen(progress(events))
        return Seen(progress(events), Ended(last.outcome, EXIT_CODES[last.outcome], last.detail, until=last.until))

    def of_wave(wave_id: str) -> Seen:
        journal = running.journal_of(workspace, settings.database_url, wave_id)
        there = standing(sessions, wave_id, lambda: running.expected(journal))
        if there.whole is None:
            return Seen(there.progress)
        outcome, detail, until = there.whole
        return Seen(there.progress, Ended(outcome, EXIT_CODES[outcome], detail, until=until))

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
