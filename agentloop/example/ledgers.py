"""The shop's books: orders.csv and analytics/visits.csv, with the mess that such files have."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from random import Random

from agentloop.example.shop import (
    BREAKS,
    CATALOGUE,
    CENTS_PER_POUND_IN_ANALYTICS,
    FIRST_DAY,
    HELD_DAYS,
    LAST_DAY,
    MENDED,
    PRODUCTS,
    Customer,
    Order,
    Planted,
    customers,
    planted,
)

ORDER_COLUMNS = (
    "id",
    "date",
    "customer",
    "email",
    "country",
    "items",
    "sku",
    "total",
    "currency",
    "status",
    "carrier",
    "tracking",
)
VISIT_COLUMNS = ("date", "page", "source", "visits", "bounces", "orders", "revenue")

_ORDERS_A_DAY = (26, 18, 17, 18, 17, 18, 22)
"""Monday to Sunday: the newsletter goes out on Sunday evening."""
_HOUR_WEIGHTS = (1, 0, 0, 0, 0, 1, 2, 4, 7, 9, 10, 10, 9, 8, 8, 8, 8, 8, 9, 11, 13, 12, 7, 3)
_PAGES = (
    ("/", 90),
    ("/shop", 60),
    ("/sunday-mending-box", 75),
    ("/darning", 40),
    ("/thread", 25),
    ("/journal/how-to-darn-an-elbow", 70),
    ("/checkout", 30),
    ("/returns-policy", 8),
)
_SOURCES = (("search", 40), ("direct", 25), ("newsletter", 20), ("social", 15))


def orders(rng: Random) -> tuple[tuple[Order, ...], dict[str, Order]]:
    """Every order in the order of time, and those of the story by their label."""
    people = customers(rng)
    number, made, story = 2_376_300, [], {}
    for day in _days():
        ours = [p for p in planted() if p.at.date() == day]
        for plan in sorted([*_ordinary(rng, day, people), *ours], key=lambda p: p.at):
            number += rng.randrange(1, 4)
            order = _order(rng, f"W{number}", plan)
            made.append(order)
            if plan.label:
                story[plan.label] = order
    return tuple(made), story


def _days() -> Iterator[date]:
    return (FIRST_DAY + timedelta(n) for n in range((LAST_DAY - FIRST_DAY).days + 1))


def _ordinary(rng: Random, day: date, people: Sequence[Customer]) -> Iterator[Planted]:
    """A day's orders as they come by themselves."""
    for _ in range(_ORDERS_A_DAY[day.weekday()] + rng.randrange(-4, 5)):
        customer = rng.choice(people)
        (hour,) = rng.choices(range(24), _HOUR_WEIGHTS)
        at = datetime.combine(day, time(hour, rng.randrange(60), rng.randrange(60)))
        plan = Planted("", at, customer, _basket(rng), _status(rng, day), _carrier(rng, customer))
        if not _breaks(plan):
            yield plan
        elif rng.random() < 0.45:  # the others see that the postage cannot be worked out, and leave without paying
            yield plan._replace(status="pending", carrier="")


def _breaks(plan: Planted) -> bool:
    return BREAKS < plan.at < MENDED and plan.customer.country not in ("IE", "GB")


def _basket(rng: Random) -> tuple[tuple[int, str], ...]:
    kinds = rng.choices((1, 2, 3), (70, 23, 7))[0]
    skus = dict.fromkeys(p.sku for p in rng.choices(PRODUCTS, [p.weight for p in PRODUCTS], k=kinds))
    return tuple((rng.choices((1, 2, 3), (88, 9, 3))[0], sku) for sku in skus)


def _status(rng: Random, day: date) -> str:
    age = (LAST_DAY - day).days
    if age == 0:
        return "paid"
    if age <= 2:
        return rng.choices(("paid", "packed", "shipped"), (3, 4, 3) if age == 1 else (0, 2, 8))[0]
    if age <= 7:
        return "delivered" if rng.random() < 0.12 * age else "shipped"
    return rng.choices(("delivered", "refunded", "cancelled"), (94, 3, 3))[0]


def _carrier(rng: Random, customer: Customer) -> str:
    return "Harrow Post" if customer.country in ("IE", "GB") or rng.random() < 0.4 else "Gannet Parcels"


def _order(rng: Random, number: str, plan: Planted) -> Order:
    status = "shipped" if plan.carrier == "Gannet Parcels" and plan.at.date() in HELD_DAYS else plan.status
    sent = status in ("shipped", "delivered", "refunded")
    digits = rng.randrange(1_000_000, 9_999_999)
    tracking = (f"GP-{digits}" if plan.carrier == "Gannet Parcels" else f"HP{digits}IE") if sent else ""
    return Order(number, plan.at, plan.customer, plan.basket, status, plan.carrier if sent else "", tracking)


def held(all_orders: Iterable[Order]) -> tuple[Order, ...]:
    """The orders whose parcels lie in the flooded depot."""
    return tuple(o for o in all_orders if o.carrier == "Gannet Parcels" and o.at.date() in HELD_DAYS)


def orders_csv(rng: Random, all_orders: Sequence[Order]) -> str:
    """The orders as the shop's export gives them: repeats, broken rows, two ways to write a date, stray spaces."""
    rows = [_messy(rng, order) for order in all_orders]
    for _ in range(16):
        at = rng.randrange(40, len(rows) - 120)
        rows.insert(at + rng.randrange(1, 5), rows[at])
    for at, row in zip((204, 611, 902, 1177, 1430, 1588), _broken_rows(), strict=True):
        rows.insert(at, row)
    return "\n".join([",".join(ORDER_COLUMNS), *rows]) + "\n"


def _messy(rng: Random, order: Order) -> str:
    day = order.at.strftime("%d/%m/%Y" if rng.random() < 0.12 else "%Y-%m-%d")
    items = "; ".join(f"{n} x {CATALOGUE[sku].name}" for n, sku in order.basket)
    skus = ";".join(sku for _, sku in order.basket)
    c = order.customer
    total = f"{order.cents // 100}.{order.cents % 100:02d}"
    cells = [order.id, day, c.name, c.email, c.country, items, skus, total, order.currency, order.status, order.carrier]
    cells.append(order.tracking)
    if rng.random() < 0.05:
        spot = rng.choice((2, 7, 9))
        cells[spot] = rng.choice((f" {cells[spot]}", f"{cells[spot]} ", f"  {cells[spot]} "))
    return ",".join(f'"{cell}"' if "," in cell else cell for cell in cells)


def _broken_rows() -> tuple[str, ...]:
    return (
        "W2376711,2026-08-28,Orla Keane",
        ",".join(ORDER_COLUMNS),
        "W2377508,2026-10-01,Wim Faber,wim.faber@post.example.com,NL,1 x Darning mushroom, beech,DRN-01,18.50,EUR,delivered,,",
        "-- export resumed after timeout --",
        'W2378590,2026-10-28,"Rosa Prior,rosa.prior@example.com,ES,1 x Thread snips,SNP-01,14.00,EUR,delivered,Harrow Post,HP1',
        "W2378902,2026-11-06,,,,,,,",
    )


def visits_csv(rng: Random, all_orders: Iterable[Order]) -> str:
    """Visits by day, page and source. Orders and revenue are those that were confirmed, so a broken checkout shows."""
    confirmed: dict[date, list[Order]] = {}
    for order in all_orders:
        if order.status != "pending":
            confirmed.setdefault(order.at.date(), []).append(order)
    lines = [",".join(VISIT_COLUMNS)]
    for day in _days():
        lines += visits(rng, day, confirmed.get(day, []))
    for at in (433, 1290, 2017):
        lines.insert(at, lines[at - 1])
    lines.insert(2500, "# sampling on, collector restarted")
    return "\n".join(lines) + "\n"


def visits(rng: Random, day: date, confirmed: Sequence[Order]) -> Iterator[str]:
    """One day's rows of the analytics."""
    spots = [(page, source) for page, _ in _PAGES for source, _ in _SOURCES]
    weights = [p * s for _, p in _PAGES for _, s in _SOURCES]
    landed = rng.choices(spots, weights, k=len(confirmed))
    shown = day.isoformat()
    for (page, source), weight in zip(spots, weights, strict=True):
        visits = max(1, weight * rng.randrange(75, 126) * (130 if day.weekday() == 0 else 100) // 90_000)
        bounces = visits * rng.randrange(*_bounce_percent(page, day)) // 100
        here = [o for o, spot in zip(confirmed, landed, strict=True) if spot == (page, source)]
        cents = sum(map(_euro_cents, here))
        yield f"{shown},{page},{source},{visits},{bounces},{len(here)},{cents // 100}.{cents % 100:02d}"


def _bounce_percent(page: str, day: date) -> tuple[int, int]:
    if page == "/checkout":
        return (64, 79) if day == BREAKS.date() else (14, 27)
    return (58, 76) if page.startswith("/journal") else (30, 49)


def _euro_cents(order: Order) -> int:
    return order.cents * CENTS_PER_POUND_IN_ANALYTICS // 100 if order.currency == "GBP" else order.cents
