"""One job, run without a person watching: what `cron tick`, `cron serve` and `worker` do with each of theirs."""

import os
from pathlib import Path

from agentloop.adapters.system_clock import SystemClock
from agentloop.agents import find_agent
from agentloop.api import Agent
from agentloop.core.state import State
from agentloop.engine import Interrupted
from agentloop.engine.loop import Observer
from agentloop.errors import AgentLoopError, SessionHeld, SessionLost, StoreUnavailable
from agentloop.operation.aftermath import Aftermath
from agentloop.operation.observing import Observing
from agentloop.ports import Clock
from agentloop.result import Result
from agentloop.stores import store_of
from agentloop.types.events import Event
from agentloop.types.jobs import Job
from agentloop.types.queues import Stopped
from agentloop.waves import jobs as waves
from agentloop.workspace import Settings


def _unwatched(event: Event, state: State) -> None:
    """Nobody looks."""


def _unstopped() -> str | None:
    """Nobody wants it to end."""
    return None


class Watcher:
    """The observer of a session that runs by itself: ends it where somebody wants that, but never in the middle of a step."""

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


def run_job(
    job: Job,
    workspace: Path,
    settings: Settings,
    clock: Clock | None = None,
    on_event: Observer = _unwatched,
    *,
    stopped: Stopped = _unstopped,
) -> Result:
    """Run it to its outcome, or carry it on from wherever its log ends; write its report, and tell the operator what there
    is to tell. Once `stopped` says so it ends between two steps: recorded, to be carried on. Raises UsageError, PrefixUnstable,
    SessionHeld, LogError; nothing for what the model, the network or a tool does."""
    clock = clock or SystemClock()
    if job.inputs is not None:
        return waves.run(job, workspace, settings, clock, stopped)
    aftermath = Aftermath(job, workspace, settings, os.environ)
    try:
        result = _run(job, workspace, settings, clock, on_event, stopped)
    except (SessionHeld, SessionLost, StoreUnavailable):
        raise  # another process has it, or it is tried again later: nobody need be told
    except AgentLoopError as e:
        aftermath.failed(e, clock.now())
        raise
    _ended(aftermath, job, workspace, settings, clock)
    return result


def follow_up(job: Job, workspace: Path, settings: Settings, clock: Clock | None = None) -> None:
    """Do what is done when a session has ended, for one whose process died before it could: once more, it does no harm."""
    _ended(Aftermath(job, workspace, settings, os.environ), job, workspace, settings, clock or SystemClock())


def _ended(aftermath: Aftermath, job: Job, workspace: Path, settings: Settings, clock: Clock) -> None:
    store, folder = store_of(workspace, settings), workspace / settings.sessions / job.session_id
    aftermath.ended(lambda: store.stream(job.session_id), folder, str(store.log(job.session_id).location), clock.now())


def _run(job: Job, workspace: Path, settings: Settings, clock: Clock, on_event: Observer, stopped: Stopped) -> Result:
    file = find_agent(workspace, settings.prompts, job.agent)
    watching = Observing(settings, on_event, Watcher(stopped))
    agent = Agent(file, workspace=workspace, clock=clock, on_event=watching, unattended=True,
                  job=job.name, max_budget_usd=job.max_budget_usd, job_day_usd=job.max_day_usd)  # fmt: skip
    try:
        return agent.run(job.prompt, session_id=job.session_id)
    finally:
        watching.close(job.session_id)
