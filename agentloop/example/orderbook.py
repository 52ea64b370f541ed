"""orders.db: the orders as the shop's own software keeps them, without the mess of the export.

Only what a question brings is the same everywhere; the bytes of the file depend on the version of SQLite.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from agentloop.example.shop import PRODUCTS, Order

_TABLES = """
CREATE TABLE products (sku TEXT PRIMARY KEY, name TEXT NOT NULL, cents INTEGER NOT NULL);
CREATE TABLE orders (
  id TEXT PRIMARY KEY, placed_at TEXT NOT NULL, customer TEXT NOT NULL, email TEXT NOT NULL, country TEXT NOT NULL,
  cents INTEGER NOT NULL, currency TEXT NOT NULL, status TEXT NOT NULL, carrier TEXT NOT NULL, tracking TEXT NOT NULL
);
CREATE TABLE order_lines (
  order_id TEXT NOT NULL REFERENCES orders, line INTEGER NOT NULL, sku TEXT NOT NULL REFERENCES products,
  quantity INTEGER NOT NULL, PRIMARY KEY (order_id, line)
);
CREATE INDEX orders_by_time ON orders (placed_at);
CREATE INDEX orders_by_email ON orders (email);
CREATE VIEW order_list AS
  SELECT id, substr(placed_at, 1, 10) AS day, substr(placed_at, 12, 8) AS time, customer, email, country,
    (SELECT group_concat(item, '; ') FROM
      (SELECT quantity || ' x ' || sku AS item FROM order_lines WHERE order_id = orders.id ORDER BY line)) AS items,
    printf('%.2f', cents / 100.0) AS total, cents, currency, status, carrier, tracking
  FROM orders;
"""


def write_database(place: Path, all_orders: Sequence[Order]) -> None:
    """Write the database, which is not there yet."""
    with closing(sqlite3.connect(place)) as db, db:
        db.executescript(_TABLES)
        db.executemany("INSERT INTO products VALUES (?, ?, ?)", [(p.sku, p.name, p.cents) for p in PRODUCTS])
        add_orders(db, all_orders)


def add_orders(db: sqlite3.Connection, some: Sequence[Order]) -> None:
    """Add orders, in the order of time."""
    db.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [_row(order) for order in some])
    lines = [(o.id, line, sku, quantity) for o in some for line, (quantity, sku) in enumerate(o.basket, 1)]
    db.executemany("INSERT INTO order_lines VALUES (?, ?, ?, ?)", lines)


def _row(order: Order) -> tuple[str | int, ...]:
    who, sent = order.customer, (order.carrier, order.tracking)
    at = order.at.isoformat(sep=" ")
    return (order.id, at, who.name, who.email, who.country, order.cents, order.currency, order.status, *sent)
