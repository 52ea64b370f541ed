"""Routes, fallback chains, the price of a switch, and files of cases."""

from decimal import Decimal
from pathlib import Path

import pytest

from agentloop.adapters.model_table import find, models
from agentloop.adapters.plugins import function
from agentloop.core.folding import fold
from agentloop.errors import ConfigError, RegistryError, UnknownModel
from agentloop.routing import cases, files, graders
from agentloop.routing.cases import AsSet, Case, Regex, Schema
from agentloop.routing.switching import Step, switch
from agentloop.routing.table import Row, Table, route, unknown_models
from agentloop.testing import card, events, given, says, started
from agentloop.types.events import Fallback, FellBack, ModelFailed, ModelReplied, ModelRequested
from agentloop.types.request import Failure
from agentloop.types.usage import ModelCard, Usage

TABLE = models()
HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"


def card_of(name: str) -> ModelCard:
    return find(name, TABLE).card


def table(**row: object) -> Table:
    return Table(steps={"extraction": Row.model_validate({"model": HAIKU, "reason": "Because.", **row})})


def test_a_kind_without_a_row_takes_other_and_says_so() -> None:
    taken = route("haiku-poetry", files.load(files.CURRENT), card_of)

    assert taken.model == SONNET
    assert taken.reason.startswith("no row of its own: ")


def test_a_table_without_other_names_its_rows() -> None:
    with pytest.raises(ConfigError, match=r"no route for steps of kind 'code': the table has extraction"):
        route("code", table(), card_of)


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(UnknownModel, match="claude-haiku-5-5"):
        route("extraction", table(model="claude-haiku-5"), card_of)
    assert unknown_models(table(fallback=["gone"], beyond_step="gone-too"), TABLE) == ["gone", "gone-too"]


@pytest.mark.parametrize(("tokens", "other", "model"), [
    (100_000, "claude-haiku-4-5", HAIKU),
    (100_001, SONNET, HAIKU),
    (100_001, "cheaper", "cheaper"),
])  # fmt: skip
def test_beyond_the_price_step_another_model_takes_the_step_only_where_it_costs_less(
    tokens: int, other: str, model: str
) -> None:
    prices = card_of(HAIKU).prices[0].model_copy(update={"max_prompt_tokens": None, "input": Decimal("0.3")})
    cheaper = card(id="cheaper", prices=(prices,))

    taken = route("extraction", table(beyond_step=other), lambda n: cheaper if n == "cheaper" else card_of(n), tokens)

    assert taken.model == model
    assert ("beyond the price step of claude-haiku-5-5 at 100,000" in taken.reason) == (model == "cheaper")


@pytest.mark.parametrize(("kappa", "rho", "ratio"), [(Decimal(1) / 3, "0.1", 1.8), (Decimal(1) / 20, "0.05", 0.36)])
def test_a_switch_inside_a_session_pays_for_the_cold_cache(kappa: Decimal, rho: str, ratio: float) -> None:
    """50,000 tokens cached, 2,000 new, 500 of output: dearer at a third of the price, cheaper at a twentieth."""
    one = (
        card()
        .prices[0]
        .model_copy(
            update={"input": Decimal(1), "cache_write_5m": Decimal("1.25"), "cache_read": Decimal(rho), "output": Decimal(5)}
        )
    )
    own = card(prices=(one,))
    other = card(id="other", prices=(one.model_copy(update={"input": kappa, "output": 5 * kappa}),))

    ways = switch(Step(50_000, 2_000, 500, 3_000), own, other)

    assert float(ways.inside.usd / ways.stay.usd) == pytest.approx(ratio, rel=0.02)
    assert ways.cheapest is ways.delegated


def test_the_price_step_of_haiku_turns_the_decision() -> None:
    below, above = (switch(Step(cached, 0, 0, 200_000), card_of(SONNET), card_of(HAIKU)) for cached in (100_000, 100_001))

    assert above.inside.usd > 4.99 * float(below.inside.usd)
    assert (below.inside.usd, below.stay.usd) == (Decimal("0.01"), Decimal("0.01"))
    assert below.cheapest.name == above.cheapest.name == "stay"
    assert "beyond the price step" in above.inside.line


def test_what_a_fallback_used_is_priced_by_its_own_card() -> None:
    sonnet = card_of(SONNET)
    used = Usage(input_tokens=1_000, output_tokens=10)
    failure = Failure(kind="unavailable", error_type="overloaded_error", message="Overloaded", usage=used)
    request = ModelRequested(turn=1, digest="d", body_bytes=1, max_tokens=10)
    fell = FellBack(to=Fallback(card=sonnet), because="unavailable", detail="", prefix_digest="")
    answer = says("Done.").model_copy(update={"usage": used})
    bodies = (started(), given("Go"), fell, request, ModelFailed(turn=1, failure=failure), ModelReplied(turn=1, reply=answer))

    state = fold(events(*bodies))

    assert state.spent_usd == 2 * (1_000 * Decimal(2) + 10 * Decimal(10)) / 1_000_000


def test_the_packaged_examples_load(tmp_path: Path) -> None:
    example = Path(cases.__file__).parents[1] / "example"

    assert cases.kinds(example) == ["classification", "extraction"]
    for case in cases.load(example, "extraction").cases:
        if isinstance(case.grader, Schema):
            assert graders.graded(case, '```json\n{"order": "W2378156", "total": 84.5}\n```', no_function).passed
            assert not graders.graded(case, '{"order": "2378156", "total": 84.5}', no_function).passed


def no_function(name: str) -> graders.Function:
    raise AssertionError(name)


@pytest.mark.parametrize(("name", "text", "said"), [
    ("a.yaml", "kind: code\ncases: [{id: a}]", "cases.0.input: Field required"),
    ("a.yaml", "kind: code\ncases: [{id: a, input: x, expeced: 1}]", "cases.0.expeced: Extra inputs are not permitted"),
    ("a.yaml", "kind: code\ncases: [{id: a, input: ' '}]", "expected a text that is not blank"),
    ("a.yaml", "kind: code\ncases: !!python/object:os.system []", "could not determine a constructor"),
    ("a.yaml", "kind: code\ngrader: {type: python, function: ../x:y}\ncases: []", "String should match pattern"),
    ("a.jsonl", '{"kind": "code", "id": "a", "input": "x"}\n{"kind"', "line 2: no JSON"),
    ("a.jsonl", '{"kind": "code", "id": "a", "input": "x"}\n' * 2, "case 'a' of kind 'code' stands twice"),
])  # fmt: skip
def test_a_file_of_cases_that_is_wrong_says_where(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / name).write_text(text)

    with pytest.raises(ConfigError, match=said.replace("(", r"\(")) as found:
        cases.load(tmp_path, "code")
    assert name in str(found.value)


def test_two_cases_that_ask_the_same_are_no_two_pieces_of_evidence(tmp_path: Path) -> None:
    (tmp_path / "evals").mkdir()
    same = [Case(id=name, input="x", expected="y") for name in ("a", "b")]
    (tmp_path / "evals" / "code.jsonl").write_text("".join(cases.as_line("code", case) for case in same))

    with pytest.raises(ConfigError, match="cases 'a' and 'b' of kind 'code' ask the same"):
        cases.load(tmp_path, "code")


@pytest.mark.parametrize(
    "case",
    [
        Case(id="c", input="x", expected="", grader=Regex(type="regex")),
        Case(id="c", input="x", expected="a*", grader=Regex(type="regex")),
        Case(id="c", input="x", expected="(?s).*", grader=Regex(type="regex", whole=True)),
        Case(id="c", input="x", grader=AsSet(type="set")),
    ],
)
def test_a_case_that_any_answer_solves_is_an_error_of_its_author(case: Case) -> None:
    with pytest.raises(ConfigError, match="case 'c'"):
        graders.graded(case, "None", no_function)


@pytest.mark.parametrize("schema", [{"multipleOf": 0.1}, {"$ref": "#"}])
def test_an_answer_that_cannot_be_held_against_a_schema_does_not_fit_it(schema: dict[str, object]) -> None:
    case = Case(id="c", input="x", grader=Schema.model_validate({"type": "schema", "schema": schema}))

    assert not graders.graded(case, "9" * 400, no_function).passed


def test_cases_that_nobody_reviewed_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "evals").mkdir()
    harvested = Case(id="h", input="x", expected="y", reviewed=False)
    lines = cases.as_line("code", harvested) + cases.as_line("code", harvested.model_copy(update={"id": "i", "reviewed": True}))
    (tmp_path / "evals" / "code.harvested.jsonl").write_text(lines)

    loaded = cases.load(tmp_path, "code")

    assert ([c.id for c in loaded.cases], loaded.unreviewed) == (["i"], 1)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.org/s.json"},
        {"$ref": "#/$defs/none"},
        {"type": "nonsense"},
        {"pattern": "(?=a)"},
        {"patternProperties": {"(a+)+$": {}}},
    ],
)
def test_a_schema_that_cannot_be_checked_is_an_error_of_its_author(schema: dict[str, object]) -> None:
    case = Case(id="c", input="x", grader=Schema.model_validate({"type": "schema", "schema": schema}))

    with pytest.raises(ConfigError):
        graders.graded(case, '"text"', no_function)


def test_a_function_is_found_in_the_tools_folder_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "checks.py").write_text("def right(answer, expected):\n    return answer == expected\n")

    assert function(tmp_path, "checks:right")("a", "a") is True
    for name in ("checks:wrong", "os:system", "../checks:right", "checks"):
        with pytest.raises(RegistryError):
            function(tmp_path, name)


def test_a_table_that_is_wrong_says_which_field(tmp_path: Path) -> None:
    path = tmp_path / "routing.toml"
    path.write_text('[steps.code]\nmodel = "x"\nreson = "y"\n')

    with pytest.raises(ConfigError, match=r"steps\.code\.reason: Field required"):
        files.load(path)
