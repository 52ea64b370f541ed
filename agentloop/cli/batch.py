"""`batch submit|status|collect|list|cancel`."""

import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import click

from agentloop.cli import render, waves
from agentloop.cli.batch_line import ProgressLine
from agentloop.cli.batch_text import cells, seen, shown
from agentloop.cli.options import Finite, here, json_option, print_json, workspace_option
from agentloop.errors import ConfigError, UsageError
from agentloop.types.base import Json
from agentloop.workspace import Settings, configuration, user_file

LONGEST_WAIT_S = 26 * 3_600
"""Seconds that `--wait` waits: a batch expires after 24 hours."""
MOST_WAIT_S = 29 * 86_400
"""Seconds that anybody may wait: then results are gone."""


@click.group()
def batch() -> None:
    """Independent prompts at half price: rows of a file and a template, sent as batches, each row with one outcome."""


batch.add_command(waves.run)


def _going_on(command: Callable[..., Any]) -> Callable[..., Any]:
    """What both `submit` and `collect` may be told."""
    for option in (
        click.option("--wait", is_flag=True, help="Wait until every row has its outcome."),
        click.option("--max-wait-s", type=Finite(0, MOST_WAIT_S), help="Wait so many seconds at most."),
        click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Results: a .jsonl or .csv file."),
        click.option("--max-budget-usd", help="USD, at most, for the whole run."),
        click.option("--base-url", help="Where the Messages API is."),
        click.option("-q", "--quiet", is_flag=True, help="No progress line."),
    ):
        command = option(command)
    return command


def _asking(command: Callable[..., Any]) -> Callable[..., Any]:
    """What is asked of every row."""
    file = click.Path(path_type=Path, dir_okay=False)
    for option in (
        click.option("--format", "form", type=click.Choice(["jsonl", "csv", "text"]), help="What INPUT is; its name says so."),
        click.option("--template", type=file, help="A file with the prompt: {{field}} stands for the row's field."),
        click.option("-p", "--prompt", help="The prompt itself, in place of a template file."),
        click.option("--system", type=file, help="A file with the system prompt."),
        click.option("--model", help="Model id."),
        click.option("--provider", type=click.Choice(["anthropic", "scripted"]),
                     help="scripted: a playbook plays the model, without a key, network or cost."),
        click.option("--playbook", type=file, help="That playbook; TEMPLATE.playbook.yaml beside the template without it."),
        click.option("--max-tokens", type=click.IntRange(min=1), help="Output tokens of one answer; 4,096 by default."),
        click.option("--effort", type=click.Choice(["low", "medium", "high", "xhigh", "max"])),
        click.option("--schema", type=file, help="A JSON schema that every answer has to fit."),
        click.option("--output-type", metavar="MODULE:CLASS", help="The same as a pydantic model of the tools folder."),
        click.option("--id", "id_field", metavar="FIELD", help="The field that names a row: refused where two rows share one."),
        click.option("--allow-duplicates", is_flag=True, help="Ask the same twice where two rows do."),
        click.option("--retry", type=click.Choice(["batch", "live", "none"]), default="batch", show_default=True,
                     help="How rows are asked again that were invalid, expired, or failed for a time."),
        click.option("--max-retries", type=click.IntRange(0, 10), default=1, show_default=True),
        click.option("--name", help="What the run is called; made from the input otherwise."),
        click.option("--job", default="batch", show_default=True, help="Whose shared budgets pay."),
    ):  # fmt: skip
        command = option(command)
    return command


class Going(NamedTuple):
    """How a run is carried on."""

    wait: bool
    max_wait_s: float | None
    output: Path | None
    max_budget_usd: Decimal | None
    quiet: bool

    @property
    def wait_s(self) -> float:
        """Seconds to wait; 0: only what can be done now."""
        return self.max_wait_s if self.max_wait_s is not None else LONGEST_WAIT_S if self.wait else 0.0


@batch.command()
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path, dir_okay=False))
@_asking
@_going_on
@json_option
@workspace_option
@click.pass_context
def submit(
    ctx: click.Context, /, source: Path, workspace: Path, as_json: bool, base_url: str | None, model: str | None,
    provider: str | None,
    wait: bool, max_wait_s: float | None, output: Path | None, max_budget_usd: str | None, quiet: bool, **asked: Any,
) -> None:  # fmt: skip
    """Send the rows of INPUT (.jsonl, .csv, or a .txt with one prompt a line). The same command again carries the run on."""
    from agentloop import submitting
    from agentloop.adapters import model_table
    from agentloop.adapters.system_clock import SystemClock
    from agentloop.batching.run import prepare

    provider = provider or ("scripted" if asked["playbook"] is not None else None)
    settings = _settings(workspace, base_url=base_url, model=model, provider=provider)
    going = _going(wait, max_wait_s, output, max_budget_usd, quiet)
    chosen = model_table.find(settings.model, model_table.chosen(settings.price_table))
    order = _order(workspace, settings, source, chosen.card.id, asked, going.max_budget_usd)
    run = submitting.prepared(order, chosen, SystemClock(), workspace)
    if getattr(order.rows, "was_cleaned", False):
        click.echo("note: secrets of the environment were taken out of the rows", err=True)
    store = submitting.store(workspace, settings)
    log = store.log(run.name)
    with log:
        prepare(log, run, order.rows, SystemClock().now)
    ctx.exit(_carried_on(workspace, settings, run.name, going, as_json, collects=going.wait_s > 0))


@batch.command()
@click.argument("name")
@_going_on
@click.option("--give-up", is_flag=True, help="Let go of batches that cannot be seen any more: their rows are 'lost'.")
@json_option
@workspace_option
@click.pass_context
def collect(
    ctx: click.Context, /, name: str, workspace: Path, as_json: bool, base_url: str | None, wait: bool,
    max_wait_s: float | None, output: Path | None, max_budget_usd: str | None, quiet: bool, give_up: bool,
) -> None:  # fmt: skip
    """Fetch the results of NAME, ask again what is to be asked again, and write the results once every row has its outcome."""
    settings = _settings(workspace, base_url=base_url)
    going = _going(wait, max_wait_s, output, max_budget_usd, quiet)
    ctx.exit(_carried_on(workspace, settings, _found(workspace, settings, name), going, as_json, give_up=give_up))


@batch.command()
@click.argument("name")
@click.option("--offline", is_flag=True, help="Only what the log says; nothing is asked of the API.")
@click.option("--base-url", help="Where the Messages API is.")
@json_option
@workspace_option
def status(name: str, offline: bool, base_url: str | None, as_json: bool, workspace: Path) -> None:
    """Where NAME stands, and what it costs."""
    from agentloop import submitting
    from agentloop.batching.bill import summary

    settings = _settings(workspace, base_url=base_url)
    store = submitting.store(workspace, settings)
    found = store.find(name)
    state = store.begun(found)
    data: Json = summary(state, store.log(found).where).model_dump(mode="json")
    ids = [p.batch_id for p in state.parts.values() if p.status == "submitted"]
    if ids and not offline:
        api = submitting.ends(workspace, settings, os.environ, state.prepared, store.log(found)).batches
        data["at_the_api"] = [seen(api, batch_id) for batch_id in ids]
    print_json(data) if as_json else click.echo(shown(data))


@batch.command("list")
@json_option
@workspace_option
def list_(as_json: bool, workspace: Path) -> None:
    """The runs of the workspace."""
    from agentloop import submitting
    from agentloop.batching.bill import summary

    store = submitting.store(workspace, here(workspace).settings)
    states = [(name, state) for name in store.names() if (state := store.state(name)) is not None]
    found = [summary(state, store.log(name).where).model_dump(mode="json") for name, state in states]
    if as_json:
        print_json(found)
        return
    head = ("name", "status", "rows", "done", "cost USD", "live USD", "model")
    listed = [cells(f) for f in found]
    click.echo(render.table([head, *listed], right=(2, 3, 4, 5)) if found else "no batches; 'agentloop batch submit' makes one")


@batch.command()
@click.argument("name")
@click.option("--base-url", help="Where the Messages API is.")
@json_option
@workspace_option
def cancel(name: str, base_url: str | None, as_json: bool, workspace: Path) -> None:
    """Send nothing more of NAME. What is finished is kept and billed; `collect` fetches it."""
    from agentloop import submitting
    from agentloop.batching.bill import summary
    from agentloop.batching.run import BatchRun

    settings = _settings(workspace, base_url=base_url)
    store = submitting.store(workspace, settings)
    found = store.find(name)
    log = store.log(found)
    with log:
        state = store.begun(found)
        state = BatchRun(log, submitting.means(workspace, settings, os.environ, state.prepared, log)).cancel()
    data = summary(state, log.where).model_dump(mode="json")
    print_json(data) if as_json else click.echo(f"{shown(data)}\n'agentloop batch collect {found}' fetches what is finished")


def _carried_on(
    workspace: Path, settings: Settings, name: str, going: Going, as_json: bool, *, collects: bool = True, give_up: bool = False
) -> int:
    """Carry a run on, print where it stands, write its results. Returns the exit code."""
    from agentloop import submitting
    from agentloop.batching import results_file
    from agentloop.batching.bill import summary
    from agentloop.batching.events import BudgetChanged
    from agentloop.batching.run import BatchRun

    store = submitting.store(workspace, settings)
    log, line = store.log(name), ProgressLine(wanted=not going.quiet)
    with log:
        state = store.begun(name)
        run = BatchRun(log, submitting.means(workspace, settings, os.environ, state.prepared, log, line), give_up=give_up)
        if going.max_budget_usd is not None and going.max_budget_usd != run.state.max_budget_usd:
            run.write(BudgetChanged(max_budget_usd=going.max_budget_usd))
        try:
            state = run.carry_on(collects=collects, max_wait_s=going.wait_s)
        finally:
            line.done()
    data = summary(state, log.where).model_dump(mode="json")
    path = going.output or (store.folder / name / "results.jsonl" if state.ended else None)
    if path is not None:
        results_file.write(state, log, path)
        data["results"] = str(path)
    print_json(data) if as_json else click.echo(shown(data))
    if run.short:
        click.echo(f"budget: {run.short}; raise it, then 'agentloop batch collect {name}' goes on", err=True)
        return 3
    if not state.ended:
        click.echo(f"not all rows have their outcome; 'agentloop batch collect {name}' looks again", err=True)
        return 0 if not collects else 75
    return 0 if data["outcomes"] == {"succeeded": state.rows} else 1


def _order(workspace: Path, settings: Settings, source: Path, model: str, asked: Any, budget: Decimal | None) -> Any:
    """What is asked, read from files and flags. Raises UsageError."""
    from agentloop import submitting
    from agentloop.agents import prompt_text
    from agentloop.batching import rows
    from agentloop.batching.outputs import Output, of_schema, of_type

    if asked["template"] is not None and asked["prompt"] is not None:
        raise UsageError("--template and --prompt both say what is asked; use one")
    template = prompt_text(asked["template"]) if asked["template"] is not None else asked["prompt"] or rows.WHOLE_PROMPT
    output = Output()
    if asked["schema"] is not None and asked["output_type"] is not None:
        raise UsageError("--schema and --output-type both say what an answer has to fit; use one")
    if asked["schema"] is not None:
        output = of_schema(asked["schema"], model)
    if asked["output_type"] is not None:
        output = of_type(asked["output_type"], workspace / settings.tools, model)
    given = rows.RowFile(source, asked["form"], submitting.cleaner(os.environ))
    return submitting.Order(
        rows=list(given) if source.exists() and not source.is_file() else given,  # a pipe is read once
        template=template,
        system=prompt_text(asked["system"]).strip() if asked["system"] is not None else "",
        max_tokens=asked["max_tokens"],
        effort=asked["effort"],
        output=output,
        id_field=asked["id_field"],
        allow_duplicates=asked["allow_duplicates"],
        retry=asked["retry"],
        max_retries=asked["max_retries"],
        max_budget_usd=budget,
        job=asked["job"],
        playbook=_playbook(settings, asked),
        name=asked["name"],
        stem="".join(c if c.isalnum() and c.isascii() else "-" for c in source.stem).strip("-")[:60] or "batch",
    )


def _playbook(settings: Settings, asked: Any) -> Path | None:
    """Who plays the model; None: the API. Raises ConfigError where nobody is named."""
    if settings.provider != "scripted":
        return None
    template: Path | None = asked["template"]
    beside = template.with_suffix(".playbook.yaml") if template is not None else None
    found: Path | None = asked["playbook"] or (beside if beside is not None and beside.is_file() else None)
    if found is None:
        raise ConfigError(
            "nobody can play the model offline: there is no playbook\n"
            "name one with --playbook FILE, or put it beside the template (ask.md: ask.playbook.yaml)\n"
            "or ask the API: --provider anthropic"
        )
    return found


def _settings(workspace: Path, **flags: Any) -> Settings:
    here(workspace)
    return configuration(workspace, flags=flags, user_file=user_file(os.environ)).settings


def _found(workspace: Path, settings: Settings, name: str) -> str:
    from agentloop import submitting

    return submitting.store(workspace, settings).find(name)


def _going(wait: bool, max_wait_s: float | None, output: Path | None, max_budget_usd: str | None, quiet: bool) -> Going:
    """How a run is carried on. Raises UsageError."""
    from agentloop.batching import results_file

    results_file.check(output)
    return Going(wait, max_wait_s, output, _usd(max_budget_usd), quiet)


def _usd(written: str | None) -> Decimal | None:
    if written is None:
        return None
    try:
        amount = Decimal(written)
    except ArithmeticError as e:
        raise UsageError(f"--max-budget-usd {written!r}: expected a number of USD") from e
    if not amount.is_finite() or amount < 0:
        raise UsageError(f"--max-budget-usd {written!r}: expected a number of USD, 0 or more")
    return amount
