import json

import pytest
from pydantic import ValidationError

from agentloop.core import cache, wire
from agentloop.core.cache import Account, Entry
from agentloop.core.decide import CallModel, Compact, decide
from agentloop.core.state import State
from agentloop.core.view import messages
from agentloop.policies import EveryTurn, FourMarks, Never, PolicySettings
from agentloop.testing import NOON, calls_tool, card, given, reply, says, started
from agentloop.types.blocks import text, tool_use
from tests.unit.lines import after, answered, asked, cut, finished, words

THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
TOOL = {"name": "look", "description": "Look.", "input_schema": {"type": "object"}}


def turns(count: int, **first: object) -> list[object]:
    lines: list[object] = [started(**first), given("task")]  # type: ignore[arg-type]
    for n in range(count):
        lines += [asked(n + 1), answered(calls_tool(f"call-{n}", "look"), n + 1), finished(f"call-{n}", f"r{n}")]
    return lines


def marks(state: State, policy: FourMarks | None = None) -> list[tuple[int, int, str]]:
    return [(b.message, b.block, b.ttl) for b in (policy or FourMarks()).breakpoints(state, messages(state))]


def test_the_first_request_marks_the_end_of_the_prefix_and_its_own_end() -> None:
    assert marks(after(*turns(0))) == [(-1, 0, "5m"), (0, 0, "5m")]


def test_a_later_request_marks_prefix_state_previous_end_and_its_own_end() -> None:
    # messages: 0 task, 1 call, 2 result, 3 call, 4 result; the last request ended at 2
    assert marks(after(*turns(2))) == [(-1, 0, "5m"), (0, 0, "5m"), (2, 0, "5m"), (4, 0, "5m")]


def test_at_the_second_request_the_previous_end_is_the_task() -> None:
    assert marks(after(*turns(1))) == [(-1, 0, "5m"), (0, 0, "5m"), (2, 0, "5m")]


def test_after_a_cut_there_is_no_previous_end() -> None:
    # the task and its state are one message of two blocks
    assert marks(after(*turns(9), cut(3))) == [(-1, 0, "5m"), (0, 1, "5m"), (12, 0, "5m")]


def test_one_request_after_a_cut_the_previous_end_is_marked_again() -> None:
    more = [asked(10), answered(calls_tool("x", "look"), 10), finished("x")]

    assert marks(after(*turns(9), cut(3), *more)) == [(-1, 0, "5m"), (0, 1, "5m"), (12, 0, "5m"), (14, 0, "5m")]


def test_when_a_reply_is_asked_for_again_the_block_where_the_request_ended_is_marked() -> None:
    lines = [*turns(1), asked(2), answered(reply(text(" ")), 2), given("go on")]

    assert marks(after(*lines)) == [(-1, 0, "5m"), (0, 0, "5m"), (2, 0, "5m"), (2, 1, "5m")]


def test_a_paused_reply_is_marked_at_its_end() -> None:
    lines = [*turns(1), asked(2), answered(reply(text("Searching."), stop_reason="pause_turn"), 2)]

    assert marks(after(*lines)) == [(-1, 0, "5m"), (0, 0, "5m"), (2, 0, "5m"), (3, 0, "5m")]


def test_thinking_carries_no_mark() -> None:
    lines = [*turns(1), asked(2), answered(reply(text("Searching."), THINKING, stop_reason="pause_turn"), 2)]

    assert marks(after(*lines))[-1] == (3, 0, "5m")


def test_a_message_of_nothing_but_thinking_carries_no_mark() -> None:
    lines = [*turns(1), asked(2), answered(reply(THINKING, stop_reason="pause_turn"), 2)]

    assert marks(after(*lines)) == [(-1, 0, "5m"), (0, 0, "5m"), (2, 0, "5m")]


def test_without_system_and_tools_there_is_no_prefix_to_mark() -> None:
    assert marks(after(*turns(0, system=""))) == [(0, 0, "5m")]


def test_tools_alone_are_a_prefix() -> None:
    assert marks(after(*turns(0, system="", tools=[TOOL])))[0] == (-1, 0, "5m")


def test_what_is_off_is_not_marked() -> None:
    policy = FourMarks(static_ttl="1h", state_ttl="off", tail_ttl="off")

    assert marks(after(*turns(2)), policy) == [(-1, 0, "1h")]


def test_without_a_mark_for_the_state_the_first_request_is_marked_at_its_end() -> None:
    assert marks(after(*turns(0)), FourMarks(state_ttl="off")) == [(-1, 0, "5m"), (0, 0, "5m")]


def test_where_two_marks_fall_together_the_longer_lifetime_stays() -> None:
    policy = FourMarks(static_ttl="1h", state_ttl="1h", tail_ttl="5m")

    assert marks(after(*turns(0)), policy) == [(-1, 0, "1h"), (0, 0, "1h")]


@pytest.mark.parametrize(
    ("static", "state", "tail"), [("5m", "1h", "1h"), ("5m", "5m", "1h"), ("off", "5m", "1h"), ("5m", "off", "1h")]
)
def test_an_hour_behind_five_minutes_is_refused(static: str, state: str, tail: str) -> None:
    with pytest.raises(ValidationError, match="1h entries before 5m entries"):
        FourMarks.model_validate({"static_ttl": static, "state_ttl": state, "tail_ttl": tail})


def accounts(lines_of_requests: list[list[object]], settings: PolicySettings) -> list[Account]:
    """What the cache reads and writes for the requests that are decided at the end of each of these logs."""
    entries: dict[bytes, Entry] = {}
    found = []
    for n, lines in enumerate(lines_of_requests):
        effect = decide(after(*lines), settings.policies(), NOON)
        if isinstance(effect, Compact):
            effect = decide(after(*lines, cut(effect.keep_from, effect.segment)), settings.policies(), NOON)
        assert isinstance(effect, CallModel)
        parts, marked = cache.parts_of(json.loads(wire.body(effect.request)), card())
        account = cache.account(cache.prompt(parts, marked, card()), entries, n, n)
        entries |= account.changes
        found.append(account)
    return found


def test_each_request_reads_everything_that_the_one_before_it_sent() -> None:
    lines = [turns(n, system=words(1_000)) for n in range(9)]

    found = accounts(lines, PolicySettings(compaction=Never()))

    assert [a.read for a in found[1:]] == [a.read + a.written_5m for a in found[:-1]]
    assert all(a.fresh == 0 for a in found)


def test_any_number_of_parallel_results_costs_no_cache_read() -> None:
    many = reply(text("a"), *(b for n in range(30) for b in (tool_use(f"c{n}", "look", {}), text(f"and {n}"))))
    before: list[object] = [started(system=words(1_000)), given("task")]
    after_it = [*before, asked(1), answered(many), *(finished(f"c{n}") for n in range(30))]

    first, second = accounts([before, after_it], PolicySettings(compaction=Never()))

    assert second.read == first.written_5m


def test_after_a_cut_the_prefix_and_the_task_are_still_read() -> None:
    lines = [turns(n, system=words(1_000)) for n in (2, 3)]

    _, after_cut = accounts(lines, PolicySettings(compaction=EveryTurn(keep_pairs=2)))

    assert after_cut.read == 1_006 + 2


def test_no_request_carries_more_than_four_marks() -> None:
    empty = [asked(), answered(reply(text(" "))), given("go on")]
    logs = [turns(n) for n in range(9)] + [[*turns(9), cut(k), *more] for k in (1, 3) for more in ([], empty)]

    assert max(len(marks(after(*lines))) for lines in logs) == 4


def test_marks_come_in_the_order_of_the_prompt() -> None:
    state = after(*turns(5), asked(6), answered(says("x"), 6), given("more"))

    assert marks(state) == sorted(marks(state))
