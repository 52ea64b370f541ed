import re
from decimal import Decimal
from xml.etree import ElementTree

from agentloop.whatif.chart import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Curve, curve, svg

SVG = "{http://www.w3.org/2000/svg}"


def usd(*amounts: str) -> tuple[Decimal, ...]:
    return tuple(map(Decimal, amounts))


def points(line: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+),([\d.]+)", line.attrib["points"])]


def test_sessions_are_added_up_turn_by_turn() -> None:
    assert curve("rent", [usd("0.1", "0.2"), usd("1", "1", "1")]) == Curve("rent", usd("1.1", "2.3", "3.3"))


def test_the_chart_is_xml_with_axes_and_a_line_and_a_legend_for_each_curve() -> None:
    drawn = ElementTree.fromstring(svg("a < b", [Curve("never & so on", usd("1", "4")), Curve("rent", usd("1", "2", "3"))]))

    words = ["".join(t.itertext()) for t in drawn.iter(f"{SVG}text")]
    assert {"a < b", "turn", "USD so far", "never & so on: 4.0000 USD", "rent: 3.0000 USD"} <= set(words)
    dearest, other = (points(line) for line in drawn.iter(f"{SVG}polyline"))
    assert (len(dearest), len(other)) == (3, 4)
    assert other[-1][0] == WIDTH - RIGHT
    assert dearest[-1][1] == TOP
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT for x, y in dearest + other)


def test_costs_only_rise() -> None:
    (line,) = ElementTree.fromstring(svg("t", [Curve("c", usd("0.5", "0.7", "0.7", "9"))])).iter(f"{SVG}polyline")

    heights = [y for _, y in points(line)]
    assert heights == sorted(heights, reverse=True)


def test_the_same_figures_give_the_same_bytes() -> None:
    curves = [Curve(f"policy {i}", usd("0.1", str(i))) for i in range(1, 15)]

    assert svg("t", curves) == svg("t", list(reversed(curves)))


def test_nothing_to_draw_is_still_a_chart() -> None:
    assert ElementTree.fromstring(svg("t", [Curve("free", usd("0", "0"))])).tag == f"{SVG}svg"
    assert ElementTree.fromstring(svg("t", [])).tag == f"{SVG}svg"
