"""What a person reads: bills, sessions, tables, as plain text that a terminal cannot be tricked by."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from agentloop.report import Report
from agentloop.types import blocks
from agentloop.types.base import compact
from agentloop.types.events import (
    Body,
    Compacted,
    Event,
    FellBack,
    InputGiven,
    ModelFailed,
    ModelReplied,
    SessionEnded,
    ToolFinished,
)
from agentloop.types.leaves import LeafRun

if TYPE_CHECKING:
    from agentloop.plan.history import Against

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What moves a terminal's cursor, ends a line or turns its direction."""
CAUSES = {
    "start": "the first request",
    "extends": "extended the cached request",
    "cut": "right after a compaction",
    "cold": "the cache had expired",
    "moved": "warm, yet nothing was read",
    "fallback": "another model had taken over",
    "summary": "asked for the session state",
    "extraction": "asked a cheap model for the facts of a result",
    "keepalive": "kept the cache warm while tools ran",
    "failed": "attempts that failed",
    "leaves": "leaves that it delegated to",
}


def safe(text: str) -> str:
    """Text of a model, a tool or a file: control characters are shown, not obeyed."""
    return _CONTROLS.sub(lambda m: f"\\x{code:02x}" if (code := ord(m.group())) < 0x100 else f"\\u{code:04x}", text)


def as_json(data: object) -> str:
    """One JSON document."""
    return "".join(json_pieces(data))


def json_pieces(data: object) -> Iterator[str]:
    """The same in many small pieces."""
    return map(safe_json, json.JSONEncoder(ensure_ascii=False, indent=2, default=str).iterencode(data))


def safe_json(text: str) -> str:
    """JSON text with such characters escaped: they can stand in its strings only."""
    return _CONTROLS.sub(lambda m: f"\\u{ord(m.group()):04x}", text)


def usd(amount: Decimal) -> str:
    """Dollars with four decimals."""
    return f"{amount:,.4f}"


def table(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns, two spaces apart; those in `right` are aligned to the right."""
    kept = [list(map(safe, row)) for row in rows]
    if not kept:
        return ""
    widths = [max(len(row[i]) for row in kept) for i in range(len(kept[0]))]
    lines = (
        "  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True)))
        for r in kept
    )
    return "\n".join(line.rstrip() for line in lines)


def bill(report: Report) -> str:
    """The bill, its conditions, and the same session in other hands."""
    u, kinds = report.usage, report.cost_by_kind
    rows = [
        ["", "tokens", "USD"],
        ["fresh input", f"{u.input_tokens:,}", usd(kinds["fresh"])],
        ["read from the cache", f"{u.cache_read_input_tokens:,}", usd(kinds["read"])],
        [
            "written to the cache",
            f"{u.ephemeral_5m_input_tokens + u.ephemeral_1h_input_tokens:,}",
            usd(kinds["written_5m"] + kinds["written_1h"]),
        ],
        ["output", f"{u.output_tokens:,}", usd(kinds["output"])],
        *([["web searches", f"{u.web_search_requests:,}", usd(kinds["fees"])]] if kinds["fees"] else []),
        *([[f"{len(report.leaves)} leaves", f"{_leaf_tokens(report):,}", usd(kinds["leaves"])]] if report.leaves else []),
        ["total", f"{u.prompt_tokens + u.output_tokens + _leaf_tokens(report):,}", usd(report.cost_usd)],
    ]
    parts = [_conditions(report), table(rows, right=(1, 2)), leaves(report.leaves), _others(report), *_warnings(report)]
    return safe("\n\n".join(p for p in parts if p))


def _leaf_tokens(report: Report) -> int:
    return sum(leaf.usage.all_tokens for leaf in report.leaves)


def leaves(found: Sequence[LeafRun]) -> str:
    """A line for each leaf."""
    rows = [["leaf", "kind", "model", "turns", "USD", "outcome"]]
    rows += [[one.session_id, one.kind, one.model, _turns(one), usd(one.spent_usd), one.outcome] for one in found]
    return table(rows, right=(3, 4)) if found else ""


def _turns(leaf: LeafRun) -> str:
    return f"{leaf.turns}, {leaf.batched} in batches" if leaf.batched else str(leaf.turns)


def _conditions(report: Report) -> str:
    failed = f", {report.failed_attempts} failed attempts" if report.failed_attempts else ""
    lines = [
        f"{safe(report.session_id)}: {report.outcome}" + (f" ({safe(report.detail)})" if report.detail else ""),
        f"{_models(report)}, {report.turns} turns{failed}, {report.tool_calls} tool calls ({report.tool_errors} errors), "
        f"{report.compactions} compactions",
        f"{report.trimmed_results} large results shown as facts: {report.trimmed_tokens:,} tokens spared (estimated)",
    ]
    if report.played_by != "api":
        lines.append(
            f"the model was played by {safe(report.played_by)}; tools, tokens and the cache account are real, the words are not"
        )
    return "\n".join(lines)


def _models(report: Report) -> str:
    """Who answered, and who before."""
    before = f" (before: {safe(', '.join(report.models_before))})" if report.models_before else ""
    return safe(report.model) + before


def _others(report: Report) -> str:
    if report.baselines is None:
        return ""
    b = report.baselines
    named = [
        ("the plain loop", b.naive_usd),
        ("automatic caching", b.automatic_caching_usd),
        ("six pairs on every turn", b.every_turn_usd),
    ]
    rows = [["the same session with", "USD", "this one cost"], *([n, usd(v), _share(report.cost_usd, v)] for n, v in named)]
    return table(rows, right=(1, 2))


def _share(cost: Decimal, of: Decimal) -> str:
    return f"{cost / of:.0%} of it" if of else "-"


def _warnings(report: Report) -> list[str]:
    found = []
    if report.at_risk_usd:
        found.append(f"not in the total: up to {usd(report.at_risk_usd)} USD for attempts whose usage nobody reported")
    found += [safe(u) for u in report.uncertain]
    found += [f"unknown outcome, please check: {safe(u)}" for u in report.unknown_outcomes]
    return found


def causes(report: Report) -> str:
    """The bill by cause."""
    rows = [["cause", "USD"], *([CAUSES[c], usd(v)] for c, v in report.cost_by_cause.items())]
    return table(rows, right=(1,))


def turns(report: Report) -> str:
    """A line for each billed attempt."""
    rows = [["turn", "fresh", "read", "written", "output", "USD", "why"]]
    for a in report.cost_by_turn:
        u = a.usage
        written = u.ephemeral_5m_input_tokens + u.ephemeral_1h_input_tokens
        why = "; ".join(filter(None, [CAUSES[a.cause], a.decision, a.cache_miss]))
        rows.append(
            [
                str(a.turn),
                f"{u.input_tokens:,}",
                f"{u.cache_read_input_tokens:,}",
                f"{written:,}",
                f"{u.output_tokens:,}",
                usd(a.cost_usd),
                why,
            ]
        )
    return table(rows, right=(0, 1, 2, 3, 4, 5))


def forecast(found: "Against") -> str:
    """The forecast before a session, and what came."""
    made, cost = found.forecast, found.forecast.cost_usd
    known = len(made.sessions)
    basis = f"{known} session{'s' if known > 1 else ''} before it" if known else "defaults, as there was none before it"
    where = "within the range" if found.within else "outside of the range"
    times = f", {found.of_expected:.2f} times what was expected" if found.of_expected is not None else ""
    return (
        f"{found.session_id} cost {usd(found.cost_usd)} USD in {found.turns} turns; the forecast from {basis} was "
        f"{usd(cost.expected)} ({usd(cost.low)} to {usd(cost.high)}): {where}{times}"
    )


def story(events: Iterable[Event]) -> str:
    """One session, readable."""
    return "\n".join(safe(line) for event in events for line in _lines(event.body))


def _lines(body: Body) -> list[str]:
    match body:
        case InputGiven(content=content, source=source):
            return ["", f"{source}: {safe(blocks.text_of(content))}"]
        case ModelReplied(turn=turn, purpose=purpose, reply=reply):
            name = {"summary": "session state", "extraction": "facts of a result", "keepalive": "cache kept warm"}.get(
                purpose, f"turn {turn}"
            )
            asked = [f"   → {c.name} {safe(compact(c.input).decode())[:160]}" for c in blocks.calls(reply.content)]
            return ["", f"{name}: {safe(blocks.text_of(reply.content))}", *asked]
        case ToolFinished(name=name, content=content, is_error=is_error, raw=raw, leaves=leaves):
            first = safe(blocks.result_text(content)).strip().partition("\n")[0][:160]
            cut = f" [facts of {raw.bytes:,} bytes, {raw.digest[:12]}]" if raw else ""
            ran = [f"      {leaf.session_id}: {leaf.outcome}, {usd(leaf.spent_usd)} USD" for leaf in leaves or ()]
            return [f"   {'✗' if is_error else '←'} {name}: {first}{cut}", *map(safe, ran)]
        case Compacted(keep_from=keep_from, decision=decision):
            return ["", f"── compaction: turns up to {keep_from} left the view ({safe(decision.reason)})"]
        case FellBack(detail=detail):
            return ["", f"── another model takes over: {safe(detail)}"]
        case ModelFailed(failure=failure):
            return [f"   ✗ {failure.error_type}: {safe(failure.message)}"]
        case SessionEnded(outcome=outcome, detail=detail):
            return ["", f"── {outcome}{': ' + safe(detail) if detail else ''}"]
        case _:
            return []
