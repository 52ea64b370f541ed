"""What facts cost and lose: recorded sessions with every large result cut by a facts policy, read directly.

No engine is needed: each large result is replaced by what the policy would have shown of it. Ratio is the tokens of the
large results afterwards over those before; need-recall is that of `needs.py` under a history that is never compacted.
Then text that is in no recording: sources of this repository and of the standard library, generated JSON, CSV and logs.
"""

import hashlib
import json
import os
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from agentloop.core import tokens
from agentloop.core.choices import FactsPolicy
from agentloop.policies.facts import ByKind, HeadTailMatches
from agentloop.types.blocks import Call
from tests.bench.traces import needs_module, sessions

POLICIES: dict[str, FactsPolicy] = {"by_kind": ByKind(), "head_tail_matches": HeadTailMatches()}


class Row(NamedTuple):
    """One recorded session under one policy."""

    source: str
    results: int
    before: int
    after: int
    most: float
    """The largest share that any one result kept."""
    met: int
    needs: int
    missed: tuple[tuple[str, str, str], ...]
    """Session, kind and value of each need that is no longer there."""


def rows(policy: str = "by_kind") -> list[Row]:
    """Every recorded session, on all processors, the longest first."""
    cases = sorted(sessions(), key=lambda case: -len(case[1]["messages"]))
    with ProcessPoolExecutor() as pool:
        return list(pool.map(partial(row, policy=policy), cases, chunksize=1))


def row(case: tuple[str, dict[str, Any]], policy: str) -> Row:
    """One session, its large results cut."""
    source, session = case
    needs = needs_module()
    messages, sizes = cut(session["messages"], POLICIES[policy])
    found = needs.needs(session, detail=True)
    kinds = {(n["turn"], n["value"]): n["kind"] for n in found}
    got = needs.recall(session, [messages[: 2 * t + 1] for t in range(len(messages) // 2)], found)
    missed = tuple((session["id"], kinds[n["turn"], n["value"]], n["value"]) for n in got["missing"])
    before, after = sum(b for b, _ in sizes), sum(a for _, a in sizes)
    met, wanted = got["counts"]["recall"]
    most = max((a / b for b, a in sizes), default=0.0)
    return Row(source, len(sizes), before, after, most, met, wanted, missed)


def cut(messages: Sequence[dict[str, Any]], policy: FactsPolicy) -> tuple[list[dict[str, Any]], list[tuple[int, int]]]:
    """The messages with every large result cut as the engine would; tokens of each before and after."""
    calls: dict[str, Call] = {}
    sizes: list[tuple[int, int]] = []

    def seen(block: dict[str, Any]) -> dict[str, Any]:
        if block["type"] == "tool_use":
            calls[block["id"]] = Call(block["id"], block["name"], block["input"])
        if block["type"] != "tool_result" or block.get("is_error"):
            return block
        shown, before, after = facts(policy, calls[block["tool_use_id"]], block["content"])
        if before > 1_000:
            sizes.append((before, after))
        return {**block, "content": shown}

    return [m if isinstance(m["content"], str) else {**m, "content": [seen(b) for b in m["content"]]} for m in messages], sizes


def facts(policy: FactsPolicy, call: Call, content: str) -> tuple[str, int, int]:
    """What is shown of a result, and its tokens before and after."""
    digest = hashlib.sha256(content.encode()).hexdigest()
    shown = policy.shown(call, content, "facts", digest, tokens.DEFAULT_FAMILY).content
    assert isinstance(shown, str)
    return shown, tokens.estimate(content), tokens.estimate(shown)


def lines(found: Sequence[Row]) -> Iterator[str]:
    """A Markdown table: by source, then in all; and what kinds of value are missed."""
    yield "| source | sessions | large results | tokens before | after | ratio | largest share | needs | need-recall | missed |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for source in [*sorted({r.source for r in found}), "all"]:
        own = [r for r in found if source in (r.source, "all")]
        before, after = sum(r.before for r in own), sum(r.after for r in own)
        met, needs = sum(r.met for r in own), sum(r.needs for r in own)
        most, results = max(r.most for r in own), sum(r.results for r in own)
        yield (
            f"| {source} | {len(own)} | {results:,} | {before:,} | {after:,} | {after / max(1, before):.3f} | {most:.3f} "
            f"| {needs:,} | {met / max(1, needs):.4f} | {needs - met} |"
        )
    kinds = Counter(kind for r in found for _, kind, _ in r.missed)
    yield "missed by kind: " + (", ".join(f"{kind} {n}" for kind, n in kinds.most_common()) or "none")


def other_text() -> Iterator[tuple[str, str]]:
    """Text that is in no recording, with a name."""
    root = Path(__file__).parents[2]
    for folder in ("core", "policies", "adapters", "engine", "emulator"):
        yield "sources of agentloop", "\n".join(p.read_text() for p in sorted((root / "agentloop" / folder).rglob("*.py")))
    library = Path(sysconfig.get_paths()["stdlib"])
    for name in ("argparse.py", "ast.py", "typing.py", "http/client.py", "json/decoder.py", "csv.py", "pathlib.py"):
        if (library / name).is_file():
            yield "standard library", (library / name).read_text()
    orders = [
        {
            "id": f"ORD-{7000 + n}",
            "email": f"buyer{n}@shop.example",
            "total": round(n * 7.31, 2),
            "lines": [{"sku": f"SK{n % 40:03}", "n": n % 5}],
        }
        for n in range(400)
    ]
    yield "JSON, indented", json.dumps({"page": 1, "orders": orders}, indent=2)
    yield "JSON, compact", json.dumps({"page": 1, "orders": orders})
    yield "JSON lines", "\n".join(map(json.dumps, orders))
    yield "CSV", "id,email,total\n" + "\n".join(f"{o['id']},{o['email']},{o['total']}" for o in orders)
    levels = ("INFO", "INFO", "INFO", "WARN", "INFO", "ERROR")
    times = [f"2026-01-0{1 + n // 900} {n % 24:02}:{n % 60:02}:07" for n in range(2_000)]
    jobs = [f"{levels[n * n % 211 % 6]} worker-{n % 7} job {n * 37} took {n % 90} ms" for n in range(2_000)]
    yield "log", "\n".join(map(" ".join, zip(times, jobs, strict=True)))
    rows = "".join(f"<tr><td><a href='/orders/{o['id']}'>{o['id']}</a></td><td>{o['email']}</td></tr>" for o in orders)
    yield "HTML", f"<html><head><style>td {{color: red}}</style></head><body><h1>Orders</h1><table>{rows}</table></body></html>"
    yield "Markdown", "\n\n".join(f"## Part {n}\n\n" + "The box was sent and came back again, slowly. " * 12 for n in range(60))


def other_lines(policy: FactsPolicy) -> Iterator[str]:
    """Tokens before and after of text that is in no recording, and the seconds that a megabyte of it takes."""
    yield "| text | tokens before | after | ratio | ms a megabyte |"
    yield "|---|---|---|---|---|"
    sums: dict[str, list[float]] = {}
    for name, text in other_text():
        _, before, after = facts(policy, Call("c", "read", {"path": "x"}), text)
        megabyte = text * (1_000_000 // len(text) + 1)
        start = time.perf_counter()
        facts(policy, Call("c", "read", {"path": "x"}), megabyte[:1_000_000])
        took = time.perf_counter() - start
        old = sums.get(name, [0.0] * 3)
        sums[name] = [old[0] + before, old[1] + after, max(old[2], took * 1_000)]
    for name, (size, left, ms) in sums.items():
        yield f"| {name} | {size:,.0f} | {left:,.0f} | {left / size:.3f} | {ms:.0f} |"


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "by_kind"
    everything = rows(chosen)
    print("\n".join(lines(everything)))
    if os.environ.get("MISSED"):
        print("\n".join(f"{kind:8} {value}   [{session}]" for r in everything for session, kind, value in r.missed))
    print("\n" + "\n".join(other_lines(POLICIES[chosen])))
