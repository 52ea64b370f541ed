"""Rules 58 to 61, and the stop reasons of scripted replies: what the API itself does to a history."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from anthropic import APIStatusError

from agentloop.adapters.model_table import models
from agentloop.emulator import EmulatorSettings, Function, ScriptedReply, editing, history
from agentloop.emulator.compacting import unavailable
from agentloop.emulator.script import spoken
from agentloop.types.base import Json
from agentloop.types.blocks import Block, text, text_of, tool_result, tool_use

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

EDITING = "context-management-2025-06-27"
ON_DEMAND = "compact-2026-09-04"
BY_THRESHOLD = "compact-2026-01-12"
CONTROLS = "thinking-binding-controls-2026-08-01"
INLINE_TOOLS = "inline-tools-2026-09-15"
CACHED = {"cache_control": {"type": "ephemeral"}}
LOOK = {"name": "look", "input_schema": {"type": "object"}}
KEEP = {"name": "keep", "input_schema": {"type": "object"}}
CLEAR_TOOLS: Json = {"type": "clear_tool_uses_20250919"}
CLEAR_THINKING: Json = {"type": "clear_thinking_20251015"}
COMPACT: Json = {"type": "compact_20260112"}
SUMMARIZE = {"compaction": {"type": "summarize"}}
LONG = "what was found in the ledger of the shop " * 100
CLOSED = {"type": "object", "additionalProperties": False}
SUMMARY = "The user looked at ledgers."


def user(*content: Block | str) -> Json:
    return {"role": "user", "content": [text(c) if isinstance(c, str) else c for c in content]}


def assistant(*content: Block | str) -> Json:
    return {"role": "assistant", "content": [text(c) if isinstance(c, str) else c for c in content]}


def looked(times: int, tool: str = "look", result: str = LONG) -> list[Json]:
    """A conversation of so many calls, all answered."""
    messages = [user("Look.")]
    for n in range(times):
        messages += [
            assistant(tool_use(f"toolu_{n}", tool, {"page": n, "why": "for the yearly report of the shop"})),
            user(tool_result(f"toolu_{n}", f"{n}: {result}")),
        ]
    return messages


def edits(*which: Json) -> Json:
    return {"context_management": {"edits": list(which)}}


def ask(bench: Bench, messages: list[Json], *betas: str, **more: Any) -> Json:
    """One request through the SDK's beta client."""
    body = {"model": "claude-sonnet-5-5", "max_tokens": 5_000, "messages": messages, "tools": [LOOK, KEEP]} | more
    beta = bench.sdk().beta.messages
    return beta.create(model="x", max_tokens=1, messages=[], betas=list(betas), extra_body=body).to_dict()


def count(bench: Bench, messages: list[Json], *betas: str, **more: Any) -> Json:
    body = {"model": "claude-sonnet-5-5", "messages": messages, "tools": [LOOK, KEEP]} | more
    beta = bench.sdk().beta.messages
    return beta.count_tokens(model="x", messages=[], betas=list(betas), extra_body=body).to_dict()


def refused(bench: Bench, messages: list[Json], *betas: str, **more: Any) -> APIStatusError:
    with pytest.raises(APIStatusError) as error:
        ask(bench, messages, *betas, **more)
    return error.value


def prompt_tokens(usage: Json) -> int:
    return int(usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"])


# 58: context editing


def test_rule_58_editing_needs_its_header(bench: Bench) -> None:
    """Without the beta header the request has no such field."""
    assert "context_management: Extra inputs are not permitted" in str(refused(bench, looked(1), **edits(CLEAR_TOOLS)))


def test_rule_58_nothing_is_cleared_below_the_trigger(bench: Bench) -> None:
    """Tool results are cleared from 100,000 tokens on, where the request names no other trigger."""
    short, long = looked(5), looked(9, result=LONG * 12)

    below = ask(bench, short, EDITING, **edits(CLEAR_TOOLS))["context_management"]["applied_edits"]
    above = ask(bench, long, EDITING, **edits(CLEAR_TOOLS))["context_management"]["applied_edits"]

    assert below == []
    assert [(e["type"], e["cleared_tool_uses"]) for e in above] == [("clear_tool_uses_20250919", 6)]


def test_rule_58_the_oldest_results_go_and_the_last_three_stay(bench: Bench) -> None:
    """A result that is cleared leaves a placeholder; three tool uses stay where the request does not say how many."""
    trigger = CLEAR_TOOLS | {"trigger": {"type": "tool_uses", "value": 4}}

    cleared = ask(bench, looked(5), EDITING, **edits(trigger))
    plain = ask(bench, looked(5))
    kept_one = ask(bench, looked(5), EDITING, **edits(trigger | {"keep": {"type": "tool_uses", "value": 1}}))
    at_four = ask(bench, looked(4), EDITING, **edits(trigger))

    [edit] = cleared["context_management"]["applied_edits"]
    assert edit["cleared_tool_uses"] == 2
    assert prompt_tokens(plain["usage"]) - prompt_tokens(cleared["usage"]) == edit["cleared_input_tokens"] > 2_000
    assert kept_one["context_management"]["applied_edits"][0]["cleared_tool_uses"] == 4
    assert at_four["context_management"]["applied_edits"] == []


def test_rule_58_excluded_tools_and_inputs(bench: Bench) -> None:
    """Results of excluded tools stay; the arguments of a call go only where that is asked for, by tool if need be."""
    trigger = CLEAR_TOOLS | {"trigger": {"type": "tool_uses", "value": 1}, "keep": {"type": "tool_uses", "value": 0}}

    def cleared(**more: Any) -> Json:
        applied = ask(bench, looked(3), EDITING, **edits(trigger | more))["context_management"]["applied_edits"]
        return applied[0] if applied else {"cleared_tool_uses": 0, "cleared_input_tokens": 0}

    results = cleared()
    assert results["cleared_tool_uses"] == 3
    assert cleared(exclude_tools=["look"])["cleared_tool_uses"] == 0
    assert cleared(exclude_tools=["keep"]) == results
    assert cleared(clear_tool_inputs=True)["cleared_input_tokens"] > results["cleared_input_tokens"]
    assert cleared(clear_tool_inputs=["look"]) == cleared(clear_tool_inputs=True)
    assert cleared(clear_tool_inputs=["keep"]) == results


def test_rule_58_clear_at_least_holds_small_clearings_back(bench: Bench) -> None:
    """Where less than the least would go, nothing goes."""
    trigger = CLEAR_TOOLS | {"trigger": {"type": "tool_uses", "value": 3}}

    def cleared(least: int) -> list[Json]:
        edit = trigger | {"clear_at_least": {"type": "input_tokens", "value": least}}
        applied: list[Json] = ask(bench, looked(4), EDITING, **edits(edit))["context_management"]["applied_edits"]
        return applied

    [one] = cleared(1)
    assert cleared(one["cleared_input_tokens"]) == [one]
    assert cleared(one["cleared_input_tokens"] + 1) == []


def test_rule_58_clearing_costs_the_cache_from_the_cleared_position(bench: Bench) -> None:
    """What stands before the first cleared result is still read; the cleared history is written once and read then."""
    before = looked(5)
    before[0]["content"].append(text(LONG) | CACHED)
    trigger = edits(CLEAR_TOOLS | {"trigger": {"type": "tool_uses", "value": 4}})

    written = ask(bench, before, **CACHED)["usage"]
    cleared = ask(bench, before, EDITING, **CACHED, **trigger)["usage"]
    again = ask(bench, before, EDITING, **CACHED, **trigger)["usage"]

    assert 0 < cleared["cache_read_input_tokens"] < written["cache_creation_input_tokens"]
    assert cleared["cache_creation_input_tokens"] > 0
    assert again["cache_read_input_tokens"] == prompt_tokens(cleared)


def test_rule_58_counting_tells_the_tokens_before_and_after(bench: Bench) -> None:
    """count_tokens gives what is left, and what there was."""
    trigger = edits(CLEAR_TOOLS | {"trigger": {"type": "tool_uses", "value": 4}})

    counted = count(bench, looked(5), EDITING, **trigger)
    plain = count(bench, looked(5))

    assert counted["context_management"]["original_input_tokens"] == plain["input_tokens"]
    assert counted["input_tokens"] < plain["input_tokens"]
    assert plain.get("context_management") is None


def test_rule_58_the_last_message_delta_tells_the_edits(bench: Bench) -> None:
    """In a stream, the edits come with the last message_delta."""
    trigger = edits(CLEAR_TOOLS | {"trigger": {"type": "tool_uses", "value": 4}})
    beta = bench.sdk().beta.messages
    asked = {"model": "claude-sonnet-5-5", "max_tokens": 5_000, "messages": looked(5), "tools": [LOOK], **trigger}

    with beta.stream(model="x", max_tokens=1, messages=[], betas=[EDITING], extra_body=asked) as stream:
        final: Json = stream.get_final_message().to_dict()

    assert final["context_management"]["applied_edits"][0]["cleared_tool_uses"] == 2


def thoughtful(request: Json, step: int) -> list[Block]:
    return [{"type": "thinking", "thinking": f"{step}: {LONG}", "signature": ""}, text(f"Answer {step}.")]


def talked(bench: Bench, turns: int, **more: Any) -> list[Json]:
    messages = [user("Hello.")]
    for n in range(turns):
        messages.append(assistant(*ask(bench, messages, **more)["content"]))
        messages.append(user(f"And {n}?"))
    return messages


@pytest.mark.parametrize(
    ("keep", "cleared"),
    [
        ({}, 0),
        ({"keep": "all"}, 0),
        ({"keep": {"type": "all"}}, 0),
        ({"keep": {"type": "thinking_turns", "value": 1}}, 3),
        ({"keep": {"type": "thinking_turns", "value": 3}}, 1),
    ],
)
def test_rule_58_thinking_is_cleared_by_turns_and_stays_lawful(bench: Bench, keep: Json, cleared: int) -> None:
    """Old thinking goes turn by turn, where that is asked for; the prefix check does not mind."""
    bench.play(Function("talk", thoughtful))
    messages = talked(bench, 4)
    plain = ask(bench, messages)

    edited = ask(bench, messages, EDITING, **edits(CLEAR_THINKING | keep))
    applied = edited["context_management"]["applied_edits"]

    assert sum(e["cleared_thinking_turns"] for e in applied) == cleared
    saved = prompt_tokens(plain["usage"]) - prompt_tokens(edited["usage"])
    assert saved == sum(e["cleared_input_tokens"] for e in applied)


def test_rule_58_older_models_keep_the_last_turn_unless_told_to_keep_all(bench: Bench) -> None:
    """A model that strips earlier thinking by itself keeps it where the edit says so."""
    bench.play(Function("talk", thoughtful))
    older = {"model": "claude-sonnet-4-5-20250929", "thinking": {"type": "enabled", "budget_tokens": 2_000}}
    messages = talked(bench, 3, **older)

    stripped = prompt_tokens(ask(bench, messages, **older)["usage"])
    kept = prompt_tokens(ask(bench, messages, EDITING, **older, **edits(CLEAR_THINKING | {"keep": "all"}))["usage"])

    assert kept > stripped + 3 * 500


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        ({}, 1),
        ({"keep": {"type": "thinking_turns", "value": 1}}, 1),
        ({"keep": {"type": "thinking_turns", "value": 2}}, 2),
        ({"keep": "all"}, 4),
    ],
)
def test_rule_58_an_older_model_is_left_as_many_thinking_turns_as_the_edit_says(bench: Bench, keep: Json, left: int) -> None:
    """What the edit says it cleared is what the prompt became shorter by, on models that strip thinking by themselves too."""
    bench.play(Function("talk", thoughtful))
    older = {"model": "claude-sonnet-4-5-20250929", "thinking": {"type": "enabled", "budget_tokens": 2_000}}
    messages = talked(bench, 4, **older)
    bare = prompt_tokens(ask(bench, messages, **older)["usage"])
    whole = prompt_tokens(ask(bench, messages, EDITING, **older, **edits(CLEAR_THINKING | {"keep": "all"}))["usage"])

    edited = ask(bench, messages, EDITING, **older, **edits(CLEAR_THINKING | keep))

    cleared = sum(e["cleared_input_tokens"] for e in edited["context_management"]["applied_edits"])
    assert prompt_tokens(edited["usage"]) == whole - cleared == bare + left * (whole - bare) // 4


def test_rule_58_kept_thinking_of_an_older_model_is_no_miss(bench: Bench) -> None:
    """Where an edit keeps all thinking, the history only grows: it is read again, and there is nothing to diagnose."""
    bench.play(Function("talk", thoughtful))
    older = {"model": "claude-sonnet-4-5-20250929", "thinking": {"type": "enabled", "budget_tokens": 2_000}}
    asked = older | CACHED | edits(CLEAR_THINKING | {"keep": "all"})
    messages = [user(LONG * 2)]
    first = ask(bench, messages, EDITING, **asked, diagnostics={"previous_message_id": None})
    messages += [assistant(*first["content"]), user("And?")]

    second = ask(bench, messages, EDITING, **asked, diagnostics={"previous_message_id": first["id"]})

    assert second["usage"]["cache_read_input_tokens"] == first["usage"]["cache_creation_input_tokens"] > 0
    assert second["diagnostics"] is None
    assert bench.lines()[-1]["miss"] is None


def test_rule_58_a_history_of_very_many_calls_is_cleared_in_no_time(bench: Bench) -> None:
    """Twenty thousand calls are looked at once each."""
    items = history.items(looked(20_000, result="x"))
    edit = CLEAR_TOOLS | {"trigger": {"type": "tool_uses", "value": 3}, "clear_tool_inputs": True}
    start = time.perf_counter()

    edited = editing.edited(edits(edit), items, models()["claude-sonnet-5-5"].card, len)

    assert edited.applied[0]["cleared_tool_uses"] == 19_997
    assert time.perf_counter() - start < 5


def test_rule_58_clearing_thinking_comes_first_and_needs_thinking(bench: Bench) -> None:
    """The edit of thinking stands before the others, and is refused where the model does not think."""
    off = {"model": "claude-haiku-5-5", "thinking": {"type": "disabled"}}

    assert "must be the first edit" in str(refused(bench, looked(1), EDITING, **edits(CLEAR_TOOLS, CLEAR_THINKING)))
    assert "requires `thinking` to be enabled" in str(refused(bench, looked(1), EDITING, **off, **edits(CLEAR_THINKING)))
    assert ask(bench, looked(1), EDITING, **edits(CLEAR_THINKING, CLEAR_TOOLS))["content"]


# 59: compaction on demand


class Summarizer:
    """A script whose summaries are known, and which thinks and answers otherwise."""

    name = "summarizer"

    def __init__(self, summary: Callable[[], ScriptedReply] = lambda: spoken(SUMMARY)) -> None:
        self._summary = summary
        self._speaks = Function("summarizer", thoughtful)

    def reply(self, request: Json) -> ScriptedReply:
        return self._speaks.reply(request)

    def compaction(self, request: Json) -> ScriptedReply:
        return self._summary()


def test_rule_59_a_summary_is_one_signed_block_and_stands_among_the_iterations_only(bench: Bench) -> None:
    """The reply holds the block alone; its tokens stand in `iterations`, and it is billed by them."""
    bench.play(Summarizer())
    messages = talked(bench, 2, **CACHED)

    reply = ask(bench, messages, ON_DEMAND, **SUMMARIZE, **CACHED)

    [block] = reply["content"]
    usage = reply["usage"]
    [iteration] = usage["iterations"]
    assert (block["type"], block["content"], block["tool_changes"]) == ("compaction", SUMMARY, [])
    assert block["signature"]
    assert reply["stop_reason"] == "compaction"
    assert (usage["input_tokens"], usage["output_tokens"], usage["cache_read_input_tokens"]) == (0, 0, 0)
    assert iteration["type"] == "compaction"
    assert iteration["cache_read_input_tokens"] > 0
    assert iteration["output_tokens"] > 0
    assert prompt_tokens(iteration) == count(bench, messages)["input_tokens"]
    assert float(bench.lines()[-1]["cost_usd"]) > 0


def test_rule_59_a_script_without_summaries_gets_a_plain_one(bench: Bench) -> None:
    """What was asked and called is what a summary says where the script writes none."""
    reply = ask(bench, looked(2), ON_DEMAND, **SUMMARIZE)

    assert "look (2 times)" in reply["content"][0]["content"]


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"stop_sequences": ["x"]}, "stop_sequences"),
        ({"output_config": {"format": {"type": "json_schema", "schema": CLOSED}}}, "format"),
        ({"context_management": {"edits": [CLEAR_TOOLS]}}, "context_management"),
        ({"model": "claude-opus-5", "tool_choice": {"type": "any"}}, "tool_choice"),
        ({"output_config": {"task_budget": {"type": "tokens", "total": 50_000, "remaining": 1}}}, "remaining"),
        ({"model": "claude-haiku-5-5"}, "not supported on this model"),
        ({"compaction": {"type": "summarize", "instructions": "x" * 16_385}}, "instructions"),
    ],
)  # fmt: skip
def test_rule_59_what_a_summary_cannot_be_asked_for_with(bench: Bench, more: Json, name: str) -> None:
    """Settings that shape an answer, long instructions, and models that do not compact."""
    betas = (ON_DEMAND, EDITING, "task-budgets-2026-03-13")

    assert name in str(refused(bench, looked(1), *betas, **(SUMMARIZE | more)))


def test_rule_59_the_header_is_needed_to_ask_and_to_send_the_block_back(bench: Bench) -> None:
    """Neither the parameter nor the block exists without it."""
    block = ask(bench, looked(1), ON_DEMAND, **SUMMARIZE)["content"][0]

    assert "compaction: Extra inputs are not permitted" in str(refused(bench, looked(1), **SUMMARIZE))
    assert "compaction" in str(refused(bench, [assistant(block), user("Go on.")]))
    assert ask(bench, [assistant(block), user("Go on.")], ON_DEMAND)["content"]


def _last(messages: list[Json], block: Block) -> list[Json]:
    return [*messages, assistant(block), user("Go on.")]


def _twice(messages: list[Json], block: Block) -> list[Json]:
    return [assistant(block), user("Go on."), assistant(block), user("Go on.")]


def _rewritten(messages: list[Json], block: Block) -> list[Json]:
    return [assistant(block | {"content": "Something else."}), user("Go on.")]


def _forged(messages: list[Json], block: Block) -> list[Json]:
    return [assistant(block | {"signature": block["signature"][:-9] + "AAAAAAAA="}), user("Go on.")]


def _retooled(messages: list[Json], block: Block) -> list[Json]:
    change = {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "look"}}
    return [assistant(block | {"tool_changes": [change]}), user("Go on.")]


@pytest.mark.parametrize(
    ("placed", "code"),
    [
        (_last, "compaction_block_misplaced"),
        (_twice, "compaction_block_ambiguous"),
        (_rewritten, "compaction_content_mismatch"),
        (_forged, "compaction_signature_invalid"),
        (_retooled, "compaction_tool_changes_mismatch"),
    ],
)
def test_rule_59_a_block_that_was_changed_or_stands_elsewhere_is_refused(
    bench: Bench, placed: Callable[[list[Json], Block], list[Json]], code: str
) -> None:
    """The block comes first, once, and as it was; each fault has its own code."""
    block = ask(bench, looked(1), ON_DEMAND, **SUMMARIZE)["content"][0]

    error = refused(bench, placed(looked(1), block), ON_DEMAND, INLINE_TOOLS)

    assert (error.status_code, error.error_code) == (400, code)


def test_rule_59_a_block_without_its_signature_is_refused(bench: Bench) -> None:
    """A summary of one's own making is none that was asked for; where a threshold may have made it, it is taken."""
    block = ask(bench, looked(1), ON_DEMAND, **SUMMARIZE)["content"][0]
    unsigned = [assistant({k: v for k, v in block.items() if k != "signature"}), user("Go on.")]

    assert refused(bench, unsigned, ON_DEMAND).error_code == "compaction_signature_invalid"
    own = [assistant({"type": "compaction", "content": "We spoke of ledgers."}), user("Go on.")]
    assert refused(bench, own, ON_DEMAND).error_code == "compaction_signature_invalid"
    assert ask(bench, own, ON_DEMAND, BY_THRESHOLD)["content"]


@pytest.mark.parametrize("limit", [0, 10])
def test_rule_60_an_empty_block_is_no_conversation(bench: Bench, limit: int) -> None:
    """A summary that failed says nothing: with nothing else there is no prompt."""
    nothing = [assistant({"type": "compaction", "content": None})]

    assert "at least one message" in str(refused(bench, nothing, BY_THRESHOLD, max_tokens=limit, tools=[]))


def test_rule_59_only_whole_turns_that_say_something_are_summarized(bench: Bench) -> None:
    """An open call, a conversation of nothing but a summary, and too many tools are refused with their codes."""
    block = ask(bench, looked(1), ON_DEMAND, **SUMMARIZE)["content"][0]
    open_call = looked(1)[:2]
    added = [{"type": "tool_addition", "tool": {"type": "tool_reference", "name": n}} for n in ("look", "keep")]
    many = [user("Hello."), {"role": "system", "content": added}]

    incomplete = refused(bench, open_call, ON_DEMAND, **SUMMARIZE)
    nothing = refused(bench, [assistant(block)], ON_DEMAND, **SUMMARIZE)
    bench.play(Summarizer(), EmulatorSettings(compaction_tool_references=1))
    too_many = refused(bench, many, ON_DEMAND, INLINE_TOOLS, **SUMMARIZE)

    codes = [e.error_code for e in (incomplete, nothing, too_many)]
    assert codes == [f"compaction_{c}" for c in ("incomplete_turn", "nothing_to_summarize", "too_many_tool_references")]


def test_rule_59_compaction_can_be_unavailable(bench: Bench) -> None:
    """A script can have the API fail to compact: 529, with a code of its own."""

    def fails() -> ScriptedReply:
        raise unavailable()

    bench.play(Summarizer(fails))

    error = refused(bench, looked(1), ON_DEMAND, **SUMMARIZE)

    assert (error.status_code, error.error_code) == (529, "compaction_unavailable")


@pytest.mark.parametrize("stop_reason", ["max_tokens", "tool_use", "refusal", "end_turn"])
def test_rule_59_a_summary_that_did_not_come_about_is_billed(bench: Bench, stop_reason: str) -> None:
    """The block is empty where the model stopped before it had one; what it read is paid for."""
    said = ScriptedReply((), stop_reason) if stop_reason == "end_turn" else ScriptedReply((text("Half."),), stop_reason)
    bench.play(Summarizer(lambda: said))

    reply = ask(bench, looked(1), ON_DEMAND, **SUMMARIZE)

    assert reply["content"][0].get("content") is None
    assert reply["stop_reason"] == stop_reason
    assert reply["usage"]["iterations"][0]["input_tokens"] > 0


def test_rule_59_kept_turns_go_on_behind_the_block_with_their_thinking(bench: Bench) -> None:
    """The block takes the place of the turns it summarizes; what follows stays as it is, and its thinking valid."""
    bench.play(Summarizer())
    messages = talked(bench, 5)
    kept_from = 6

    block = ask(bench, messages[:kept_from], ON_DEMAND, **SUMMARIZE)["content"][0]
    swapped = [assistant(block), *messages[kept_from:]]
    reply = ask(bench, swapped, ON_DEMAND, CONTROLS)

    assert messages[kept_from]["role"] == "user"
    assert reply["input_transformations"] == []
    assert prompt_tokens(reply["usage"]) < count(bench, messages)["input_tokens"]
    assert reply["content"][-1]["text"] == "Answer 5."


def test_rule_59_the_swap_in_the_background_keeps_what_was_appended_meanwhile(bench: Bench) -> None:
    """While the summary is written the conversation goes on; then the block replaces exactly what it was made of."""
    bench.play(Summarizer())
    messages = talked(bench, 3)
    copy = deepcopy(messages[:-1])

    block = ask(bench, copy, ON_DEMAND, **SUMMARIZE)["content"][0]
    for n in range(2):
        messages.append(assistant(*ask(bench, messages)["content"]))
        messages.append(user(f"Meanwhile {n}?"))
    swapped = [assistant(block), *messages[len(copy) :]]
    for _ in range(2):
        reply = ask(bench, swapped, ON_DEMAND, CONTROLS)
        assert reply["input_transformations"] == []
        swapped += [assistant(*reply["content"]), user("And on?")]

    second = ask(bench, swapped[:-3], ON_DEMAND, **SUMMARIZE)["content"][0]
    assert ask(bench, [assistant(second), *swapped[-3:]], ON_DEMAND, CONTROLS)["input_transformations"] == []


def test_rule_59_kept_thinking_is_refused_where_the_swap_leaves_something_out(bench: Bench) -> None:
    """A turn that is neither summarized nor kept, one that was changed, other tools, or a role that runs on."""
    bench.play(Summarizer())
    messages = talked(bench, 5)
    block = ask(bench, messages[:5], ON_DEMAND, **SUMMARIZE)["content"][0]
    changed = deepcopy(messages[5:])
    changed[1]["content"][0]["text"] = "Something else?"
    by_user = ask(bench, [*messages[:4], user("Hm."), user("Hm.")], ON_DEMAND, **SUMMARIZE)["content"][0]

    assert ask(bench, [assistant(block), *messages[5:]], ON_DEMAND)["content"]
    for bad in (
        [assistant(block), *messages[7:]],
        [assistant(block), *changed],
        [assistant(by_user), *messages[4:]],
    ):
        assert "bound to a different conversation" in str(refused(bench, bad, ON_DEMAND))
    other_tools = {"tools": [LOOK]}
    assert "bound to a different" in str(refused(bench, [assistant(block), *messages[5:]], ON_DEMAND, **other_tools))


def test_rule_59_kept_thinking_may_not_open_in_the_middle_of_a_summarized_turn(bench: Bench) -> None:
    """A turn of the assistant that was half summarized does not go on with a thought behind the block."""
    script = Summarizer()
    bench.play(script)
    thought = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    script._speaks = Function("summarizer", lambda request, step: [text("Well."), thought, text("Yes.")])
    messages = talked(bench, 2)
    half, rest = messages[3]["content"][:1], messages[3]["content"][1:]

    block = ask(bench, [*messages[:3], assistant(*half)], ON_DEMAND, **SUMMARIZE)["content"][0]

    for kept in ([assistant(block, *rest), messages[4]], [assistant(block), assistant(*rest), messages[4]]):
        assert "bound to a different conversation" in str(refused(bench, kept, ON_DEMAND))


def test_rule_59_a_summary_of_another_model_does_not_keep_thinking_valid(bench: Bench) -> None:
    """Kept thinking stays valid only where the summary came from a model that binds thinking to the conversation."""
    bench.play(Summarizer())
    messages = talked(bench, 3)

    block = ask(bench, messages[:2], ON_DEMAND, model="claude-opus-5", **SUMMARIZE)["content"][0]

    assert "bound to a different conversation" in str(refused(bench, [assistant(block), *messages[2:]], ON_DEMAND))


def test_rule_59_the_block_can_be_marked_and_is_cached(bench: Bench) -> None:
    """A cache mark may stand on the block, and changes nothing about its signature."""
    bench.play(Summarizer(lambda: spoken(LONG)))
    block = ask(bench, looked(1), ON_DEMAND, **SUMMARIZE)["content"][0]
    swapped = [assistant(block | CACHED), user("Go on.")]

    first, second = (ask(bench, swapped, ON_DEMAND)["usage"] for _ in range(2))

    assert second["cache_read_input_tokens"] == first["cache_creation_input_tokens"] > 500


def test_rule_59_counting_ignores_the_request_and_applies_the_block(bench: Bench) -> None:
    """count_tokens counts the conversation as it was sent, with the blocks in it."""
    block = ask(bench, looked(3), ON_DEMAND, **SUMMARIZE)["content"][0]

    asked = count(bench, looked(3), ON_DEMAND, **SUMMARIZE)
    swapped = count(bench, [assistant(block), user("Go on.")], ON_DEMAND)

    assert asked == count(bench, looked(3))
    assert swapped["input_tokens"] < asked["input_tokens"] / 2


def test_rule_59_a_script_goes_on_at_its_step_behind_a_block(bench: Bench) -> None:
    """Replies that were summarized count as given: the script does not start again."""
    bench.play(Summarizer())
    messages = talked(bench, 3)
    block = ask(bench, messages[:-1], ON_DEMAND, **SUMMARIZE)["content"][0]

    assert ask(bench, [assistant(block), messages[-1]], ON_DEMAND)["content"][-1]["text"] == "Answer 3."


# 60: compaction by a threshold


def big(tokens: int) -> list[Json]:
    return looked(4, result="0 " * (tokens // 4))


def test_rule_60_the_trigger_is_150000_tokens_and_may_not_be_below_50000(bench: Bench) -> None:
    """A history is compacted from the trigger on; a smaller trigger than 50,000 is refused."""
    bench.play(Summarizer())
    low = edits(COMPACT | {"trigger": {"type": "input_tokens", "value": 49_999}})
    set_to = edits(COMPACT | {"trigger": {"type": "input_tokens", "value": 50_000}})
    middle = big(100_000)
    assert 50_000 < count(bench, middle)["input_tokens"] < 150_000 <= count(bench, big(200_000))["input_tokens"]

    def compacts(messages: list[Json], asked: Json) -> bool:
        return bool(ask(bench, messages, BY_THRESHOLD, **asked)["content"][0]["type"] == "compaction")

    assert "greater than or equal to 50000" in str(refused(bench, looked(1), BY_THRESHOLD, **low))
    assert not compacts(looked(4), set_to)
    assert compacts(middle, set_to)
    assert not compacts(middle, edits(COMPACT))
    assert compacts(big(200_000), edits(COMPACT))


def test_rule_60_the_summary_is_an_iteration_and_the_answer_follows_it(bench: Bench) -> None:
    """The top level counts the answer alone, made of the summary; the bill is the sum of the iterations."""
    bench.play(Summarizer())
    messages = big(200_000)

    reply = ask(bench, messages, BY_THRESHOLD, **edits(COMPACT))

    block, *said = reply["content"]
    usage = reply["usage"]
    compaction, message = usage["iterations"]
    assert (block["content"], said[-1]["text"]) == (SUMMARY, "Answer 4.")
    assert (compaction["type"], message["type"]) == ("compaction", "message")
    assert compaction["input_tokens"] == count(bench, messages)["input_tokens"]
    assert usage["input_tokens"] == message["input_tokens"] < 2_000
    assert usage["output_tokens"] == message["output_tokens"]
    assert bench.lines()[0]["input_tokens"] == compaction["input_tokens"] + message["input_tokens"]


def test_rule_60_everything_before_the_newest_block_is_ignored(bench: Bench) -> None:
    """The client may send the whole history on: the model reads from the newest block, and its thinking stays valid."""
    bench.play(Summarizer())
    messages = big(200_000)
    first = ask(bench, messages, BY_THRESHOLD, **edits(COMPACT))
    whole = [*messages, assistant(*first["content"]), user("Go on.")]

    second = ask(bench, whole, BY_THRESHOLD, CONTROLS, **edits(COMPACT))
    third = ask(bench, whole[-2:], BY_THRESHOLD, CONTROLS, **edits(COMPACT))

    assert [b["type"] for b in second["content"]] == ["thinking", "text"]
    assert prompt_tokens(second["usage"]) == prompt_tokens(third["usage"]) < 4_000
    assert second["input_transformations"] == third["input_transformations"] == []


def test_rule_60_a_pause_gives_the_block_back_first(bench: Bench) -> None:
    """With a pause the reply is the block; sent back, it is gone on from."""
    bench.play(Summarizer())
    messages = big(200_000)
    pausing = edits(COMPACT | {"pause_after_compaction": True})

    paused = ask(bench, messages, BY_THRESHOLD, **pausing)
    gone_on = ask(bench, [*messages, assistant(*paused["content"])], BY_THRESHOLD, **pausing)

    assert (paused["stop_reason"], len(paused["content"])) == ("compaction", 1)
    assert (paused["usage"]["input_tokens"], paused["usage"]["output_tokens"]) == (0, 0)
    assert [i["type"] for i in paused["usage"]["iterations"]] == ["compaction"]
    assert gone_on["content"][-1]["text"] == "Answer 4."


def test_rule_60_a_summary_that_failed_leaves_an_empty_block_and_the_history_as_it_is(bench: Bench) -> None:
    """A block without content says nothing, then and when it is sent back."""
    bench.play(Summarizer(lambda: ScriptedReply((), "refusal")))
    messages = big(200_000)

    reply = ask(bench, messages, BY_THRESHOLD, **edits(COMPACT))
    block = reply["content"][0]
    again = count(bench, [*messages, assistant(block, "So?"), user("Go on.")], BY_THRESHOLD)

    assert block.get("content") is None
    assert reply["usage"]["iterations"][1]["input_tokens"] == reply["usage"]["iterations"][0]["input_tokens"]
    assert again["input_tokens"] > 150_000


def test_rule_60_tools_and_system_stay_in_the_cache(bench: Bench) -> None:
    """With a breakpoint behind the system prompt, the call behind the summary reads what stands before it."""
    bench.play(Summarizer())
    system = [text(LONG) | CACHED]

    reply = ask(bench, big(200_000), BY_THRESHOLD, system=system, **edits(COMPACT))

    compaction, message = reply["usage"]["iterations"]
    assert message["cache_read_input_tokens"] == compaction["cache_creation_input_tokens"] > 500


def test_rule_60_the_block_streams_as_one_delta(bench: Bench) -> None:
    """A compaction block arrives in a single delta."""
    bench.play(Summarizer())
    beta = bench.sdk().beta.messages
    asked = {"model": "claude-sonnet-5-5", "max_tokens": 5_000, "messages": big(200_000), "tools": [LOOK], **edits(COMPACT)}

    with beta.stream(model="x", max_tokens=1, messages=[], betas=[BY_THRESHOLD], extra_body=asked) as stream:
        deltas = [e.delta.type for e in stream if e.type == "content_block_delta"]
        final: Json = stream.get_final_message().to_dict()

    assert deltas.count("compaction_delta") == 1
    assert final["content"][0]["content"] == SUMMARY
    assert [i["type"] for i in final["usage"]["iterations"]] == ["compaction", "message"]


# 61: tools that come later


SEARCH = {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}
DEFERRED = {"name": "rare", "description": LONG, "input_schema": {"type": "object"}, "defer_loading": True}


def found(*names: str) -> list[Json]:
    references = [{"type": "tool_reference", "tool_name": name} for name in names]
    return [
        user(text(LONG) | CACHED),
        assistant(tool_use("toolu_s", "look", {"for": "a tool"})),
        user({"type": "tool_result", "tool_use_id": "toolu_s", "content": references}),
    ]


def test_rule_61_deferred_tools_cost_nothing_until_they_are_found(bench: Bench) -> None:
    """A deferred tool stands outside of the prompt, and joins it where it is referred to: the prefix stays cached."""
    hot, all_tools = [LOOK, KEEP], [LOOK, KEEP, DEFERRED]
    messages = found("rare")
    first = ask(bench, messages[:1], tools=hot)["usage"]

    unused = ask(bench, messages[:1], tools=all_tools)["usage"]
    loaded = ask(bench, messages, tools=all_tools)["usage"]

    assert prompt_tokens(unused) == prompt_tokens(first)
    assert unused["cache_read_input_tokens"] == loaded["cache_read_input_tokens"] == first["cache_creation_input_tokens"] > 500
    assert prompt_tokens(loaded) - prompt_tokens(unused) > 1_000


def test_rule_61_one_tool_must_not_be_deferred_and_references_must_be_known(bench: Bench) -> None:
    """All tools deferred, or a reference to none of them, is refused in the API's words."""
    assert "At least one tool must have defer_loading=false." in str(refused(bench, looked(1), tools=[DEFERRED]))
    unknown = refused(bench, found("unheard_of"), tools=[LOOK, DEFERRED])
    assert "Tool reference 'unheard_of' not found in available tools" in str(unknown)
    assert ask(bench, found("rare"), tools=[SEARCH, LOOK, DEFERRED])["content"]


def test_rule_61_a_tool_that_a_system_message_adds_leaves_cache_and_thinking_as_they_are(bench: Bench) -> None:
    """Tools may be added and removed at the end of the conversation, without a change of what stands before."""
    bench.play(Function("talk", thoughtful))
    messages = talked(bench, 2, **CACHED)
    definition = {"name": "new", "input_schema": {"type": "object"}}
    change = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": definition}}
    added = [*messages, {"role": "system", "content": [change]}]
    before = ask(bench, messages, **CACHED)["usage"]

    reply = ask(bench, added, INLINE_TOOLS, CONTROLS, **CACHED)

    assert reply["input_transformations"] == []
    assert reply["usage"]["cache_read_input_tokens"] == prompt_tokens(before)


def test_rule_61_the_first_tool_of_all_costs_the_whole_cache_once(bench: Bench) -> None:
    """Where the request itself has no tools, the first that a message adds stands for a change of the front."""
    definition = {"name": "new", "input_schema": {"type": "object"}}
    added = {
        "role": "system",
        "content": [{"type": "tool_addition", "tool": {"type": "tool_definition", "definition": definition}}],
    }
    messages = [user(text(LONG) | CACHED)]
    ask(bench, messages, tools=[])

    first, second = (ask(bench, [*messages, added], INLINE_TOOLS, tools=[])["usage"] for _ in range(2))

    assert first["cache_read_input_tokens"] == 0
    assert second["cache_read_input_tokens"] == first["cache_creation_input_tokens"] > 500


def test_rule_61_a_summary_records_the_tools_that_came_and_went(bench: Bench) -> None:
    """The block says how to get from the request's tools to those at the end of what it summarizes."""
    definition = {"name": "new", "input_schema": {"type": "object"}}
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": definition}}
    removed = {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "keep"}}
    messages = [user("Hello."), {"role": "system", "content": [added, removed]}]

    block = ask(bench, messages, ON_DEMAND, INLINE_TOOLS, **SUMMARIZE)["content"][0]

    assert [(c["type"], c["tool"]["name"]) for c in block["tool_changes"]] == [
        ("tool_addition", "new"),
        ("tool_removal", "keep"),
    ]
    assert ask(bench, [assistant(block), user("Go on.")], ON_DEMAND, INLINE_TOOLS)["content"]


@pytest.mark.parametrize(
    ("tool", "code"),
    [
        ({"type": "tool_reference", "name": "unheard_of"}, "tool_reference_unresolved"),
        ({"type": "tool_definition", "definition": {"type": "bash_20250124", "name": "bash"}}, "tool_name_conflict"),
        ({"type": "tool_definition", "definition": KEEP}, "available_tools_limit_exceeded"),
    ],
)
def test_rule_61_changes_of_tools_that_cannot_be_made_have_their_codes(bench: Bench, tool: Json, code: str) -> None:
    """A tool that is not defined, a name that another kind of tool holds, and too many tools."""
    bench.play(Summarizer(), EmulatorSettings(available_tools=2))
    own_bash = {"name": "bash", "input_schema": {"type": "object"}}
    messages = [user("Hello."), {"role": "system", "content": [{"type": "tool_addition", "tool": tool}]}]

    assert refused(bench, messages, INLINE_TOOLS, tools=[LOOK, own_bash]).error_code == code


# stop reasons of scripted replies


def test_stop_sequences_end_the_text_before_them(bench: Bench) -> None:
    bench.play(Function("talk", lambda request, step: [text("One. STOP Two."), tool_use("toolu_1", "look", {})]))

    stopped = ask(bench, [user("Hello.")], stop_sequences=["Two", "STOP"])
    unstopped = ask(bench, [user("Hello.")], stop_sequences=["Three"])

    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "STOP")
    assert text_of(stopped["content"]) == "One. "
    assert stopped["usage"]["output_tokens"] < unstopped["usage"]["output_tokens"]
    assert (unstopped["stop_reason"], unstopped["stop_sequence"]) == ("tool_use", None)


def test_rule_23_output_that_reaches_the_window_says_so(bench: Bench) -> None:
    """A prompt that leaves less room than max_tokens asks for is answered up to the end of the window."""
    bench.play(Function("talk", lambda request, step: [text("word " * 4_000)]))
    small = "claude-haiku-4-5-20251001"
    messages = [user("0 " * 215_000)]
    assert 195_000 < count(bench, messages, model=small)["input_tokens"] < 200_000

    reply = ask(bench, messages, model=small, max_tokens=20_000)

    assert reply["stop_reason"] == "model_context_window_exceeded"
    assert prompt_tokens(reply["usage"]) + reply["usage"]["output_tokens"] == 200_000
