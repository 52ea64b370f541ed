"""`sessions list|show|export|prune`."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from agentloop.adapters.jsonl_log import LOG
from agentloop.cli import render
from agentloop.cli.options import json_option, print_json, sessions_of, workspace_option
from agentloop.errors import UsageError
from agentloop.sessions import Summary


@click.group()
def sessions() -> None:
    """What has run."""


@sessions.command("list")
@json_option
@workspace_option
def list_(as_json: bool, workspace: Path) -> None:
    """Every session, a line each."""
    found = list(sessions_of(workspace).summaries())
    if as_json:
        print_json([s._asdict() for s in found])
        return
    rows = [[s.session_id, s.outcome, s.model, s.started_at[:19].replace("T", " "), f"{s.events:,}"] for s in found]
    click.echo(render.table([["session", "outcome", "model", "started (UTC)", "events"], *rows], right=(4,)))


@sessions.command()
@click.argument("session")
@json_option
@workspace_option
def show(session: str, as_json: bool, workspace: Path) -> None:
    """One session, readable in a terminal."""
    store = sessions_of(workspace)
    events = store.events(store.find(session))
    if as_json:
        print_json([e.model_dump(mode="json") for e in events])
    else:
        click.echo(render.story(events))


@sessions.command()
@click.argument("session")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--whole-lines", is_flag=True, help="Of a damaged log, the lines before the damage.")
@workspace_option
def export(session: str, target: Path, whole_lines: bool, workspace: Path) -> None:
    """Copy SESSION, log and blobs, to a new folder TARGET."""
    store = sessions_of(workspace)
    session_id = store.find(session)
    if target.exists():
        raise UsageError(f"{target} exists already; name a folder that does not")
    log = store.log(session_id)
    end, damage = log.whole_lines()
    if damage is not None and not whole_lines:
        raise damage
    target.mkdir(parents=True, mode=0o700)
    with log.path.open("rb") as source, (target / LOG).open("xb") as copy:
        (target / LOG).chmod(0o600)
        left = end
        while left and (piece := source.read(min(left, 1 << 20))):
            copy.write(piece)
            left -= len(piece)
    if (blobs := log.folder / "blobs").is_dir():
        shutil.copytree(blobs, target / "blobs")
    click.echo(f"{session_id}: {end:,} bytes of log written to {target}" + (" (before the damage)" if damage else ""))


@sessions.command()
@click.option("--older-than", "days", type=click.IntRange(min=0), required=True, metavar="DAYS")
@click.option("--yes", is_flag=True, help="Really delete; without it, only say what would be.")
@workspace_option
def prune(days: int, yes: bool, workspace: Path) -> None:
    """Delete sessions that ended well and started more than DAYS days ago."""
    store = sessions_of(workspace)
    limit = datetime.now(UTC) - timedelta(days=days)
    old = [s for s in store.summaries() if s.outcome == "completed" and _started(s) < limit]
    for summary in old:
        if yes:
            shutil.rmtree(store.path(summary.session_id))
        click.echo(f"{'deleted' if yes else 'would delete'} {summary.session_id} ({summary.bytes:,} bytes of log)")
    if not old:
        click.echo("nothing to delete")


def _started(summary: Summary) -> datetime:
    try:
        return datetime.fromisoformat(summary.started_at)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
