"""Thimble & Rook on a Tuesday morning: the folder that the Atlas example works in.

The same seed writes the same bytes, in every process and under every locale. The written texts (mails, pages, notes, the
task list) stand in `texts/`; the books and the log are made by `ledgers` and `shoplog`, and all of them speak of the same
orders.
"""

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from random import Random

from agentloop.example.ledgers import orders, orders_csv, visits_csv
from agentloop.example.shoplog import shop_log


def write_business(folder: Path, seed: int = 7) -> None:
    """Write the whole business into a folder, which is made where it is not there."""
    for path, text in business(seed).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode("utf-8"))
    (folder / "drafts").mkdir(exist_ok=True)


def business(seed: int = 7) -> dict[str, str]:
    """Every file of the business, by its path."""
    rng = Random(seed)
    all_orders, story = orders(rng)
    made = {
        "orders.csv": orders_csv(rng, all_orders),
        "analytics/visits.csv": visits_csv(rng, all_orders),
        "logs/shop.log": shop_log(rng, all_orders),
    }
    written = {path: text.format_map(story) for path, text in _texts(files("agentloop.example") / "texts")}
    return dict(sorted({**made, **written}.items()))


def _texts(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The written texts; an order stands in them as {label.id}, where the label is the one it has in `shop`."""
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.is_dir():
            yield from _texts(entry, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry.read_text(encoding="utf-8")
