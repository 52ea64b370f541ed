"""Bodies of sessions that nothing was measured on while it was built: German service, Chinese orders, sources of Python.

Each session reads large results and goes on to use values of what it had asked for, some turns later; now and then one that
it had not asked for. The same seed makes the same sessions.
"""

import json
import sysconfig
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from agentloop.adapters.model_table import models
from agentloop.importers import neutral
from agentloop.importers.recording import Recording
from agentloop.whatif.grid import Choice, cells, totals
from agentloop.whatif.schedule import schedule

SESSIONS, TURNS = 12, 60
STRAYED = (0.0, 0.1)
"""The share of uses that are of something else than what was asked for: what nobody can foresee is left to `recall`."""
MODEL = "claude-sonnet-4-6"


class Found(NamedTuple):
    """A large result, and the values in it that a later turn may use: those asked for, and all."""

    question: dict[str, Any]
    result: str
    wanted: list[str]
    others: list[str]


def german(random: Random) -> Found:
    """A page of a service desk, as JSON."""
    towns = ("Köln", "Görlitz", "Weißwasser", "Lübeck", "Nürnberg", "Saarbrücken", "Zwickau")
    rows = [
        {
            "vorgang": f"VG-{random.randint(100_000, 999_999)}",
            "kunde": f"{random.choice(('Jäger', 'Groß', 'Süß', 'Krämer', 'Böhm'))}-{random.randint(10, 99)}",
            "ort": random.choice(towns),
            "betrag": f"{random.randint(10, 9_999)},{random.randint(10, 99)} €",
            "vermerk": "Rückruf erbeten, die Lieferung war unvollständig; " * random.randint(0, 2),
        }
        for _ in range(60)
    ]
    asked = random.choice(rows)
    others = [row["vorgang"] for row in rows]
    wanted = [asked["vorgang"], asked["kunde"]]
    return Found({"suche": asked["kunde"]}, json.dumps({"treffer": rows}, ensure_ascii=False), wanted, others)


def chinese(random: Random) -> Found:
    """A table of orders."""
    goods = ("羊毛线", "缝衣针", "织补蘑菇", "剪刀", "纽扣")
    rows = [
        (
            f"DD{random.randint(10_000_000, 99_999_999)}",
            random.choice(goods),
            str(random.randint(1, 40)),
            f"SF{random.randint(10**9, 10**10 - 1)}",
        )
        for _ in range(120)
    ]
    asked = random.choice(rows)
    table = "\n".join(["订单号,商品,数量,运单号", *(",".join(row) for row in rows)])
    return Found({"查询": asked[0]}, table, [asked[0], asked[3]], [row[3] for row in rows])


def python(random: Random) -> Found:
    """A source file of the standard library, read whole."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(p for p in library.glob("*.py") if 8_000 < p.stat().st_size < 60_000)
    path = random.choice(files)
    text = path.read_text(encoding="utf-8", errors="replace")
    names = [
        line.split("(")[0].split()[-1].rstrip(":") for line in text.split("\n") if line.lstrip().startswith(("def ", "class "))
    ]
    shaped = sorted({n for n in names if "_" in n.strip("_") or any(c.isupper() for c in n[1:])})
    asked = random.choice(shaped) if shaped else path.name
    return Found({"path": path.name, "symbol": asked}, text, [asked], shaped or [asked])


BODIES: dict[str, Callable[[Random], Found]] = {"German service": german, "Chinese orders": chinese, "Python sources": python}


def session(kind: str, seed: int, strayed: float) -> Recording:
    """One generated session."""
    random = Random(f"{kind}{seed}")
    make = BODIES[kind]
    seen: list[Found] = []
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Arbeite die Liste ab. 处理清单。 Work through the list."}]
    for turn in range(TURNS):
        used = [_used(random, seen, strayed) for _ in range(2)] if seen else []
        if turn % 3 == 0:
            found = make(random)
            seen.append(found)
            name, given, result = "look_up", found.question, found.result
        else:
            name, given, result = "write_down", {"about": [u for u in used if u]}, "ok"
        call = {"type": "tool_use", "id": f"toolu_{turn}", "name": name, "input": given}
        messages.append({"role": "assistant", "content": [{"type": "text", "text": "→ " + ", ".join(used)}, call]})
        messages.append(
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"toolu_{turn}", "content": result}]}
        )
    messages.append({"role": "assistant", "content": [{"type": "text", "text": "Fertig. 完成。"}]})
    tools = [
        {"name": n, "description": f"{n}: see its name.", "input_schema": {"type": "object"}} for n in ("look_up", "write_down")
    ]
    data = {
        "id": f"{kind.split()[0].lower()}-{seed}",
        "system": "You work through lists.",
        "tools": tools,
        "messages": messages,
    }
    return neutral.recording(data, kind)


def _used(random: Random, seen: list[Found], strayed: float) -> str:
    """A value of something seen before, the newest most likely."""
    found = seen[-1 - min(len(seen) - 1, int(random.expovariate(0.4)))]
    return random.choice(found.others if random.random() < strayed else found.wanted)


def lines() -> Iterator[str]:
    """A Markdown table: each body under the settings as they ship."""
    card = models()[MODEL].card
    yield "| body | strays | policy | bill / plain loop | bill / automatic caching | need-recall | whole turns |"
    yield "|---|---|---|---|---|---|---|"
    for kind, strayed in product(BODIES, STRAYED):
        choices = [Choice("rent", False), Choice("rent", True)]
        recordings = [session(kind, seed, strayed) for seed in range(SESSIONS)]
        rows = [c.row for r in recordings for c in cells(r, choices, [card], [schedule("10s")])]
        for row in totals(rows):
            label = f"{row.policy}{' + facts' if row.facts else ''}"
            yield (
                f"| {kind} | {strayed:.0%} | {label} | {row.ratio_to_naive:.3f} | {row.ratio_to_automatic_caching:.3f} "
                f"| {row.need_recall or 0:.3f} | {row.whole_turns or 0:.3f} |"
            )


if __name__ == "__main__":
    print("\n".join(lines()))
