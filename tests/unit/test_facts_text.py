from tests.unit.facts_of import facts

PARAGRAPH = ["The box was sent on Monday and came back on Tuesday.", "Nobody knew why it had come back, and nobody asked."]
TEXT: list[str] = []
for number in range(40):
    TEXT += [f"## Part {number}", "", *PARAGRAPH, ""]


def test_headings_the_beginning_and_the_end_are_shown() -> None:
    shown = facts("\n".join(TEXT), at_most=500)

    assert shown[:4] == TEXT[:4]
    assert {f"## Part {n}" for n in range(20)} <= set(shown)
    assert TEXT[-2] in shown


def test_the_line_that_the_call_asked_about_is_shown() -> None:
    lines = [*TEXT[:103], "Refund of order A-1042 was agreed on the telephone.", *TEXT[103:]]

    assert lines[103] in facts("\n".join(lines), {"query": "refund A-1042"})


def test_a_very_long_line_is_shown_by_its_beginning_up_to_a_word() -> None:
    (first, *_) = facts("word " * 2_000)

    assert first.startswith("word word")
    assert first.endswith("word[… 9601 characters]")


def test_of_what_a_search_printed_the_first_line_of_each_file_is_shown() -> None:
    lines = [f"src/part{f}.go:{n}: pay(item, count, price, discount)" for f in range(8) for n in range(60)]

    shown = facts("\n".join(lines), {"pattern": "pay"}, at_most=450)

    assert {f"src/part{f}.go:0: pay(item, count, price, discount)" for f in range(8)} <= set(shown)
