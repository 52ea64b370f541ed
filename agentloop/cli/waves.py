"""`batch run`: whole sessions of an agent, in waves."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentloop.cli import render
from agentloop.cli.options import (
    Finite,
    agent_of,
    frozen_options,
    json_option,
    limit_options,
    print_json,
    workspace_option,
)
from agentloop.cli.running import printing
from agentloop.cli.wave_line import WaveLine
from agentloop.errors import EXIT_CODES, SessionHeld, UsageError
from agentloop.types.base import Json

if TYPE_CHECKING:
    from agentloop.api import Agent
    from agentloop.waves.running import Members, Ran


@click.command()
@click.argument("agent")
@click.option(
    "--inputs",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="One session a row: .jsonl, .csv, or a .txt with one task a line.",
)
@click.option(
    "-p", "--prompt", default="{{prompt}}", show_default=True, help="The task of a row: {{field}} stands for its field."
)
@click.option("--id", "wave_id", help="What the wave is called; made from the inputs otherwise, so that the same are one wave.")
@click.option("--deadline", help="From then on everything is asked live: a time (ISO 8601), or seconds from now.")
@click.option(
    "--gather-s",
    type=Finite(min=0),
    default=10.0,
    show_default=True,
    help="So long a wave waits for sessions whose tools run.",
)
@click.option("--at-once", type=click.IntRange(min=1), default=1_000, show_default=True, help="Sessions under way at a time.")
@click.option("--forecast", "only_forecast", is_flag=True, help="What it will cost; nothing is sent and nothing is written.")
@click.option("-q", "--quiet", is_flag=True, help="No progress line.")
@json_option
@workspace_option
@limit_options
@frozen_options
@click.pass_context
def run(
    ctx: click.Context, /, agent: str, inputs: Path, prompt: str, wave_id: str | None, deadline: str | None, gather_s: float,
    at_once: int, only_forecast: bool, quiet: bool, as_json: bool, workspace: Path, **flags: Any,
) -> None:  # fmt: skip
    """One session of AGENT for each row of FILE, all of them one turn a batch. The same command again carries the wave on."""
    from agentloop.adapters.system_clock import SystemClock
    from agentloop.waves import running
    from agentloop.waves.wave import Rules

    tasks = running.tasks(inputs, prompt)
    line = WaveLine(not quiet, len(tasks))
    ready = agent_of(workspace, agent, on_event=line, **flags | {"unattended": True})
    who = running.members(ready.name, tasks, wave_id)
    forecast = _forecast(ready, len(who.tasks))
    if only_forecast:
        print_json(forecast) if as_json else click.echo(_forecast_text(forecast))
        return
    rules = Rules(gather_s=gather_s, deadline=_deadline(deadline, datetime.now(UTC)), sessions_at_once=at_once)
    with printing(workspace, ready.settings) as output:
        try:
            ran = running.run(ready, who, SystemClock(), rules, over=line.over)
        except KeyboardInterrupt:
            line.done()
            click.echo(f"{who.wave_id}: stopped; its batches go on, and the same command carries it on", err=True)
            raise
        line.done()
        data = _data(ready, who, ran, forecast)
        output.write((render.as_json(data) if as_json else _text(data)) + "\n")
    ctx.exit(_exit_code(who, ran))


def _deadline(given: str | None, now: datetime) -> datetime | None:
    """Raises UsageError for what is no time."""
    if given is None:
        return None
    with suppress(ValueError, OverflowError):
        return now + timedelta(seconds=float(given))
    with suppress(ValueError):
        at = datetime.fromisoformat(given)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    raise UsageError(f"--deadline '{given}' is no time; expected seconds from now, or such as 2026-11-23T07:00:00+00:00")


def _forecast(agent: "Agent", sessions: int) -> Json:
    """What the sessions cost live, as `plan` says of one of them, and in batches that find as much in the cache: half."""
    from agentloop.core.costs import BATCH
    from agentloop.plan import Asked, forecast
    from agentloop.plan.history import history

    with agent.registry("plan") as registry:
        start = agent.start("plan", registry)
    known = history(agent.sessions, start.agent, start.played_by)
    span = forecast(Asked(start, agent.policy_settings, None, None), known.past, known.of(start.card.id), {}).cost_usd
    live = {name: sessions * getattr(span, name) for name in ("low", "expected", "high")}
    return {
        "sessions": sessions,
        "live_usd": {name: str(usd) for name, usd in live.items()},
        "batch_usd": {name: str(usd * BATCH) for name, usd in live.items()},
    }


def _forecast_text(forecast: Json) -> str:
    live, batch = (
        " / ".join(render.usd(Decimal(forecast[way][name])) for name in ("low", "expected", "high"))
        for way in ("live_usd", "batch_usd")
    )
    return f"forecast for {forecast['sessions']:,} sessions (low / expected / high): live {live}; in batches, at best {batch}"


def _data(agent: "Agent", who: "Members", ran: "Ran", forecast: Json) -> Json:
    from agentloop.waves.bill import bill

    there = [i for i in who.tasks if agent.sessions.exists(i)]
    whole, each = bill(agent.sessions.stream(i) for i in there)
    return {
        "wave_id": who.wave_id,
        "agent": agent.name,
        **whole.model_dump(mode="json"),
        "failed": {session_id: str(error) for session_id, error in ran.failed.items()},
        "forecast": forecast,
        "each": [b.model_dump(mode="json") for b in each],
        "log": ran.log,
    }


def _text(data: Json) -> str:
    outcomes = ", ".join(f"{n:,} {name}" for name, n in data["outcomes"].items())
    ratio = f" ({Decimal(data['ratio_to_live']):.0%})" if data["ratio_to_live"] is not None else ""
    hits = f"; hits {Decimal(data['hits']):.2f}" if data["hits"] is not None else ""
    lines = [
        f"{data['wave_id']}: {data['sessions']:,} sessions ({outcomes})",
        f"{data['batched']:,} of {data['replies']:,} replies out of batches{hits}",
        f"cost: {render.usd(Decimal(data['cost_usd']))}; live: {render.usd(Decimal(data['live_usd']))}{ratio}",
        _forecast_text(data["forecast"]),
        *(f"{session_id}: {why}" for session_id, why in data["failed"].items()),
        f"log: {data['log']}",
    ]
    return render.safe("\n".join(lines))


def _exit_code(who: "Members", ran: "Ran") -> int:
    """That of the worst outcome, as of a scheduled wave; 75 where it is a session that another process holds."""
    from agentloop.waves.outcome import result

    outcome = result(who.wave_id, ran.results, ran.failed, ran.log).outcome
    if outcome == "interrupted" and any(isinstance(e, SessionHeld) for e in ran.failed.values()):
        return SessionHeld.exit_code
    return EXIT_CODES[outcome]
