"""The shop's log of the last three days: noise, the parcels that do not move, and a checkout that broke for a day."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple

from agentloop.example.ledgers import held
from agentloop.example.shop import BREAKS, HELD_SINCE, MENDED, Order

STARTS, ENDS = datetime(2026, 11, 14), datetime(2026, 11, 17, 5, 58)

_ZONES = "DOM,UK,EU-1,EU-2,WORLD"
_NEW_ZONES = "DOM,UK,EU1,EU2,WORLD"
_PAGES = """/ /shop /sunday-mending-box /darning /thread /journal/how-to-darn-an-elbow /returns-policy /cart
/shop?sort=price /img/box-open.webp /robots.txt /feed.xml"""
_TEMPLATES = "product.html listing.html journal.html home.html basket.html plain.html"
_LOCALES = "en-IE en-GB de-DE fr-FR nl-NL pt-PT es-ES it-IT da-DK sv-SE"
_BOTS = ("-", "-", "-", "-", "crawler/2.1", "feedfetch/0.9", "uptime/1.4")
_NETS = ("203.0.113", "198.51.100", "192.0.2")


class Span(NamedTuple):
    """From when to when."""

    starts: datetime
    ends: datetime


class Line(NamedTuple):
    """One line of the log."""

    at: datetime
    level: str
    part: str
    text: str

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%dT%H:%M:%S}Z {self.level:<5} {self.part:<8} {self.text}"


def shop_log(rng: Random, all_orders: Sequence[Order]) -> str:
    """The whole log, in the order of time."""
    recent = [o for o in all_orders if o.at >= STARTS]
    span = Span(STARTS, ENDS)
    lines = [
        *_requests(rng, span),
        *_housekeeping(rng, span),
        *_polls(rng, held(all_orders), span),
        *(line for order in recent for line in _checkout(rng, order)),
        *_abandoned(rng),
        *_the_swap(),
    ]
    lines += _details(Random(rng.getrandbits(32)), span)
    return _in_order(lines)


def next_day(rng: Random, new_orders: Sequence[Order], parcels: Sequence[Order], told: Sequence[Line]) -> str:
    """What a day more adds to the log: its noise, its orders, the parcels that still lie there, and what else is told."""
    span = Span(ENDS, ENDS + timedelta(days=1))
    noise = [*_requests(rng, span), *_housekeeping(rng, span), *_polls(rng, parcels, span), *_details(rng, span)]
    return _in_order([*noise, *(line for order in new_orders for line in _checkout(rng, order)), *told])


def _in_order(lines: Iterable[Line]) -> str:
    return "\n".join(map(str, sorted(lines, key=lambda line: line.at))) + "\n"


def _moments(rng: Random, low_s: int, high_s: int, span: Span) -> Iterator[datetime]:
    at = span.starts + timedelta(seconds=rng.randrange(low_s))
    while at < span.ends:
        yield at
        at += timedelta(seconds=rng.randrange(low_s, high_s))


def _requests(rng: Random, span: Span) -> Iterator[Line]:
    for at in _moments(rng, 12, 98, span):
        address = f"{rng.choice(_NETS)}.{rng.randrange(1, 255)}"
        path, agent = rng.choice(_PAGES.split()), rng.choice(_BOTS)
        status = rng.choices((200, 304, 404), (88, 10, 2))[0]
        yield Line(at, "INFO", "http", f"GET {path} {status} {rng.randrange(9, 320)}ms ip={address} agent={agent}")


def _details(rng: Random, span: Span) -> Iterator[Line]:
    """What the software tells of each page that it puts together: most of the log, and of use to nobody."""
    for at in _moments(rng, 4, 34, span):
        seen = f"visitor=v-{rng.randrange(16**8):08x} page={rng.choice(_PAGES.split())}"
        some, many, ms = rng.randrange(2, 31), rng.randrange(2_000, 91_000), rng.randrange(11, 240)
        part, what = rng.choice(
            (
                ("render", f"template={rng.choice(_TEMPLATES.split())} hit={some} miss={ms % 6} bytes={many}"),
                ("render", f"parse={some}ms queries={many % 14} total={ms}ms locale={rng.choice(_LOCALES.split())}"),
                (
                    "session",
                    f"seen={some} age={many % 1800}s consent={rng.choice(('all', 'none', 'some'))} basket={ms % 4} kept",
                ),
                ("assets", f"files={some} cached={ms % 28} bytes={many} etag={rng.randrange(16**10):010x}"),
            )
        )
        yield Line(at, "DEBUG", part, f"{seen} {what}")


def _housekeeping(rng: Random, span: Span) -> Iterator[Line]:
    for at in _moments(rng, 400, 1100, span):
        yield Line(at, "DEBUG", "cache", f"evicted {rng.randrange(3, 60)} entries, {rng.randrange(60, 97)}% full")
    for at in _moments(rng, 1700, 5200, span):
        yield Line(
            at, "WARN", "db", f"slow query {rng.randrange(510, 2300)}ms table={rng.choice(('orders', 'visits', 'stock'))}"
        )
    for at in _moments(rng, 3600, 3601, span):
        yield Line(at, "INFO", "stock", f"counted 19 skus, low: WAX-01={max(3, 14 - (at - STARTS).days * 4)} THR-10=21")
    for at in _moments(rng, 9000, 21000, span):
        yield Line(at, "WARN", "payment", f"gateway slow, answered after {rng.randrange(2100, 4900)}ms, retry not needed")
    for at in _moments(rng, 20000, 40000, span):
        yield Line(at, "ERROR", "feed", "price feed not delivered: remote closed connection; will try again in an hour")


def _polls(rng: Random, parcels: Sequence[Order], span: Span) -> Iterator[Line]:
    """Every six hours each parcel on its way is asked for; those in the depot answer the same each time."""
    rounds = range(5, int((span.ends - STARTS).total_seconds()) // 3600 + 1, 6)
    for hours in (h for h in rounds if STARTS + timedelta(hours=h) >= span.starts):
        at = STARTS + timedelta(hours=hours, minutes=rng.randrange(3))
        for order in parcels:
            at += timedelta(seconds=rng.randrange(1, 6))
            text = f"gannet {order.tracking} order={order.id} held at depot LOWMOOR since {HELD_SINCE} reason=FLOOD"
            yield Line(at, "WARN", "tracking", text)


def _checkout(rng: Random, order: Order) -> Iterator[Line]:
    payment = f"P-{rng.randrange(70_000, 99_999)}"
    paid = f"order={order.id} payment={payment} captured amount={order.cents / 100:.2f} {order.currency}"
    yield Line(order.at, "INFO", "payment", paid)
    at = order.at + timedelta(seconds=2)
    if order.status != "pending":
        yield Line(at, "INFO", "checkout", f"order={order.id} placed zone={order.zone} status=paid")
        yield Line(at + timedelta(seconds=3), "INFO", "mailer", f"confirmation sent order={order.id}")
        return
    for attempt in (1, 2, 3):
        yield Line(
            at, "ERROR", "checkout", f"order={order.id} zone '{order.zone}' not in postage table (attempt {attempt} of 3)"
        )
        at += timedelta(seconds=4 * attempt)
    kept = f"order={order.id} gave up, left as pending; payment {payment} stays captured; no confirmation sent"
    yield Line(at, "ERROR", "checkout", kept)


def _abandoned(rng: Random) -> Iterator[Line]:
    """Carts that saw the error before they paid: no order, no payment."""
    at = BREAKS + timedelta(seconds=rng.randrange(200, 500))
    while at < MENDED:
        zone = rng.choice(("EU-1", "EU-1", "EU-2"))
        cart = f"c-{rng.randrange(10_000, 99_999)}"
        yield Line(
            at, "ERROR", "checkout", f"cart={cart} postage quote failed: zone '{zone}' not in postage table; nothing charged"
        )
        at += timedelta(seconds=rng.randrange(500, 1800))


def _the_swap() -> Iterable[Line]:
    second = timedelta(seconds=1)
    return (
        Line(BREAKS - 40 * second, "INFO", "admin", "user=joss uploaded postage-2026-11.csv"),
        Line(
            BREAKS, "INFO", "postage", f"table reloaded file=postage-2026-11.csv rows=48 zones={_NEW_ZONES} (before: {_ZONES})"
        ),
        Line(BREAKS + second, "WARN", "postage", "10 countries point to zones that the table does not have; kept as they are"),
        Line(
            MENDED, "INFO", "postage", f"table reloaded file=postage-2026-08.csv rows=48 zones={_ZONES} (before: {_NEW_ZONES})"
        ),
        Line(
            MENDED + 20 * second, "INFO", "admin", "user=joss note='back on the old table, orders not repaired, look tomorrow'"
        ),
    )
