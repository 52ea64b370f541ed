"""`notify check|test`."""

from datetime import UTC, datetime
from pathlib import Path

import click

from agentloop.cli import render
from agentloop.cli.options import here, json_option, print_json, workspace_option
from agentloop.errors import UsageError


@click.group()
def notify() -> None:
    """What an operator is told without asking."""


@notify.command()
@json_option
@workspace_option
@click.pass_context
def check(ctx: click.Context, as_json: bool, workspace: Path) -> None:
    """Look for schedules and processes that have fallen silent, and tell what is new. For the machine's own cron.

    Exit code: 1 where something is silent, 0 where nothing is.
    """
    from agentloop import vigil
    from agentloop.operation import observing

    settings = here(workspace).settings
    observing.logging_to(workspace, settings)
    found = vigil.look(workspace, settings, datetime.now(UTC))
    if as_json:
        print_json([n.model_dump(mode="json") for n in found])
    for notice in () if as_json else found:
        click.echo(render.safe(f"{notice.summary}\n  {notice.next_step}"))
    ctx.exit(1 if found else 0)


@notify.command()
@workspace_option
def test(workspace: Path) -> None:
    """Send a notice that means nothing, to see whether it arrives."""
    import os

    from agentloop.adapters.notices import NotGiven
    from agentloop.operation.notices import Notice, ways

    settings = here(workspace).settings
    to = ways(settings, os.environ)
    if not to:
        raise UsageError("nothing is set up: set AGENTLOOP_NOTIFY_WEBHOOK or AGENTLOOP_NOTIFY_COMMAND")
    now = datetime.now(UTC)
    notice = Notice(
        kind="success", subject="test", outcome="test", summary="a test of agentloop's notices", next_step="None.", at=now
    )
    for way in to:
        try:
            way.give(notice.model_dump_json().encode())
        except NotGiven as e:
            raise UsageError(f"the notice could not be given: {e}") from e
    click.echo(f"given {len(to)} way{'s' if len(to) > 1 else ''}")
