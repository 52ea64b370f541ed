"""`cron add|list|remove|pause|resume|run-now|tick|serve|history`."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from agentloop.cli import render
from agentloop.cli.cron_running import run_now, serve, tick
from agentloop.cli.cron_store import Opened, opened, plain, row_json
from agentloop.cli.options import json_option, print_json, without_secrets, workspace_option
from agentloop.errors import UsageError
from agentloop.schedule.due import next_start
from agentloop.schedule.spec import Schedule, made, plain_name
from agentloop.schedule.store import Row


@click.group()
def cron() -> None:
    """Schedules: agents that run by themselves, and what came of each of their due times."""


for _command in (tick, serve, run_now):
    cron.add_command(_command)


def _settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each setting of a schedule."""
    for option in (
        click.option("--name", help="What it is called; the agent's name by default."),
        click.option("--cron", required=True, metavar="'M H D M W'", help="Five fields, or @hourly, @daily, ..."),
        click.option("--zone", help="An IANA time zone; UTC by default."),
        click.option("-p", "--prompt", callback=without_secrets, help="The task; with --inputs, its template."),
        click.option("--inputs", metavar="FILE", help="Each run is a wave: one session a row (.jsonl, .csv, .txt)."),
        click.option("--deadline-s", type=int, help="So many seconds after a wave fell due, the rest of it is asked live."),
        click.option("--overlap", help="Where the run before still goes on: skip (default), queue, 'parallel N'."),
        click.option("--missed", help="Of the times nobody was there for, run: skip (none), once (default), 'all N'."),
        click.option("--jitter-s", type=int, help="Start up to so many seconds later."),
        click.option("--late-s", type=int, help="A due time noticed so many seconds late was missed; 300 by default."),
        click.option("--pause-after", type=int, help="Failures in a row that pause it; 3 by default, 0: never."),
        click.option("--max-budget-usd", help="USD, at most, for each run: all sessions of a wave together."),
        click.option("--max-day-usd", help="USD, at most, for all its runs of a day."),
        click.option("--max-age-s", type=int, help="Seconds after which a missed time is not made up for; a day by default."),
    ):
        command = option(command)
    return command


@cron.command()
@click.argument("agent")
@_settings
@json_option
@workspace_option
def add(agent: str, as_json: bool, workspace: Path, **values: Any) -> None:
    """Keep a schedule for AGENT in the database. (One in the agent's front matter needs no command.)"""
    from agentloop.agents import find_agent

    with opened(workspace) as here:
        file = find_agent(workspace, here.settings.prompts, agent)
        name = values.pop("name") or plain_name(file.name)
        if values["pause_after"] is None:
            del values["pause_after"]
        elif values["pause_after"] == 0:
            values["pause_after"] = None
        schedule = made("cron add", {"name": name, "agent": agent, **values})
        if schedule.inputs is not None:
            _readable(workspace / schedule.inputs, schedule)
        if (other := next((s for s in here.load().schedules if s.name == name), None)) is not None:
            raise UsageError(f"there is a schedule '{name}' already (in {other.origin}); name this one with --name")
        now = datetime.now(UTC)
        here.store.add(schedule, now)
    if as_json:
        print_json(_schedule_json(schedule, None, None, now))
    else:
        click.echo(f"schedule '{name}' runs {agent} next at {_when(next_start(schedule, now), schedule)}")


def _readable(inputs: Path, schedule: Schedule) -> None:
    """Raises UsageError where a wave of today's file could not begin."""
    from agentloop.waves import running

    running.tasks(inputs, schedule.job(datetime.now(UTC)).prompt)


@cron.command("list")
@json_option
@workspace_option
@click.pass_context
def list_(ctx: click.Context, as_json: bool, workspace: Path) -> None:
    """Every schedule: when it runs next, what came of the last time, and where it stands."""
    with opened(workspace) as here:
        loaded, standings, now = here.load(), here.store.standings(), datetime.now(UTC)
        last = {s.name: next(iter(here.store.history(s.name, 1)), None) for s in loaded.schedules}
        schedulers = here.schedulers(now)
    found = [(s, standings.get(s.name), last[s.name]) for s in loaded.schedules]
    if as_json:
        print_json({"schedules": [_schedule_json(*f, now) for f in found], "schedulers": schedulers, "errors": loaded.errors})
    else:
        head = ["schedule", "agent", "cron", "zone", "next", "last", "state", "from"]
        rows = [_schedule_line(s, standing, row, now) for s, standing, row in found]
        click.echo(render.table([head, *rows]) if rows else "no schedules; 'agentloop cron add AGENT --cron ...' makes one")
        for one in schedulers:
            well = "is alive" if one["alive"] else "IS SILENT"
            click.echo(f"scheduler {one['name']} {well}: last heard of {one['age_s']:.0f} s ago")
    for error in loaded.errors:
        click.echo(f"error: {error}", err=True)
    ctx.exit(2 if loaded.errors else 0)


def _schedule_line(schedule: Schedule, standing: Any, last: Row | None, now: datetime) -> list[str]:
    ran = f"{last.due:%Y-%m-%d %H:%M} {last.outcome or last.status}" if last else ""
    paused = standing is not None and standing.paused
    state = f"paused: {standing.paused}" if paused else "new" if standing is None else "on"
    following = "" if paused else _when(next_start(schedule, now), schedule)
    return [schedule.name, schedule.agent, schedule.cron, schedule.zone, following, ran, state, schedule.origin]


def _schedule_json(schedule: Schedule, standing: Any, last: Row | None, now: datetime) -> dict[str, Any]:
    following = next_start(schedule, now)
    return {
        **{name: plain(value) for name, value in schedule.model_dump().items()},
        "origin": schedule.origin,
        "next": None if standing is not None and standing.paused else plain(following),
        "since": plain(standing.since) if standing else None,
        "paused": standing.paused or None if standing else None,
        "failures": standing.failures if standing else 0,
        "last": row_json(last) if last else None,
    }


def _when(at: datetime | None, schedule: Schedule) -> str:
    """A time on the schedule's own clock."""
    from agentloop.schedule.calendar import time_zone

    return f"{at.astimezone(time_zone(schedule.zone)):%Y-%m-%d %H:%M %Z}" if at is not None else "never"


@cron.command()
@click.argument("name")
@json_option
@workspace_option
def remove(name: str, as_json: bool, workspace: Path) -> None:
    """Remove schedule NAME from the database. Its history stays; a run that goes on comes to its end."""
    with opened(workspace) as here:
        schedule = here.load().named(name)
        if schedule.origin != "database":
            raise UsageError(f"schedule '{name}' stands in {schedule.origin}; take the line 'schedule:' out of that file")
        here.store.remove(name)
    _done(as_json, name, "removed", f"schedule '{name}' is removed")


@cron.command()
@click.argument("name")
@click.option("--reason", default="by hand", show_default=True, help="Shown by list and history.")
@json_option
@workspace_option
def pause(name: str, reason: str, as_json: bool, workspace: Path) -> None:
    """Start no run of schedule NAME until it is resumed; what runs goes on."""
    now = datetime.now(UTC)
    with opened(workspace) as here:
        _known(here, name, now)
        here.store.pause(name, reason, now)
    _done(as_json, name, "paused", f"schedule '{name}' is paused; 'agentloop cron resume {name}' goes on")


@cron.command()
@click.argument("name")
@json_option
@workspace_option
def resume(name: str, as_json: bool, workspace: Path) -> None:
    """Go on with schedule NAME. Due times of the pause are recorded and not made up for."""
    now = datetime.now(UTC)
    with opened(workspace) as here:
        schedule = _known(here, name, now)
        if here.store.standings()[name].paused:
            here.store.decide(schedule, now)
        here.store.unpause(name, now)
    _done(as_json, name, "resumed", f"schedule '{name}' runs next at {_when(next_start(schedule, now), schedule)}")


def _known(here: Opened, name: str, now: datetime) -> Schedule:
    """The schedule, entered in the database. Raises UsageError."""
    loaded = here.load()
    schedule = loaded.named(name)
    here.store.sync(loaded.schedules, now, complete=False)
    return schedule


def _done(as_json: bool, name: str, what: str, text: str) -> None:
    if as_json:
        print_json({"schedule": name, "done": what})
    else:
        click.echo(text)


@cron.command()
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="The newest so many.")
@json_option
@workspace_option
def history(name: str | None, limit: int, as_json: bool, workspace: Path) -> None:
    """The due times, newest first: what came of each run, and the reason where there was none."""
    with opened(workspace) as here:
        found = here.store.history(name, limit)
        if name is not None and not found:
            here.load().named(name)
    if as_json:
        print_json([row_json(row) for row in found])
        return
    rows = [
        [r.name, f"{r.due:%Y-%m-%d %H:%M:%S}", r.status, r.outcome or "", _usd(r.cost_usd), r.session_id, r.reason]
        for r in found
    ]
    head = ["schedule", "due (UTC)", "status", "outcome", "USD", "session", "reason"]
    click.echo(render.table([head, *rows], right=(4,)) if rows else "nothing was due yet")


def _usd(amount: Decimal | None) -> str:
    return render.usd(amount) if amount is not None else ""
