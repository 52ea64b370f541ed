import json
from typing import Any

import pytest

from agentloop.adapters.memory import MemoryBlobs
from agentloop.adapters.recall import recall_tool
from agentloop.result_text import MAX_CHARS, MAX_LINES, part

TEXT = "\n".join(["Order A-1042", "two scarves", "paid by card", "Order A-1043", "one Scarf, paid in cash"])


def test_lines_come_with_their_numbers() -> None:
    assert part(TEXT, None, 2, 3) == "2: two scarves\n3: paid by card"


def test_without_a_range_everything_comes() -> None:
    assert part("a\nb", None, None, None) == "1: a\n2: b"


def test_a_search_finds_lines_that_hold_all_the_words_in_any_order_and_case() -> None:
    assert part(TEXT, "PAID scarf", None, None) == "5: one Scarf, paid in cash"


def test_a_search_can_be_limited_to_a_range() -> None:
    assert part(TEXT, "order", 2, None) == "4: Order A-1043"


@pytest.mark.parametrize(("first", "last"), [(0, 1), (-5, 1), (None, 1)])
def test_a_range_that_starts_before_the_text_starts_with_it(first: int | None, last: int) -> None:
    assert part(TEXT, None, first, last) == "1: Order A-1042"


def test_a_range_that_ends_behind_the_text_ends_with_it() -> None:
    assert part(TEXT, None, 5, 500) == "5: one Scarf, paid in cash"


@pytest.mark.parametrize(
    ("search", "first", "last"), [("nothing like it", None, None), (None, 6, None), (None, 4, 2), (None, 1, -1)]
)
def test_where_no_line_matches_that_is_said(search: str | None, first: int | None, last: int | None) -> None:
    assert part(TEXT, search, first, last) == "[no line of 5 matches]"


def test_no_more_lines_come_than_the_limit_and_the_next_is_named() -> None:
    shown = part("\n".join("x" for _ in range(MAX_LINES + 50)), None, None, None).split("\n")

    assert len(shown) == MAX_LINES + 1
    assert shown[-1] == f"[50 more lines match; go on with first_line={MAX_LINES + 1}]"


def test_no_more_characters_come_than_the_limit() -> None:
    shown = part("\n".join("y" * 1_000 for _ in range(100)), None, None, None)

    assert len(shown) < MAX_CHARS + 100
    # "n: " and a thousand characters and a line end, 1,004 or 1,005 each: 23 of them fit into 24,000
    assert shown.endswith("[77 more lines match; go on with first_line=24]")


def test_going_on_where_the_last_part_ended_brings_every_line_once() -> None:
    text = "\n".join(f"line {n} " + "z" * 500 for n in range(300))
    seen: list[str] = []
    first: int | None = 1

    while first is not None:
        *lines, note = part(text, None, first, None).split("\n")
        first = int(note.partition("first_line=")[2].rstrip("]")) if note.startswith("[") else None
        seen += lines if first else [*lines, note]

    assert [line.partition(": ")[2] for line in seen] == text.split("\n")


def test_a_line_too_long_to_be_shown_is_cut_and_that_is_said() -> None:
    shown = part("w" * (MAX_CHARS + 6_000), None, None, None)

    assert shown == "1: " + "w" * (MAX_CHARS - 3) + "[… 6003 characters]"  # its number counts as part of it


def test_a_line_that_just_fits_is_shown_whole() -> None:
    assert part("w" * (MAX_CHARS - 3), None, None, None) == "1: " + "w" * (MAX_CHARS - 3)


@pytest.mark.parametrize(("second", "fits"), [(11_996, True), (11_997, False)])
def test_lines_come_as_long_as_they_fit_with_their_line_ends(second: int, fits: bool) -> None:
    first = "w" * 11_996  # with its number and its line end exactly half the limit

    assert ("more lines match" in part(f"{first}\n{'v' * second}", None, None, None)) is not fits


def test_the_tool_reads_a_result_by_its_handle() -> None:
    blobs = MemoryBlobs()
    handle = blobs.put(TEXT.encode() + b"\xff")[:12]

    assert recall_tool(blobs)(handle, search="cash") == "5: one Scarf, paid in cash\ufffd"


def test_an_unknown_handle_is_named() -> None:
    with pytest.raises(ValueError, match="no result with handle 'deadbeef0000' in this session"):
        recall_tool(MemoryBlobs())("deadbeef0000")


def test_the_tool_only_reads_and_its_answer_is_never_cut_to_facts() -> None:
    card = recall_tool(MemoryBlobs()).card

    assert (card.name, card.effect, card.facts) == ("recall", "read", "keep")


def test_every_parameter_of_the_tool_is_described() -> None:
    properties = recall_tool(MemoryBlobs()).definition["input_schema"]["properties"]

    assert set(properties) == {"handle", "search", "first_line", "last_line", "field"}
    assert all(p["description"] for p in properties.values())


ORDERS = {"page": 1, "a.b": "dotted", "orders": [{"id": n, "total": n * 1.5, "note": "two\nlines"} for n in range(5)]}


def by_field(value: Any, field: str, **more: Any) -> str:
    blobs = MemoryBlobs()
    text = value if isinstance(value, str) else json.dumps(value)
    found = recall_tool(blobs)(blobs.put(text.encode()), field=field, **more)
    assert isinstance(found, str)
    return found


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("orders.3.total", "1: 4.5"),
        ("orders[3].total", "1: 4.5"),
        ("page", "1: 1"),
        ("a.b", "1: dotted"),
        ("orders.2.note", "1: two\n2: lines"),
        ("orders.1", '1: {\n2:  "id": 1,\n3:  "total": 1.5,\n4:  "note": "two\\nlines"\n5: }'),
        ("orders.total", "1: [\n2:  0.0,\n3:  1.5,\n4:  3.0,\n5:  4.5,\n6:  6.0\n7: ]"),
    ],
)
def test_a_field_of_a_json_result_is_given_by_its_path(field: str, found: str) -> None:
    assert by_field(ORDERS, field) == found


def test_json_lines_count_as_a_list() -> None:
    assert by_field('{"id": 7}\n{"id": 8}\n', "1.id") == "1: 8"


def test_lines_of_a_field_can_be_searched() -> None:
    assert by_field(ORDERS, "orders", search="total 4.5") == '19:   "total": 4.5,'


@pytest.mark.parametrize(
    ("value", "field", "said"),
    [
        (ORDERS, "order", "no field 'order'; there are page, a.b, orders"),
        (ORDERS, "orders.9", "no element 9; there are 5, counted from 0"),
        (ORDERS, "orders.weight", "no element of this list of 5 has a field 'weight'"),
        (ORDERS, "page.x", "no field 'x': here is only '1'"),
        ({}, "x", "no field 'x'; there are none"),
        ("plain text", "x", "this result is not JSON, so it has no field 'x'; use search or lines"),
    ],
)
def test_a_field_that_is_not_there_is_answered_with_what_is(value: Any, field: str, said: str) -> None:
    with pytest.raises(ValueError, match="^" + said.replace(".", "[.]")):
        by_field(value, field)


def test_json_on_one_long_line_is_searched_field_by_field() -> None:
    blobs = MemoryBlobs()
    handle = blobs.put(json.dumps([{"id": n, "name": f"name {n}"} for n in range(200)]).encode())

    assert recall_tool(blobs)(handle, search="name 107") == '432:   "name": "name 107"'


def test_text_that_only_looks_like_json_is_read_as_it_is() -> None:
    blobs = MemoryBlobs()

    assert recall_tool(blobs)(blobs.put(b"{" + b"x" * 3_000), search="zzz") == "[no line of 1 matches]"
