"""A job that is a wave: what `cron` and `worker` do where a schedule has inputs."""

import os
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from agentloop.agents import find_agent
from agentloop.api import Agent
from agentloop.errors import AgentLoopError, BatchStopped, SessionHeld, SessionLost, StoreUnavailable
from agentloop.operation.aftermath import notifier
from agentloop.operation.notices import KINDS, Notice, Notifier
from agentloop.operation.observing import Observing
from agentloop.ports import Clock
from agentloop.result import Result
from agentloop.types.jobs import Job
from agentloop.waves import running
from agentloop.waves.outcome import result
from agentloop.waves.wave import Rules
from agentloop.workspace import Settings


def run(job: Job, workspace: Path, settings: Settings, clock: Clock, stopped: Callable[[], str | None]) -> Result:
    """Run the wave that is called as the job, or carry it on; tell the operator once what came of all its sessions. Raises what
    `running.run` raises, and Interrupted where it was stopped."""
    told = notifier(workspace, settings, os.environ)
    try:
        found = _run(job, workspace, settings, clock, stopped)
    except (SessionHeld, SessionLost, StoreUnavailable):
        raise  # another process has it, or it is tried again later: nobody need be told
    except AgentLoopError as e:
        _tell(told, job, "error", f"{job.session_id} could not run: {e}", clock.now())
        raise
    _tell(told, job, found.outcome, f"{job.session_id}: {found.detail or found.outcome}", clock.now(), found)
    return found


def _run(job: Job, workspace: Path, settings: Settings, clock: Clock, stopped: Callable[[], str | None]) -> Result:
    file = find_agent(workspace, settings.prompts, job.agent)
    watching = Observing(settings)
    agent = Agent(file, workspace=workspace, clock=clock, on_event=watching, unattended=True,
                  job=job.name, job_day_usd=job.max_day_usd)  # fmt: skip
    if job.max_budget_usd is not None:
        agent = agent.sharing(job.session_id, job.max_budget_usd)
    assert job.inputs is not None
    who = running.members(agent.name, running.tasks(workspace / job.inputs, job.prompt), job.session_id)
    rules = Rules(deadline=job.deadline, stopped=stopped)
    try:
        ran = running.run(agent, who, clock, rules, over=watching.close)
    except BatchStopped as e:  # it is tried again later
        where = running.journal_of(workspace, settings.database_url, who.wave_id).where
        return result(who.wave_id, {}, {who.wave_id: e}, where)
    return result(who.wave_id, ran.results, ran.failed, ran.log)


def _tell(told: Notifier, job: Job, outcome: str, said: str, at: datetime, found: Result | None = None) -> None:
    if outcome not in KINDS:
        return
    again = f"agentloop batch run {job.agent} --inputs {job.inputs} --id {job.session_id}"
    notice = Notice(
        kind=KINDS[outcome],
        subject=job.session_id,
        outcome=outcome,
        summary=said,
        next_step="" if outcome == "completed" else f"'agentloop sessions list' shows which; '{again}' carries it on.",
        at=at,
        agent=job.agent,
        schedule=job.name,
        cost_usd=found.cost if found is not None else Decimal(0),
    )
    told.tell(notice, at)
