from dataclasses import replace

import pytest
from hypothesis import given as example
from hypothesis import strategies as st

from agentloop.core.state import State
from agentloop.policies import ByKind
from agentloop.policies.facts.floor import floor, misses
from agentloop.testing import given, reply, started
from agentloop.types import blocks
from agentloop.types.blocks import Call
from agentloop.types.events import RawResult
from agentloop.types.limits import Limits
from tests.unit.facts_of import FAMILY, HANDLE
from tests.unit.lines import after, answered, asked, finished, started_call, unit_card

TEXT = "\n".join(f"Sentence {n} tells of the sea and of the weather at the harbour." for n in range(200))


def digest(n: int) -> str:
    return f"{n:064x}"[::-1]


def looked(times: int, recalled: int) -> State:
    """A session in which `look` brought so many results as facts, and the model recalled so many of them."""
    lines: list[object] = [started(model=unit_card()), given("task")]
    for n in range(times):
        raw = RawResult(digest=digest(n), bytes=9_000, tokens=3_000, extractor="by_kind", left_out="much")
        lines += [asked(), answered(reply(blocks.tool_use(f"c{n}", "look", {})))]
        lines += [started_call(f"c{n}"), finished(f"c{n}", "facts", raw=raw)]
    for n in range(recalled):
        call = blocks.tool_use(f"r{n}", "recall", {"handle": digest(n)[:12]})
        lines += [asked(), answered(reply(call)), started_call(f"r{n}", "recall"), finished(f"r{n}", "more", name="recall")]
    return after(*lines)


def test_what_is_recalled_is_counted_once_for_the_tool_that_brought_it() -> None:
    state = looked(4, 2)

    assert len(state.facts_shown["look"]) == 4
    assert state.facts_recalled == {"look": frozenset((digest(0), digest(1)))}
    assert misses(state, "look") == pytest.approx(2.25 / 9)
    assert misses(state, "other") == pytest.approx(0.05)


def test_the_worked_example_of_the_formula() -> None:
    """Economics 7: 40,000 tokens of prompt, 20 turns to come, a tenth recalled: some hundred tokens are worth cutting."""
    state = replace(looked(0, 0), prefix_tokens=40_000, facts_shown={"look": frozenset(map(str, range(20)))})
    state = replace(state, facts_recalled={"look": frozenset(map(str, range(2)))})

    assert 100 < floor(state, "look", 0.12) < 300


def test_a_tool_whose_results_are_mostly_recalled_is_shown_whole() -> None:
    call = Call("c", "look", {})
    seldom, often = looked(12, 0), looked(12, 12)

    assert ByKind().shown(call, TEXT, "facts", HANDLE, FAMILY, None, seldom).raw is not None
    assert ByKind().shown(call, TEXT, "facts", HANDLE, FAMILY, None, often).raw is None
    assert ByKind().shown(Call("c", "other", {}), TEXT, "facts", HANDLE, FAMILY, None, often).raw is not None


@example(st.integers(0, 12), st.integers(0, 12), st.integers(1, 60))
def test_the_more_is_recalled_the_larger_a_result_must_be(times: int, more: int, turns: int) -> None:
    state = replace(looked(12, 0), limits=Limits(max_turns=12 + turns))
    some = replace(state, facts_recalled={"look": frozenset(map(digest, range(min(times, more))))})
    rest = replace(state, facts_recalled={"look": frozenset(map(digest, range(max(times, more))))})

    assert 0 < floor(some, "look", 0.45) <= floor(rest, "look", 0.45)
