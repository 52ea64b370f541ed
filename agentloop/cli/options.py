"""Options that several commands share, and the agent that they describe."""

import math
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agentloop.agents import find_agent
from agentloop.cli.render import json_pieces
from agentloop.errors import ConfigError
from agentloop.ports import SessionStore
from agentloop.stores import store_of
from agentloop.workspace import Configuration, configuration, redactor, user_file

if TYPE_CHECKING:
    from agentloop.api import Agent

PIECES_AT_ONCE = 10_000

Command = TypeVar("Command", bound=Callable[..., Any])


class Finite(click.FloatRange):
    """A number within bounds, which NaN is not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Fails for what is none."""
        found = super().convert(value, param, ctx)
        return found if math.isfinite(found) else self.fail(f"{value!r} is no number that can be used.", param, ctx)


def workspace_option(command: Command) -> Command:
    """`--workspace DIR`."""
    return click.option(
        "--workspace",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("."),
        help="The workspace; the current folder by default.",
    )(command)


def json_option(command: Command) -> Command:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def without_secrets(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A text that will be kept, without known secrets in it: told on standard error where there was one."""
    cleaned = redactor(os.environ)(value) if value is not None else None
    if cleaned != value:
        click.echo(f"note: a secret of the environment was taken out of --{param.name}", err=True)
    return cleaned


def limit_options(command: Command) -> Command:
    """What may be changed when a session is taken up again."""
    for option in (
        click.option("--provider", type=click.Choice(["scripted", "anthropic"]), help="Who plays the model."),
        click.option("--base-url", help="Where the Messages API is."),
        click.option("--max-turns", type=int, help="Requests to the model, at most."),
        click.option("--max-budget-usd", help="USD, at most."),
        click.option("--max-wall-s", type=float, help="Seconds, at most."),
        click.option("--max-session-tokens", type=int, help="Tokens of all requests together, in and out, at most."),
        click.option("--unattended", is_flag=True, help="Nobody watches: what the agent's file does not grant waits."),
        click.option("--max-tokens", type=int, help="Output tokens of one reply, at most."),
    ):
        command = option(command)
    return command


def frozen_options(command: Command) -> Command:
    """What is frozen when a session starts."""
    for option in (
        click.option("--model", help="Model id."),
        click.option("--fallback-model", help="Who takes over from a model that is not available, or refuses."),
        click.option("--policy", type=click.Choice(["rent", "never", "keep_pairs", "every_turn"]), help="Compaction."),
        click.option("--state", type=click.Choice(["engine", "model"]), help="Who writes the session state."),
        click.option("--effort", type=click.Choice(["low", "medium", "high", "xhigh", "max"])),
        click.option("--tool-search", type=click.Choice(["off", "auto", "on"]), help="Tools outside the prompt until needed."),
        click.option("--static-ttl", type=click.Choice(["5m", "1h", "off"]), help="Cache lifetime of tools and system."),
        click.option("--state-ttl", type=click.Choice(["5m", "1h", "off"]), help="Cache lifetime of the session state."),
        click.option("--tail-ttl", type=click.Choice(["5m", "1h", "off"]), help="Cache lifetime of the turns."),
    ):
        command = option(command)
    return command


def here(workspace: Path) -> Configuration:
    """The settings of a workspace. Raises ConfigError where there is no such folder."""
    if not workspace.is_dir():
        raise ConfigError(f"workspace {workspace} is not a folder; 'agentloop init {workspace}' makes one")
    return configuration(workspace, user_file=user_file(os.environ))


def sessions_of(workspace: Path) -> SessionStore:
    """The sessions of a workspace."""
    return store_of(workspace, here(workspace).settings, on_dropped=_tell_dropped)


def agent_of(workspace: Path, name: str, **flags: Any) -> "Agent":
    """The agent of that name, with these flags."""
    from agentloop.api import Agent  # the engine and its adapters: commands that only read do not wait for them

    file = find_agent(workspace, here(workspace).settings.prompts, name)
    return Agent(file, workspace=workspace, **flags)


def print_json(data: Any) -> None:
    """One JSON document on standard output, part by part: it may be long."""
    pieces = json_pieces(data)
    while part := "".join(islice(pieces, PIECES_AT_ONCE)):
        click.echo(part, nl=False)
    click.echo()


def _tell_dropped(dropped: Any) -> None:
    click.echo(
        f"note: {dropped.path}, line {dropped.line}: a torn last line ({dropped.bytes:,} bytes) is dropped; "
        "the process ended while it was written",
        err=True,
    )
