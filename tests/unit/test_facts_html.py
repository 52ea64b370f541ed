from agentloop.policies.facts.html_facts import readable
from tests.unit.facts_of import facts

PAGE = """<!DOCTYPE html><html><head><title>Shop &amp; Co</title><style>p { color: red }</style>
<script>if (a < b) { alert("<p>no</p>") }</script></head><body><!-- hidden -->
<h2>Scarves</h2><p>Warm   and <b>soft</b>.</p>
<ul><li>One<li>Two</ul>
<table><tr><th>Id</th><th>Price</th></tr><tr><td>S-1</td><td>12</td></tr></table>
<a href="/cart?x=1&amp;y=2">Cart</a> <a href="#top">Top</a> 3 < 4</body></html>"""


def test_a_page_is_read_as_its_reader_sees_it() -> None:
    assert readable(PAGE).split("\n") == [
        "Shop & Co",
        "## Scarves",
        "Warm and soft.",
        "One",
        "Two",
        "Id | Price",
        "S-1 | 12",
        "Cart (/cart?x=1&y=2) Top 3 < 4",
    ]


def test_of_a_large_page_the_headings_and_what_was_asked_about_are_shown_without_markup() -> None:
    rows = "".join(f"<tr><td>S-{n}</td><td>{n * 3} euros for a very warm scarf</td></tr>" for n in range(200))

    shown = facts(
        f"<html><body><h1>Scarves</h1><table>{rows}</table><h2>Delivery</h2><p>Slow.</p></body></html>", {"id": "S-142"}
    )

    assert {"# Scarves", "## Delivery", "S-142 | 426 euros for a very warm scarf"} <= set(shown)
    assert not any("<td>" in line for line in shown)
    assert "[markup and " in shown[-1]


def test_a_tag_that_never_ends_is_text() -> None:
    assert readable("<p>one <a href='x") == "one <a href='x"
