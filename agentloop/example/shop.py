"""Thimble & Rook, the invented shop: what it sells, to whom, and the orders that the story of the morning needs."""

from datetime import date, datetime
from random import Random
from typing import NamedTuple
from unicodedata import normalize

FIRST_DAY, LAST_DAY = date(2026, 8, 17), date(2026, 11, 16)

BREAKS = datetime(2026, 11, 16, 8, 12, 4)
"""The new postage table is loaded; its EU zones are spelled in another way, and every EU checkout fails."""
MENDED = datetime(2026, 11, 16, 22, 41, 31)
"""The old table is put back."""
HELD_SINCE = date(2026, 11, 11)
HELD_DAYS = (date(2026, 11, 9), date(2026, 11, 10))
"""Orders of these days that went with Gannet Parcels lie in a flooded depot."""

POUNDS_PER_EURO = 87
CENTS_PER_POUND_IN_ANALYTICS = 115


class Product(NamedTuple):
    """Something the shop sells."""

    sku: str
    name: str
    cents: int
    weight: int
    """How often it is bought."""


PRODUCTS = (
    Product("BOX-01", "The Sunday Mending Box", 6400, 14),
    Product("BOX-02", "The Pocket Mending Tin", 2400, 12),
    Product("DRN-01", "Darning mushroom, beech", 1850, 11),
    Product("DRN-02", "Darning egg, olive wood", 2200, 5),
    Product("LOM-01", "Small darning loom", 3400, 9),
    Product("THR-10", "Darning wool, ten skeins", 2700, 10),
    Product("THR-04", "Sashiko thread, four cones", 1900, 6),
    Product("NDL-01", "Darning needles, tin of nine", 950, 8),
    Product("NDL-02", "Sashiko needles, six", 800, 4),
    Product("SHR-01", "Tailor's shears, right hand", 5800, 5),
    Product("SHR-02", "Tailor's shears, left hand", 6100, 2),
    Product("SNP-01", "Thread snips", 1400, 6),
    Product("PAT-01", "Elbow patches, lambskin", 1600, 7),
    Product("PAT-02", "Iron-on denim patches", 1150, 5),
    Product("WAX-01", "Thread wax, pear shape", 650, 6),
    Product("BTN-01", "Corozo buttons, twelve", 1300, 4),
    Product("BTN-02", "Odd buttons, 100 g", 750, 5),
    Product("BOK-01", "A Book of Small Repairs", 2100, 6),
    Product("LMP-01", "Clip lamp for mending", 3900, 3),
)
CATALOGUE = {p.sku: p for p in PRODUCTS}

ZONES = {
    "IE": "DOM",
    "GB": "UK",
    "DE": "EU-1",
    "FR": "EU-1",
    "NL": "EU-1",
    "BE": "EU-1",
    "PT": "EU-2",
    "ES": "EU-2",
    "IT": "EU-2",
    "DK": "EU-2",
    "SE": "EU-2",
    "AT": "EU-2",
}
_COUNTRY_WEIGHTS = (13, 13, 18, 11, 9, 6, 5, 6, 6, 5, 5, 3)

_FIRST_NAMES = """
Aoife Bram Cara Dorte Elin Fergus Greta Hugo Imke Jonas Katrin Lorcan Maren Nuno Orla Piet Quentin Rosa
Sven Tilda Una Vera Wim Xenia Yara Zita Anselm Beatriz Cormac Delphine Emil Flora Gwen Henrik Ilse Joris Kea Leonor Mats
Nora
"""
_LAST_NAMES = """
Abbott Brandt Carvalho Doyle Ekberg Fennell Grau Hartigan Ibsen Jansen Keane Lindgren Moreau Nolan Oakes
Paulsen Quirke Ramsey Sandberg Tavares Ulrich Vance Winther Yarrow Zeller Ashby Bellamy Costello Dreyer Eriksen Faber
Guthrie Holloway Kerrigan Lacey Madigan Norling Prior Rossi Stroud
"""
_HOSTS = ("mail.example.com", "post.example.com", "example.com", "letters.example.com")


class Customer(NamedTuple):
    """Someone who buys."""

    name: str
    email: str
    country: str


class Order(NamedTuple):
    """One order, as the shop's books should have it."""

    id: str
    at: datetime
    customer: Customer
    basket: tuple[tuple[int, str], ...]
    """Pairs of quantity and sku."""
    status: str
    carrier: str = ""
    tracking: str = ""

    @property
    def currency(self) -> str:
        """Pounds for the United Kingdom, euros for everyone else."""
        return "GBP" if self.customer.country == "GB" else "EUR"

    @property
    def cents(self) -> int:
        """The total in the order's own currency."""
        euro_cents = sum(n * CATALOGUE[sku].cents for n, sku in self.basket)
        return euro_cents * POUNDS_PER_EURO // 100 if self.currency == "GBP" else euro_cents

    @property
    def zone(self) -> str:
        """The postage zone of the customer's country, spelled as in the old table."""
        return ZONES[self.customer.country]


class Planted(NamedTuple):
    """An order that a mail or a note speaks of."""

    label: str
    at: datetime
    customer: Customer
    basket: tuple[tuple[int, str], ...]
    status: str
    carrier: str = ""


_STORY = """
forgotten    | 2026-10-02T21:14:00 | Matthias Oberlin | AT | 1 LMP-01          | pending   |
refunded     | 2026-10-12T10:05:00 | Ruth Ashdown     | GB | 1 LMP-01 1 THR-04 | refunded  | Harrow Post
late_return  | 2026-10-22T18:40:00 | Fionnuala Breen  | IE | 1 BOX-01          | delivered | Harrow Post
left_hand    | 2026-10-24T09:12:00 | Saoirse Kinnane  | IE | 1 SHR-01          | delivered | Harrow Post
ten_skeins   | 2026-10-31T14:22:00 | Hanneke Vos      | NL | 1 BOX-01          | delivered | Harrow Post
cracked      | 2026-11-03T11:50:00 | Gethin Prosser   | GB | 1 DRN-01 1 NDL-01 | delivered | Harrow Post
held_birgit  | 2026-11-09T08:31:00 | Birgit Holm      | DK | 1 BOX-01          | shipped   | Gannet Parcels
held_tome    | 2026-11-09T15:07:00 | Tomé Rebelo      | PT | 2 THR-10          | shipped   | Gannet Parcels
held_odile   | 2026-11-10T12:44:00 | Odile Marchand   | FR | 1 LOM-01 1 WAX-01 | shipped   | Gannet Parcels
invoice      | 2026-11-10T16:02:00 | Atelier Quince   | BE | 6 BOX-02          | delivered | Harrow Post
address      | 2026-11-15T13:18:00 | Niamh Tolan      | IE | 1 BOX-01          | packed    |
cancel       | 2026-11-15T19:55:00 | Pia Lindqvist    | SE | 1 DRN-02          | paid      |
gift         | 2026-11-15T20:26:00 | Joana Serra      | ES | 1 BOX-02          | paid      |
charged      | 2026-11-16T09:41:17 | Linnea Dahlgren  | SE | 1 BOX-01          | pending   |
twice_first  | 2026-11-16T11:03:48 | Duarte Falcão    | PT | 1 LOM-01 1 THR-10 | pending   |
twice_second | 2026-11-16T11:09:22 | Duarte Falcão    | PT | 1 LOM-01 1 THR-10 | pending   |
angry        | 2026-11-16T13:27:05 | Klaus Wettering  | DE | 2 SHR-01          | pending   |
"""


def planted(story: str = _STORY) -> tuple[Planted, ...]:
    """The orders of a story, one line each; by default those of the first morning's."""
    return tuple(_plan(*(cell.strip() for cell in line.split("|"))) for line in story.strip().splitlines())


def _plan(label: str, at: str, name: str, country: str, basket: str, status: str, carrier: str) -> Planted:
    plain_name = normalize("NFKD", name.lower()).encode("ascii", "ignore").decode()
    customer = Customer(name, f"{plain_name.replace(' ', '.')}@mail.example.com", country)
    words = basket.split()
    pairs = tuple((int(n), sku) for n, sku in zip(words[::2], words[1::2], strict=True))
    return Planted(label, datetime.fromisoformat(at), customer, pairs, status, carrier)


def customers(rng: Random, many: int = 900) -> tuple[Customer, ...]:
    """People with names, addresses and countries; some share a name, as people do."""
    return tuple(_customer(rng) for _ in range(many))


def _customer(rng: Random) -> Customer:
    first, last = rng.choice(_FIRST_NAMES.split()), rng.choice(_LAST_NAMES.split())
    user = rng.choice((f"{first}.{last}", f"{first[0]}{last}", f"{first}{rng.randrange(10, 99)}")).lower()
    (country,) = rng.choices(tuple(ZONES), _COUNTRY_WEIGHTS)
    return Customer(f"{first} {last}", f"{user}@{rng.choice(_HOSTS)}", country)
