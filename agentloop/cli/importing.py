"""`import` and `rerun`: recorded sessions become session logs, and are played again under other policies."""

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from agentloop.adapters import model_table
from agentloop.adapters.model_table import Model
from agentloop.cli import render
from agentloop.cli.bills import report as print_bill
from agentloop.cli.explaining import explain as print_explanation
from agentloop.cli.options import here, json_option, print_json, sessions_of, workspace_option
from agentloop.core.costs import cost
from agentloop.crash_points import reached
from agentloop.errors import EXIT_CODES, UsageError
from agentloop.importers import Recording, read
from agentloop.importers.saved import recording as saved
from agentloop.policies import PRESETS, PolicySettings, Whole, preset
from agentloop.ports import SessionStore
from agentloop.reenact import reenact
from agentloop.report import Report
from agentloop.report import report as report_of
from agentloop.types.events import SessionEnded, SessionStarted
from agentloop.types.usage import Usage

POLICIES = tuple(PRESETS)
PLAYED = ("completed", "max_turns")
"""Outcomes of a recording that was played to its end."""


def playing_options(command: Any) -> Any:
    """How a recording is played."""
    for option in (
        click.option("--model", help="Priced as this model; the workspace's by default."),
        click.option("--gap-s", type=click.FloatRange(min=0), help="Seconds between requests; as recorded, or 10, by default."),
        click.option("--facts/--no-facts", default=None, help="Show large results as facts, or whole."),
        click.option("--http", "over_http", is_flag=True, help="Over a real port instead of in process."),
    ):
        command = option(command)
    return command


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--policy", type=click.Choice(POLICIES), default="never", show_default=True, help="Compaction.")
@click.option(
    "--explain/--no-explain", default=None, help="Print bill and explanation; by default where FILES hold one session."
)
@playing_options
@json_option
@workspace_option
def import_(
    files: tuple[Path, ...], policy: str, explain: bool | None, as_json: bool, workspace: Path, **how: Any
) -> None:  # fmt: skip
    """Make session logs of recordings: trace files, Anthropic messages, Claude Code transcripts."""
    sessions, table = sessions_of(workspace), model_table.chosen(here(workspace).settings.price_table)
    rows = []
    for recording in (r for path in files for r in read(path)):
        session_id = _id(recording.id)
        if not _free(session_id, sessions):
            place = sessions.location(session_id)
            raise UsageError(f"session '{session_id}' exists already; delete {place}, or import into another workspace")
        report = _played(recording, session_id, sessions, workspace, policy, **how)
        reached("import.played")
        used = _used(recording, table)
        rows.append(report.model_dump(mode="json") | {"left_out": recording.left_out, "recorded": used})
        if not as_json:
            _tell(report, recording, used, sessions.location(session_id))
            if explain and report.turns:
                _explain(session_id, workspace)
    if as_json:
        print_json(rows)
    elif explain is None and len(rows) == 1 and rows[0]["turns"]:
        _explain(rows[0]["session_id"], workspace)
    click.get_current_context().exit(max((_exit_code(row["outcome"]) for row in rows), default=0))


def _free(session_id: str, sessions: SessionStore) -> bool:
    """Whether there is no such session. What an import that died left of one is deleted: it is made again from the start."""
    if not sessions.exists(session_id):
        return True
    stream = sessions.stream(session_id)
    first = last = next(stream).body
    for event in stream:
        last = event.body
    imported = isinstance(first, SessionStarted) and first.played_by.startswith("recording:")
    if not imported or isinstance(last, SessionEnded):
        return False
    sessions.delete(session_id)
    reached("import.cleared")
    return True


@click.command()
@click.argument("session")
@click.option("--policy", type=click.Choice(POLICIES), multiple=True, default=("rent",), show_default=True)
@playing_options
@json_option
@workspace_option
def rerun(session: str, policy: tuple[str, ...], as_json: bool, workspace: Path, **how: Any) -> None:
    """Play SESSION again under other policies: the model by its recorded replies, the tools by their results."""
    sessions = sessions_of(workspace)
    session_id = sessions.find(session)
    recording = saved(sessions.events(session_id), sessions.blobs(session_id))
    rows = []
    for name in policy:
        again = sessions.new_id(
            f"{session_id[:40]}-{name}", recording.steps[0].at or report_of(sessions.stream(session_id)).started_at
        )
        rows.append((name, _played(recording, again, sessions, workspace, name, **how)))
    if as_json:
        print_json([{"policy": n, **r.model_dump(mode="json")} for n, r in rows])
        return
    table = [["policy", "session", "turns", "compactions", "USD", "of the plain loop"]]
    for name, r in rows:
        row = [name, r.session_id, str(r.turns), str(r.compactions), render.usd(r.cost_usd)]
        table.append([*row, _share_of_the_plain_loop(r) or "-"])
    click.echo(render.table(table, right=(2, 3, 4, 5)))


def _played(
    recording: Recording, session_id: str, sessions: SessionStore, workspace: Path, policy: str, *,
    model: str | None, gap_s: float | None, facts: bool | None, over_http: bool,
) -> Report:  # fmt: skip
    settings = here(workspace).settings
    models = model_table.chosen(settings.price_table)
    found = model_table.find(model or settings.model, models)
    with sessions.log(session_id) as log:
        reenact(
            recording,
            log,
            sessions.blobs(session_id),
            session_id=session_id,
            model=found.card.id,
            models=models,
            policies=_policies(policy, facts),
            gap_s=gap_s,
            over_http=over_http,
        )
        return report_of(log.events(), log=str(log.location))


def _policies(name: str, facts: bool | None) -> PolicySettings:
    """`never` shows what was recorded, whole; the others show facts, unless that is said otherwise."""
    chosen = preset(name)
    wanted = name != "never" if facts is None else facts
    return chosen if wanted else chosen.model_copy(update={"facts": Whole()})


def _id(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).replace("..", ".").strip("-.")[:100] or "imported"


def _used(recording: Recording, table: Mapping[str, Model]) -> dict[str, Any] | None:
    """What the source says was used when it was recorded, at the prices of the models it names."""
    if not recording.used:
        return None
    unknown = sorted({u.model for u in recording.used if u.model not in table})
    usage = sum((u.usage for u in recording.used), Usage())
    return {
        "replies": len(recording.used),
        "incomplete": sum(not u.complete for u in recording.used),
        "models": sorted({u.model for u in recording.used}),
        "usage": usage.model_dump(mode="json", exclude={"service_tier"}),
        "cost_usd": None if unknown else str(sum(cost(u.usage, table[u.model].card) for u in recording.used)),
    }


def _share_of_the_plain_loop(report: Report) -> str | None:
    """What it cost against the plain loop; None where that cost nothing, as when no request brought a reply."""
    plain = report.baselines.naive_usd if report.baselines else None
    return f"{report.cost_usd / plain:.1%}" if plain else None


def _exit_code(outcome: str) -> int:
    """A recording may end in the middle of a call; that is no failure."""
    return 0 if outcome in PLAYED else EXIT_CODES[outcome]


def _tell(report: Report, recording: Recording, used: dict[str, Any] | None, place: Path | str) -> None:
    share = f", {found} of the plain loop" if (found := _share_of_the_plain_loop(report)) else ""
    click.echo(f"{report.session_id}: {report.turns} turns, {render.usd(report.cost_usd)} USD as {report.model}{share}")
    if report.turns < len(recording.steps):
        why = render.safe(f"{report.outcome} ({report.detail})" if report.detail else report.outcome)
        click.echo(f"   ended after {report.turns} of {len(recording.steps)} replies: {why}")
    if report.outcome not in PLAYED:
        click.echo(f"   delete {place} to import it again")
    for what in recording.left_out:
        click.echo(f"   left out: {render.safe(what)}")
    if used is not None:
        click.echo(f"   not billed here: {render.safe(_in_words(used))}")


def _in_words(used: dict[str, Any]) -> str:
    u = used["usage"]
    written = u["ephemeral_5m_input_tokens"] + u["ephemeral_1h_input_tokens"]
    price = f", {render.usd(Decimal(used['cost_usd']))} USD" if used["cost_usd"] is not None else ""
    most = ", at least" if used["incomplete"] else ""
    return (
        f"what was used when it was recorded: {used['replies']} replies of {', '.join(used['models'])}, "
        f"{u['input_tokens']:,} fresh, {u['cache_read_input_tokens']:,} read, {written:,} written, "
        f"{u['output_tokens']:,} output{price}{most}"
    )


def _explain(session_id: str, workspace: Path) -> None:
    """The bill, and why each turn cost what it did."""
    click.echo()
    context = click.get_current_context()
    context.invoke(print_bill, session=(session_id,), turns=False, as_json=False, workspace=workspace)
    context.invoke(print_explanation, session=session_id, turn=None, as_json=False, workspace=workspace)
    click.echo(f"\nagentloop explain {session_id} --turn N: one turn in full")
