"""`sessions repair`."""

from pathlib import Path

import click

from agentloop import repairing
from agentloop.adapters.system_clock import SystemClock
from agentloop.cli.options import here, sessions_of, workspace_option
from agentloop.origins import Origins


@click.command()
@click.argument("session")
@click.option("--to", "new_id", help="The id of the new session; one is made up by default.")
@workspace_option
def repair(session: str, new_id: str | None, workspace: Path) -> None:
    """Start a new session that knows what SESSION knew. SESSION, whose history is no longer accepted, stays as it is."""
    store, clock = sessions_of(workspace), SystemClock()
    session_id = store.find(session)
    new_id = new_id or store.new_id(session_id[:40], clock.now())
    repairing.repaired(store, session_id, new_id, Origins(workspace, here(workspace).settings.database_url), clock)
    click.echo(f"{new_id} takes over from {session_id}; 'agentloop resume {new_id}' goes on")
