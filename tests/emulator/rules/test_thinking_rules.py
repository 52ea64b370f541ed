"""Rules 16 (thinking), 47 and 49 to 53: signed thinking, and what becomes of it when a history was edited."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from anthropic import BadRequestError

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.model_table import models
from agentloop.emulator import EmulatorSettings, Function, Recording, ScriptedReply
from agentloop.importers.recording import from_messages
from agentloop.policies import preset
from agentloop.reenact import reenact
from agentloop.replay import replay
from agentloop.report import report
from agentloop.types.base import Json
from agentloop.types.blocks import Block, text, tool_result, tool_use
from agentloop.types.events import Compacted

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

CONTROLS = "thinking-binding-controls-2026-08-01"
SHOWN: Json = {"thinking": {"type": "adaptive", "display": "summarized"}}
DROPS: Json = {"thinking": {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}}
OLD_ACCOUNT = EmulatorSettings(account_created=datetime(2026, 8, 30, 23, 59, tzinfo=UTC))
TOOLS = [{"name": "look", "input_schema": {"type": "object"}}]
THINKS_MUCH = "Let me weigh every one of the possibilities before I say a single word about it. " * 20


def thought(value: str) -> Block:
    return {"type": "thinking", "thinking": value, "signature": "as recorded elsewhere"}


def thinks(request: Json, step: int) -> list[Block]:
    """One thought and one sentence a turn."""
    return [thought(f"Thought {step}: {THINKS_MUCH}"), text(f"Answer {step}.")]


def calls(request: Json, step: int) -> list[Block]:
    """Two thoughts around a sentence, and a call, each turn."""
    return [
        thought(f"Before {step}."),
        text(f"I look {step}."),
        thought(f"After {step}."),
        tool_use(f"toolu_{step}", "look", {"step": step}),
    ]


class Talk:
    """A conversation that is sent back as it came, unless a test edits it."""

    def __init__(self, bench: Bench, script: Callable[[Json, int], list[Block]] = thinks, **settings: Any) -> None:
        self.bench = bench
        self.body: Json = {"model": "claude-opus-5-5", "max_tokens": 10_000, "messages": [], "system": "Be brief."}
        bench.play(Function("talk", script), settings.pop("settings", None))
        self.body |= settings

    @property
    def messages(self) -> list[Json]:
        messages: list[Json] = self.body["messages"]
        return messages

    def thoughts(self) -> list[Block]:
        return [b for m in self.messages if m["role"] == "assistant" for b in m["content"] if b["type"] == "thinking"]

    def says(self, *content: Block, betas: tuple[str, ...] = (), **more: Any) -> Json:
        """Say something, and keep both sides."""
        self.messages.append({"role": "user", "content": list(content) or [text("And then?")]})
        reply = self.sends(betas=betas, **more)
        self.messages.append({"role": "assistant", "content": reply["content"]})
        return reply

    def answers(self, **more: Any) -> Json:
        """Answer the calls of the last reply."""
        made = [b for b in self.messages[-1]["content"] if b["type"] == "tool_use"]
        return self.says(*(tool_result(c["id"], "found") for c in made), **more)

    def sends(self, messages: list[Json] | None = None, *, betas: tuple[str, ...] = (), **more: Any) -> Json:
        """Send the conversation, or these messages in its place, through the SDK."""
        body = self.body | ({"messages": messages} if messages is not None else {}) | more
        beta = self.bench.sdk().beta.messages
        return beta.create(model="x", max_tokens=1, messages=[], betas=list(betas), extra_body=body).to_dict()

    def counts(self, messages: list[Json]) -> int:
        body = {k: v for k, v in self.body.items() if k != "max_tokens"} | {"messages": messages}
        return self.bench.sdk().messages.count_tokens(model="x", messages=[], extra_body=body).input_tokens

    def asked(self) -> list[Json]:
        """The messages so far and one more question, for a test to edit."""
        return [*deepcopy(self.messages), {"role": "user", "content": [text("And then?")]}]


def after(turns: int, bench: Bench, **settings: Any) -> Talk:
    talk = Talk(bench, **settings)
    for _ in range(turns):
        talk.says()
    return talk


def without_thoughts(messages: list[Json], *which: int) -> list[Json]:
    """The messages without these thoughts, counted over all messages; without any, where none is named."""
    kept, n = deepcopy(messages), 0
    for message in kept:
        content = []
        for block in message["content"]:
            gone = block["type"] == "thinking" and (not which or n in which)
            n += block["type"] == "thinking"
            content += [] if gone else [block]
        message["content"] = content
    return kept


BOUND = "Invalid `signature` in `thinking` block. The block is bound to a different conversation. Remove the block, or set"


def test_rule_16_effort_may_not_change_while_thinking_is_off(bench: Bench) -> None:
    """Where a model has been told not to think, a system message cannot set another effort than the one in effect."""
    talk = after(1, bench, model="claude-sonnet-5-5", thinking={"type": "between_tools"})
    louder = {"role": "system", "content": [text("Now.")], "output_config": {"effort": "low"}}

    with pytest.raises(BadRequestError, match=r"messages\.3: output_config\.effort 'low' differs from the 'high' in effect"):
        talk.sends([*talk.asked(), louder], betas=("mid-conversation-output-config-2026-07-01",))


def test_rule_16_more_effort_than_high_needs_thinking(bench: Bench) -> None:
    """Effort xhigh and max are refused where thinking is off."""
    with pytest.raises(BadRequestError, match=r"output_config\.effort 'max' is not supported when thinking is disabled"):
        bench.ask(model="claude-haiku-5-5", thinking={"type": "disabled"}, output_config={"effort": "max"})


@pytest.mark.parametrize(("asked", "parts"), [(SHOWN, ["thinking", "thinking", "signature"]), ({}, ["thinking", "signature"])])
def test_rule_47_the_signature_comes_last_and_omitted_text_is_one_empty_delta(
    bench: Bench, asked: Json, parts: list[str]
) -> None:
    """A thinking block streams its text, or one empty delta where it is omitted, and its signature just before it ends."""
    Talk(bench)
    stream = bench.sdk().messages.create(
        model="claude-opus-5-5",
        max_tokens=5_000,
        messages=[{"role": "user", "content": "Hello."}],
        stream=True,
        extra_body=asked,
    )

    events: list[Json] = [e.to_dict() for e in stream]
    stop = next(n for n, e in enumerate(events) if e["type"] == "content_block_stop")
    deltas = [e["delta"] for e in events[:stop] if e["type"] == "content_block_delta"]

    assert [d["type"] for d in deltas] == [f"{part}_delta" for part in parts]
    assert bool(deltas[0]["thinking"]) == bool(asked)


def test_rule_49_thinking_is_signed_and_its_text_left_out_on_newer_models(bench: Bench) -> None:
    """A model that thinks answers with signed thinking blocks; newer ones leave their text out unless asked for it."""
    hidden = after(1, bench).thoughts()[0]
    shown = after(1, bench, **SHOWN).thoughts()[0]
    older = after(1, bench, model="claude-opus-4-6", thinking={"type": "adaptive"}).thoughts()[0]

    assert hidden["thinking"] == ""
    assert shown["thinking"] == older["thinking"] == f"Thought 0: {THINKS_MUCH}"
    assert all(b["signature"] not in ("", "as recorded elsewhere") for b in (hidden, shown, older))


def test_rule_49_omitted_thinking_is_billed_when_it_is_thought_and_when_it_is_sent_back(bench: Bench) -> None:
    """What is not shown costs output tokens all the same, and input tokens when the block comes back."""
    usages = {}
    for name, asked in (("hidden", {}), ("shown", SHOWN)):
        talk = after(1, bench, **asked)
        usages[name] = talk.sends(talk.asked())["usage"], bench.lines()[0]["output_tokens"]

    assert usages["hidden"] == usages["shown"]
    assert usages["hidden"][0]["output_tokens_details"]["thinking_tokens"] > 300
    assert usages["hidden"][0]["input_tokens"] > 300


def test_rule_49_a_signature_is_made_for_the_conversation_and_the_model(bench: Bench) -> None:
    """The same words behind another conversation, or by another model, get another signature."""
    signatures = {
        after(1, bench, system=system, model=model).thoughts()[0]["signature"]
        for system in ("Be brief.", "Be long.")
        for model in ("claude-opus-5-5", "claude-sonnet-5-5")
    }

    assert len(signatures) == 4


def test_rule_49_a_model_that_was_told_not_to_think_does_not(bench: Bench) -> None:
    """Thinking that a script supplies is not sent by a model whose thinking is off."""
    assert after(1, bench, model="claude-haiku-5-5", thinking={"type": "disabled"}).thoughts() == []
    assert after(1, bench, model="claude-opus-4-8").thoughts() == []


def test_rule_49_a_script_without_thinking_can_be_given_some(bench: Bench) -> None:
    """A setting gives every reply of a thinking model an omitted thought, where the script supplies none."""
    bench.play(Function("plain", lambda request, step: [text("Done.")]), EmulatorSettings(adds_thinking=True))

    reply: Json = bench.ask(model="claude-opus-5-5").to_dict()
    thinking, said = reply["content"]

    assert (thinking["type"], thinking["thinking"], said["text"]) == ("thinking", "", "Done.")
    assert bench.ask(model="claude-opus-4-8").to_dict()["content"] == [said]
    between = bench.ask(model="claude-sonnet-5-5", thinking={"type": "between_tools"}).to_dict()
    assert between["content"] == [said]  # such a model does not think before it answers


def test_rule_49_thinking_that_was_recorded_elsewhere_keeps_its_tokens(bench: Bench) -> None:
    """A recorded reply whose thinking was omitted is signed anew, and billed as it was recorded."""
    omitted = {"type": "thinking", "thinking": "", "signature": "c2lnbmVk" * 500}
    recorded = ScriptedReply((omitted, text("Done.")), output_tokens=1_234)
    bench.play(Recording("old", [recorded, recorded]))

    first = bench.ask(model="claude-opus-5-5", max_tokens=5_000)
    again = {"role": "assistant", "content": first.to_dict()["content"]}
    question = {"role": "user", "content": [text("Hello.")]}
    second = bench.ask([question, again, question], model="claude-opus-5-5", max_tokens=5_000)

    assert first.usage.output_tokens == 1_234
    assert 0 < first.usage.output_tokens_details.thinking_tokens < 1_234  # type: ignore[union-attr]
    assert second.usage.input_tokens > first.usage.output_tokens_details.thinking_tokens  # type: ignore[union-attr]


def test_rule_49_redacted_thinking_is_signed_in_its_data(bench: Bench) -> None:
    """A redacted block comes back as it was sent, and is bound like any other."""
    redacted = {"type": "redacted_thinking", "data": "c2VjcmV0" * 100}
    talk = Talk(bench, lambda request, step: [redacted, text(f"Answer {step}.")])
    first = talk.says()["content"][0]
    talk.says()
    messages = talk.asked()

    assert first["type"] == "redacted_thinking"
    assert first["data"] != redacted["data"]
    assert talk.sends(messages)["content"]
    messages[0]["content"][0]["text"] = "Something else."
    with pytest.raises(BadRequestError, match=BOUND):
        talk.sends(messages)


def test_rule_49_thinking_of_others_is_taken_only_where_a_setting_says_so(bench: Bench) -> None:
    """A signature that the emulator has not made is refused, unless histories from elsewhere are to be played on."""
    history: list[Json] = [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": [thought("Hm."), text("Yes?")]},
    ]
    messages = [*history, {"role": "user", "content": "Go on."}]

    with pytest.raises(BadRequestError, match=r"messages\.1\.content\.0: Invalid `signature` in `thinking` block"):
        Talk(bench).sends(messages)
    assert Talk(bench, settings=EmulatorSettings(foreign_thinking=True)).sends(messages)["content"]


def test_rule_67_open_questions_about_thinking_are_written_down(bench: Bench) -> None:
    """In strict mode the report names the choices that decided these answers."""
    strict = EmulatorSettings(strict=True)
    talk = after(1, bench, model="claude-mythos-5-1", settings=strict)
    talk.sends(talk.asked())
    talk.sends(talk.asked(), model="claude-fable-5-2")

    rules = {warning["rule"] for warning in bench.emulator.report()["warnings"]}

    assert {49, 50, 52} <= rules


def test_rule_50_a_history_that_only_grew_is_taken(bench: Bench) -> None:
    """Sending every turn back as it came is lawful, tool loops and parallel thoughts included."""
    talk = Talk(bench, calls, tools=TOOLS)
    talk.says()
    for _ in range(4):
        talk.answers()

    assert len(talk.thoughts()) == 10


def test_rule_50_edited_thinking_of_the_latest_assistant_message_is_refused(bench: Bench) -> None:
    """The thinking of the turn whose calls are being answered must come back as it was, on every model."""
    for model in ("claude-opus-5-5", "claude-opus-4-6"):
        talk = Talk(bench, calls, tools=TOOLS, model=model, thinking={"type": "adaptive"})
        talk.says()
        edited = [*deepcopy(talk.messages), {"role": "user", "content": [tool_result("toolu_0", "found")]}]
        edited[1]["content"][0]["thinking"] = "Something else."
        partly = without_thoughts([*talk.messages, edited[2]], 0)

        cannot = r"`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified\. These blocks"
        with pytest.raises(BadRequestError, match=rf"messages\.1\.content\.0: {cannot}"):
            talk.sends(edited)
        with pytest.raises(BadRequestError, match=rf"messages\.1\.content\.1: {cannot}"):
            talk.sends(partly)


def test_rule_50_a_text_that_its_signature_was_not_made_for_is_refused(bench: Bench) -> None:
    """Thinking of earlier turns cannot be rewritten either, nor can a signature be made up."""
    talk = after(2, bench, **SHOWN)
    rewritten, made_up = talk.asked(), talk.asked()
    rewritten[1]["content"][0]["thinking"] = "Something else."
    made_up[1]["content"][0]["signature"] = "EqQBCgIYAhIM"

    for messages in (rewritten, made_up):
        with pytest.raises(BadRequestError, match=r"messages\.1\.content\.0: Invalid `signature` in `thinking` block'"):
            talk.sends(messages)


def _rewrites_first_message(body: Json) -> None:
    body["messages"][0]["content"][0]["text"] = "It is Tuesday. And then?"


def _rewrites_an_answer(body: Json) -> None:
    body["messages"][1]["content"][1]["text"] = "Answer 0, shorter."


def _drops_the_first_turn(body: Json) -> None:
    del body["messages"][:2]


def _changes_system(body: Json) -> None:
    body["system"] = "Be brief. It is Tuesday."


def _changes_tools(body: Json) -> None:
    body["tools"] = TOOLS


EDITS = [_rewrites_first_message, _rewrites_an_answer, _drops_the_first_turn, _changes_system, _changes_tools]


@pytest.mark.parametrize("edit", EDITS)
def test_rule_50_thinking_behind_a_changed_conversation_is_refused(bench: Bench, edit: Callable[[Json], None]) -> None:
    """On a model that checks, thinking is refused as soon as anything before it has changed, in count_tokens too."""
    talk = after(2, bench)
    talk.body["messages"] = talk.asked()
    edit(talk.body)

    with pytest.raises(BadRequestError, match=BOUND):
        talk.sends()
    with pytest.raises(BadRequestError, match=BOUND):
        talk.counts(talk.messages)


def test_rule_50_clearing_an_old_result_or_editing_a_call_is_refused(bench: Bench) -> None:
    """Trimming a tool result after the fact, and changing the arguments of a call, break all later thinking."""
    talk = Talk(bench, calls, tools=TOOLS)
    talk.says()
    talk.answers()
    talk.answers()
    trimmed, changed = deepcopy(talk.messages), deepcopy(talk.messages)
    trimmed[2]["content"][0]["content"] = "[cleared]"
    changed[1]["content"][3]["input"] = {"step": 7}
    last = {"role": "user", "content": [tool_result("toolu_2", "found")]}

    for messages in (trimmed, changed):
        with pytest.raises(BadRequestError, match=r"messages\.3\.content\.0: " + BOUND):
            talk.sends([*messages, last])


@pytest.mark.parametrize(
    "change",
    [
        {"output_config": {"effort": "low"}},
        {"max_tokens": 7_777},
        {"cache_control": {"type": "ephemeral"}},
        {"thinking": {"type": "adaptive", "display": "summarized"}},
        {"stop_sequences": ["never said"]},
    ],
)
def test_rule_50_what_is_set_beside_the_conversation_may_change(bench: Bench, change: Json) -> None:
    """Effort, limits, display and cache marks are no part of what thinking is bound to."""
    talk = after(2, bench)
    messages = talk.asked()
    messages[-1]["content"][0]["cache_control"] = {"type": "ephemeral"}

    assert talk.sends(messages, **change)["content"]


def test_rule_50_a_tool_that_is_deferred_and_not_used_may_be_added(bench: Bench) -> None:
    """A deferred tool stands outside of the prefix until something refers to it."""
    talk = after(1, bench, tools=TOOLS)
    later = {"name": "later", "input_schema": {"type": "object"}, "defer_loading": True}

    assert talk.sends(talk.asked(), tools=[*TOOLS, later])["content"]
    with pytest.raises(BadRequestError, match=BOUND):
        talk.sends(talk.asked(), tools=[*TOOLS, later | {"defer_loading": False}])


@pytest.mark.parametrize("gone", [(0,), (0, 1), (3,), (2, 3), (), (0, 3)])
def test_rule_50_thinking_may_be_removed_at_the_start_at_the_end_or_all(bench: Bench, gone: tuple[int, ...]) -> None:
    """Thoughts may be taken away from either end of a history, or altogether."""
    talk = after(4, bench)

    assert talk.sends(without_thoughts(talk.asked(), *gone))["content"]


def test_rule_50_thinking_may_not_be_removed_from_between_or_put_back(bench: Bench) -> None:
    """A thought between others must stay, those that were removed must not come back."""
    talk = after(4, bench)
    with pytest.raises(BadRequestError, match=r"messages\.5\.content\.0: " + BOUND):
        talk.sends(without_thoughts(talk.asked(), 1))
    with pytest.raises(BadRequestError, match=BOUND):
        talk.sends(without_thoughts(talk.asked(), 1, 2))

    whole = deepcopy(talk.messages)
    talk.body["messages"] = without_thoughts(talk.messages)
    talk.says()
    with pytest.raises(BadRequestError, match=r"messages\.9\.content\.0: " + BOUND):
        talk.sends([*whole, *talk.asked()[len(whole) :]])


@pytest.mark.parametrize(
    ("model", "settings", "refused"),
    [
        ("claude-fable-5-2", OLD_ACCOUNT, True),
        ("claude-mythos-5-1", OLD_ACCOUNT, True),
        ("claude-mythos-5-1", EmulatorSettings(mythos_5_1_checks_thinking=False), False),
        ("claude-fable-5-1", None, True),
        ("claude-fable-5-1", OLD_ACCOUNT, False),
        ("claude-opus-5-5", OLD_ACCOUNT, False),
        ("claude-sonnet-5-5", EmulatorSettings(account_created=datetime(2026, 8, 31, tzinfo=UTC)), True),
        ("claude-haiku-5-5", OLD_ACCOUNT, False),
        ("claude-opus-5", None, False),
        ("claude-sonnet-5", None, False),
    ],
)
def test_rule_50_who_is_refused_depends_on_model_and_account(
    bench: Bench, model: str, settings: EmulatorSettings | None, refused: bool
) -> None:
    """5.2 checks every account, the 5.1 and 5.5 models those from 2026-08-31 on, earlier models none."""
    talk = after(1, bench, model=model, settings=settings)
    talk.body["messages"] = talk.asked()
    _changes_system(talk.body)

    if refused:
        with pytest.raises(BadRequestError, match=BOUND):
            talk.sends()
    else:
        assert talk.sends()["content"]


def test_rule_50_an_older_account_is_checked_where_it_asks_for_it(bench: Bench) -> None:
    """An account that is not checked is told of mismatches, and refused only when it asks for errors."""
    talk = after(1, bench, settings=OLD_ACCOUNT)
    talk.body["messages"] = talk.asked()
    _changes_system(talk.body)
    errors: Json = {"thinking": {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "error"}}}

    told = talk.sends(betas=(CONTROLS,))["input_transformations"]

    assert told == [{"type": "thinking_mismatch_allowed", "path": "messages.1.content.0", "reason": "prefix_binding_mismatch"}]
    with pytest.raises(BadRequestError, match=BOUND):
        talk.sends(betas=(CONTROLS,), **errors)


def test_rule_50_the_error_names_the_header_that_was_not_sent(bench: Bench) -> None:
    """Whoever has not sent the beta header is told of it."""
    talk = after(1, bench)
    talk.body["messages"] = talk.asked()
    _changes_system(talk.body)

    with pytest.raises(BadRequestError, match=CONTROLS):
        talk.sends()
    with pytest.raises(BadRequestError) as refused:
        talk.sends(betas=(CONTROLS,))
    assert CONTROLS not in str(refused.value)


def test_rule_50_a_batch_item_drops_what_a_request_is_refused_for(bench: Bench) -> None:
    """In a batch, thinking that mismatches is left out where the request says nothing else."""
    talk = after(1, bench)
    talk.body["messages"] = talk.asked()
    _changes_system(talk.body)
    batches = bench.sdk().messages.batches

    made = batches.create(requests=[{"custom_id": "one", "params": talk.body}])  # type: ignore[typeddict-item]
    bench.now += 86_000
    [result] = list(batches.results(made.id))

    assert result.result.type == "succeeded"


def test_rule_51_dropped_blocks_are_reported_unbilled_and_break_the_cache_from_there(bench: Bench) -> None:
    """`drop_block` lets an edited history through: without the thinking behind the edit, which is named and not paid for."""
    cached = {"cache_control": {"type": "ephemeral"}}
    talk = after(3, bench, **cached)
    edited = without_thoughts(talk.asked(), 1)

    dropped = talk.sends(edited, betas=(CONTROLS,), **DROPS)
    without = talk.counts(without_thoughts(talk.asked(), 1, 2))
    warm = talk.sends(talk.asked())

    assert dropped["input_transformations"] == [
        {"type": "thinking_dropped", "path": "messages.5.content.0", "reason": "prefix_binding_mismatch"}
    ]
    assert _prompt(dropped) == without
    assert 0 < dropped["usage"]["cache_read_input_tokens"] < warm["usage"]["cache_read_input_tokens"]


def test_rule_51_thinking_behind_a_dropped_block_stays_valid(bench: Bench) -> None:
    """What a model thinks after an edit belongs to the edited history; the flag has to be sent every time."""
    talk = after(3, bench)
    talk.body["messages"] = without_thoughts(talk.messages, 1)
    talk.says(betas=(CONTROLS,), **DROPS)

    again = talk.sends(talk.asked(), betas=(CONTROLS,), **DROPS)

    assert [t["path"] for t in again["input_transformations"]] == ["messages.5.content.0"]
    with pytest.raises(BadRequestError, match=BOUND):
        talk.sends(talk.asked())


def test_rule_51_every_thinking_block_of_a_dropped_turn_goes(bench: Bench) -> None:
    """The blocks behind a changed message are dropped one and all, and each of them is named."""
    talk = Talk(bench, calls, tools=TOOLS)
    talk.says()
    talk.answers()
    talk.answers()
    edited = [*deepcopy(talk.messages), {"role": "user", "content": [tool_result("toolu_2", "found")]}]
    edited[2]["content"][0]["content"] = "[cleared]"

    told = talk.sends(edited, betas=(CONTROLS,), **DROPS)["input_transformations"]

    paths = [f"messages.{message}.content.{block}" for message in (3, 5) for block in (0, 2)]
    assert [t["path"] for t in told] == paths


READABLE = [
    ("claude-fable-5-2", "claude-fable-5-1", False),
    ("claude-fable-5-2", "claude-mythos-5-2", True),
    ("claude-fable-5-1", "claude-mythos-5-1", True),
    ("claude-opus-5-5", "claude-fable-5-1", True),
    ("claude-sonnet-5-5", "claude-fable-5-1", False),
    ("claude-opus-5", "claude-fable-5-1", True),
    ("claude-fable-5-1", "claude-opus-5-5", False),
    ("claude-opus-5", "claude-opus-5-5", True),
    ("claude-sonnet-5-5", "claude-opus-5-5", True),
    ("claude-haiku-5-5", "claude-opus-5-5", True),
    ("claude-opus-5", "claude-sonnet-5-5", False),
    ("claude-sonnet-5", "claude-sonnet-5-5", True),
    ("claude-opus-4-8", "claude-sonnet-5-5", True),
    ("claude-haiku-5-5", "claude-sonnet-5-5", True),
    ("claude-sonnet-5-5", "claude-haiku-5-5", False),
    ("claude-sonnet-5", "claude-haiku-5-5", True),
    ("claude-opus-5-5", "claude-opus-5", False),
    ("claude-sonnet-5", "claude-opus-5", True),
]


@pytest.mark.parametrize(("author", "reader", "readable"), READABLE)
def test_rule_52_thinking_that_a_model_cannot_read_is_left_out_without_a_word(
    bench: Bench, author: str, reader: str, readable: bool
) -> None:
    """Each model reads the thinking of a fixed set of others; the rest is dropped, unbilled, and no error."""
    talk = after(1, bench, model=author, thinking={"type": "adaptive"})
    talk.body["model"] = reader

    reply = talk.sends(talk.asked(), betas=(CONTROLS,))
    bare = talk.counts(without_thoughts(talk.asked()))

    if readable:
        assert reply["input_transformations"] == []
        assert _prompt(reply) > bare
    else:
        reason = {"type": "thinking_dropped", "path": "messages.1.content.0", "reason": "model_binding_mismatch"}
        assert reply["input_transformations"] == [reason]
        assert _prompt(reply) == bare


def test_rule_52_a_history_of_nothing_but_unreadable_thinking_is_answered(bench: Bench) -> None:
    """Nothing is left of it for the model to read, not even where the request only warms the cache."""
    talk = Talk(bench, settings=EmulatorSettings(user_first=False), model="claude-sonnet-5-5")
    talk.says()
    alone = [{"role": "assistant", "content": talk.thoughts()}]
    del talk.body["system"]

    for limit in (0, 10):
        reply = talk.sends(alone, model="claude-opus-4-5-20251101", max_tokens=limit, betas=())
        assert _prompt(reply) == 0


@pytest.mark.parametrize(
    ("model", "bound"), [("claude-sonnet-5-5", True), ("claude-haiku-5-5", True), ("claude-opus-5-5", False)]
)
def test_rule_52_thinking_of_the_small_models_is_bound_to_its_account(bench: Bench, model: str, bound: bool) -> None:
    """What Sonnet 5.5 and Haiku 5.5 think is not read for another organisation."""
    talk = after(1, bench, model=model)
    bench.play(Function("talk", thinks), EmulatorSettings(organization_id="org_another"))

    told = talk.sends(talk.asked(), betas=(CONTROLS,))["input_transformations"]

    assert [t["reason"] for t in told] == (["organization_binding_mismatch"] if bound else [])


def test_rule_52_a_model_in_between_does_not_spoil_what_it_cannot_read(bench: Bench) -> None:
    """Back on the first model, its own thinking is still valid behind a turn of another one."""
    talk = after(1, bench)
    talk.body["model"] = "claude-sonnet-5-5"
    talk.says()
    talk.body["model"] = "claude-opus-5-5"

    reply = talk.sends(talk.asked(), betas=(CONTROLS,))

    assert reply["input_transformations"] == []


def test_rule_53_block_binding_needs_its_header(bench: Bench) -> None:
    """Without the beta header the field does not exist."""
    Talk(bench)

    with pytest.raises(BadRequestError, match=r"thinking\.adaptive\.block_binding: Extra inputs are not permitted"):
        bench.ask(model="claude-opus-5-5", **DROPS)


@pytest.mark.parametrize(("model", "kind"), [("claude-sonnet-5-5", "between_tools"), ("claude-haiku-5-5", "disabled")])
def test_rule_53_block_binding_needs_adaptive_thinking(bench: Bench, model: str, kind: str) -> None:
    """With thinking that is off there is nothing to bind."""
    talk = Talk(bench, model=model)
    thinking = {"type": kind, "block_binding": {"prefix_mismatch_behavior": "drop_block"}}
    hello = [{"role": "user", "content": "Hello."}]

    with pytest.raises(BadRequestError, match=rf"thinking\.{kind}\.block_binding: Extra inputs are not permitted"):
        talk.sends(hello, betas=(CONTROLS,), thinking=thinking)


class Naive:
    """Whether a history is lawful, straight from the documentation: every prefix and every earlier thought is written out."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[str, list[str]]] = {}

    def replied(self, body: Json, content: list[Block]) -> None:
        """Remember behind what each thought of a reply was made."""
        sent = [*body["messages"], {"role": "assistant", "content": []}]
        for block in content:
            if block["type"] == "thinking":
                self._made[block["signature"]] = self._prefix(body, sent), self._signatures(sent)
            sent = [*sent[:-1], {"role": "assistant", "content": [*sent[-1]["content"], block]}]

    def allows(self, body: Json) -> bool:
        """Whether every thought stands behind what it was made behind, with no other one missing in between."""
        for i, message in enumerate(body["messages"]):
            for j, block in enumerate(message["content"]):
                if block["type"] != "thinking":
                    continue
                before = [*body["messages"][:i], message | {"content": message["content"][:j]}]
                prefix, earlier = self._made[block["signature"]]
                now = self._signatures(before)
                if prefix != self._prefix(body, before) or now != earlier[len(earlier) - len(now) :]:
                    return False
        return True

    def _prefix(self, body: Json, messages: list[Json]) -> str:
        spoken = [(m["role"], b) for m in messages for b in m["content"] if b["type"] != "thinking"]
        return json.dumps([body.get("system"), body.get("tools"), spoken])

    def _signatures(self, messages: list[Json]) -> list[str]:
        return [b["signature"] for m in messages for b in m["content"] if b["type"] == "thinking"]


def _edited(body: Json, random: Random) -> Json:
    """The body with one to three edits, lawful or not."""
    body = deepcopy(body)
    messages = body["messages"]
    for _ in range(random.randint(1, 3)):
        kind = random.choice(["thought", "thoughts", "thought", "text", "result", "turn", "system", "tool", "append"])
        blocks = [(m, b) for m in messages for b in m["content"]]
        thoughts = [(m, b) for m, b in blocks if b["type"] == "thinking"]
        match kind:
            case "thought" if thoughts:
                message, block = random.choice(thoughts)
                message["content"].remove(block)
            case "thoughts" if thoughts:
                at = random.randint(0, len(thoughts))
                for message, block in random.choice([thoughts[:at], thoughts[at:]]):
                    message["content"].remove(block)
            case "text" if random.random() < 0.3:
                random.choice([b for _, b in blocks if b["type"] == "text"])["text"] += "!"
            case "result" if random.random() < 0.3:
                random.choice([b for _, b in blocks if b["type"] == "tool_result"])["content"] = "[cleared]"
            case "turn" if random.random() < 0.3 and len(messages) > 6:
                del messages[1:3]
            case "system" if random.random() < 0.1:
                body["system"] += " Now."
            case "tool" if random.random() < 0.1:
                body["tools"] = [*body["tools"], {"name": "more", "input_schema": {"type": "object"}}]
            case _:
                messages[-1]["content"].append(text("And this."))
    return body


@pytest.mark.parametrize("seed", range(6))
def test_rule_50_agrees_with_a_naive_account_of_the_documentation(bench: Bench, seed: int) -> None:
    """Random histories, edited at random, are refused exactly where the written-out prefixes differ."""
    random, naive = Random(seed), Naive()
    talk = Talk(bench, calls, tools=TOOLS)
    made: list[Json] = []
    for _ in range(5):
        # the last turn is plain: what counts within a tool loop has tests of its own
        talk.says(*(tool_result(c["id"], "found") for c in _open_calls(talk)), text("Go on."))
        reply = talk.messages.pop()
        naive.replied(talk.body, reply["content"])
        made.append(deepcopy(talk.body))
        talk.messages.append(reply)
    verdicts = set()
    for _ in range(60):
        body = _edited(random.choice(made[1:]), random)
        allowed = naive.allows(body)
        latest = [m for m in body["messages"] if m["role"] == "assistant"][-1]["content"]
        if [b["type"] for b in latest].count("thinking") == 1:
            continue  # within a tool loop, half of the latest thinking is refused for another reason
        verdicts.add(allowed)
        refusal = _refusal(talk, body)
        assert bool(refusal) == ("bound to a different conversation" in refusal) == (not allowed)
    assert verdicts == {True, False}


def _refusal(talk: Talk, body: Json) -> str:
    """The words in which a request is refused; none where it is answered."""
    try:
        talk.sends(**body)
    except BadRequestError as e:
        return str(e)
    return ""


def _open_calls(talk: Talk) -> list[Block]:
    return [b for b in talk.messages[-1]["content"] if b["type"] == "tool_use"] if talk.messages else []


def _recorded(turns: int) -> list[Json]:
    """A long session of calls with large results, each reply with a thought."""
    messages: list[Json] = [{"role": "user", "content": [text("Find it.")]}]
    for n in range(turns):
        reply = [thought(f"Thought {n}: {THINKS_MUCH}"), text(f"I look {n}."), tool_use(f"toolu_{n}", "look", {"n": n})]
        messages.append({"role": "assistant", "content": reply})
        messages.append({"role": "user", "content": [tool_result(f"toolu_{n}", f"line {n} of what was found. " * 300)]})
    return [*messages, {"role": "assistant", "content": [thought("Done."), text("Found.")]}]


@pytest.mark.parametrize("policy", ["rent", "keep_pairs"])
@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5", "claude-fable-5-2"])
def test_rule_50_the_compaction_of_the_engine_is_lawful_on_models_that_check(model: str, policy: str) -> None:
    """A session that thinks in every turn is compacted several times over, and none of its requests is refused."""
    recording = from_messages("thinks", _recorded(90), where="here", system="Be brief.")
    log = MemoryLog()
    policies = preset(policy)

    state = reenact(recording, log, MemoryBlobs(), session_id="s", model=model, models=models(), policies=policies)

    events = list(log.events())
    assert state.outcome == "completed", state.detail
    assert sum(isinstance(e.body, Compacted) for e in events) >= 2
    assert report(events).failed_attempts == 0
    assert report(events).cost_usd > Decimal(0)
    assert replay(events, policies.policies()).same


def test_rule_50_a_compaction_that_keeps_thinking_is_refused() -> None:
    """The same session, by an engine that does not know that its model checks, ends at its first compaction."""
    recording = from_messages("thinks", _recorded(40), where="here", system="Be brief.")
    table = models()
    known = table["claude-opus-5-5"]
    careless = known._replace(card=known.card.model_copy(update={"checks_thinking_prefix": False}))
    log = MemoryLog()

    state = reenact(
        recording,
        log,
        MemoryBlobs(),
        session_id="s",
        model="claude-opus-5-5",
        models=table | {"claude-opus-5-5": careless},
        policies=preset("keep_pairs"),
    )

    assert state.outcome == "failed"
    assert "bound to a different conversation" in state.detail


def _prompt(reply: Json) -> int:
    usage = reply["usage"]
    return int(usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"])
