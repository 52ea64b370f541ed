from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import pytest

from agentloop.emulator import Function, Playbook, Recording, ScriptedReply
from agentloop.emulator.script import SUMMARY_QUESTION
from agentloop.errors import ConfigError
from agentloop.types.base import Json
from agentloop.types.blocks import text, tool_result, tool_use
from agentloop.types.request import Reply
from agentloop.types.usage import Usage

if TYPE_CHECKING:
    from anthropic.types import Message

    from tests.emulator.conftest import Bench

RECORDING = Recording(
    "tape",
    (
        ScriptedReply((text("I look."), tool_use("toolu_rec", "look", {"at": "sky"})), "tool_use"),
        ScriptedReply((text("It is blue."),), output_tokens=42),
    ),
)
ORDER = Playbook.from_data(
    {
        "name": "order",
        "steps": [
            {"think": "First the order.", "say": "One moment.", "call": [{"find": {"order": {"$match": r"order (\w+)"}}}]},
            {
                "call": [
                    {"pay": {"sums": [{"$match": r"\d+ EUR"}], "note": {"$match": "note: (.*)", "default": None}}},
                    {"log": None},
                ]
            },
            {"say": "All done."},
        ],
        "rules": [{"when": "(?i)permission denied", "say": "I try again.", "call": [{"retry": {}}]}],
    }
)


def user(*content: Any) -> Json:
    return {"role": "user", "content": [text(c) if isinstance(c, str) else c for c in content]}


def asked(messages: list[Json], previous: str | None) -> Json:
    return {"messages": messages, "diagnostics": {"previous_message_id": previous}}


def calls(message: Message) -> list[tuple[str, str, Any]]:
    return [(b.id, b.name, b.input) for b in message.content if b.type == "tool_use"]


def test_a_recording_answers_with_one_reply_a_step(bench: Bench) -> None:
    bench.play(RECORDING)
    first = bench.ask([user("a")], diagnostics={"previous_message_id": None})
    answered = [user("a"), {"role": "assistant", "content": first.to_dict()["content"]}, user(tool_result("toolu_rec", "blue"))]
    second = bench.ask(answered, diagnostics={"previous_message_id": first.id})

    assert (first.id, first.stop_reason, calls(first)) == ("msg_tape_0000", "tool_use", [("toolu_rec", "look", {"at": "sky"})])
    assert (second.id, second.stop_reason, second.usage.output_tokens) == ("msg_tape_0001", "end_turn", 42)


def test_a_recording_that_has_ended_says_so(bench: Bench) -> None:
    reply = RECORDING.reply(asked([user("a")], "msg_tape_0041"))

    assert reply == ScriptedReply((text("The recording ends here."),), "end_turn", "msg_tape_0042")


def test_a_recording_is_made_of_the_replies_in_a_log() -> None:
    logged = Reply(
        message_id="msg_1",
        model="m",
        content=({"type": "text", "text": "a"},),
        stop_reason="refusal",
        usage=Usage(output_tokens=7),
    )

    reply = Recording.of("log", [logged]).reply(asked([user("a")], None))

    assert reply == ScriptedReply((text("a"),), "refusal", "msg_log_0000", 7)


def test_the_step_is_read_from_the_last_reply_whatever_was_cut_from_the_history() -> None:
    steps: list[int] = []
    script = Function("f", lambda request, step: steps.append(step) or [text("a")])  # type: ignore[func-returns-value]

    script.reply(asked([user("a")], None))
    script.reply(asked([user("a")], "msg_f_0007"))
    script.reply(asked([user("a")], "msg_f_12345"))
    script.reply(asked([user("a")], "msg_f_0007_cut"))

    assert steps == [0, 8, 12346, 7]


@pytest.mark.parametrize("previous", [None, "msg_other_0007", "msg_f_summary_00ff"])
def test_without_an_id_of_its_own_a_script_counts_the_assistants_messages(previous: str | None) -> None:
    script = Function("f", lambda request, step: [text(str(step))])
    messages = [user("a"), {"role": "assistant", "content": "b"}, user("c"), {"role": "assistant", "content": "d"}, user("e")]

    assert script.reply(asked(messages, previous)).content == (text("2"),)
    assert script.reply({"messages": messages}).content == (text("2"),)


@pytest.mark.parametrize("script", [RECORDING, ORDER, Function("f", lambda request, step: [])])
def test_every_script_answers_the_question_for_a_session_state(bench: Bench, script: Any) -> None:
    bench.play(script)
    history = [user("Find the order."), {"role": "assistant", "content": [text("I look."), tool_use("x", "look", {})]}]
    question = [*history, user(tool_result("x", "seen")), user(f"{SUMMARY_QUESTION} of this session leave your view, …")]

    first = bench.ask(question, diagnostics={"previous_message_id": "msg_f_0000"})
    again = bench.ask(question, diagnostics={"previous_message_id": "msg_f_0000"})

    assert first.id.startswith(f"msg_{script.name}_summary_")
    assert (first.id, first.content) == (again.id, again.content)
    assert first.stop_reason == "end_turn"
    assert "look (1 times)" in first.to_json()
    assert "Find the order." in first.to_json()


def test_a_playbook_thinks_speaks_and_calls(bench: Bench) -> None:
    bench.play(ORDER)

    reply = bench.ask([user("Please see to order W12, then to order W37.")])

    assert [b.type for b in reply.content] == ["thinking", "text", "tool_use"]
    assert calls(reply) == [("toolu_order_0_0", "find", {"order": "W37"})]
    assert reply.stop_reason == "tool_use"


def test_a_match_takes_the_last_place_in_texts_and_tool_results() -> None:
    messages = [
        user("order W1 of 10 EUR"),
        {"role": "assistant", "content": "…"},
        user(tool_result("x", [text("20 EUR, 30 EUR")])),
    ]

    reply = ORDER.reply(asked(messages, "msg_order_0000"))

    assert [b["input"] for b in reply.content] == [{"sums": ["30 EUR"], "note": None}, {}]


def test_a_match_that_finds_nothing_is_an_error_and_not_an_end(bench: Bench) -> None:
    bench.play(ORDER)

    with pytest.raises(anthropic.BadRequestError, match=r"nothing in the request matches /order"):
        bench.ask([user("Hello.")])


def test_a_step_without_calls_ends_the_turn_and_so_does_the_end_of_the_playbook() -> None:
    last = ORDER.reply(asked([user("a")], "msg_order_0001"))
    over = ORDER.reply(asked([user("a")], "msg_order_0002"))

    assert (last.content, last.stop_reason) == ((text("All done."),), "end_turn")
    assert (over.content, over.stop_reason, over.message_id) == (
        (text("The playbook ends here."),),
        "end_turn",
        "msg_order_0003",
    )


def test_a_rule_speaks_in_the_place_of_a_step_that_is_still_to_come() -> None:
    denied = ORDER.reply(asked([user(tool_result("x", "Permission denied"))], "msg_order_0000"))
    again = ORDER.reply(asked([user(tool_result("y", "Permission denied"))], denied.message_id))
    after = ORDER.reply(asked([user("5 EUR")], again.message_id))

    assert denied.message_id == again.message_id == "msg_order_0001_rule"
    assert denied.content[1]["id"] != again.content[1]["id"]
    assert after.message_id == "msg_order_0001"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "Whatever you say."),
        ({"system": "Make a title."}, "A title"),
        ({"system": [text("Make a title.")], "model": "claude-haiku-5-5"}, "A small title"),
        ({"model": "claude-haiku-5-5"}, "Whatever you say."),
    ],
)
def test_a_playbook_of_rules_and_a_default_answers_every_request(bench: Bench, body: Json, said: str) -> None:
    rules = [
        {"system": "title", "model": "haiku", "say": "A small title"},
        {"system": "title", "say": "A title"},
        {"when": "^stop$", "say": "Stopped."},
    ]
    bench.play(Playbook.from_data({"name": "any", "rules": rules, "default": {"say": "Whatever you say."}}))

    replies = [bench.ask([user(words)], **body) for words in ("Hello.", "Hello again.")]

    assert [r.content[0].text for r in replies] == [said, said]  # type: ignore[union-attr]


def test_a_playbook_is_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "book.yaml"
    path.write_text("name: book\nsteps:\n  - call:\n      - look: {at: {$match: 'in (\\w+)', default: sky}}\n  - say: Done.\n")

    book = Playbook.load(path)

    assert book.reply(asked([user("a")], None)).content == (tool_use("toolu_book_0_0", "look", {"at": "sky"}),)


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("name: [", "is not YAML"),
        ("steps: []", "name: Field required"),
        ("name: b\nsteps: []", "expected 'steps', a 'default' or both"),
        ("name: b\nsteps: [{say: a}, {shout: a}]", "step 2: shout: Extra inputs are not permitted"),
        ("name: b\nsteps: [{say: a}, {think: a}]", "step 2: expected 'say', 'call' or both"),
        ("name: b\nsteps: [{say: ' '}]", "step 1: say: expected a text that is not blank"),
        ("name: b\nsteps: [{call: [{a: {}, b: {}}]}]", "step 1: call: expected one tool and its arguments"),
        ("name: b\nsteps: [{call: [{a: {at: {$match: '('}}}]}]", "step 1: call: '(' is no regex"),
        ("name: b\nsteps: [{call: [{a: {at: {$match: a, or: b}}}]}]", "step 1: call: expected {$match: regex}"),
        ("name: b\nsteps: [{call: [{a: {at: 2026-11-22}}]}]", "put dates and times in quotes"),
        ("name: b\nsteps: [{say: a}]\nrules: [{when: '[', say: a}]", "rule 1: when: '[' is no regex"),
        ("name: b\nsteps: [{say: a}]\nrules: [{say: a}]", "rule 1: expected 'when', 'system' or 'model'"),
        ("name: a b\nsteps: [{say: a}]", "script name 'a b'"),
    ],
)
def test_a_fault_in_a_playbook_is_named_with_file_and_step(tmp_path: Path, yaml: str, words: str) -> None:
    path = tmp_path / "book.yaml"
    path.write_text(yaml)

    with pytest.raises(ConfigError) as fault:
        Playbook.load(path)

    assert str(fault.value).startswith(f"playbook {path}")
    assert words in str(fault.value)


def test_a_playbook_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Playbook.load(tmp_path / "none.yaml")


def test_a_rule_that_calls_a_tool_for_the_same_words_again_has_another_id_for_it(bench: Bench) -> None:
    rules = [{"when": "^run$", "call": [{"t": {}}]}, {"when": "^ok$", "say": "Ran."}]
    bench.play(Playbook.from_data({"name": "book", "rules": rules, "default": {"say": "What?"}}))
    tools = [{"name": "t", "input_schema": {"type": "object"}}]
    talk: list[Json] = []
    ids: list[str] = []
    previous = None

    for _ in range(2):
        for said in ("run", "ok"):
            content = [text(said)] if said == "run" else [tool_result(ids[-1], said)]
            talk.append({"role": "user", "content": content})
            reply = bench.ask(talk, tools=tools, diagnostics={"previous_message_id": previous})
            previous = reply.id
            ids += [b.id for b in reply.content if b.type == "tool_use"]
            talk.append({"role": "assistant", "content": [b.to_dict() for b in reply.content]})

    assert len(set(ids)) == 2
