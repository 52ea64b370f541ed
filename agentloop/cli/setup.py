"""`init`, `config show` and `doctor`."""

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

import click

from agentloop.adapters import model_table
from agentloop.agents import agent_file
from agentloop.cli import render
from agentloop.cli.options import here, json_option, print_json, sessions_of, workspace_option
from agentloop.database import is_postgres
from agentloop.errors import AgentLoopError, UsageError
from agentloop.example.starter import FILES
from agentloop.version import __version__
from agentloop.workspace import Settings


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("."))
def init(folder: Path) -> None:
    """Make a new workspace in FOLDER: settings, an agent, a tool. Writes over nothing."""
    if clash := [name for name in FILES if (folder / name).exists()]:
        raise UsageError(f"{folder / clash[0]} exists already; init writes over nothing. Choose an empty folder")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        click.echo(f"wrote {path}")
    click.echo(f"\nnow: cd {folder} && agentloop run assistant")


@click.group()
def config() -> None:
    """The settings that hold here."""


@config.command()
@json_option
@workspace_option
def show(as_json: bool, workspace: Path) -> None:
    """Every setting, its value, and where it came from."""
    listed = here(workspace).listed()
    if as_json:
        print_json([s._asdict() for s in listed])
        return
    rows = [[s.name, "" if s.value is None else str(s.value), s.origin] for s in listed]
    click.echo(render.table([["setting", "value", "from"], *rows]))


@click.command()
@json_option
@workspace_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool, workspace: Path) -> None:
    """What is set up and what is missing. Loads no tool module."""
    found = [*_machine(), *_workspace(workspace)]
    if as_json:
        print_json([{"check": n, "ok": ok, "found": text} for n, ok, text in found])
    else:
        click.echo(render.table([["ok" if ok else "MISSING", n, text] for n, ok, text in found]))
    ctx.exit(0 if all(ok for _, ok, _ in found) else 2)


def _machine() -> list[tuple[str, bool, str]]:
    sdk = importlib.metadata.version("anthropic")
    key = "configured" if os.environ.get("ANTHROPIC_API_KEY") else "not configured (needed for --provider anthropic only)"
    table = model_table.models()
    dates = sorted({m.card.prices_as_of for m in table.values()})
    active = sorted(name for name, m in table.items() if m.traits.status == "active")
    return [
        ("agentloop", True, f"{__version__}, Python {platform.python_version()} on {sys.platform}"),
        ("anthropic SDK", sdk.split(".")[0] == "2", f"{sdk} (2.12 or later 2.x is needed)"),
        ("ANTHROPIC_API_KEY", True, key),
        ("price table", True, f"as of {dates[-1]}; active: {', '.join(active)}"),
    ]


def _workspace(workspace: Path) -> list[tuple[str, bool, str]]:
    try:
        settings = here(workspace).settings
    except AgentLoopError as e:
        return [("settings", False, str(e).partition("\n")[0])]
    rows = [("settings", True, f"provider {settings.provider}, model {settings.model}, policy {settings.policy}")]
    prompts = sorted((workspace / settings.prompts).glob("*.md"))
    for path in prompts:
        try:
            rows.append((f"agent {path.stem}", True, agent_file(path).description or "ready"))
        except AgentLoopError as e:
            rows.append((f"agent {path.stem}", False, str(e).partition("\n")[0]))
    if not prompts:
        rows.append(("agents", False, f"none in {workspace / settings.prompts}; 'agentloop init' makes one"))
    rows.append(("sessions", *_sessions(workspace, settings)))
    return rows


def _sessions(workspace: Path, settings: Settings) -> tuple[bool, str]:
    if settings.database_url is not None and is_postgres(settings.database_url):
        try:
            count = sum(1 for _ in sessions_of(workspace).ids())
        except AgentLoopError as e:
            return False, str(e).partition("\n")[0]
        return True, f"{count:,} in PostgreSQL"
    folder = workspace / settings.sessions
    writable = os.access(folder if folder.exists() else workspace, os.W_OK)
    return writable, f"{folder}{'' if writable else ' cannot be written'}"
