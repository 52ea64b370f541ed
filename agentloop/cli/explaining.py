"""`explain`: why a turn cost what it did."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import click

from agentloop.carried import Lifetime
from agentloop.cli import render
from agentloop.cli.options import json_option, print_json, sessions_of, workspace_option
from agentloop.errors import UsageError
from agentloop.explain import Cut, Trim, TurnExplained
from agentloop.explain import explain as explained


@click.command()
@click.argument("session")
@click.option("--turn", type=click.IntRange(min=1), help="This turn only, in full.")
@json_option
@workspace_option
def explain(session: str, turn: int | None, as_json: bool, workspace: Path) -> None:
    """Why the turns of SESSION cost what they did: reads, writes, cuts, trims, and what broke the cache."""
    sessions = sessions_of(workspace)
    session_id = sessions.find(session)
    turns = explained(sessions.events(session_id))
    if not turns:
        raise UsageError(f"session '{session_id}' has no answered turn: there is nothing to explain")
    chosen = [t for t in turns if turn in (None, t.turn)]
    if not chosen:
        raise UsageError(f"turn {turn} was never answered; the session has turns 1 to {turns[-1].turn}")
    if as_json:
        print_json([t.model_dump(mode="json") for t in chosen])
    elif turn is not None:
        click.echo(render.safe("\n\n".join(_whole(t) for t in chosen)))
    else:
        click.echo(_overview(chosen))


def _overview(turns: Sequence[TurnExplained]) -> str:
    rows = [["turn", "USD", "read", "written", "fresh", "output", "why"]]
    rows += [[str(t.turn), render.usd(t.cost_usd), f"{t.usage.cache_read_input_tokens:,}", f"{_written(t):,}",
              f"{t.usage.input_tokens:,}", f"{t.usage.output_tokens:,}", _why(t)] for t in turns]  # fmt: skip
    cuts, trims = [t.cut for t in turns if t.cut], [trim for t in turns for trim in t.trims]
    saved_by_cuts = sum((c.saved_usd - (c.price_usd or 0) - c.asked_usd for c in cuts), Decimal(0))
    saved_by_trims = sum((t.saved_usd - t.asked_usd - t.recalls_usd for t in trims), Decimal(0))
    return (
        f"{render.table(rows, right=(0, 1, 2, 3, 4, 5))}\n\n"
        f"{len(cuts)} cuts saved {render.usd(saved_by_cuts)} USD net, {len(trims)} trims {render.usd(saved_by_trims)} USD net "
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
    if turn.leaves:
        spent = sum((leaf.spent_usd for leaf in turn.leaves), Decimal(0))
        parts.append(f"{len(turn.leaves)} leaves for {render.usd(spent)} USD besides")
    return "; ".join(parts)


def _whole(t: TurnExplained) -> str:
    kinds = t.cost_by_kind
    rows = [
        ["", "tokens", "USD"],
        ["fresh input", f"{t.usage.input_tokens:,}", render.usd(kinds["fresh"])],
        ["read", f"{t.usage.cache_read_input_tokens:,}", render.usd(kinds["read"])],
        ["written", f"{_written(t):,}", render.usd(kinds["written_5m"] + kinds["written_1h"])],
        ["output", f"{t.usage.output_tokens:,}", render.usd(kinds["output"])],
        *([["web searches", f"{t.usage.web_search_requests:,}", render.usd(kinds["fees"])]] if kinds["fees"] else []),
    ]
    gap = f", {t.gap_s:,.1f} s after the last request" if t.gap_s is not None else ""
    if t.cause == "cold" and t.kept_s is not None:
        gap += f", whose entries were to live for {t.kept_s:,} s"
    lines = [
        f"turn {t.turn}: {render.usd(t.cost_usd)} USD; {render.CAUSES[t.cause]}{gap}",
        render.table(rows, right=(1, 2)),
        _portions(t),
    ]
    lines += [f"{one.part}: {_life(one)} ({one.why})" for one in t.lifetimes]
    if t.rent_usd is not None:
        lines.append(f"rent since the last cut: {render.usd(t.rent_usd)} USD {t.decision}".rstrip())
    if t.cut is not None:
        lines.append(_cut(t.cut))
    lines += [_trim(trim) for trim in t.trims]
    lines += [f"besides: {render.CAUSES[a.cause]}, {render.usd(a.cost_usd)} USD{_because(a.decision)}" for a in t.besides]
    if t.leaves:
        spent = render.usd(sum((leaf.spent_usd for leaf in t.leaves), Decimal(0)))
        lines += [f"besides: its calls ran {len(t.leaves)} leaves for {spent} USD", render.leaves(t.leaves)]
    if t.broken is not None:
        lines.append(
            f"the cached prefix ends at {t.broken.where}, byte {t.broken.byte} ({t.broken.kind}):\n"
            f"   before: …{render.safe(t.broken.before)}\n   after:  …{render.safe(t.broken.after)}"
        )
    if t.cache_miss:
        why = " (a result that was shown once has given way to its facts, as it was to)" if t.gave_way else ""
        lines.append(f"the API says: {t.cache_miss}{why}")
    return "\n".join(lines)


def _because(decision: str) -> str:
    return f" ({decision})" if decision else ""


def _portions(turn: TurnExplained) -> str:
    rows = [["of the prompt", "tokens", "read", "written", "in full"]]
    rows += [[p.part, f"{p.tokens:,}", f"{p.read:,}", f"{p.written:,}", f"{p.fresh:,}"] for p in turn.portions]
    return render.table(rows, right=(1, 2, 3, 4))


def _life(lifetime: Lifetime) -> str:
    return "no entry asked for" if lifetime.ttl == "off" else f"asked to be kept for {lifetime.ttl}"


def _cut(cut: Cut) -> str:
    price = f" it cost {render.usd(cut.price_usd)} USD when it was made and" if cut.price_usd is not None else ""
    asked = f", asking the model for them cost {render.usd(cut.asked_usd)} USD" if cut.asked_usd else ""
    return (
        f"cut before this turn ({cut.reason}): {cut.removed_tokens:,} tokens left, {cut.segment_tokens:,} stand for them, "
        f"written by the {cut.written_by}{asked};{price} saved {render.usd(cut.saved_usd)} USD over the "
        f"{cut.turns_since} turns since"
    )


def _trim(trim: Trim) -> str:
    asked = f", asked for {render.usd(trim.asked_usd)} USD" if trim.asked_usd else ""
    instead = f"; a model was to be asked: {trim.why_not}" if trim.why_not else ""
    recalls = f"; {trim.recalls} recalls cost {render.usd(trim.recalls_usd)} USD" if trim.recalls else ""
    saved = f"saved {render.usd(trim.saved_usd)} USD"
    if trim.once_usd:
        saved = f"seen once: saves {render.usd(trim.saved_usd)} USD, after {render.usd(trim.once_usd)} for seeing it whole"
    return (
        f"trimmed {trim.tool} [{trim.handle}]: {trim.whole_tokens:,} → {trim.shown_tokens:,} tokens ({trim.left_out}), "
        f"facts: {trim.made_by}{asked}{instead}; {saved}{recalls}"
    )
