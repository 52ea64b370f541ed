"""`route`: which model takes which kind of step, and the evals that justify it."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, get_args

import click

from agentloop import purses
from agentloop.adapters import model_table, plugins
from agentloop.adapters.model_table import Model
from agentloop.adapters.system_clock import SystemClock
from agentloop.batch_calls import BatchClient
from agentloop.batch_ends import asked, played
from agentloop.batch_life import Batches
from agentloop.cli import render
from agentloop.cli.options import Finite, here, json_option, print_json, sessions_of, workspace_option
from agentloop.errors import UsageError
from agentloop.ports import ModelClient
from agentloop.routing import accounts, cases, files, harvest, results
from agentloop.routing.asking import CaseBatches, Speaker
from agentloop.routing.evaluation import BATCH_CASES, Evaluation, Finding, Trial, written
from agentloop.routing.gate import DELTA, Standing
from agentloop.routing.switching import Step, switch
from agentloop.routing.table import OTHER, Effort, Row, Table
from agentloop.routing.verdict import Kept, evidence_of, row_after
from agentloop.stores import store_of
from agentloop.types.usage import ModelCard
from agentloop.workspace import Settings, configuration, redactor, user_file

_LOST_SHOWN = 5


@click.group()
def route() -> None:
    """Which model takes which kind of step, and the evals that justify it."""


@route.command()
@click.argument("kind", required=False)
@click.option("--older", is_flag=True, help="The table of the 4.x models, for comparison.")
@json_option
@workspace_option
def show(kind: str | None, older: bool, as_json: bool, workspace: Path) -> None:
    """The routing table, or the row that a KIND of step takes: model, effort, output tokens, reason and evidence."""
    here(workspace)
    path = files.OLDER if older else files.path_of(workspace)
    table = files.load(path)
    rows = {kind: table.row(kind)} if kind is not None else table.steps
    if as_json:
        print_json({"table": str(path), "steps": {k: r.model_dump(mode="json") for k, r in rows.items()}})
        return
    click.echo(f"{render.safe(str(path))}\n")
    shown = [["kind", "model", "effort", "output", "evidence", "reason"]]
    shown += [[k, r.model, r.effort or "", f"{r.max_tokens:,}", _evidence(r), r.reason] for k, r in rows.items()]
    click.echo(render.table(shown, right=(3,)))
    if kind is not None:
        _details(kind, rows[kind], table)


def _evidence(row: Row) -> str:
    e = row.evidence
    return "none" if e is None else f"{e.verdict}, n {e.n}, wealth {max(e.wealth, e.worse_wealth):.1f}, {e.day}"


def _details(kind: str, row: Row, table: Table) -> None:
    if kind not in table.steps:
        click.echo(f"\n'{kind}' has no row of its own: it takes '{OTHER}'")
    if row.fallback:
        click.echo(f"\nwhere the model is not available, or refuses: {', '.join(row.fallback)}")
    if (e := row.evidence) is not None:
        costs = [f"{n} {c:f} USD" for n, c in _per_solved(e.candidate, e.candidate_usd_per_solved, e.against,
                                                         e.against_usd_per_solved)]  # fmt: skip
        click.echo(f"\n{e.candidate} against {e.against}: won {e.wins}, lost {e.losses} of {e.n}; delta {e.delta:g}")
        click.echo(f"for each solved case: {', '.join(costs) or 'nothing was solved'}")


def _per_solved(*pairs: Any) -> list[tuple[str, Decimal]]:
    return [(name, usd) for name, usd in zip(pairs[::2], pairs[1::2], strict=True) if usd is not None]


@route.command()
@click.option("--own", default="claude-sonnet-5-5", show_default=True, help="The model of the session.")
@click.option("--other", default="claude-haiku-5-5", show_default=True, help="The model of the step.")
@click.option("--cached", type=click.IntRange(min=0), required=True, help="Tokens that stand in the session's cache.")
@click.option("--new", type=click.IntRange(min=0), default=2_000, show_default=True, help="Tokens behind them.")
@click.option("--output", type=click.IntRange(min=0), default=500, show_default=True, help="Tokens of the answer.")
@click.option("--fresh", type=click.IntRange(min=0), default=3_000, show_default=True, help="Tokens of a sub-task's prompt.")
@json_option
@workspace_option
def price(own: str, other: str, cached: int, new: int, output: int, fresh: int, as_json: bool, workspace: Path) -> None:
    """What one step of a running session costs: to stay, to switch the model inside, to delegate it."""
    table = model_table.chosen(here(workspace).settings.price_table)
    cards = [model_table.find(name, table).card for name in (own, other)]
    ways = switch(Step(cached, new, output, fresh), *cards)
    if as_json:
        print_json({"ways": [w._asdict() for w in ways], "cheapest": ways.cheapest.name})
        return
    for way in ways:
        click.echo(way.line)
    click.echo(f"cheapest: {ways.cheapest.name}")


@route.command("harvest")
@click.argument("sessions", nargs=-1, required=True)
@click.option("--kind", required=True, help="The kind of step that the cases are of.")
@click.option("--judge", help="A model that grades free text; without it, an answer has to be the same.")
@workspace_option
def harvest_(sessions: tuple[str, ...], kind: str, judge: str | None, workspace: Path) -> None:
    """Make cases from saved SESSIONS: what the model saw, and the answer that was used.

    They go to evals/KIND.harvested.jsonl and count once a person has set "reviewed": true.
    """
    files.checked_kind(kind)
    if judge is not None:
        model_table.find(judge, model_table.chosen(here(workspace).settings.price_table))
    store, redact = sessions_of(workspace), redactor(os.environ)
    found = [
        case
        for session_id in dict.fromkeys(map(store.find, sessions))
        for case in harvest.cases(store.stream(session_id), store.blobs(session_id), kind, judge, redact)
    ]
    path = workspace / cases.FOLDER / f"{kind}.harvested.jsonl"
    known = cases.known_ids(workspace, kind)
    new = [case for case in found if case.id not in known]
    if new:
        _appended(path, "".join(cases.as_line(kind, case) for case in new))
    click.echo(f"{len(new)} new cases in {path}, {len(found) - len(new)} were there already; none counts before it is reviewed")


def _appended(path: Path, lines: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(lines)
    except OSError as e:
        raise UsageError(f"cases cannot be written to {path}: {e.strerror}") from e


@route.command("eval")
@click.argument("kind", required=False)
@click.option("--candidate", required=True, help="The cheaper model.")
@click.option("--against", help="The model it is held against; the one of the table by default.")
@click.option(
    "--effort", type=click.Choice(get_args(Effort)), help="Of the candidate; that of the row where it is the row's model."
)
@click.option("--delta", type=Finite(0, 1, min_open=True, max_open=True), default=DELTA, show_default=True,
              help="The margin: so much less often may the candidate be right.")  # fmt: skip
@click.option("--batch", is_flag=True, help="Ask in batches, at half price.")
@click.option("--batch-cases", type=click.IntRange(1, 10_000), default=BATCH_CASES, show_default=True, help="Of one batch.")
@click.option("--max-cost", default="1.00", show_default=True, help="USD of this run, at most.")
@click.option(
    "--playbook",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A script plays the models, offline; no table is written.",
)
@click.option("--base-url", help="Where the Messages API is.")
@click.option("--dry-run", is_flag=True, help="Write no table.")
@json_option
@workspace_option
@click.pass_context
def eval_(ctx: click.Context, /, kind: str | None, workspace: Path, as_json: bool, **flags: Any) -> None:
    """Let the evals decide whether CANDIDATE takes a KIND of step (all kinds without one), and write it into routing.toml.

    It stops as soon as the cheaper model is shown to be not worse by the margin (it takes the step) or worse (it gives it
    back); answers are kept, and never paid twice. A verdict of a playbook is shown and not written.
    """
    place = _place(workspace, flags)
    chosen = [files.checked_kind(kind)] if kind is not None else cases.kinds(workspace)
    if not chosen:
        raise UsageError(
            f"there are no evals in {workspace / cases.FOLDER}: write some, or 'agentloop route harvest' a session"
        )
    rows = [place.evaluated(name, flags) for name in chosen]
    if as_json:
        print_json(rows)
    else:
        click.echo("\n\n".join(_text(row) for row in rows))
    ctx.exit(3 if any(row["is_short"] for row in rows) else 0)


class _Place(NamedTuple):
    """A workspace, and who answers in it."""

    workspace: Path
    settings: Settings
    models: Mapping[str, Model]
    client: ModelClient
    batches: BatchClient
    played_by: str

    def evaluated(self, kind: str, flags: Mapping[str, Any]) -> dict[str, Any]:
        """Run the evals of a kind, and write what they decide."""
        evals = cases.load(self.workspace, kind)
        table = files.load(files.path_of(self.workspace))
        row, trial = table.row(kind), self._trial(table.row(kind), kind, flags)
        account, clock = kind if self.played_by == "api" else f"{kind}.{self.played_by}", SystemClock()
        logs = store_of(self.workspace, self.settings)
        purse = purses.purse(self.workspace, self.settings, logs, clock, accounts.ACCOUNT + account, accounts.JOB)
        with results.opened(self.workspace, account) as held:
            finding = Evaluation(
                trial, evals, held, self.client, clock, self._function, self._card,
                batches=CaseBatches(Batches(self.batches, clock.now, time.sleep), self._card),
                batch_cases=flags["batch_cases"] if flags["batch"] else 0,
                on_step=_progress(kind), purse=purse,
            ).run()  # fmt: skip
            kept = row_after(row, trial, finding, date.today())
            # what a script answers is no evidence about a model: nobody's steps are routed by it
            is_written = kept.changed and not flags["dry_run"] and self.played_by == "api"
            if is_written:
                files.put(self.workspace, kind, kept.row)
                if finding.verdict is not None:
                    held.add(written(finding))
        return _told(kind, trial, finding, kept, is_written, evals.unreviewed, self.played_by)

    def _trial(self, row: Row, kind: str, flags: Mapping[str, Any]) -> Trial:
        candidate, current = self._card(flags["candidate"]), self._card(row.model)
        against = self._card(flags["against"]) if flags["against"] else current
        if candidate.id == against.id:
            raise UsageError(f"'{kind}' goes to {current.id}, and so does the candidate: name another model with --against")
        if current.id not in (candidate.id, against.id):
            raise UsageError(
                f"'{kind}' goes to {current.id}: evidence about {candidate.id} and {against.id} says nothing about it\n"
                f"use --candidate MODEL --against {current.id}, or --candidate {current.id} --against MODEL"
            )
        most = _money(flags["max_cost"])
        cheap = _speaker(candidate, flags["effort"] or _effort(row, candidate, current), row)
        return Trial(cheap, _speaker(against, _effort(row, against, current), row), flags["delta"], most)

    def _card(self, name: str) -> ModelCard:
        return model_table.find(name, self.models).card_on(date.today())

    def _function(self, name: str) -> Callable[[str, Any], object]:
        return plugins.function(self.workspace / self.settings.tools, name)


def _effort(row: Row, card: ModelCard, current: ModelCard) -> str | None:
    """With which effort a model is asked: as the row says, or as it was asked when the row's evidence was found."""
    if card.id == current.id:
        return row.effort
    e = row.evidence
    known = {e.candidate: e.candidate_effort, e.against: e.against_effort} if e is not None else {}
    return known.get(card.id)


def _speaker(card: ModelCard, effort: str | None, row: Row) -> Speaker:
    return Speaker(card, effort if card.default_effort is not None else None, min(row.max_tokens, card.max_output_tokens))


def _place(workspace: Path, flags: Mapping[str, Any]) -> _Place:
    here(workspace)
    named = {"base_url": flags["base_url"]} if flags["base_url"] else {}
    settings = configuration(workspace, flags=named, environment=os.environ, user_file=user_file(os.environ)).settings
    models = model_table.chosen(settings.price_table)
    playbook = flags["playbook"]
    ends = asked(settings, models, os.environ) if playbook is None else played(playbook, models, SystemClock())
    return _Place(workspace, settings, models, ends.live(), ends.batches, "api" if flags["playbook"] is None else "script")


def _money(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except ArithmeticError as e:
        raise UsageError(f"--max-cost is expected to be USD, such as 2.50, found {text!r}") from e
    if not value.is_finite() or value < 0:
        raise UsageError(f"--max-cost is expected to be 0 or more USD, found {text!r}")
    return value


def _progress(kind: str) -> Callable[[Standing], None]:
    def tell(now: Standing) -> None:
        if sys.stderr.isatty():
            told = f"{kind}: {now.tally.n} pairs, not worse {now.not_worse:.2f}, worse {now.worse:.2f} (20 decides)"
            click.echo(f"\r{told}", err=True, nl=False)

    return tell


def _told(
    kind: str, trial: Trial, finding: Finding, kept: Kept, is_written: bool, unreviewed: int, played_by: str
) -> dict[str, Any]:
    tally, evidence = finding.standing.tally, evidence_of(trial, finding, date.today())
    lost = [s for s in finding.seen if s.pair < 0]
    return {
        "kind": kind,
        "played_by": played_by,
        "candidate": trial.candidate.card.id,
        "against": trial.against.card.id,
        "delta": trial.delta,
        "verdict": evidence.verdict,
        "model": kept.row.model,
        "written": is_written,
        "reason": kept.row.reason,
        "n": tally.n,
        "wins": tally.wins,
        "losses": tally.losses,
        "wealth": finding.standing.not_worse,
        "worse_wealth": finding.standing.worse,
        "candidate_usd_per_solved": evidence.candidate_usd_per_solved,
        "against_usd_per_solved": evidence.against_usd_per_solved,
        "requests": finding.asked,
        "reused": finding.reused,
        "cost_usd": finding.spent_usd,
        "at_risk_usd": finding.at_risk_usd,
        "unreviewed": unreviewed,
        "ungraded": finding.ungraded,
        "lost": [{"case": s.case.id, "answer": s.candidate.text[:200], "detail": s.candidate_grade.detail} for s in lost],
        "stopped": finding.stopped,
        "is_short": finding.is_short,
    }


def _text(row: dict[str, Any]) -> str:
    lines = [
        f"{row['kind']}: {row['candidate']} against {row['against']}, margin {row['delta']:g}: {row['verdict'].upper()}",
        f"{row['n']} pairs, won {row['wins']}, lost {row['losses']}; wealth {row['wealth']:.2f} that it is not worse, "
        f"{row['worse_wealth']:.2f} that it is (20 decides)",
        f"{row['requests']} requests for {row['cost_usd']:f} USD, {row['reused']} answers were there already",
        f"the step {'goes' if row['written'] else 'would go'} to {row['model']}"
        f" ({'' if row['written'] else 'not '}written to routing.toml): {row['reason']}",
    ]
    if row["played_by"] != "api":
        lines.append("a script played both models: this says nothing about any model")
    if row["unreviewed"]:
        lines.append(f"{row['unreviewed']} harvested cases are not reviewed and were left out")
    if row["ungraded"]:
        lines.append(f"{row['ungraded']} pairs were left out: the judge said neither PASS nor FAIL")
    lines += [f"lost {lost['case']}: {lost['detail']}" for lost in row["lost"][:_LOST_SHOWN]]
    if row["stopped"]:
        lines.append(row["stopped"])
    return "\n".join(map(render.safe, lines))
