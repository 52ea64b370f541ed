import pytest

from agentloop.core.cuts import latest_cut, removed, removed_tokens
from agentloop.core.state import State
from agentloop.testing import calls_tool, given, reply, says, started
from agentloop.types.blocks import text, tool_result, tool_use
from tests.unit.lines import after, answered, asked, cut, finished, words


def session(turns: int, *more: object) -> State:
    lines: list[object] = [started(), given("task")]
    for n in range(turns):
        lines += [asked(n + 1), answered(calls_tool(f"call-{n}", "look"), n + 1), finished(f"call-{n}", f"result {n}")]
    return after(*lines, *more)


@pytest.mark.parametrize(("turns", "expected"), [(0, None), (5, None), (6, None), (7, 1), (17, 11)])
def test_a_cut_leaves_the_last_pairs(turns: int, expected: int | None) -> None:
    assert latest_cut(session(turns), 6) == expected


def test_a_second_cut_counts_from_the_first() -> None:
    state = session(17, cut(11))

    assert latest_cut(state, 6) is None
    assert latest_cut(state, 4) == 13


def test_a_cut_that_would_leave_nothing_is_none() -> None:
    assert latest_cut(session(9), 0) is None


def test_a_removed_pair_is_a_reply_and_what_answered_it() -> None:
    first, second = removed(session(9), 2)

    assert (first.turn, first.reply, first.answer) == (
        0,
        (tool_use("call-0", "look", {}),),
        (tool_result("call-0", "result 0"),),
    )
    assert (second.turn, second.reply) == (1, (tool_use("call-1", "look", {}),))


def test_parallel_results_leave_together() -> None:
    both = reply(tool_use("a", "look", {}), tool_use("b", "look", {}))
    lines = [asked(3), answered(both, 3), finished("a", "1"), finished("b", "2"), asked(4), answered(says("x"), 4)]

    pair = removed(session(2, *lines, given("on")), 3)[-1]

    assert [b["tool_use_id"] for b in pair.answer] == ["a", "b"]


def test_turns_are_counted_over_the_whole_session() -> None:
    assert [r.turn for r in removed(session(9, cut(3)), 5)] == [3, 4]


def test_removed_tokens_are_those_of_the_removed_pairs() -> None:
    lines: list[object] = [started(), given(words(600))]
    for n in range(4):
        lines += [asked(n + 1), answered(says(words(100 + n)), n + 1), given(words(10 + n))]
    state = after(*lines)

    assert removed_tokens(state, 2) == (100 + 10) + (101 + 11)
    assert [r.tokens for r in removed(state, 2)] == [110, 112]


def test_the_task_is_never_removed() -> None:
    pairs = removed(session(9), 3)

    assert text("task") not in [b for p in pairs for b in (*p.reply, *p.answer)]


def test_removed_tokens_of_a_second_cut_are_those_since_the_first() -> None:
    lines: list[object] = [started(), given(words(600))]
    for n in range(6):
        lines += [asked(n + 1), answered(says(words(100 + n)), n + 1), given(words(10 + n))]

    assert removed_tokens(after(*lines, cut(2)), 4) == (102 + 12) + (103 + 13)


def test_a_reply_that_goes_on_after_a_pause_stays_with_the_reply_it_goes_on_from() -> None:
    paused = reply(text("Searching."), stop_reason="pause_turn")
    lines = [asked(3), answered(paused, 3), asked(4), answered(calls_tool("call-3", "look"), 4), finished("call-3")]

    state = session(2, *lines)  # four turns, of which the last was given nothing

    assert [latest_cut(state, keep) for keep in (1, 2, 3)] == [2, 2, 1]
