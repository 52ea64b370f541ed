import json

from agentloop.types.tools import FactsSettings
from tests.unit.facts_of import NOTE, facts

ORDERS = [
    {"id": f"A-{1000 + n}", "total": n, "buyer": {"mail": f"b{n}@shop.example"}, "note": "as usual " * 9} for n in range(80)
]
PAGE = json.dumps({"page": 3, "orders": ORDERS}, indent=2)


def test_json_stays_json_with_its_structure_its_first_elements_and_how_many_are_left_out() -> None:
    shown = json.loads(facts(PAGE)[0])

    assert shown["page"] == 3
    assert shown["orders"][0]["id"] == "A-1000"
    assert shown["orders"][-1] == f"[… {80 - len(shown['orders']) + 1} more]"


def test_the_element_that_the_call_asked_about_is_shown() -> None:
    shown = json.loads(facts(PAGE, {"order": "A-1042"})[0])

    assert "A-1042" in [o["id"] for o in shown["orders"][:-1]]


def test_a_line_says_what_it_is_and_the_note_stands_outside() -> None:
    shown = facts(PAGE)

    assert shown[1] == "[object of 2 fields (orders: 80 elements)]"
    assert shown[-1] == f"[parts of {len(PAGE):,} characters of JSON {NOTE}"


def test_fields_that_the_tool_names_are_all_that_is_shown_of_each_element() -> None:
    shown = json.loads(facts(PAGE, settings=FactsSettings(fields=("orders.buyer.mail", "total")))[0])

    assert set(shown) == {"orders"}
    assert shown["orders"][1] == {"total": 1, "buyer": {"mail": "b1@shop.example"}}
    assert len(shown["orders"]) > 8


def test_where_the_named_fields_are_not_there_the_structure_is_shown() -> None:
    assert "orders" in json.loads(facts(PAGE, settings=FactsSettings(fields=("weight",)))[0])


def test_a_long_text_in_a_field_is_cut_at_a_word_and_says_so() -> None:
    text = json.dumps({"id": 7, "body": "one two three " * 500})

    body = json.loads(facts(text)[0])["body"]

    assert body.startswith("one two three one")
    assert body.endswith(" characters]")
    assert len(body.partition("[…")[0]) + int(body.rpartition("[… ")[2].split()[0]) == 7_000


def test_ids_that_are_left_out_stand_in_the_index() -> None:
    (index,) = [line for line in facts(PAGE) if line.startswith("[values left out")]

    assert "A-10" in index


def test_json_that_is_broken_is_treated_as_text() -> None:
    shown = facts(PAGE[:-1])

    assert shown[0] == "{"
    assert shown[-1].endswith(f"lines {NOTE}")


def test_json_lines_are_kept_whole_with_the_line_that_the_call_asked_about() -> None:
    lines = [json.dumps(o) for o in ORDERS]

    shown = facts("\n".join(lines), {"order": "A-1042"})

    assert shown[0] == lines[0]
    assert lines[42] in shown
    assert all(json.loads(line) for line in shown if line.startswith("{"))


def test_a_long_json_line_is_shown_by_its_structure() -> None:
    lines = [json.dumps({"id": n, "rows": list(range(300))}) for n in range(9)]

    first = json.loads(facts("\n".join(lines))[0])

    assert first["id"] == 0
    assert first["rows"][-1].endswith(" more]")
