from agentloop.core.folding import evolve
from agentloop.core.state import State
from agentloop.core.view import messages, opening
from agentloop.testing import calls_tool, events, given, reply, says, started
from agentloop.types.blocks import assistant, text, tool_result, tool_use, user
from tests.unit.lines import after, answered, asked, cut, finished

THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "s"}


def session(turns: int) -> State:
    lines: list[object] = [started(), given("task")]
    for n in range(turns):
        lines += [asked(n + 1), answered(calls_tool(f"call-{n}", "look"), n + 1), finished(f"call-{n}", f"result {n}")]
    return after(*lines)


def test_the_task_is_the_first_message() -> None:
    assert messages(session(0)) == (user(text("task")),)


def test_calls_and_their_results_follow_each_other() -> None:
    assert messages(session(2)) == (
        user(text("task")),
        assistant(tool_use("call-0", "look", {})),
        user(tool_result("call-0", "result 0")),
        assistant(tool_use("call-1", "look", {})),
        user(tool_result("call-1", "result 1")),
    )


def test_a_summary_takes_the_place_of_results_whose_calls_were_cut() -> None:
    state = evolve(session(20), events(*[cut(14, "summary")])[0])

    first, second, *rest = messages(state)

    assert first == user(text("task"), text("summary"))
    assert second == assistant(tool_use("call-14", "look", {}))
    assert len(rest) == 11


def test_each_cut_adds_a_block_behind_those_before_it() -> None:
    state = evolve(session(20), events(cut(5, "first"))[0])

    assert opening(evolve(state, events(cut(14, "second"))[0])) == user(text("task"), text("first"), text("second"))


def test_every_call_has_its_result_in_the_next_message_whatever_was_cut() -> None:
    for keep_from in range(1, 9):
        view = messages(evolve(session(9), events(cut(keep_from))[0]))

        called = [(i + 1, b["id"]) for i, m in enumerate(view) for b in m.content if b["type"] == "tool_use"]
        results = [(i, b["tool_use_id"]) for i, m in enumerate(view) for b in m.content if b["type"] == "tool_result"]
        assert called == results


def test_a_view_extends_the_view_before_it() -> None:
    before, now = messages(session(5)), messages(session(6))

    assert [m.wire for m in now[: len(before)]] == [m.wire for m in before]


def test_unknown_blocks_and_thinking_are_shown_as_they_came() -> None:
    novel = {"type": "hologram", "z": 1, "a": [2]}
    answer = reply(THINKING, novel, tool_use("a", "look", {}))

    view = messages(after(started(), given("task"), asked(1), answered(answer), finished("a")))

    assert view[1] == assistant(THINKING, novel, tool_use("a", "look", {}))


def test_a_turn_that_held_nothing_but_dropped_thinking_leaves_no_empty_message() -> None:
    paused = reply(THINKING, stop_reason="pause_turn")
    lines = [started(), given("task"), asked(1), answered(calls_tool("a", "look")), finished("a"), asked(2), answered(paused)]

    view = messages(after(*lines, asked(3), answered(says("done")), given("more"), cut(1, thinking_dropped=True)))

    assert all(m.content for m in view)
    assert [m.role for m in view] == ["user", "assistant", "user"]


def test_what_a_user_says_next_follows_the_last_reply() -> None:
    state = after(started(), given("task"), asked(1), answered(says("done")), given("more"))

    assert messages(state) == (user(text("task")), assistant(text("done")), user(text("more")))
