"""`approve` and `deny`: a person's answer to calls of unattended sessions."""

import getpass
import json
import os
from pathlib import Path

import click

from agentloop import approving
from agentloop.adapters.system_clock import SystemClock
from agentloop.approving import Waiting
from agentloop.cli import render
from agentloop.cli.options import here, json_option, print_json, sessions_of, workspace_option
from agentloop.core.folding import fold
from agentloop.errors import UsageError
from agentloop.queueing import taken_up_again
from agentloop.workspace import redactor


@click.command()
@click.argument("session")
@click.argument("call", required=False)
@click.option("--all", "every", is_flag=True, help="Every call of the session that waits.")
@click.option("--show", is_flag=True, help="Only show what waits.")
@json_option
@workspace_option
def approve(session: str, call: str | None, every: bool, show: bool, as_json: bool, workspace: Path) -> None:
    """Let CALL of SESSION run. It may be left out where only one waits."""
    if show:
        _show(workspace, session, as_json)
    else:
        _answer(workspace, session, call, every, as_json, allowed=True, note="")


@click.command()
@click.argument("session")
@click.argument("call", required=False)
@click.option("--all", "every", is_flag=True, help="Every call of the session that waits.")
@click.option("--note", default="", help="Why: the model is told.")
@json_option
@workspace_option
def deny(session: str, call: str | None, every: bool, note: str, as_json: bool, workspace: Path) -> None:
    """Answer CALL of SESSION with no: it is not run, and the model is told so."""
    _answer(workspace, session, call, every, as_json, allowed=False, note=note)


def _show(workspace: Path, session: str, as_json: bool) -> None:
    sessions = sessions_of(workspace)
    session_id = sessions.find(session)
    there = approving.waiting(fold(sessions.events(session_id)))
    if as_json:
        print_json({"session_id": session_id, "waiting": [_data(w) for w in there]})
        return
    for one in there:
        click.echo(_line(one))
    if not there:
        click.echo(f"no call of session '{session_id}' waits for an answer")


def _answer(workspace: Path, session: str, call: str | None, every: bool, as_json: bool, *, allowed: bool, note: str) -> None:
    if every and call is not None:
        raise UsageError(f"either the call '{call}' or --all, not both")
    sessions, clock = sessions_of(workspace), SystemClock()
    session_id = sessions.find(session)
    note = redactor(os.environ)(note)
    ids = [w.call.id for w in approving.waiting(fold(sessions.events(session_id)))] if every else [call]
    answered, left = [], 0
    for one in ids or [call]:
        done, left = approving.answer(sessions, clock, session_id, one, allowed=allowed, by=_who(), note=note)
        answered.append(done)
    queued = None if left else taken_up_again(workspace, here(workspace).settings, session_id)
    if as_json:
        said = {"session_id": session_id, "allowed": allowed, "answered": [_data(w) for w in answered], "waiting": left}
        said["queued"] = queued.run if queued else None
        print_json(said)
        return
    for done in answered:
        click.echo(f"{'approved' if allowed else 'denied'}: {_line(done)}")
    goes_on = f"{queued.run} is queued" if queued else f"'agentloop resume {session_id}' goes on"
    click.echo(f"{left} more wait" if left else goes_on)


def _data(one: Waiting) -> dict[str, object]:
    return {"call_id": one.call.id, "tool": one.call.name, "input": one.call.input, "reason": one.reason}


def _line(one: Waiting) -> str:
    given = json.dumps(one.call.input, ensure_ascii=False)
    return render.safe(f"{one.call.id}  {one.call.name} {given[:400]}{'…' if len(given) > 400 else ''}  ({one.reason})")


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user, no environment
        return "unknown"
