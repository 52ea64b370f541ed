"""Thimble & Rook one morning later: what Atlas left on Tuesday, and what has happened since.

The people of the shop have done a day's work: mails were sent, orders confirmed and packed, a corrected postage table loaded.
New mails, orders and log lines have come, and Ines has written her decisions below the notes.
"""

import re
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from agentloop import mailbox
from agentloop.errors import ConfigError
from agentloop.example.business import SEED, write_files, written
from agentloop.example.ledgers import held, orders, visits
from agentloop.example.orderbook import add_orders
from agentloop.example.shop import LAST_DAY, Order, planted
from agentloop.example.shoplog import Line, next_day

HANDOVER = "notes/handover.md"
SENT_AT = datetime(2026, 11, 17, 9, 12, tzinfo=UTC)
RELOADED = datetime(2026, 11, 17, 20, 31, 10)
"""A corrected postage table is loaded, in which one country still points to a zone that there is not."""

_ORDERS = """
 | 2026-11-17T07:14:32 | Greta Sandberg    | DE | 1 BOX-01          | paid |
 | 2026-11-17T08:02:11 | Cormac Doyle      | IE | 1 NDL-01 1 WAX-01 | paid |
 | 2026-11-17T08:47:50 | Delphine Moreau   | FR | 1 LOM-01          | paid |
 | 2026-11-17T09:20:05 | Henrik Ibsen      | DK | 1 THR-10          | paid |
 | 2026-11-17T10:11:44 | Gwen Ashby        | GB | 1 BOX-02          | paid |
 | 2026-11-17T10:58:19 | Joris Jansen      | NL | 2 DRN-01          | paid |
 | 2026-11-17T11:31:02 | Beatriz Tavares   | PT | 1 BOX-01          | paid |
 | 2026-11-17T12:06:40 | Rosa Rossi        | IT | 1 BOK-01 1 NDL-01 | paid |
 | 2026-11-17T12:55:27 | Fergus Madigan    | IE | 1 PAT-01          | paid |
 | 2026-11-17T13:42:13 | Elin Ekberg       | SE | 1 THR-04 1 NDL-02 | paid |
 | 2026-11-17T15:09:58 | Anselm Brandt     | AT | 1 BOX-01          | paid |
 | 2026-11-17T16:33:21 | Flora Holloway    | GB | 1 SNP-01          | paid |
 | 2026-11-17T18:04:36 | Piet Faber        | BE | 1 LOM-01 1 THR-10 | paid |
 | 2026-11-17T19:27:09 | Katrin Grau       | DE | 2 BOX-02          | paid |
 | 2026-11-17T20:49:15 | Maren Winther     | DE | 1 DRN-02          | paid |
 | 2026-11-17T21:12:53 | Delphine Oakes    | FR | 1 BTN-02          | paid |
 | 2026-11-17T22:20:30 | Orla Keane        | IE | 1 BOX-01          | paid |
"""
_DONE = ("left_hand", "cracked", "address", "angry", "charged", "held_tome", "cancel")
"""Tasks of Ines and Bram that name one of these orders have been done."""

_GONE = "zone 'EU2' not in postage table; nothing charged"


_DATED = re.compile(r"^#.*(\b17(th)? (of )?November|\bNovember 17|2026-11-17)", re.MULTILINE)
"""How a page of the handover begins that Atlas wrote on its morning, as its prompt asks: `## Tuesday 17 November`."""

_NEEDED = ("tasks.md", "orders.db", "logs/shop.log", "analytics/visits.csv")
_ANOTHER = "delete that folder, or make another morning with 'agentloop run atlas'"


def write_next_day(folder: Path) -> None:
    """Write the next morning into a folder: the last one beside it that left its notes, moved on by a day.

    Raises ConfigError where there is none, or where it cannot be gone on from.
    """
    rng = Random(SEED + 1)
    all_orders, story = orders(Random(SEED))
    story["three_shears"] = next(o for o in all_orders if o.status == "paid" and (3, "SHR-01") in o.basket)
    morning = _last_morning(folder.parent)
    shutil.copytree(morning, folder, dirs_exist_ok=True)
    new_orders = _new_orders(all_orders)
    texts = written("overnight", story)
    _append(folder / HANDOVER, texts.pop("handover.md"))
    write_files(folder, texts)
    _send_drafts(folder, keep_back=story["angry"].customer.email)
    _tick(folder / "tasks.md", ["thread wax, WAX-01", "postage-2026-11.csv", *(story[label].id for label in _DONE)])
    try:
        with closing(sqlite3.connect(folder / "orders.db")) as db, db:
            _a_day_of_work(db, rng, story)
            add_orders(db, new_orders)
    except sqlite3.Error as e:
        raise ConfigError(f"{morning / 'orders.db'} cannot be gone on from: {e}; {_ANOTHER}") from e
    _append(folder / "logs/shop.log", next_day(rng, new_orders, held(all_orders), _the_second_swap()))
    _append(folder / "analytics/visits.csv", "\n".join(visits(rng, LAST_DAY + timedelta(days=1), new_orders)) + "\n")


def _last_morning(scenes: Path) -> Path:
    """The newest folder in which Atlas has left its notes under the day's date, and in which the day has not moved on yet."""
    newest_first = sorted(scenes.glob(f"[!.]*/{HANDOVER}"), key=lambda p: p.stat().st_mtime, reverse=True)
    morning = next((p.parents[1] for p in newest_first if _was_left(_text(p))), None)
    if morning is None:
        raise ConfigError("there is no finished morning of Atlas to go on from; 'agentloop run atlas' makes one")
    if gone := [name for name in _NEEDED if not (morning / name).is_file()]:
        raise ConfigError(f"{morning} cannot be gone on from, it has no {gone[0]}; {_ANOTHER}")
    _text(morning / "tasks.md")
    return morning


def _was_left(handover: str) -> bool:
    return _DATED.search(handover) is not None and "## Ines, Tuesday evening" not in handover


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{file} cannot be read: {e}; {_ANOTHER}") from e


def _new_orders(all_orders: Sequence[Order]) -> list[Order]:
    last = int(all_orders[-1].id[1:])
    plans = enumerate(planted(_ORDERS), 1)
    return [Order(f"W{last + 2 * n}", p.at, p.customer, p.basket, p.status) for n, p in plans]


def _append(file: Path, text: str) -> None:
    file.write_bytes(file.read_bytes() + text.encode("utf-8"))


def _send_drafts(folder: Path, keep_back: str) -> None:
    """Ines has sent the drafts, but for one whose customer she has called."""
    (folder / "outbox").mkdir(exist_ok=True)
    for draft in sorted((folder / "drafts").glob("*.eml")):
        data = draft.read_bytes()
        if keep_back not in mailbox.opened(data).to:
            sent = mailbox.sealed(data, f"<{draft.stem}@thimbleandrook.example.com>", SENT_AT)
            (folder / "outbox" / draft.name).write_bytes(sent)
        draft.unlink()


def _tick(tasks: Path, words: Sequence[str]) -> None:
    """Mark the open tasks as done that hold one of these words and are not for Atlas."""
    lines = tasks.read_text(encoding="utf-8").split("\n")
    done = [re.sub(r"^- \[ \] (?=\d+\. (Ines|Bram|Joss):)", "- [x] ", s) if any(w in s for w in words) else s for s in lines]
    tasks.write_bytes("\n".join(done).encode("utf-8"))


def _a_day_of_work(db: sqlite3.Connection, rng: Random, story: dict[str, Order]) -> None:
    """Ines confirms and refunds, Bram packs, Harrow Post delivers."""
    pending = [i for (i,) in db.execute("SELECT id FROM orders WHERE status = 'pending' AND placed_at >= ?", [str(LAST_DAY)])]
    overlooked, refunded = sorted(pending)[-3], story["twice_second"].id
    to_send = "status = 'packed' OR (status = 'paid' AND id NOT IN (?, ?))"
    waiting = [story["three_shears"].id, story["cancel"].id]
    for (order,) in db.execute(f"SELECT id FROM orders WHERE {to_send} ORDER BY id", waiting).fetchall():
        tracking = f"HP{rng.randrange(1_000_000, 9_999_999)}IE"
        db.execute(
            "UPDATE orders SET status = 'shipped', carrier = 'Harrow Post', tracking = ? WHERE id = ?", [tracking, order]
        )
    confirmed = [[i] for i in pending if i not in (overlooked, refunded)]
    db.executemany("UPDATE orders SET status = 'paid' WHERE id = ?", confirmed)
    db.execute("UPDATE orders SET status = 'refunded' WHERE id = ?", [refunded])
    db.execute("UPDATE orders SET status = 'cancelled' WHERE id = ?", [story["cancel"].id])
    late = "carrier = 'Harrow Post' AND status = 'shipped' AND placed_at < '2026-11-11'"
    arrived = [list(row) for row in db.execute(f"SELECT id FROM orders WHERE {late} ORDER BY id").fetchall()[:-2]]
    db.executemany("UPDATE orders SET status = 'delivered' WHERE id = ?", arrived)


def _the_second_swap() -> list[Line]:
    zones, after = "DOM,UK,EU-1,EU-2,WORLD", timedelta(seconds=1)
    failed = ((20, 44, 37, 40417), (20, 52, 2, 40418), (21, 33, 5, 77120), (22, 47, 50, 40933))
    quotes = [
        Line(RELOADED.replace(hour=h, minute=m, second=s), "ERROR", "checkout", f"cart=c-{cart} postage quote failed: {_GONE}")
        for h, m, s, cart in failed
    ]
    return [
        Line(RELOADED - 48 * after, "INFO", "admin", "user=joss uploaded postage-2026-11b.csv"),
        Line(RELOADED, "INFO", "postage", f"table reloaded file=postage-2026-11b.csv rows=48 zones={zones} (before: {zones})"),
        Line(
            RELOADED + after,
            "WARN",
            "postage",
            "1 country points to a zone that the table does not have: IT EU2; kept as it is",
        ),
        *quotes,
        Line(
            RELOADED + 334 * after,
            "INFO",
            "admin",
            "user=joss note='corrected table is in, tried Germany and France, both fine'",
        ),
    ]
