"""`report` and `replay`."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentloop.cli import render
from agentloop.cli.options import json_option, print_json, sessions_of, workspace_option
from agentloop.crash_points import reached
from agentloop.errors import ReplayDiffers
from agentloop.ports import SessionStore
from agentloop.report import report as report_of
from agentloop.types.events import SessionStarted
from agentloop.workspace import redactor

if TYPE_CHECKING:
    from agentloop.plan.history import Against


@click.command()
@click.argument("session", nargs=-1, required=True)
@click.option("--turns", is_flag=True, help="A line for each request, with the reason for what it cost.")
@click.option("--forecast", is_flag=True, help="Beside it, what 'plan' would have said before the session ran.")
@click.option("--format", "run_report", type=click.Choice(["markdown", "json"]),
              help="The whole run report instead: what was done, what it cost, what waits, what to do next.")  # fmt: skip
@json_option
@workspace_option
def report(
    session: tuple[str, ...], turns: bool, as_json: bool, workspace: Path, forecast: bool = False, run_report: str | None = None
) -> None:
    """The bill of one or more sessions."""
    sessions = sessions_of(workspace)
    if run_report is not None:
        _print_run_reports(sessions, session, run_report)
        return
    ids = [sessions.find(s) for s in session]
    by_turn = turns or as_json
    reports = [report_of(sessions.stream(i), log=str(sessions.log(i).location), with_turns=by_turn) for i in ids]
    reached("report.made")
    if as_json:
        data = [r.model_dump(mode="json") for r in reports]
        if forecast:
            data = [d | {"forecast": _forecast(sessions, d["session_id"]).model_dump(mode="json")} for d in data]
        print_json(data[0] if len(data) == 1 else data)
        return
    for one in reports:
        click.echo(render.bill(one))
        click.echo("\n" + (render.turns(one) if turns else render.causes(one)) + "\n")
        if forecast:
            click.echo(render.forecast(_forecast(sessions, one.session_id)) + "\n")


def _print_run_reports(sessions: SessionStore, names: tuple[str, ...], form: str) -> None:
    from agentloop.operation import pages, reports

    redact = redactor(os.environ)
    found = [reports.run_report(sessions.stream(i), str(sessions.log(i).location)) for i in map(sessions.find, names)]
    if form == "markdown":
        click.echo(redact("\n".join(map(pages.markdown, found))), nl=False)
    else:
        data = [json.loads(redact(one.model_dump_json())) for one in found]
        print_json(data[0] if len(data) == 1 else data)


def _forecast(sessions: SessionStore, session_id: str) -> "Against":
    """What the logs before a session would have forecast for it."""
    from agentloop.plan.history import against  # a bill alone does not wait for the engine

    return against(sessions, session_id)


@click.command()
@click.argument("session")
@json_option
@workspace_option
def replay(session: str, as_json: bool, workspace: Path) -> None:
    """Decide everything again from the log of SESSION, and compare every request's digest."""
    from agentloop.policies import recorded  # `report` does without
    from agentloop.replay import replay as replay_events

    sessions = sessions_of(workspace)
    session_id = sessions.find(session)
    events = sessions.events(session_id)
    start = events[0].body
    assert isinstance(start, SessionStarted)
    policies = recorded(start.policies).policies()
    found = replay_events(events, policies)
    if as_json:
        difference = found.difference._asdict() if found.difference else None
        print_json({"session_id": session_id, "events": found.events, "requests": found.requests, "same": found.same,
                    "difference": difference})  # fmt: skip
    elif found.same:
        click.echo(f"{session_id}: {found.events} events, {found.requests} requests, every decision and digest the same")
    if (moved := found.divergence) is not None:
        raise ReplayDiffers(
            f"'{session_id}', request {found.requests}: {moved.kind} without a compaction, {moved.where} byte {moved.byte}\n"
            f"before: …{moved.before}\nafter:  …{moved.after}"
        )
    if (d := found.difference) is not None:
        raise ReplayDiffers(
            f"'{session_id}' differs at seq {d.seq} (turn {d.turn})\nrecorded: {d.recorded[:160]}\ndecided:  {d.decided[:160]}"
        )
