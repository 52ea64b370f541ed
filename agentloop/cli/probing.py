"""`probe`: what a model still knows of a session, behind its compactions and facts."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from agentloop import provider
from agentloop.adapters import model_table
from agentloop.adapters.system_clock import SystemClock
from agentloop.cli import render
from agentloop.cli.options import json_option, print_json, sessions_of, workspace_option
from agentloop.probe import ProbeReport, Question, Said, candidates, chosen
from agentloop.probe import probe as probed
from agentloop.probe.contexts import END, contexts
from agentloop.probe.reader import reader
from agentloop.workspace import configuration, user_file

_LOST_SHOWN = 10


@click.command()
@click.argument("session")
@click.option("--at", default=END, show_default=True, help="Where: at the 'end', behind the last 'cut', or before turn N.")
@click.option("--questions", "most", type=click.IntRange(min=1), default=20, show_default=True, help="So many, at most.")
@click.option("--list", "only_list", is_flag=True, help="Show the questions with their answers; ask nobody.")
@click.option("--model", help="Who is asked; the session's own model by default.")
@click.option("--provider", type=click.Choice(["scripted", "anthropic"]), help="'scripted': a reader without understanding.")
@click.option("--base-url", help="Where the Messages API is.")
@click.option("--max-budget-usd", help="USD, at most.")
@json_option
@workspace_option
@click.pass_context
def probe(
    ctx: click.Context, /, session: str, at: str, most: int, only_list: bool, as_json: bool, workspace: Path, **flags: Any
) -> None:
    """Ask about what SESSION no longer shows, on its compacted context and on the whole one, and compare.

    The answers stand in its log. Nothing is written to the session; what the questions cost is printed.
    """
    sessions = sessions_of(workspace)
    session_id = sessions.find(session)
    place = contexts(sessions.events(session_id), sessions.blobs(session_id), at)
    for left_out in place.recording.left_out:
        click.echo(f"warning: the whole context is without {left_out}", err=True)
    found = candidates(place)
    asked = chosen(found, most)
    if only_list:
        _list(asked, as_json)
        return
    settings = configuration(workspace, flags=flags, environment=os.environ, user_file=user_file(os.environ)).settings
    table = model_table.chosen(settings.price_table)
    card = model_table.find(flags["model"] or place.state.card.id, table).card_on(datetime.now(UTC).date())
    script = reader(asked)
    client = provider.client(settings, table, os.environ, SystemClock(), script)
    played_by = provider.played_by(settings, script)
    report = probed(place, asked, client, card, settings.max_budget_usd, played_by, len(found))
    print_json(report.model_dump(mode="json")) if as_json else click.echo(text(report))
    if report.stopped:
        click.echo(f"warning: {render.safe(report.stopped)}", err=True)
    ctx.exit(0 if not report.stopped else 3 if report.stopped.startswith("the budget") else 75)


def text(report: ProbeReport) -> str:
    """A probe, readable."""
    head = (
        f"{report.session_id} behind turn {report.turns}: {report.kept_from} turns had left the view; "
        f"{len(report.questions)} of {report.candidates} questions about what it no longer shows, asked of {report.model}"
    )
    if report.played_by != "api":
        head += f"\n{report.played_by} answered: it finds what stands there and understands nothing"
    rows = [["context", "tokens", "right", "share", "95 % interval", "exact", "calls", "USD"]]
    for name, score in (("full", report.full), ("compacted", report.compacted)):
        paid = report.paid[name]
        bounds = f"{score.low:.2f} to {score.high:.2f}"
        counts = [str(score.exact), str(score.called), render.usd(paid.cost_usd)]
        right = f"{score.right}/{score.asked}"
        rows.append([name, f"{paid.context_tokens:,}", right, f"{score.share:.2f}", bounds, *counts])
    d = report.difference
    kinds = [["about", "asked", "full", "compacted"], *([k, *map(str, c)] for k, c in report.by_kind.items())]
    lost = [r for r in report.questions if r.full.normalised and not r.compacted.normalised]
    lines = [
        f"lost, turn {r.turn}: {render.safe(r.question)} {render.safe(r.answer)} (said: {_shown(r.compacted)})"
        for r in lost[:_LOST_SHOWN]
    ]
    if len(lost) > _LOST_SHOWN:
        lines.append(f"and {len(lost) - _LOST_SHOWN} more (--json has all)")
    return "\n\n".join(
        part
        for part in (
            head,
            render.table(rows, right=(1, 2, 3, 5, 6, 7)),
            f"compacted less full: {d.value:+.2f} ({d.low:+.2f} to {d.high:+.2f}); {render.usd(report.cost_usd)} USD in all",
            render.table(kinds, right=(1, 2, 3)),
            "\n".join(lines),
        )
        if part
    )


def _shown(said: Said) -> str:
    words = " ".join(said.text.split())[:60]
    return render.safe(words or (f"called {said.called}" if said.called else "nothing"))


def _list(asked: Sequence[Question], as_json: bool) -> None:
    if as_json:
        print_json([{"kind": q.kind, "turn": q.turn + 1, "question": q.text, "answer": q.answer} for q in asked])
        return
    rows = [[q.kind, str(q.turn + 1), q.text, q.answer] for q in asked]
    click.echo(render.table([["about", "turn", "question", "answer"], *rows], right=(1,)))
