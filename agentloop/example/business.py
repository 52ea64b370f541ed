"""Thimble & Rook on a Tuesday morning: the folder that the Atlas example works in.

The same seed writes the same files, in every process and under every locale (of the database, the same rows). The written
texts (mails, pages, notes, the task list) stand in `texts/`; the books and the log are made by `ledgers`, `orderbook` and
`shoplog`, and all of them speak of the same orders.
"""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from random import Random

from agentloop.example.ledgers import orders, orders_csv, visits_csv
from agentloop.example.mails import message
from agentloop.example.orderbook import write_database
from agentloop.example.page import product_page
from agentloop.example.shop import Order
from agentloop.example.shoplog import shop_log

SEED = 7
"""The playbooks are true of the business that this seed makes."""
_HERE = files("agentloop.example")


def write_business(folder: Path, seed: int = SEED) -> None:
    """Write the whole business into a folder, which is made where it is not there."""
    write_files(folder, business(seed))
    (folder / "drafts").mkdir(exist_ok=True)
    write_database(folder / "orders.db", orders(Random(seed))[0])


def write_files(folder: Path, made: Mapping[str, str]) -> None:
    """Write files by their paths, the same bytes on every system."""
    for path, text in made.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode("utf-8"))


def business(seed: int = SEED) -> dict[str, str]:
    """Every file of the business but the database, by its path."""
    rng = Random(seed)
    all_orders, story = orders(rng)
    made = {
        "exports/orders.csv": orders_csv(rng, all_orders),
        "analytics/visits.csv": visits_csv(rng, all_orders),
        "logs/shop.log": shop_log(rng, all_orders),
        "site/sunday-mending-box.html": product_page(Random(seed)),
    }
    return dict(sorted({**made, **written("texts", story)}.items()))


def written(folder: str, story: Mapping[str, Order]) -> dict[str, str]:
    """The texts of a folder, mails as `.eml`; an order stands in them as {label.id}, with the label that it has in `shop`."""
    texts = {path: text.format_map(story) for path, text in _texts(_HERE / folder)}
    attachments = dict(_texts(_HERE / "attached"))
    return dict(_as_it_lies_there(path, text, attachments) for path, text in texts.items())


def _as_it_lies_there(path: str, text: str, attachments: Mapping[str, str]) -> tuple[str, str]:
    if not path.startswith("inbox/"):
        return path, text
    name = path.removeprefix("inbox/").removesuffix(".txt")
    return f"inbox/{name}.eml", message(name, text, attachments)


def _texts(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.is_dir():
            yield from _texts(entry, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry.read_text(encoding="utf-8")
