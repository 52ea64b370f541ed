"""`whatif`: the same sessions under other policies, models, lifetimes and gaps."""

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from agentloop.adapters import model_table
from agentloop.cli import render
from agentloop.cli.options import here, json_option, print_json, sessions_of, workspace_option
from agentloop.errors import UsageError
from agentloop.importers import Recording, read
from agentloop.importers.saved import recording as saved
from agentloop.ports import SessionStore
from agentloop.types.usage import ModelCard
from agentloop.whatif import chart
from agentloop.whatif.grid import Cell, Choice, Row, cells, totals
from agentloop.whatif.schedule import schedule

USUAL = "never,every_turn,keep_pairs,threshold:50000,rent"
UNKNOWN = (
    "what this cannot know: the trajectory is the recorded one, whatever the model would have done on another context; "
    "one model is priced throughout, also where another had taken over; no recall is asked for that was not; "
    "no wait is kept warm by pings; a session state is the engine's own, never the words a model would have written; "
    "need-recall sees exact values only; tokens are estimated."
)
T = TypeVar("T")


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="SESSION|FILE…")
@click.option("--policy", default=USUAL, show_default=True, help="Compaction policies, with commas.")
@click.option("--model", help="Models to price as, with commas; by default the session's own, or the workspace's.")
@click.option("--ttl", help="Cache lifetimes, with commas: 5m, 1h, auto; each policy's own choice by default.")
@click.option(
    "--gap", default="recorded", show_default=True,
    help="Gaps between requests, with commas: recorded, 10s, 7m, or a cycle such as 9*10s+58m30s (ten an hour); 30d at most.",
)  # fmt: skip
@click.option("--facts/--no-facts", default=None, help="Large results as facts, or whole; both by default.")
@click.option("--see-once", is_flag=True, help="Besides: large results whole in one request, as facts ever after.")
@click.option("--chart", "chart_file", type=click.Path(path_type=Path, dir_okay=False), help="Draw cost against turns (SVG).")
@json_option
@workspace_option
def whatif(
    what: tuple[str, ...], policy: str, model: str | None, ttl: str | None, gap: str, facts: bool | None,
    see_once: bool, chart_file: Path | None, as_json: bool, workspace: Path,
) -> None:  # fmt: skip
    """The bill and the need-recall of the same sessions under other policies, models, lifetimes and gaps, offline."""
    lifetimes = _listed(ttl, _ttl) if ttl else [None]
    shown = (False, True) if facts is None else (facts,)
    modes = [(f, False) for f in shown] + [(True, True)] * see_once
    choices = [Choice(p, f, t, once) for p in _listed(policy, str) for f, once in modes for t in lifetimes]
    for choice in choices:
        choice.settings()  # a name that is not known is refused before anything is played
    if chart_file is not None and not chart_file.absolute().parent.is_dir():
        raise UsageError(f"the folder of {chart_file} does not exist; make it first")
    settings = here(workspace).settings
    table = model_table.chosen(settings.price_table)
    own = settings.model
    asked = [model_table.find(name, table).card for name in _listed(model, str)] if model else None
    schedules = _listed(gap, schedule)
    found = []
    for one in _recordings(what, workspace):
        cards = asked or [model_table.find(one.model if one.model in table else own, table).card]
        if see_once:
            _warn_of_thinking(cards)
        found += [_kept(cell) for cell in cells(one, choices, cards, schedules)]
    rows = [kept.row for kept in found]
    if chart_file is not None:
        chart_file.write_text(_drawn(found), encoding="utf-8")
    if as_json:
        data = {
            "sessions": [r.model_dump(mode="json") for r in rows],
            "totals": [r.model_dump(mode="json") for r in totals(rows)],
        }
        print_json(data | {"unknown": UNKNOWN})
    else:
        click.echo("\n\n".join(_tables(totals(rows))))
        click.echo(f"\n{UNKNOWN}")


def _listed(text: str, of: Callable[[str], T]) -> list[T]:
    """The different values between commas. Raises UsageError where there are none."""
    names = [name for piece in text.split(",") if (name := piece.strip())]
    if not names:
        raise UsageError(f"'{text}' names nothing; values stand between commas")
    return [of(name) for name in dict.fromkeys(names)]


def _ttl(text: str) -> Any:
    if text not in ("5m", "1h", "auto"):
        raise UsageError(f"lifetime '{text}' is none that is known: expected 5m, 1h or auto")
    return text


def _recordings(what: Sequence[str], workspace: Path) -> Iterator[Recording]:
    """Files as they are; all else are sessions of the workspace."""
    sessions: SessionStore | None = None
    for name in what:
        if Path(name).is_file():
            yield from read(Path(name))
        else:
            sessions = sessions or sessions_of(workspace)
            session_id = sessions.find(name)
            yield _answered(saved(sessions.events(session_id), sessions.blobs(session_id)))


def _warn_of_thinking(cards: Sequence[ModelCard]) -> None:
    for card in cards:
        if card.checks_thinking_prefix:
            click.echo(f"warning: {card.id} checks what stands before its thinking: 'once whole' is played as facts", err=True)


def _answered(one: Recording) -> Recording:
    if not one.steps:
        raise UsageError(f"session '{one.id}' has no answered turn: there is nothing to play")
    for left_out in one.left_out:
        click.echo(f"warning: session '{one.id}' is played without {left_out}", err=True)
    return one


def _tables(rows: Sequence[Row]) -> Iterator[str]:
    head = ["policy", "facts", "USD", "of plain", "of automatic", "of optimum", "recall", "whole turns", "cuts"]
    for model, gap in dict.fromkeys((r.model, r.gap) for r in rows):
        these = [r for r in rows if (r.model, r.gap) == (model, gap)]
        first = these[0]
        turns = max(r.turns for r in these)
        title = f"{first.sessions} session{'s' * (first.sessions != 1)}, {turns:,} turns as {model}, gaps: {gap}"
        table = render.table([head, *map(_line, these)], right=range(2, len(head)))
        yield "\n".join([title, table, *map(_early, filter(_ended_early, these)), _references(these)])


def _ended_early(row: Row) -> bool:
    return row.ended_early > 0


def _early(row: Row) -> str:
    return (
        f"{_name(row)} {'with' if row.facts else 'without'} facts: {row.ended_early} of {row.sessions} did not come to the end "
        f"({row.turns:,} turns in all, the window was full): what was paid so far is held against nothing"
    )


def _name(row: Row) -> str:
    return row.policy + (f", {row.ttl}" if row.ttl else "")


def _line(row: Row) -> list[str]:
    shares = (row.ratio_to_naive, row.ratio_to_automatic_caching, row.ratio_to_optimum, row.need_recall, row.whole_turns)
    usd = render.usd(row.cost_usd)
    return [_name(row), _facts(row), usd, *map(_share, shares), str(row.compactions)]


def _facts(row: Row) -> str:
    return "once whole" if row.see_once else "yes" if row.facts else "no"


def _share(share: float | None) -> str:
    return f"{share:.3f}" if share is not None else "-"


def _references(rows: Sequence[Row]) -> str:
    """What the same trajectory costs at best, and in other hands."""
    by_facts = {r.facts: r for r in reversed(rows)}
    lines = [
        f"{'with' if facts else 'without'} facts: offline optimum {render.usd(row.optimum_usd)}, "
        f"free cutting {render.usd(row.floor_usd)}"
        for facts, row in sorted(by_facts.items())
    ]
    first = rows[0]
    hands = f"plain loop {render.usd(first.naive_usd)}, automatic caching {render.usd(first.automatic_caching_usd)}"
    return "\n".join([hands, *lines])


class _Kept(NamedTuple):
    """What is kept of a session that was played: not its views."""

    row: Row
    label: str
    cost_by_turn: tuple[Decimal, ...]


def _kept(cell: Cell) -> _Kept:
    return _Kept(cell.row, cell.choice.label, cell.cost_by_turn)


def _drawn(found: Sequence[_Kept]) -> str:
    """One chart for all: a curve for each line of the tables."""
    several = len({(c.row.model, c.row.gap) for c in found}) > 1
    costs: dict[str, list[tuple[Decimal, ...]]] = {}
    for kept in found:
        where = f" ({kept.row.model}, {kept.row.gap})" if several else ""
        costs.setdefault(kept.label + where, []).append(kept.cost_by_turn)
    sessions = len({c.row.session for c in found})
    title = f"{sessions} session{'s' * (sessions != 1)}: cost against turns"
    return chart.svg(title, [chart.curve(label, turns) for label, turns in costs.items()])
