import random
import re
from typing import Annotated, Any, Literal

import pytest
from anthropic import beta_async_tool, beta_tool
from pydantic import BaseModel, Field

from agentloop.adapters.toolbox import Toolbox
from agentloop.errors import RegistryError
from agentloop.tooling import Registry, Tool, as_tool, current_call, tool
from agentloop.types.base import Json
from agentloop.types.blocks import Call
from agentloop.types.tools import FactsSettings, ToolCard


@tool
def look(path: str, lines: int = 20, mode: Literal["head", "tail"] = "head") -> str:
    """Look at a file.

    Use it before you write.

    Args:
        path: Which file.
        lines: How many lines.
        mode: From which end.
    """
    return f"{path} {lines} {mode}"


def made(function: Any, **options: Any) -> Json:
    return tool(**options)(function).definition


def named(name: str) -> Tool:
    def anything() -> str:
        """Do anything."""
        return ""

    return tool(name=name)(anything)


class FromSdk:
    """What an SDK tool object looks like."""

    def __init__(self, **definition: object) -> None:
        self.definition = {"name": "ready", "description": "Ready.", "input_schema": {"type": "object"}} | definition

    @property
    def name(self) -> str:
        return str(self.definition["name"])

    def to_dict(self) -> Any:
        return self.definition

    def call(self, input: object) -> Any:
        return "called"


def test_a_typed_function_becomes_a_definition() -> None:
    assert look.definition == {
        "name": "look",
        "description": "Look at a file.\n\nUse it before you write.",
        "input_schema": {
            "additionalProperties": False,
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "Which file."},
                "lines": {"type": "integer", "default": 20, "description": "How many lines."},
                "mode": {"type": "string", "enum": ["head", "tail"], "default": "head", "description": "From which end."},
            },
            "required": ["path"],
        },
    }


def test_a_tool_is_still_a_function_to_python() -> None:
    assert look("a.txt", lines=3) == "a.txt 3 head"


def test_without_a_word_a_tool_has_a_second_effect_when_it_runs_twice() -> None:
    assert (look.effect, look.timeout_s, look.facts) == ("once", 60.0, "facts")


def test_a_tool_says_what_it_declares_in_its_card() -> None:
    card = tool(name="peek", effect="read", timeout_s=5, facts="keep")(look.function or look).card

    assert card == ToolCard(name="peek", effect="read", timeout_s=5.0, facts="keep")


def test_a_tool_may_say_what_matters_in_its_large_results() -> None:
    settings = FactsSettings(fields=("orders.total",), share=0.5, keep_lines=("TOTAL",))

    card = tool(facts=settings)(look.function or look).card

    assert (card.facts, card.facts_settings) == ("facts", settings)
    assert ToolCard.model_validate_json(card.model_dump_json()) == card


def test_a_tool_can_have_another_name_than_its_function() -> None:
    assert made(look.function, name="peek")["name"] == "peek"


class Title(BaseModel):
    """A parameter whose fields are called title and name."""

    title: str
    name: str = Field(title="Another name")


def test_titles_are_stripped_and_properties_called_title_stay() -> None:
    def rename(what: Title, title: str) -> str:
        """Rename."""
        return title

    schema = made(rename)["input_schema"]

    assert set(schema["properties"]) == {"what", "title"}
    assert set(schema["$defs"]["Title"]["properties"]) == {"title", "name"}
    assert not re.search(r'"title": ?"', str(schema).replace("'", '"'))


def test_a_description_in_the_annotation_is_kept() -> None:
    def ship(kilos: Annotated[float, Field(gt=0, description="The weight.")]) -> str:
        """Ship."""
        return ""

    assert made(ship)["input_schema"]["properties"]["kilos"] == {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "The weight.",
    }


def test_a_parameter_without_a_type_is_named() -> None:
    def ship(kilos: float, to) -> str:  # type: ignore[no-untyped-def]
        """Ship."""
        return ""

    with pytest.raises(RegistryError, match=r"tool 'ship' \(.*test_tooling.py:\d+\): parameter 'to' has no type"):
        Registry([tool(ship)])


class Opaque:
    """A type that has no schema."""


def test_a_parameter_without_a_schema_is_refused() -> None:
    def ship(to: Opaque) -> str:
        """Ship."""
        return ""

    with pytest.raises(RegistryError, match="no schema can be made of its signature"):
        Registry([tool(ship)])


def test_a_tool_without_a_docstring_is_refused() -> None:
    def ship() -> str:
        return ""

    with pytest.raises(RegistryError, match="no description; write a docstring"):
        Registry([tool(ship)])


@pytest.mark.parametrize("name", ["has space", "dot.ted", "", "x" * 65, "é", "a\n"])
def test_a_name_that_the_api_refuses_is_refused(name: str) -> None:
    with pytest.raises(RegistryError, match=r"the name must match \[a-zA-Z0-9_-\]\{1,64\}"):
        Registry([Tool(look.function, name)])


def test_a_name_of_64_characters_is_taken() -> None:
    assert list(Registry([named("x" * 64)]).tools) == ["x" * 64]


def test_two_tools_of_one_name_are_refused_with_both_places() -> None:
    def first() -> str:
        """First."""
        return ""

    def second() -> str:
        """Second."""
        return ""

    with pytest.raises(RegistryError) as error:
        Registry([tool(name="same")(first), tool(name="same")(second)])

    lines = [f.__code__.co_firstlineno for f in (first, second)]
    assert str(error.value) == f"two tools are named 'same': {__file__}:{lines[0]} and {__file__}:{lines[1]}; rename one"


def test_an_effect_that_is_none_is_refused() -> None:
    with pytest.raises(RegistryError, match="effect 'maybe' is none of read, idempotent, once"):
        Registry([Tool(look.function, "look", effect="maybe")])  # type: ignore[arg-type]


def test_more_tools_than_can_be_of_use_are_refused() -> None:
    with pytest.raises(RegistryError, match="201 tools, at most 200"):
        Registry([named(f"t{n}") for n in range(201)])


def test_as_many_tools_as_allowed_are_taken() -> None:
    assert len(Registry([named(f"t{n}") for n in range(200)]).tools) == 200


def test_a_description_of_the_greatest_length_is_taken() -> None:
    assert len(Registry([FromSdk(description="x" * 20_000)]).definitions[0]["description"]) == 20_000


def test_a_very_long_description_is_refused() -> None:
    with pytest.raises(RegistryError, match="the description is over 20,000 characters"):
        Registry([FromSdk(description="x" * 20_001)])


@pytest.mark.parametrize("schema", [{"type": "array"}, {}, [], "object", 7])
def test_a_schema_that_is_no_object_is_refused(schema: object) -> None:
    with pytest.raises(RegistryError, match="input_schema must be of type object"):
        Registry([FromSdk(input_schema=schema)])


def test_a_circular_schema_is_refused() -> None:
    schema: Json = {"type": "object"}
    schema["properties"] = {"again": schema}

    with pytest.raises(RegistryError, match="the definition is not plain JSON"):
        Registry([FromSdk(input_schema=schema)])


class Node(BaseModel):
    """A tree."""

    children: list["Node"] = []


def test_a_type_that_holds_itself_is_taken() -> None:
    def plant(tree: Node) -> str:
        """Plant."""
        return ""

    assert made(plant)["input_schema"]["$defs"]["Node"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}


def test_a_tool_of_the_sdk_is_taken_as_it_is() -> None:
    @beta_tool
    def weather(city: str) -> str:
        """What the weather is.

        Args:
            city: Where.
        """
        return f"rain in {city}"

    registry = Registry([weather])

    assert registry.definitions == (weather.to_dict(),)
    (answer,) = Toolbox(registry, session_id="s", root=look_root()).run([Call("c", "weather", {"city": "Ghent"})], str)
    assert answer is not None
    assert answer.content == "rain in Ghent"


def test_an_async_tool_of_the_sdk_is_taken_too() -> None:
    @beta_async_tool
    async def weather(city: str) -> str:
        """What the weather is."""
        return f"rain in {city}"

    (answer,) = Toolbox(Registry([weather]), session_id="s", root=look_root()).run(
        [Call("c", "weather", {"city": "Ghent"})], str
    )

    assert answer is not None
    assert answer.content == "rain in Ghent"


def look_root() -> Any:
    from pathlib import Path

    return Path("/")


def test_a_cache_mark_of_an_sdk_tool_is_left_out_of_the_prefix() -> None:
    marked = FromSdk(cache_control={"type": "ephemeral"})

    assert "cache_control" not in Registry([marked]).definitions[0]
    assert marked.definition["cache_control"] == {"type": "ephemeral"}


def test_a_plain_function_can_be_registered() -> None:
    def ship(kilos: float) -> str:
        """Ship."""
        return ""

    assert list(Registry([ship]).tools) == ["ship"]


@pytest.mark.parametrize("thing", [7, "look", None, Title, [look]])
def test_what_is_no_tool_is_refused(thing: object) -> None:
    with pytest.raises(RegistryError, match="is not a tool: expected a function with @tool"):
        as_tool(thing)


def test_the_order_of_a_registry_does_not_depend_on_the_order_of_what_goes_in() -> None:
    tools = [named(n) for n in ("pay", "Look", "ask", "look_up", "a-1", "a_1")]
    orders = [Registry(random.Random(seed).sample(tools, len(tools))).definitions for seed in range(10)]

    assert all(o == orders[0] for o in orders)
    assert [d["name"] for d in orders[0]] == ["Look", "a-1", "a_1", "ask", "look_up", "pay"]


def test_a_registry_of_named_tools_holds_only_those() -> None:
    registry = Registry([named("a"), named("b"), named("c")])

    assert list(registry.only(["c", "a", "c"]).tools) == ["a", "c"]
    assert registry.only(None) is registry


def test_a_name_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(RegistryError, match="no tool named pya, z; there are look, pay"):
        Registry([named("pay"), named("look")]).only(["pya", "pay", "z"])


def test_the_cards_come_in_the_order_of_the_definitions() -> None:
    registry = Registry([named("b"), named("a")])

    assert [c.name for c in registry.cards] == [d["name"] for d in registry.definitions] == ["a", "b"]


def test_outside_a_tool_there_is_no_current_call() -> None:
    with pytest.raises(LookupError):
        current_call()


def test_a_tool_knows_where_it_was_defined() -> None:
    assert re.fullmatch(r".*/test_tooling\.py:\d+", look.place)
