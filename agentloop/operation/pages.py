"""A run report as a page: Markdown that reads as text too. What models, tools and people wrote stands in it as it is and
does nothing: fenced, and without control characters."""

import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from agentloop.operation.reports import Effected, Faults, Money, RunReport, ToolUse, Waiting

TASK_CHARS = 2_000
TEXT_CHARS = 6_000
MOST_EFFECTS = 20
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_MARKS = re.compile(r"[\\`*\[\]<>|!#&]|\b_|_\b|(?<!\w)_")
_KINDS = {
    "fresh": "fresh input",
    "read": "read from the cache",
    "written_5m": "written to the cache, 5 minutes",
    "written_1h": "written to the cache, 1 hour",
    "output": "output",
    "fees": "web searches",
    "total": "total",
}


def markdown(report: RunReport) -> str:
    """The page."""
    took = report.ended_at - report.started_at
    parts = [
        f"# {_inline(report.session_id)}: {_inline(report.outcome)}",
        _inline(report.detail),
        f"**Next:** {_inline(report.next_step)}",
        *_waiting(report.waiting),
        *_unknown(report.effects),
        "## What it was to do",
        _fenced(report.task, TASK_CHARS),
        "## What it said last",
        _fenced(report.text, TEXT_CHARS) if report.text.strip() else "Nothing.",
        "## What it did",
        f"{_inline(report.agent)} on {_inline(report.model)}: {report.turns} turns, {report.compactions} compactions, from "
        f"{report.started_at:%Y-%m-%d %H:%M:%S} to {report.ended_at:%Y-%m-%d %H:%M:%S} UTC ({took.total_seconds():,.0f} s).",
        *_played(report),
        _tools(report.tools),
        *_effects(report.effects),
        "## What it cost",
        _money(report.money),
        *(f"- {_inline(u)}" for u in report.uncertain),
        "## What went wrong on the way",
        _faults(report.faults),
        f"Log: `{_inline(report.log)}`" if report.log else "",
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _played(report: RunReport) -> Iterator[str]:
    if report.played_by != "api":
        yield f"The model was played by {_inline(report.played_by)}: the words are not a model's."


def _waiting(calls: Sequence[Waiting]) -> Iterator[str]:
    if calls:
        yield "## Waits for your answer"
    for call in calls:
        yield f"**{_inline(call.tool)}** ({_inline(call.call_id)}): {_inline(call.reason)}"
        yield _fenced(call.input, TASK_CHARS)
        yield _fenced(f"{call.approve}\n{call.deny}", TASK_CHARS)


def _unknown(effects: Sequence[Effected]) -> Iterator[str]:
    unknown = [e for e in effects if e.outcome == "unknown"]
    if unknown:
        yield "## Check whether these happened"
        yield "Their outcome is unknown: the process ended, or gave up, while they ran. They are not repeated."
        yield _effected(unknown)


def _effects(effects: Sequence[Effected]) -> Iterator[str]:
    known = [e for e in effects if e.outcome != "unknown"]
    if known:
        yield "Calls that may have changed something:"
        yield _effected(known[:MOST_EFFECTS])
    if len(known) > MOST_EFFECTS:
        yield f"… and {len(known) - MOST_EFFECTS} more: report.json has all."


def _effected(effects: Sequence[Effected]) -> str:
    rows = [(e.outcome, e.tool, e.call_id, str(e.turn), f"{e.at:%Y-%m-%d %H:%M:%S}") for e in effects]
    return _table(("outcome", "tool", "call", "turn", "started (UTC)"), rows)


def _tools(tools: Sequence[ToolUse]) -> str:
    if not tools:
        return "No tool was called."
    rows = [(t.name, t.effect or "no such tool", str(t.calls), str(t.errors), str(t.unknown)) for t in tools]
    return _table(("tool", "effect", "calls", "errors", "outcome unknown"), rows)


def _money(money: Money) -> str:
    rows = [(_KINDS.get(k, k), _usd(v)) for k, v in money.by_kind.items() if v or k == "total"]
    if (b := money.baselines) is not None:
        rows += [
            ("the same with the plain loop", _usd(b.naive_usd)),
            ("the same with automatic caching", _usd(b.automatic_caching_usd)),
            ("the same with six pairs on every turn", _usd(b.every_turn_usd)),
        ]
    if money.at_risk_usd:
        rows.append(("not in the total: attempts that may have been billed, at most", _usd(money.at_risk_usd)))
    if money.budget_usd is not None and money.left_usd is not None:
        rows.append((f"left of the budget of {_usd(money.budget_usd)}", _usd(money.left_usd)))
    return _table(("", "USD"), rows)


def _faults(faults: Faults) -> str:
    if not faults.failed_attempts and not faults.resumed:
        return f"Nothing: {faults.attempts} requests, each answered at once."
    rows = [
        ("requests that were answered or failed", str(faults.attempts)),
        ("of these failed", str(faults.failed_attempts)),
        *((f"of these: {kind}", str(count)) for kind, count in sorted(faults.by_kind.items())),
        ("seconds of waiting in between", f"{faults.waited_s:,.1f}"),
        ("attempts that may have been billed unseen", str(faults.possibly_billed)),
        ("taken up again after an end", str(faults.resumed)),
    ]
    return _table(("", ""), rows)


def _usd(amount: Decimal) -> str:
    return f"{amount:,.4f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(c if c == "---" else _inline(c) for c in line) + " |" for line in lines)


def _inline(text: str) -> str:
    """Words in a line: nothing in them makes a link, a tag, a picture, a heading or another cell."""
    return _MARKS.sub(r"\\\g<0>", _plain(text).replace("\n", " ")).strip()


def _fenced(text: str, most: int) -> str:
    """Words as a block, behind a fence that is longer than any in them."""
    shown = _plain(text if len(text) <= most else f"{text[:most]}\n… ({len(text) - most:,} more characters in the log)")
    longest = max((len(m) for m in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{shown}\n{fence}"


def _plain(text: str) -> str:
    return _CONTROLS.sub(lambda m: f"\\u{ord(m.group()):04x}", text)
