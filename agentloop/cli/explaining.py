"""`explain`: why a turn cost what it did."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import click

from agentloop.cli import render
from agentloop.cli.options import json_option, print_json, sessions_of, workspace_option
from agentloop.errors import UsageError
from agentloop.explain import TurnExplained
from agentloop.explain import explain as explained


@click.command()
@click.argument("session")
@click.option("--turn", type=click.IntRange(min=1), help="This turn only, in full.")
@json_option
@workspace_option
def explain(session: str, turn: int | None, as_json: bool, workspace: Path) -> None:
    """Why the turns of SESSION cost what they did: reads, writes, cuts, trims, and what broke the cache."""
    sessions = sessions_of(workspace)
    turns = explained(sessions.events(sessions.find(session)))
    chosen = [t for t in turns if turn in (None, t.turn)]
    if not chosen:
        raise UsageError(f"turn {turn} was never answered; the session has turns 1 to {turns[-1].turn if turns else 0}")
    if as_json:
        print_json([t.model_dump(mode="json") for t in chosen])
    elif turn is not None:
        click.echo("\n\n".join(_whole(t) for t in chosen))
    else:
        click.echo(_overview(chosen))


def _overview(turns: Sequence[TurnExplained]) -> str:
    rows = [["turn", "USD", "read", "written", "fresh", "output", "why"]]
    rows += [[str(t.turn), render.usd(t.cost_usd), f"{t.usage.cache_read_input_tokens:,}", f"{_written(t):,}",
              f"{t.usage.input_tokens:,}", f"{t.usage.output_tokens:,}", _why(t)] for t in turns]  # fmt: skip
    cuts, trims = [t.cut for t in turns if t.cut], [trim for t in turns for trim in t.trims]
    saved_by_cuts = sum((c.saved_usd - (c.price_usd or 0) for c in cuts), Decimal(0))
    saved_by_trims = sum((t.saved_usd for t in trims), Decimal(0))
    return (
        f"{render.table(rows, right=(0, 1, 2, 3, 4, 5))}\n\n"
        f"{len(cuts)} cuts saved {render.usd(saved_by_cuts)} USD net, {len(trims)} trims {render.usd(saved_by_trims)} USD "
        "(removed or spared tokens, priced as they would have been written and read)"
    )


def _written(turn: TurnExplained) -> int:
    return turn.usage.ephemeral_5m_input_tokens + turn.usage.ephemeral_1h_input_tokens


def _why(turn: TurnExplained) -> str:
    parts = [render.CAUSES[turn.cause]]
    if turn.cut is not None:
        parts.append(f"cut: {turn.cut.reason}")
    if turn.trims:
        spared = sum(t.whole_tokens - t.shown_tokens for t in turn.trims)
        parts.append(f"{len(turn.trims)} results trimmed, {spared:,} tokens spared")
    return "; ".join(parts)


def _whole(t: TurnExplained) -> str:
    c, kinds = t.carried, t.cost_by_kind
    rows = [
        ["", "tokens", "USD"],
        ["fresh input", f"{t.usage.input_tokens:,}", render.usd(kinds["fresh"])],
        ["read", f"{t.usage.cache_read_input_tokens:,}", render.usd(kinds["read"])],
        ["written", f"{_written(t):,}", render.usd(kinds["written_5m"] + kinds["written_1h"])],
        ["output", f"{t.usage.output_tokens:,}", render.usd(kinds["output"])],
        *([["web searches", f"{t.usage.web_search_requests:,}", render.usd(kinds["fees"])]] if kinds["fees"] else []),
    ]
    gap = f", {t.gap_s:,.1f} s after the last request" if t.gap_s is not None else ""
    lines = [
        f"turn {t.turn}: {render.usd(t.cost_usd)} USD; {render.CAUSES[t.cause]}{gap}",
        render.table(rows, right=(1, 2)),
        f"the prompt (estimated): tools and system {c.tools_and_system:,}, task {c.task:,}, session state {c.state:,}, "
        f"turns {c.turns:,}; new since the last request {c.new:,}",
    ]
    if t.rent_usd is not None:
        lines.append(f"rent since the last cut: {render.usd(t.rent_usd)} USD {t.decision}".rstrip())
    if t.cut is not None:
        lines.append(
            f"cut before this turn ({t.cut.reason}): {t.cut.removed_tokens:,} tokens left, {t.cut.segment_tokens:,} stand for "
            f"them; saved {render.usd(t.cut.saved_usd)} USD over the {t.cut.turns_since} turns since"
        )
    lines += [
        f"trimmed {trim.tool} [{trim.handle}]: {trim.whole_tokens:,} → {trim.shown_tokens:,} tokens ({trim.left_out}), "
        f"saved {render.usd(trim.saved_usd)} USD"
        for trim in t.trims
    ]
    if t.broken is not None:
        lines.append(
            f"the cached prefix ends at {t.broken.where}, byte {t.broken.byte} ({t.broken.kind}):\n"
            f"   before: …{render.safe(t.broken.before)}\n   after:  …{render.safe(t.broken.after)}"
        )
    if t.cache_miss:
        lines.append(f"the API says: {t.cache_miss}")
    return "\n".join(lines)
