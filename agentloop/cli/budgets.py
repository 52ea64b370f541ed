"""`budget`: what the workspace and its jobs have spent, today and in all."""

from pathlib import Path

import click

from agentloop import database, purses
from agentloop.adapters.system_clock import SystemClock
from agentloop.agents import find_agent
from agentloop.cli.options import here, json_option, print_json, sessions_of, workspace_option
from agentloop.types.limits import SharedLimits
from agentloop.workspace import Settings, configuration


@click.group()
def budget() -> None:
    """Budgets that sessions share: `workspace_day_usd`, `workspace_total_usd`, `job_day_usd`, `job_total_usd`."""


@budget.command()
@click.argument("job", required=False)
@json_option
@workspace_option
def show(job: str | None, as_json: bool, workspace: Path) -> None:
    """What was spent of the workspace's budgets and, where JOB is named (a schedule's name or an agent's), of its own."""
    settings = here(workspace).settings
    clock = SystemClock()
    ledger = purses.ledger(workspace, settings, sessions_of(workspace), clock)
    rows = ledger.spending(job, _limits(workspace, settings, job))
    if as_json:
        print_json([{**row._asdict(), "left_usd": row.left_usd} for row in rows])
        return
    for row in rows:
        limit = f"of {row.limit_usd} USD, {row.left_usd} left" if row.limit_usd is not None else "(no limit)"
        aside = f", {row.reserved_usd:f} set aside for requests under way" if row.reserved_usd else ""
        click.echo(f"{row.scope}: {row.settled_usd:f} USD spent {limit}{aside}")


@budget.command()
@click.option("--put-aside", is_flag=True, help="First put the ledger's file aside, where it is damaged.")
@workspace_option
def rebuild(put_aside: bool, workspace: Path) -> None:
    """Make the ledger of shared budgets anew from the sessions' logs."""
    settings = here(workspace).settings
    if put_aside and settings.database_url is None:
        _put_aside(workspace)
    found = purses.ledger(workspace, settings, sessions_of(workspace), SystemClock()).rebuild()
    click.echo(f"the ledger holds what {found} sessions spent")


def _put_aside(workspace: Path) -> None:
    path = Path(database.url_of(workspace, None, purses.FILE).removeprefix("sqlite:///"))
    for one in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        if one.exists():
            one.replace(one.with_name(f"{one.name}.damaged"))


def _limits(workspace: Path, settings: Settings, job: str | None) -> SharedLimits:
    """The limits; those of a job that is an agent, as its file says."""
    path = workspace / settings.prompts / f"{job}.md"
    if job is None or not path.is_file():
        return settings.shared_limits
    return configuration(workspace, agent=find_agent(workspace, settings.prompts, job)).settings.shared_limits
