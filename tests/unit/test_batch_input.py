"""What is refused before anything is paid for: files, rows, templates, schemas."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentloop.batching import outputs, rows
from agentloop.batching.events import Ask
from agentloop.emulated import EmulatedApi
from agentloop.errors import RegistryError, UsageError
from agentloop.types.base import Json
from tests import batch_runs as runs
from tests.batch_runs import SCHEMA, order, tickets


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.jsonl", '{"text":"x","n":1.5}\n\n"just a prompt"\n', [{"text": "x", "n": 1.5}, {"prompt": "just a prompt"}]),
        ("a.csv", '\ufefftext,n\n"a, ""b""\nc",1\n', [{"text": 'a, "b"\nc', "n": "1"}]),
        ("a.txt", "one\r\n\n two \n", [{"prompt": "one"}, {"prompt": " two "}]),
    ],
)
def test_a_file_is_rows(tmp_path: Path, name: str, content: str, found: list[Any]) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")

    assert rows.read(tmp_path / name) == found


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b'{"a":1}\n{"a":\n', "line 2: not JSON"),
        ("a.jsonl", b'{"a":1}\n[1]\n', "line 2: expected an object"),
        ("a.jsonl", b'{"a":NaN}\n', "line 1: not JSON"),
        ("a.csv", b"a,b\n1\n", "line 2: expected 2 columns, found 1"),
        ("a.csv", b"a,a\n1,2\n", "each once"),
        ("a.csv", b'a,b\n"1,2\n', "line 2"),
        ("a.txt", b"\n\n", "holds no rows"),
        ("a.txt", b"\xff\xfe", "is not UTF-8"),
        ("a.xlsx", b"PK", "expected a name that ends in"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_line(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(UsageError, match=told):
        rows.read(tmp_path / name)


def test_a_file_is_read_as_often_as_it_is_gone_through_and_refused_once_it_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\r\ntwo\rand more\nthree")
    given = rows.RowFile(path, cleaned=lambda row: {"prompt": row["prompt"].replace("two", "2")})

    first, second = list(given), list(given)
    path.write_text("one\n")

    assert first == second == [{"prompt": "one"}, {"prompt": "2\rand more"}, {"prompt": "three"}]
    assert given.was_cleaned
    with pytest.raises(UsageError, match="was changed while it was read"):
        list(given)


@pytest.mark.parametrize(
    ("given", "more", "told"),
    [
        ([{"text": "a"}, {"other": "b"}], {}, "row 2 has no field 'text'"),
        ([{"text": "a"}], {"template": "Say {text} and {text.__class__}"}, "names no field"),
        ([{"text": "a"}, {"text": "a"}], {}, "rows 1 and 2 have the prompt"),
        ([{"id": 7, "text": "a"}, {"id": 7, "text": "b"}], {"id_field": "id"}, "rows 1 and 2 have the id '7'"),
        ([{"text": "a"}], {"id_field": "id"}, "row 1 has no field 'id'"),
        ([{"text": " "}], {"template": "{{text}}"}, "row 1: its prompt is empty"),
        ([{"text": "a"}], {"max_tokens": 10_000_000}, "at most"),
    ],
)
def test_rows_that_nobody_should_pay_for_are_refused(given: list[Any], more: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        runs.made(EmulatedApi(), order(given, **more))


def test_the_same_order_has_the_same_name_and_another_one_another() -> None:
    api = EmulatedApi()

    names = [
        runs.made(api, order(tickets(n), name=None, effort=e)).name for n, e in ((3, None), (3, None), (4, None), (3, "low"))
    ]

    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_a_long_system_prompt_is_marked_for_the_cache_and_a_short_one_is_not() -> None:
    api = EmulatedApi()

    assert runs.made(api, order(tickets(1), system="short")).ask.system_ttl is None
    assert runs.made(api, order(tickets(1), system="word " * 5_000)).ask.system_ttl == "5m"


def ask(**output: Any) -> Ask:
    return runs.made(EmulatedApi(), order(tickets(1))).ask.model_copy(update=output)


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ('{"kind":"bug","score":3}', None),
        ('{"kind":"rant","score":3}', "$.kind"),
        ('{"kind":"bug","score":-1}', "$.score"),
        ('{"kind":"bug"}', "'score' is a required property"),
        ("Here it is: {}", "not JSON"),
        ('{"kind":"bug","score":NaN}', "not JSON"),
    ],
)
def test_an_answer_is_held_against_the_whole_schema(said: str, wrong: str | None) -> None:
    found = outputs.check_of(ask(output_schema=SCHEMA), Path("nowhere"))(said)

    assert (found is None) == (wrong is None)
    assert wrong is None or wrong in str(found)


def test_an_answer_is_held_against_a_pydantic_model_of_the_tools_folder(tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text(
        "from pydantic import BaseModel, Field\nclass Ticket(BaseModel):\n    kind: str\n    score: int = Field(ge=0)\n"
    )
    found = outputs.of_type("shapes:Ticket", tmp_path, runs.MODEL)

    check = outputs.check_of(ask(output_schema=found.schema, output_type=found.type), tmp_path)

    assert found.wire_schema is not None
    assert found.wire_schema["additionalProperties"] is False
    assert check('{"kind":"bug","score":3}') is None
    assert "score" in str(check('{"kind":"bug","score":-3}'))


@pytest.mark.parametrize("said", ['{"score": NaN}', '{"score": 1e999}', '{"score": 1, "more": ' + "[" * 200 + "]" * 200 + "}"])
def test_an_answer_that_no_results_file_can_hold_does_not_fit_a_pydantic_model(tmp_path: Path, said: str) -> None:
    (tmp_path / "shapes.py").write_text("from pydantic import BaseModel\nclass Scored(BaseModel):\n    score: float\n")
    found = outputs.of_type("shapes:Scored", tmp_path, runs.MODEL)

    assert "not JSON" in str(outputs.check_of(ask(output_schema=found.schema, output_type=found.type), tmp_path)(said))


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "string", "pattern": "^(a+)+$"}, json.dumps("a" * 60 + "!")),
        ({"multipleOf": 0.1}, "9" * 400),
        ({"$ref": "#"}, "1"),
        ({"type": "string"}, '"\\ud800"'),
    ],
)
def test_no_answer_hangs_or_stops_the_check_of_its_schema(tmp_path: Path, schema: Json, said: str) -> None:
    assert outputs.check_of(ask(output_schema=schema), tmp_path)(said) is not None


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("json:JSONDecoder", "there is no"),
        ("../shapes:Ticket", "names no output type"),
        ("shapes", "names no output type"),
        ("shapes:Other", "has no pydantic model 'Other'"),
        ("shapes:__import__", "has no pydantic model"),
    ],
)
def test_an_output_type_comes_from_the_tools_folder_and_nowhere_else(tmp_path: Path, named: str, told: str) -> None:
    (tmp_path / "shapes.py").write_text("class Other: ...\n")

    with pytest.raises((UsageError, RegistryError), match=told):
        outputs.of_type(named, tmp_path, runs.MODEL)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "cannot be read"),
        ('{"type":"colour"}', "is no JSON schema"),
        ("[]", "schema"),
        ('{"$ref":"http://127.0.0.1:9/s.json"}', "refers to what is not in it"),
        ('{"properties":{"a":{"$ref":"#/$defs/none"}}}', "refers to what is not in it"),
        ('{"patternProperties":{"(a+)+$":{}}}', "patternProperties"),
        ('{"properties":{"a":{"pattern":"(?=a)"}}}', "RE2"),
    ],
)
def test_a_schema_that_is_none_is_refused(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "s.json").write_text(content)

    with pytest.raises(UsageError, match=told):
        outputs.of_schema(tmp_path / "s.json", runs.MODEL)


def test_a_model_from_before_structured_outputs_is_given_no_schema_and_its_answers_are_checked(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"type":"object"}')

    found = outputs.of_schema(tmp_path / "s.json", "claude-3-5-haiku-20241022")

    assert found.schema == {"type": "object"}
    assert found.wire_schema is None
