"""Tools behind the API's tool search: which are deferred, what is frozen, and how a reply that searched is kept."""

import json
from pathlib import Path

import pytest

from agentloop import freeze
from agentloop.agents import AgentFile
from agentloop.core import wire
from agentloop.core.cuts import latest_cut
from agentloop.core.decide import RunTools, decide
from agentloop.core.measuring import prefix_tokens
from agentloop.core.parts import parts_of
from agentloop.core.state import State
from agentloop.core.view import messages
from agentloop.errors import PrefixUnstable, RegistryError
from agentloop.policies import PolicySettings
from agentloop.testing import NOON, calls_tool, card, given, reply, started
from agentloop.tooling import MAX_TOOLS, SEARCH_TOOL, Registry, Tool, tool
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.limits import Limits
from agentloop.types.request import Breakpoint, Prefix, Request
from agentloop.workspace import ToolSearch
from tests.unit.lines import after, answered, asked, cut, finished

THINKING = {"type": "thinking", "thinking": "Which tool?", "signature": "s"}


def named(name: str, words: int = 10) -> Tool:
    def use(where: str) -> str:
        return where

    use.__doc__ = f"Use {name}. " + "More of it. " * words
    return tool(name=name, effect="read")(use)


TOOLS = [named(f"tool_{n:02}") for n in range(12)]
SEARCHED = Registry(TOOLS).searched({"tool_03", "tool_01"})


def search(n: int, query: str = "a tool") -> Json:
    return {"type": "server_tool_use", "id": f"srvtoolu_{n}", "name": "tool_search_tool_bm25", "input": {"query": query}}


def found(n: int, *names: str) -> Json:
    references = [{"type": "tool_reference", "tool_name": name} for name in names]
    content = {"type": "tool_search_tool_search_result", "tool_references": references}
    return {"type": "tool_search_tool_result", "tool_use_id": f"srvtoolu_{n}", "content": content}


def registry(mode: ToolSearch, tools: list[Tool]) -> Registry:
    agent = AgentFile(Path("a.md"), "a", "Be brief.", {}, tools=())
    return freeze.registry(Path("none"), agent, tools, [named("recall")], tool_search=mode)


def deferred(made: Registry) -> list[str]:
    return [t["name"] for t in made.definitions if t.get("defer_loading")]


# which tools are deferred


def test_all_but_the_hot_tools_are_deferred_behind_the_search() -> None:
    assert SEARCHED.definitions[0] == SEARCH_TOOL
    assert [t["name"] for t in SEARCHED.definitions[1:3]] == ["tool_01", "tool_03"]
    assert len(deferred(SEARCHED)) == 10
    assert SEARCHED.tools == Registry(TOOLS).tools


def test_where_nothing_is_left_to_defer_there_is_no_search() -> None:
    assert Registry(TOOLS).searched({t.name for t in TOOLS}).definitions == Registry(TOOLS).definitions


def test_those_that_come_first_and_recall_stay_in_the_prefix() -> None:
    made = registry("on", list(reversed(TOOLS)))

    assert [t["name"] for t in made.definitions if not t.get("defer_loading")] == [
        "tool_search_tool_bm25",
        "recall",
        *("tool_08", "tool_09", "tool_10", "tool_11"),
    ]


@pytest.mark.parametrize(
    ("mode", "words", "searched"), [("off", 400, False), ("auto", 10, False), ("auto", 400, True), ("on", 10, True)]
)
def test_auto_searches_from_ten_thousand_tokens_of_definitions_on(mode: ToolSearch, words: int, searched: bool) -> None:
    made = registry(mode, [named(f"tool_{n:02}", words) for n in range(12)])

    assert bool(deferred(made)) is searched


def test_more_tools_than_a_prefix_takes_can_be_searched() -> None:
    many = [named(f"tool_{n:03}") for n in range(MAX_TOOLS + 50)]

    assert len(deferred(registry("on", many))) == MAX_TOOLS + 50 - 4
    with pytest.raises(RegistryError, match=f"{MAX_TOOLS + 51} tools, at most {MAX_TOOLS}"):
        registry("off", many)


# what is frozen


def test_deferred_definitions_are_part_of_the_digest_and_not_of_the_tokens() -> None:
    hot, whole = Registry([TOOLS[1], TOOLS[3]]), Registry(TOOLS)
    searched, plain = (Prefix(model="m", system="s", tools=r.definitions) for r in (SEARCHED, whole))
    other = Prefix(
        model="m", system="s", tools=Registry([*TOOLS[:-1], named("another")]).searched({"tool_01", "tool_03"}).definitions
    )
    only_hot = Prefix(model="m", system="s", tools=(SEARCH_TOOL, *hot.definitions))

    assert len({wire.prefix_digest(p) for p in (searched, plain, other, only_hot)}) == 4
    assert prefix_tokens(searched, card()) == prefix_tokens(only_hot, card()) < prefix_tokens(plain, card())


def test_a_mark_for_tools_alone_stands_on_the_last_one_in_the_prefix() -> None:
    prefix = Prefix(model="m", system="", tools=SEARCHED.definitions)
    request = Request(prefix, (blocks.user(blocks.text("hi")),), (Breakpoint(wire.SYSTEM, 0, "5m"),), 100)

    marked = [t["name"] for t in json.loads(wire.body(request))["tools"] if "cache_control" in t]

    assert marked == ["tool_03"]


@pytest.mark.parametrize("now", [Registry(TOOLS), SEARCHED, Registry(TOOLS).searched({"tool_07"})])
@pytest.mark.parametrize("before", [Registry(TOOLS), SEARCHED])
def test_a_session_is_taken_up_with_the_search_it_started_with_whatever_the_setting_says(
    now: Registry, before: Registry
) -> None:
    state = after(started(tools=before.definitions, tool_cards=before.cards), given("task"))

    assert freeze.resumption(state, now, now.cards, Limits(), frozenset(), accept_new_prefix=False) is None


def test_a_deferred_tool_that_changed_is_a_change_of_the_prefix() -> None:
    state = after(started(tools=SEARCHED.definitions), given("task"))
    changed = Registry([*TOOLS[:-1], named("tool_11", 3)])

    with pytest.raises(PrefixUnstable, match="changed: tool_11"):
        freeze.resumption(state, changed, changed.cards, Limits(), frozenset(), accept_new_prefix=False)
    resumed = freeze.resumption(state, changed, changed.cards, Limits(), frozenset(), accept_new_prefix=True)

    assert resumed is not None
    assert resumed.prefix is not None
    assert resumed.prefix.tools == changed.searched({"tool_01", "tool_03"}).definitions


# how a reply that searched is kept


def session(*replies: object) -> State:
    lines: list[object] = [started(tools=SEARCHED.definitions, tool_cards=SEARCHED.cards), given("task")]
    for n, said in enumerate(replies, 1):
        lines += [asked(n), answered(said, n)]  # type: ignore[arg-type]
        lines += [finished(c.id) for c in blocks.calls(said.content)]  # type: ignore[attr-defined]
    return after(*lines)


def estimated(state: State) -> int:
    """The tokens of the next request as the cache theory counts them."""
    request = Request(state.prefix, messages(state), (), 100)
    return sum(p.tokens for p in parts_of(json.loads(wire.body(request)), state.card)[0])


def test_only_the_call_of_the_found_tool_is_run_here() -> None:
    said = reply(THINKING, search(1), found(1, "tool_05"), blocks.tool_use("c", "tool_05", {"where": "here"}))
    state = after(started(tools=SEARCHED.definitions), given("task"), asked(), answered(said))

    effect = decide(state, PolicySettings().policies(), NOON)

    assert isinstance(effect, RunTools)
    assert [c.id for c in effect.calls] == ["c"]


def test_the_search_goes_back_as_it_came() -> None:
    said = reply(THINKING, search(1), found(1, "tool_05"), blocks.tool_use("c", "tool_05", {"where": "here"}))

    assert messages(session(said))[1].content == said.content


def test_a_definition_counts_where_it_was_found_first() -> None:
    use = [blocks.tool_use(f"c{n}", "tool_05", {"where": "here"}) for n in range(3)]
    state = session(
        reply(search(1), found(1, "tool_05", "tool_06"), use[0]),
        reply(use[1]),
        reply(search(2), found(2, "tool_05", "tool_07", "tool_01"), use[2]),
    )

    assert state.prompt_tokens == estimated(state)


def test_it_still_counts_once_the_thinking_was_dropped() -> None:
    searched = reply(THINKING, search(1), found(1, "tool_05"), blocks.tool_use("c", "tool_05", {"where": "here"}))
    lines = [started(tools=SEARCHED.definitions), given("task"), asked(), answered(calls_tool("a", "tool_01"))]
    state = after(*lines, finished("a"), asked(2), answered(searched, 2), finished("c"), cut(1, thinking_dropped=True))

    assert not any(b["type"] == "thinking" for m in messages(state) for b in m.content)
    assert state.prompt_tokens == estimated(state)


def test_a_cut_never_parts_a_result_from_the_search_before_it() -> None:
    waiting = reply(search(2), blocks.tool_use("b", "tool_01", {}))
    behind = reply(found(2, "tool_05"), blocks.tool_use("c", "tool_05", {}))
    state = session(calls_tool("a", "tool_01"), waiting, behind, calls_tool("d", "tool_01"))

    assert [latest_cut(state, keep) for keep in (3, 2, 1)] == [1, 1, 3]
