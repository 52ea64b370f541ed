"""`emulator`: a Messages API on this machine."""

from pathlib import Path
from typing import Any

import click

from agentloop.adapters import model_table, telemetry
from agentloop.cli.options import agent_of, sessions_of, workspace_option
from agentloop.emulator.app import Emulator
from agentloop.emulator.playbook import Playbook
from agentloop.emulator.script import Recording
from agentloop.emulator.server import serve
from agentloop.errors import UsageError
from agentloop.types.events import ModelReplied


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8377, show_default=True, help="0: any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Anything but loopback needs --token.")
@click.option("--token", help="What clients must send as their API key.")
@click.option("--agent", help="Answer from the playbook of this agent.")
@click.option("--playbook", type=click.Path(path_type=Path), help="Answer from this playbook.")
@click.option("--session", help="Answer from the recorded replies of this session.")
@workspace_option
def emulator(
    port: int, host: str, token: str | None, agent: str | None, playbook: Path | None, session: str | None, workspace: Path
) -> None:
    """A Messages API that keeps a cache account and bills like the real one. GET /emulator/report shows it."""
    telemetry.configure(level="info")
    if sum(x is not None for x in (agent, playbook, session)) != 1:
        raise UsageError("name one of --agent, --playbook, --session: whose words should the emulator speak?")
    serve(Emulator(_script(agent, playbook, session, workspace), model_table.models()), host, port, token=token, ready=_ready)


def _script(agent: str | None, playbook: Path | None, session: str | None, workspace: Path) -> Any:
    if agent is not None:
        return agent_of(workspace, agent, provider="scripted").script
    if playbook is not None:
        return Playbook.load(playbook)
    sessions = sessions_of(workspace)
    session_id = sessions.find(str(session))
    bodies = (e.body for e in sessions.events(session_id))
    return Recording.of("recorded", [b.reply for b in bodies if isinstance(b, ModelReplied) and b.purpose == "turn"])


def _ready(url: str) -> None:
    click.echo(f"listening on {url}\ntry: ANTHROPIC_API_KEY=any agentloop run AGENT --base-url {url}", err=True)
