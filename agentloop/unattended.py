"""One job, run without a person watching: what `cron tick`, `cron serve` and `worker` do with each of theirs."""

from pathlib import Path

from agentloop.agents import find_agent
from agentloop.api import Agent, Result
from agentloop.core.state import State
from agentloop.ports import Clock
from agentloop.types.events import Event
from agentloop.types.jobs import Job
from agentloop.workspace import Settings


def run_job(job: Job, workspace: Path, settings: Settings, clock: Clock | None = None) -> Result:
    """Run it to its outcome, or carry it on from wherever its log ends. Raises UsageError, PrefixUnstable, SessionHeld,
    LogError; nothing for what the model, the network or a tool does."""
    file = find_agent(workspace, settings.prompts, job.agent)
    agent = Agent(file, workspace=workspace, clock=clock, on_event=_unwatched, max_budget_usd=job.max_budget_usd)
    return agent.run(job.prompt, session_id=job.session_id)


def _unwatched(event: Event, state: State) -> None:
    """Nobody looks."""
