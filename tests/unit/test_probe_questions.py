import pytest
from hypothesis import given

from agentloop.importers.recording import Recording, Step
from agentloop.probe.questions import BLANK, Question, chosen, questions
from agentloop.probe.readings import Field, Item, arguments, fields, items
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block, text, tool_result, tool_use
from tests.property.recordings import recordings


def recording(*turns: tuple[str, str, Json, str | None]) -> Recording:
    """What was said, which tool was called with what, and its result; a result with a bang before it is an error."""
    steps, results = [], {}
    for i, (said, name, given_, result) in enumerate(turns):
        told = (text("Look after it."),) if i == 0 else ()
        steps.append(Step(told, (text(said), *((tool_use(f"c{i}", name, given_),) if name else ()))))
        if result is not None:
            results[f"c{i}"] = tool_result(f"c{i}", result.removeprefix("!"), is_error=result.startswith("!"))
    return Recording("made", "", "", (), tuple(steps), results)


def asked(kind: str, *turns: tuple[str, str, Json, str | None]) -> list[tuple[str, str]]:
    return [(q.text, q.answer) for q in questions(recording(*turns), len(turns)) if q.kind == kind]


def test_a_field_of_a_result_is_asked_for_by_the_arguments_of_its_call() -> None:
    found = asked(
        "belongs", ("Now.", "order", {"number": "W-7"}, '{"total": 129.5, "buyer": {"city": "Galway"}, "paid": true}')
    )

    assert found == [
        ('In the result of order, called with number "W-7": what is "total"?', "129.5"),
        ('In the result of order, called with number "W-7": what is "buyer.city"?', "Galway"),
    ]


def test_of_a_list_the_entry_is_named() -> None:
    rows = '[{"id": "W-7", "total": 129.5}, {"id": "W-8", "total": 88.25}]'

    assert asked("belongs", ("Now.", "orders", {}, rows)) == [
        ('In the result of orders: what is "total" of the entry whose id is "W-7"?', "129.5"),
        ('In the result of orders: what is "total" of the entry whose id is "W-8"?', "88.25"),
    ]


def test_what_a_field_always_says_is_not_asked() -> None:
    mail = "To: desk@shop.example\nSubject: {}"
    turns = [("Now.", "mail", {"n": f"n-{i}"}, mail.format(s)) for i, s in enumerate(["Late parcel", "Blue wool"])]

    assert [answer for _, answer in asked("belongs", *turns)] == ["Late parcel", "Blue wool"]


def test_a_call_that_was_answered_in_two_ways_is_not_asked_about() -> None:
    assert asked("belongs", *[("Now.", "stock", {"sku": "DRN-2"}, f'{{"pieces": {n}}}') for n in (140, 120)]) == []


def test_a_value_of_one_tool_is_asked_back_to_it() -> None:
    turns = [("Now.", "order", {"n": 1}, "parcel GP-771"), ("Then.", "shelf", {"n": 2}, "article DRN-02")]

    assert asked("source", *turns) == [
        ('Which tool gave you the value "GP-771"? Answer with the name of the tool.', "order"),
        ('Which tool gave you the value "DRN-02"? Answer with the name of the tool.', "shelf"),
    ]


def test_a_value_that_was_known_before_is_not_asked_back() -> None:
    turns = [("See GP-771.", "order", {"n": 1}, "parcel GP-771"), ("Then.", "shelf", {"n": 2}, "article DRN-02")]

    assert [answer for _, answer in asked("source", *turns)] == ["shelf"]


def test_a_failure_is_asked_for_by_its_error() -> None:
    (found,) = asked(
        "failed", ("Now.", "read", {"path": "notes/a.md"}, "!no such file"), ("Then.", "read", {"path": "b"}, "fine")
    )

    assert found == ('A call of read failed with: "no such file". What was its argument "path"?', "notes/a.md")


def test_an_error_that_came_twice_or_names_the_argument_is_not_asked() -> None:
    twice = [("Now.", "read", {"path": p}, "!no such file") for p in ("a.md", "b.md")]

    assert asked("failed", *twice) == []
    assert asked("failed", ("Now.", "read", {"path": "a.md"}, "!no file a.md")) == []


def test_of_a_decision_the_value_is_left_out() -> None:
    (found,) = asked("decided", ("I have decided to refund order W-2378 in full. Next.", "", {}, None))

    quoted = f"I have decided to refund order {BLANK} in full"
    assert found == (f'Earlier in this session you said: "{quoted}". What stood in the place of {BLANK}?', "W-2378")


@pytest.mark.parametrize(
    "said",
    [
        "The sum of it all is now 1,189.53 EUR",
        "Mary Ann has said that it is fine",
        "It is W-1.",
        "Parcel GP-771 and again GP-771 is late",
    ],
)
def test_parts_of_numbers_first_words_and_what_stands_there_twice_are_left(said: str) -> None:
    assert [a for _, a in asked("decided", (said, "", {}, None))] in ([], ["1,189.53"])


def test_tasks_are_asked_for_as_they_were_last_written() -> None:
    before = {
        "todos": [{"content": "Answer the mail", "status": "pending"}, {"content": "Count the wool", "status": "pending"}]
    }
    after = {
        "todos": [{"content": "Answer the mail", "status": "completed"}, {"content": "Count the wool", "status": "pending"}]
    }

    found = asked("open", ("Now.", "todo", before, "ok"), ("Then.", "todo", after, "ok"))

    assert [answer for _, answer in found] == ["completed", "pending"]
    assert all(q.endswith("Answer with one of: completed, pending.") for q, _ in found)


def test_boxes_are_tasks_too() -> None:
    reply: tuple[Block, ...] = (
        text("- [x] Answer the mail\n- [ ] Count the wool"),
        tool_use("c", "write", {"text": "1. [ ] Rest"}),
    )

    assert list(items(reply)) == [Item("Answer the mail", "done"), Item("Count the wool", "open"), Item("Rest", "open")]


def test_where_all_tasks_stand_alike_nothing_is_asked() -> None:
    assert asked("open", ("- [ ] Answer the mail\n- [ ] Count the wool", "", {}, None)) == []


def test_fields_of_text_are_its_lines_with_a_name() -> None:
    assert fields('From: Odile\nnothing here\n  Pieces = 14,\n- Name: "Blue wool"\nNote: it is far too long to be a value') == [
        Field("From", "Odile"),
        Field("Pieces", "14"),
        Field("Name", "Blue wool"),
    ]


def test_only_short_arguments_tell_a_call_from_others() -> None:
    assert arguments({"n": 7, "on": True, "text": "x" * 100, "list": [1], "path": "a/b"}) == (("n", "7"), ("path", "a/b"))
    assert arguments("broken") == ()


def question(kind: str, turn: int) -> Question:
    return Question("belongs" if kind == "belongs" else "decided", turn, "", f"{kind} {turn}", "answer", ())


def test_of_many_questions_those_are_chosen_that_cover_kinds_and_session() -> None:
    found = [question("belongs", t) for t in range(100)] + [question("decided", t) for t in (10, 90)]

    picked = chosen(found, 6)

    assert [(q.kind, q.turn) for q in picked] == [
        ("belongs", 0), ("decided", 10), ("belongs", 33), ("belongs", 66), ("decided", 90), ("belongs", 99),
    ]  # fmt: skip


@given(recordings(at_most=10))
def test_the_same_session_brings_the_same_questions_and_none_gives_its_answer_away(made: Recording) -> None:
    found = questions(made, len(made.steps))

    assert found == questions(made, len(made.steps))
    assert len({q.text for q in found}) == len(found)
    assert all(q.answer not in q.text for q in found if q.kind != "open")
    assert all(q.turn < len(made.steps) for q in found)
    assert chosen(found, 5) == chosen(chosen(found, 5), 5)


def test_more_questions_than_there_are_is_all_of_them() -> None:
    found = [Question("source", turn, f"c{turn}", f"Which gave {turn}?", "look", ()) for turn in range(3)]

    assert chosen(found, 10**18) == found


@given(recordings(at_most=10))
def test_of_the_first_turns_nothing_is_asked_that_came_later(made: Recording) -> None:
    half = len(made.steps) // 2

    assert all(q.turn < half for q in questions(made, half))
    assert blocks.calls(made.steps[-1].reply) == ()
