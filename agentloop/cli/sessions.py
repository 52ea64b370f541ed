"""`sessions list|show|export|prune`."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from agentloop.adapters.jsonl_log import LOG
from agentloop.cli import render, repairing
from agentloop.cli.options import here, json_option, print_json, sessions_of, workspace_option
from agentloop.crash_points import reached
from agentloop.errors import LogError, UsageError
from agentloop.operation import retention
from agentloop.operation.retention import PRUNABLE
from agentloop.origins import Origins
from agentloop.ports import Blobs


class Age(click.ParamType[timedelta]):
    """A number with a unit: `30d`, `12h`, `8w`; days without one."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """What was written, as a duration."""
        if isinstance(value, timedelta):
            return value
        written = re.fullmatch(r"(\d{1,6})([hdw]?)", str(value).strip())
        if written is None:
            self.fail(f"'{value}' is no age; expected a number with h, d or w, such as 30d", param, ctx)
        return int(written[1]) * {"h": timedelta(hours=1), "w": timedelta(weeks=1)}.get(written[2], timedelta(days=1))


@click.group()
def sessions() -> None:
    """What has run."""


sessions.add_command(repairing.repair)


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
    target.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    copy = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        _write(copy / LOG, log.pieces(end))
        _write_blobs(copy / "blobs", store.blobs(session_id))
        reached("export.copied")
        copy.rename(target)
    except BaseException:
        shutil.rmtree(copy, ignore_errors=True)
        raise
    reached("export.done")
    click.echo(f"{session_id}: {end:,} bytes of log written to {target}" + (" (before the damage)" if damage else ""))


def _write_blobs(folder: Path, blobs: Blobs) -> None:
    for digest in blobs.digests():
        if (data := blobs.find(digest)) is None:
            raise LogError(f"the result {digest} was deleted while it was copied; export again")
        folder.mkdir(mode=0o700, exist_ok=True)
        _write(folder / digest, [data])


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    """For its owner alone, as in the sessions folder."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.writelines(pieces)


@sessions.command()
@click.option("--older-than", "age", type=Age(), required=True, metavar="AGE", help="Since it ended: 30d, 12h, 8w.")
@click.option("--keep", type=click.IntRange(min=0), default=0, help="Of each agent, keep the newest N whatever their age.")
@click.option("--outcome", multiple=True, type=click.Choice([*PRUNABLE, "any"]), default=("completed",), show_default=True,
              help="Only sessions that ended so; may be given several times.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@json_option
@workspace_option
def prune(age: timedelta, keep: int, outcome: tuple[str, ...], dry_run: bool, as_json: bool, workspace: Path) -> None:
    """Delete sessions that ended long ago. Those that run, wait, sleep or never ended are never deleted."""
    store = sessions_of(workspace)
    outcomes = frozenset(PRUNABLE if "any" in outcome else outcome)
    settings = here(workspace).settings
    folder, origins = workspace / settings.sessions, Origins(workspace, settings.database_url)
    if not dry_run:
        retention.sweep(folder)
    old = retention.prunable(store, datetime.now(UTC) - age, outcomes, keep, folder)
    rows = []
    for one in old:
        left = None if dry_run else retention.delete(store, one, folder, origins)
        rows.append({**one._asdict(), "ended_at": one.ended_at.isoformat(), "deleted": not dry_run and left is None})
        if not as_json:
            what = "would delete" if dry_run else "deleted" if left is None else f"kept ({left}):"
            click.echo(f"{what} {one.session_id} ({one.outcome} {one.ended_at:%Y-%m-%d}, {one.bytes:,} bytes)")
    if as_json:
        print_json(rows)
    elif not old:
        click.echo("nothing to delete")
    else:
        click.echo(f"{sum(one.bytes for one in old):,} bytes in {len(old)} sessions")
