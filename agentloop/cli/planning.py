"""`plan`: what a run will cost, before it runs; and afterwards, what had been forecast."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentloop.adapters import model_table
from agentloop.cli import render
from agentloop.cli.options import (
    agent_of,
    frozen_options,
    json_option,
    limit_options,
    print_json,
    sessions_of,
    workspace_option,
)
from agentloop.errors import UsageError
from agentloop.plan import Asked, Forecast, Span, forecast
from agentloop.plan.history import against, history
from agentloop.types.usage import ModelCard

if TYPE_CHECKING:
    from agentloop.api import Agent


@click.command()
@click.argument("agent")
@click.option("-p", "--prompt", help="The task, where it is not that of the past sessions.")
@click.option("--turns", type=click.IntRange(min=1), help="A run of so many turns.")
@click.option("--against", "session", metavar="SESSION", help="What would have been forecast before SESSION, and what came.")
@json_option
@workspace_option
@limit_options
@frozen_options
def plan(
    agent: str, prompt: str | None, turns: int | None, session: str | None, as_json: bool, workspace: Path, **flags: Any
) -> None:
    """What a run of AGENT will cost: from its past sessions here, under the policy and the prices that it will run with.

    `--model A,B` forecasts the same for several models. Nothing is sent and nothing is written.
    """
    if session is not None:
        _before(agent, session, as_json, workspace)
        return
    ready = [agent_of(workspace, agent, model=model, **flags) for model in _models(flags.pop("model"))]
    with ready[0].registry("plan") as registry:
        starts = [one.start("plan", registry) for one in ready]
    known = history(ready[0].sessions, starts[0].agent, starts[0].played_by)
    asked = [Asked(start, one.policy_settings, prompt, turns) for one, start in zip(ready, starts, strict=True)]
    made = [forecast(a, known.past, known.of(a.start.card.id), _cards(ready[0])) for a in asked]
    _warn([*known.unreadable, *(w for f in made for w in f.warnings)])
    if as_json:
        forecasts = [f.model_dump(mode="json") for f in made]
        print_json({"agent": starts[0].agent, "forecasts": forecasts, "unreadable": known.unreadable})
    else:
        click.echo("\n\n".join(text(f) for f in made))


def text(made: Forecast) -> str:
    """A forecast, readable."""
    known = len(made.sessions)
    from_what = f"{known} past session{'s' if known > 1 else ''}" if known else "defaults"
    head = f"{made.agent}, {made.model}, policy {made.policy}: from {from_what}; a prefix of {made.prefix_tokens:,} tokens"
    lengths = made.turns
    rows = [
        ["", "low", "expected", "high"],
        ["turns", str(lengths.low), str(lengths.expected), str(lengths.high)],
        ["this run, USD", *_amounts(made.cost_usd)],
        ["cached, all kept whole", *_amounts(made.never_usd)],
        ["the plain loop", *_amounts(made.naive_usd)],
    ]
    notes = [f"note: {render.safe(note)}" for note in made.notes]
    return "\n".join([head, render.table(rows, right=(1, 2, 3)), *notes])


def _before(agent: str, session: str, as_json: bool, workspace: Path) -> None:
    sessions = sessions_of(workspace)
    session_id = sessions.find(session)
    found = against(sessions, session_id)
    if found.forecast.agent != agent and not agent.endswith(".md"):
        raise UsageError(f"session '{session_id}' is one of agent '{found.forecast.agent}', not of '{agent}'")
    print_json(found.model_dump(mode="json")) if as_json else click.echo(render.forecast(found))


def _models(given: str | None) -> Sequence[str | None]:
    """The models of `--model A,B`; the agent's own without the flag. Raises UsageError where it names none."""
    if not given:
        return [None]
    names = list(dict.fromkeys(name for piece in given.split(",") if (name := piece.strip())))
    if not names:
        raise UsageError(f"--model '{given}' names nothing; models stand between commas")
    return names


def _cards(agent: "Agent") -> Mapping[str, ModelCard]:
    models = model_table.chosen(agent.settings.price_table)
    return {name: model.card_on(datetime.now(UTC).date()) for name, model in models.items()}


def _amounts(span: Span) -> tuple[str, str, str]:
    return render.usd(span.low), render.usd(span.expected), render.usd(span.high)


def _warn(warnings: Iterable[str]) -> None:
    for warning in dict.fromkeys(warnings):
        click.echo(f"warning: {warning}", err=True)
