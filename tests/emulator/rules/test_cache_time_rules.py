"""Rules 31 to 37: how long the cache keeps what, for whom, and what it tells about a miss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic
import pytest

from agentloop.core.cache import Assumed
from agentloop.emulator import EmulatorSettings, Function
from agentloop.emulator.faults import Faults, Rule
from agentloop.types.base import Json
from agentloop.types.blocks import text, tool_result, tool_use
from tests.emulator.rules.asking import HOLLOW, LONG, OPUS, SYSTEM, TOOL, ask, assistant, body, count, marked, read, split, user

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

DONE = Function("test", lambda request, step: [text("Done.")])
OLD = "claude-haiku-4-5-20251001"
"""Strips the thinking of earlier turns, and caches from 4,096 tokens on."""


def settings(**changes: Any) -> EmulatorSettings:
    return EmulatorSettings(foreign_thinking=True, **changes)


@pytest.mark.parametrize(("ttl", "seconds"), [("5m", 300), ("1h", 3_600)])
def test_rule_31_a_lifetime_runs_from_the_start_of_the_last_request_that_used_the_entry(
    bench: Bench, ttl: str, seconds: int
) -> None:
    """A read renews it at no cost; how long the answer took is lost from it."""
    bench.play(DONE, EmulatorSettings(first_byte_s=200))
    ask(bench, [user(marked(LONG, ttl))])
    bench.now += seconds
    renewed = split(ask(bench, [user(marked(LONG, ttl))]))
    bench.now += seconds
    again = split(ask(bench, [user(marked(LONG, ttl))]))
    bench.now += seconds + 1

    assert renewed[1:] == again[1:] == (0, 0, 0)
    assert read(ask(bench, [user(marked(LONG, ttl))])) == 0


@pytest.mark.parametrize(
    ("renews", "marks", "kept"),
    [("hit", True, False), ("marks", True, True), ("marks", False, False), ("chain", False, True)],
)
def test_rule_31_which_shorter_entries_a_read_renews_is_a_setting(bench: Bench, renews: Any, marks: bool, kept: bool) -> None:
    """[?] By default the entries at the request's own breakpoints before the one that was read."""
    bench.play(DONE, EmulatorSettings(cache=Assumed(renews=renews), strict=True))
    ask(bench, [user(marked(LONG), marked("two"))])
    bench.now += 299
    ask(bench, [user(marked(LONG) if marks else text(LONG), marked("two"))])
    bench.now += 299

    assert (read(ask(bench, [user(text(LONG), marked("other"))])) > 0) is kept
    assert 31 in [warning["rule"] for warning in bench.emulator.report()["warnings"]]


def test_rule_32_a_prompt_is_read_written_for_an_hour_written_for_five_minutes_and_fresh_in_this_order(bench: Bench) -> None:
    """The three points of the documentation part the prompt, and every token of it is billed once."""
    first = ask(bench, [user(marked(LONG, "1h"))])
    messages = [user(text(LONG), marked("hour " * 300, "1h"), marked("minutes " * 200), text("fresh"))]

    parts = split(ask(bench, messages))

    up_to_b = count(bench, [user(text(LONG), text("hour " * 300))])
    up_to_c = count(bench, [user(text(LONG), text("hour " * 300), text("minutes " * 200))])
    point_a = first.cache_creation_input_tokens
    assert parts == (point_a, up_to_c - up_to_b, up_to_b - point_a, count(bench, messages) - up_to_c)  # type: ignore[operator]


@pytest.mark.parametrize(("remark", "kept"), [("keeps", True), ("shortens", False)])
def test_rule_33_a_5m_breakpoint_on_an_entry_of_an_hour_reads_it_and_leaves_it_its_hour(
    bench: Bench, remark: Any, kept: bool
) -> None:
    """[?] Whether it stays an entry of an hour is a setting; it is read either way."""
    bench.play(DONE, EmulatorSettings(cache=Assumed(remark=remark), strict=True))
    wrote = split(ask(bench, [user(marked(LONG, "1h"))]))

    assert split(ask(bench, [user(marked(LONG, "5m"))])) == (wrote[2], 0, 0, 0)
    bench.now += 301
    assert (read(ask(bench, [user(marked(LONG, "1h"))])) > 0) is kept
    assert 33 in [warning["rule"] for warning in bench.emulator.report()["warnings"]]


def test_rule_33_an_hours_breakpoint_on_an_entry_of_five_minutes_reads_it_and_leaves_it_its_five(bench: Bench) -> None:
    """[?] What was read is not written again, for no longer either; strict mode says so."""
    bench.play(DONE, EmulatorSettings(strict=True))
    wrote = split(ask(bench, [user(marked(LONG, "5m"))]))

    assert split(ask(bench, [user(marked(LONG, "1h"))])) == (wrote[1], 0, 0, 0)
    bench.now += 301
    assert read(ask(bench, [user(marked(LONG, "1h"))])) == 0
    assert 33 in [warning["rule"] for warning in bench.emulator.report()["warnings"]]


@pytest.mark.parametrize("fault", ["429", "500", "529", "reset"])
def test_rule_34_a_request_that_fails_before_it_is_answered_writes_nothing_and_costs_nothing(bench: Bench, fault: str) -> None:
    """The request that follows it finds no entry, and the report no line."""
    bench.play(DONE, faults=Faults((Rule(fault=fault, request=1),)))
    with pytest.raises(anthropic.APIError):
        ask(bench, [user(marked(LONG))])
    with pytest.raises(anthropic.BadRequestError):
        ask(bench, [user(marked(LONG))], max_tokens=-1)

    assert bench.lines() == []
    assert read(ask(bench, [user(marked(LONG))])) == 0


def thinking_turn(thought: str) -> list[Json]:
    block = {"type": "thinking", "thinking": thought, "signature": "c2lnbmVk"}
    call = tool_use("toolu_1", "look", {})
    return [assistant(block, call), user(marked(tool_result("toolu_1", "seen")))]


def test_rule_35_earlier_thinking_is_part_of_the_prompt_where_the_model_keeps_it(bench: Bench) -> None:
    """It is cached with what stands behind it, and counted."""
    bench.play(DONE, settings())
    opening = [user(marked(LONG)), *thinking_turn("Hm. " * 200)]
    short = [user(marked(LONG)), *thinking_turn("Hm.")]
    wrote = split(ask(bench, opening, tools=[TOOL]))

    usage = ask(bench, [*opening[:-1], user(tool_result("toolu_1", "seen")), assistant(text("Seen.")), user(marked("And?"))],
                tools=[TOOL])  # fmt: skip

    assert count(bench, opening, tools=[TOOL]) > count(bench, short, tools=[TOOL]) + 200
    assert read(usage) == wrote[1]


def test_rule_35_models_that_strip_it_lose_it_and_the_messages_cache_when_the_user_says_more(bench: Bench) -> None:
    """Within a tool loop the thinking stays; the next thing that is no tool result takes it out."""
    bench.play(DONE, settings())
    system, first = [marked(SYSTEM * 8)], user(marked(LONG))
    asked: Json = {"model": OLD, "system": system, "tools": [TOOL]}
    opening = [first, *thinking_turn("Hm. " * 400)]
    ask(bench, opening[:1], **asked)
    within = split(ask(bench, opening, **asked))
    said = [*opening, assistant(text("Seen.")), user(marked("And?"))]
    after = split(ask(bench, [*unmarked(said[:-1]), said[-1]], **asked))

    only_system = read(ask(bench, [user(marked("Other."))], **asked))
    assert within[0] > only_system  # the loop went on from the first message
    assert after[0] == only_system
    assert sum(after) < sum(within) + 50  # 400 tokens of thinking have gone


def unmarked(messages: list[Json]) -> list[Json]:
    return [m | {"content": [{k: v for k, v in b.items() if k != "cache_control"} for b in m["content"]]} for m in messages]


def diagnosis(bench: Bench, messages: list[Json], previous: str | None, **asked: Any) -> tuple[str, Any]:
    reply = bench.ask(messages, model=OPUS, diagnostics={"previous_message_id": previous}, **asked)
    return reply.id, reply.to_dict()["diagnostics"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_": "claude-sonnet-5-5"}, "model_changed"),
        ({"tools": [HOLLOW]}, "tools_changed"),
        ({"system": "Be brief."}, "system_changed"),
        ({"messages": [user(text("other"))]}, "messages_changed"),
        ({"output_config": {"effort": "low"}}, "unavailable"),
    ],
)
def test_rule_36_diagnostics_name_the_first_level_that_differs(bench: Bench, change: Json, reason: str) -> None:
    """A request is held against the one that it names, level by level."""
    first = bench.ask([user(marked(LONG))], diagnostics={"previous_message_id": None}, model=OPUS)
    asked = {"messages": [user(marked(LONG))], "model": change.get("model_", OPUS)} | change
    asked.pop("model_", None)

    reply = bench.ask(asked.pop("messages"), diagnostics={"previous_message_id": first.id}, **asked)

    assert first.diagnostics is None
    assert reply.to_dict()["diagnostics"]["cache_miss_reason"]["type"] == reason  # type: ignore[index]


def test_rule_36_diagnostics_are_null_pending_or_do_not_know_the_message(bench: Bench) -> None:
    """Nothing to report; a comparison that is not done yet; a message that sent no diagnostics."""
    bench.play(DONE, EmulatorSettings(first_byte_s=5))
    first, nothing = diagnosis(bench, [user(marked(LONG))], None)
    _, pending = diagnosis(bench, [user(marked("other"))], first)
    bench.now += 5
    _, same = diagnosis(bench, [user(marked(LONG))], first)
    _, unknown = diagnosis(bench, [user(marked(LONG))], "msg_unknown")

    assert (nothing, pending, same) == (None, {"cache_miss_reason": None}, None)
    assert unknown == {"cache_miss_reason": {"type": "previous_message_not_found"}}


@pytest.mark.parametrize(("shared", "found"), [(False, False), (True, True)])
def test_rule_37_nothing_is_shared_between_speeds_unless_the_settings_say_so(bench: Bench, shared: bool, found: bool) -> None:
    """[?] The documentation has it both ways for the tools; by default the two speeds share nothing."""
    bench.play(DONE, EmulatorSettings(cache=Assumed(speeds_share_tools=shared), strict=True))
    asked = body(model="claude-opus-5-5")
    ask(bench, **asked)

    fast = ask(bench, **asked, speed="fast")

    assert (read(fast) > 0) is found
    assert 37 in [warning["rule"] for warning in bench.emulator.report()["warnings"]]


def test_rule_37_nothing_is_shared_between_models_and_workspaces(bench: Bench) -> None:
    """Each of them writes its own."""
    variants: list[Json] = [{}, {"model": "claude-sonnet-5-5"}, {"workspace_id": "wrkspc_2"}]

    assert [read(ask(bench, **body(**v))) for v in variants] == [0, 0, 0]
    assert all(read(ask(bench, **body(**v))) for v in variants)
