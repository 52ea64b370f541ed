"""The page of the Sunday Mending Box, as the site serves it: navigation, tables, questions, and what buyers wrote."""

from datetime import timedelta
from html import escape
from importlib.resources import files
from random import Random

from agentloop.example.shop import CATALOGUE, LAST_DAY, PRODUCTS, customers

_PAGES = files("agentloop.example") / "pages"
_NEW_BATCH_DAYS = 30
"""Reviews that speak of ten skeins are no older than the batch that has ten."""


def product_page(rng: Random) -> str:
    """The whole page."""
    frame = (_PAGES / "sunday-mending-box.html").read_text(encoding="utf-8")
    texts = (_PAGES / "reviews.txt").read_text(encoding="utf-8").strip().split("\n")
    reviews = [_review(rng, number, text) for number, text in enumerate(texts, 1)]
    return frame.replace("<!-- reviews -->\n", "".join(reviews)).replace("<!-- others -->\n", _others())


def _review(rng: Random, number: int, line: str) -> str:
    stars, title, text = (part.strip() for part in line.split("|"))
    (who,) = customers(rng, 1)
    age = rng.randrange(1, _NEW_BATCH_DAYS if "ten skeins" in text else 420)
    day = LAST_DAY - timedelta(days=age)
    return f"""\
<article class="review" id="review-{number}" itemprop="review" itemscope itemtype="https://schema.example.com/Review">
  <h3 class="review-title" itemprop="name">{escape(title)}</h3>
  <p class="review-by"><span itemprop="author">{who.name.split()[0]}</span>, {who.country}, \
<time datetime="{day}">{day:%d/%m/%Y}</time>, <span class="stars" data-stars="{stars}">{stars} of 5</span></p>
  <p itemprop="reviewBody">{escape(text)}</p>
  <p class="review-foot"><button data-review="{number}">Was this of use?</button> {rng.randrange(0, 40)} say yes</p>
</article>
"""


def _others() -> str:
    box = CATALOGUE["BOX-01"]
    rows = [
        f'<tr><td>{p.sku}</td><td><a href="/shop/{p.sku.lower()}">{escape(p.name)}</a></td>'
        f"<td>{p.cents // 100}.{p.cents % 100:02d} EUR</td></tr>\n"
        for p in PRODUCTS
        if p is not box
    ]
    return "".join(rows)
