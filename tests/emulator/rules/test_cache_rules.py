"""Rules 24 to 30: what the cache compares, where it looks, and what it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentloop.core.cache import Assumed
from agentloop.emulator import EmulatorSettings, Function
from agentloop.types.base import Json
from agentloop.types.blocks import text, tool_result, tool_use
from tests.emulator.rules.asking import HOLLOW, LONG, SYSTEM, TOOL, ask, assistant, body, count, marked, read, split, user

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

DONE = Function("test", lambda request, step: [text("Done.")])
PICTURE: Json = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
DOCUMENT: Json = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A line."}}
WEB_SEARCH: Json = {"type": "web_search_20250305", "name": "web_search"}
WEB_FETCH: Json = {"type": "web_fetch_20250910", "name": "web_fetch"}
SHAPE: Json = {"type": "json_schema", "schema": {"type": "object", "properties": {}, "additionalProperties": False}}
BUDGET: Json = {"type": "tokens", "total": 50_000}
BUDGETS = "task-budgets-2026-03-13"


def settings(**changes: Any) -> EmulatorSettings:
    return EmulatorSettings(foreign_thinking=True, **changes)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"model": "claude-sonnet-5-5"}, id="model"),
        pytest.param({"workspace_id": "wrkspc_2"}, id="workspace"),
        pytest.param({"speed": "fast"}, id="speed"),
        pytest.param({"tools": [marked(TOOL | {"description": "Other. " * 400})]}, id="the first block"),
    ],
)
def test_rule_24_an_entry_belongs_to_a_model_a_workspace_a_speed_and_all_that_stands_before_it(
    bench: Bench, change: Json
) -> None:
    """The same blocks are found again only under the same model, workspace and speed, and behind the same blocks."""
    opus = {"model": "claude-opus-5-5"}
    first = ask(bench, **body(**opus))

    assert read(ask(bench, **body(**opus | change))) == 0
    assert read(ask(bench, **body(**opus))) == first.cache_creation_input_tokens


def test_rule_25_marks_are_no_part_of_what_is_compared(bench: Bench) -> None:
    """A breakpoint may move, also one inside of a tool result: what stands there is the same."""
    call = tool_use("toolu_1", "look", {"at": "door"})
    before = [user(text(LONG)), assistant(call), user(marked(tool_result("toolu_1", [marked("A door.")])))]
    after = [user(text(LONG)), assistant(call), user(tool_result("toolu_1", [text("A door.")]), marked("And?"))]
    wrote = ask(bench, before, tools=[TOOL]).cache_creation_input_tokens

    assert read(ask(bench, after, tools=[TOOL])) == wrote


def test_rule_25_the_order_of_a_calls_arguments_counts(bench: Bench) -> None:
    """The same arguments in another order are another call."""

    def messages(arguments: Json) -> list[Json]:
        call = tool_use("toolu_1", "look", arguments)
        return [user(marked(LONG)), assistant(call), user(marked(tool_result("toolu_1", "seen")))]

    first = ask(bench, messages({"x": 1, "y": 2}), tools=[TOOL])
    again = ask(bench, messages({"x": 1, "y": 2}), tools=[TOOL])
    other = ask(bench, messages({"y": 2, "x": 1}), tools=[TOOL])

    assert read(again) == first.cache_creation_input_tokens
    assert 0 < read(other) < read(again)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        pytest.param({"tools": [marked(TOOL | {"description": "Other. " * 400})]}, "nothing", id="a tool's description"),
        pytest.param({"tools": [HOLLOW, marked(TOOL)]}, "nothing", id="a tool more"),
        pytest.param({"model": "claude-opus-5-5"}, "nothing", id="model"),
        pytest.param({"tools": [marked(TOOL), WEB_SEARCH]}, "tools", id="web search on"),
        pytest.param({"tools": [marked(TOOL), WEB_FETCH]}, "tools", id="web fetch on"),
        pytest.param({"messages": [user(DOCUMENT | {"citations": {"enabled": True}}, marked(LONG))]}, "tools", id="citations"),
        pytest.param({"system": [marked("Other. " + SYSTEM)]}, "tools", id="system text"),
        pytest.param({"output_config": {"format": SHAPE}}, "tools", id="output format"),
        pytest.param({"output_config": {"task_budget": BUDGET}, "betas": BUDGETS}, "tools", id="task budget"),
        pytest.param({"tool_choice": {"type": "any"}}, "system", id="tool choice"),
        pytest.param({"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}, "system", id="parallel calls off"),
        pytest.param({"messages": [user(marked(LONG), PICTURE)]}, "system", id="an image"),
        pytest.param({"thinking": {"type": "disabled"}}, "system", id="thinking off"),
        pytest.param({"output_config": {"effort": "low"}}, "system", id="effort"),
        pytest.param({"messages": [user(marked("Other. " + LONG))]}, "system", id="an earlier block"),
        pytest.param({"output_config": {"effort": "high"}}, "all", id="the default effort"),
        pytest.param({"thinking": {"type": "adaptive", "display": "omitted"}}, "all", id="display of thinking"),
        pytest.param({"max_tokens": 7, "metadata": {"user_id": "u"}, "stop_sequences": ["x"]}, "all", id="what is neutral"),
        pytest.param({"tools": [marked(TOOL), HOLLOW | {"defer_loading": True}]}, "all", id="a deferred tool"),
    ],
)
def test_rule_26_each_change_costs_the_cache_from_its_own_level_on(bench: Bench, change: Json, kept: str) -> None:
    """What changes between two requests decides whether tools, tools and system, or everything is read again."""
    ask(bench, **body())
    reach = {
        "nothing": 0,
        "tools": read(ask(bench, **body(system=[marked("x" + SYSTEM)]))),
        "system": read(ask(bench, **body(messages=[user(marked("x" + LONG))]))),
        "all": read(ask(bench, **body())),
    }

    assert 0 < reach["tools"] < reach["system"] < reach["all"]
    assert read(ask(bench, **body(**change))) == reach[kept]


@pytest.mark.parametrize(("level", "kept"), [("system", False), ("messages", True)])
def test_rule_26_which_level_an_output_format_costs_is_a_setting(bench: Bench, level: Any, kept: bool) -> None:
    """[?] A change of output format costs the system prompt too, unless the settings say that it does not."""
    bench.play(DONE, settings(cache=Assumed(format_costs=level), strict=True))
    without_tools = {"tools": [], "system": [marked(SYSTEM)]}
    ask(bench, **body(**without_tools))

    changed = ask(bench, **body(**without_tools, output_config={"format": SHAPE}))

    assert (read(changed) > 0) is kept
    assert 26 in [warning["rule"] for warning in bench.emulator.report()["warnings"]]


def test_rule_26_a_deferred_tool_stands_where_it_is_first_referred_to(bench: Bench) -> None:
    """Its definition is no part of the front of the prompt; from the reference on it is."""
    bench.play(DONE, settings())
    search = {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}
    call = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "tool_search_tool_regex", "input": {"query": "see"}}
    found = {"type": "tool_search_tool_search_result", "tool_references": [{"type": "tool_reference", "tool_name": "see"}]}
    result = {"type": "tool_search_tool_result", "tool_use_id": "srvtoolu_1", "content": found}
    loaded = [user(marked(LONG)), assistant(call, result), user(marked("Go on."))]

    def tools(deferred: Json) -> list[Json]:
        return [search, deferred | {"defer_loading": True}]

    before = ask(bench, loaded[:1], tools=tools(HOLLOW))
    first = ask(bench, loaded, tools=tools(HOLLOW))
    changed = ask(bench, loaded, tools=tools(HOLLOW | {"description": "Sees. " * 100}))

    assert read(first) == read(changed) == before.cache_creation_input_tokens
    assert changed.cache_creation_input_tokens > first.cache_creation_input_tokens + 100  # type: ignore[operator]


@pytest.mark.parametrize(("between", "found"), [(18, True), (19, False)])
def test_rule_27_a_breakpoint_looks_back_over_20_positions(bench: Bench, between: int, found: bool) -> None:
    """The block that carries the breakpoint is the first of them."""
    ask(bench, [user(marked(LONG))])

    usage = ask(bench, [user(text(LONG), *(text(f"{i}") for i in range(between)), marked("Go on."))])

    assert (read(usage) > 0) is found


def test_rule_27_parallel_calls_are_one_position_and_so_are_their_results(bench: Bench) -> None:
    """Thirty calls and their thirty results are two steps on the way back."""
    ids = [f"toolu_{i}" for i in range(30)]
    calls, results = [tool_use(i, "look", {}) for i in ids], [tool_result(i, "seen") for i in ids]
    ask(bench, [user(marked(LONG))], tools=[TOOL])

    assert read(ask(bench, [user(text(LONG)), assistant(*calls), user(*results, marked("Go on."))], tools=[TOOL]))


def test_rule_27_the_next_breakpoint_to_the_left_looks_back_by_itself(bench: Bench) -> None:
    """What the last breakpoint does not reach, an earlier one may."""
    ask(bench, [user(marked(LONG))])
    many = [text(f"{i}") for i in range(30)]

    missed = ask(bench, [user(text(LONG), *many, marked("a"))])
    found = ask(bench, [user(marked(LONG), *many, marked("b"))])

    assert (read(missed), read(found) > 0) == (0, True)


def test_rule_28_an_entry_is_read_once_the_response_that_wrote_it_has_begun(bench: Bench) -> None:
    """Of two requests that run side by side both write; one that starts after the first answer has begun reads."""
    bench.play(DONE, EmulatorSettings(first_byte_s=10))
    first, twin = (split(ask(bench, [user(marked(LONG))])) for _ in range(2))
    bench.now += 9.9
    still = split(ask(bench, [user(marked(LONG))]))
    bench.now += 0.1
    later = ask(bench, [user(marked(LONG))])

    assert first == twin == still
    assert first[0] == 0
    assert read(later) == first[1]


def test_rule_28_answers_that_begin_after_their_entries_have_expired_leave_none(bench: Bench) -> None:
    """However many requests run side by side: nobody can ever read what they wrote, and nothing of it piles up."""
    bench.play(DONE, EmulatorSettings(first_byte_s=400))
    for _ in range(1_200):
        bench.now += 0.01
        assert read(ask(bench, [user(marked(LONG))])) == 0
    bench.now += 400

    assert read(ask(bench, [user(marked(LONG))])) == 0


def test_rule_29_every_breakpoint_behind_what_was_read_writes_an_entry_with_its_lifetime(bench: Bench) -> None:
    """Three breakpoints leave three entries, each to be found by itself, for as long as it was asked to be kept."""
    ask(bench, [user(marked(LONG, "1h"), marked("two " * 50), marked("three"))])

    def found(*content: Json) -> int:
        return read(ask(bench, [user(*content)]))

    at_two = found(text(LONG), text("two " * 50), marked("x"))
    at_one = found(text(LONG), marked("x"))
    bench.now += 301
    after_five_minutes = found(text(LONG), text("two " * 50), marked("y"))

    assert bench.emulator.report()["cache_entries"] >= 3
    assert at_two > at_one > 0
    assert after_five_minutes == at_one


@pytest.mark.parametrize(("least", "cached"), [({}, True), ({"claude-sonnet-4-6": 2_048}, False)])
def test_rule_30_a_minimum_that_is_not_certain_can_be_set(bench: Bench, least: dict[str, int], cached: bool) -> None:
    """[?] Sonnet 4.6 is documented with 1,024 tokens; somebody measured 2,048."""
    bench.play(DONE, settings(minimum_tokens=least, strict=True))

    usage = ask(bench, [user(marked("word " * 1_300))], model="claude-sonnet-4-6")

    assert 1_024 < sum(split(usage)) < 2_048
    assert (usage.cache_creation_input_tokens != 0) is cached
    assert 30 in [warning["rule"] for warning in bench.emulator.report()["warnings"]]


def test_rule_30_a_prefix_below_the_minimum_is_not_cached_and_no_error(bench: Bench) -> None:
    """One token below what the model caches at least: nothing is written or read; one more, and it is."""

    def sized(tokens: int) -> list[Json]:
        short = count(bench, [user(text("a" * 1_000))])
        return [user(marked("a" * (1_000 + (tokens - short) * 1_000 // 310)))]

    below, enough = sized(511), sized(512)

    assert [count(bench, m) for m in (below, enough)] == [511, 512]
    assert [split(ask(bench, below)) for _ in range(2)] == [(0, 0, 0, 511)] * 2
    assert [split(ask(bench, enough)) for _ in range(2)] == [(0, 512, 0, 0), (512, 0, 0, 0)]
