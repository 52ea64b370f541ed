import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.model_table import models
from agentloop.core.state import State
from agentloop.errors import ImportRefused
from agentloop.importers import Recording, read
from agentloop.importers.saved import recording as saved
from agentloop.policies import PolicySettings, Whole, preset
from agentloop.reenact import reenact
from agentloop.replay import replay
from agentloop.report import report
from agentloop.types.blocks import assistant, text, text_of, tool_result, tool_use, user
from agentloop.types.events import Event


def message(made: Any) -> dict[str, Any]:
    return {"role": made.role, "content": list(made.content)}


LOOK = {"name": "look", "description": "Look.", "input_schema": {"type": "object"}}
MESSAGES = [
    message(user(text("Where are a and b?"))),
    message(assistant(text("I look."), tool_use("t1", "look", {"at": "a"}), tool_use("t2", "look", {"at": "b"}))),
    message(user(tool_result("t1", "shelf"), tool_result("t2", "box", is_error=True), text("Hurry, please."))),
    message(assistant(text("On the shelf and in the box."))),
    message(user(text("Thanks!"))),
    message(assistant(text("You are welcome."))),
]


def written(path: Path, *lines: Any) -> Path:
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return path


def one(path: Path) -> Recording:
    (found,) = read(path)
    return found


def event(kind: str, uuid: str, parent: str | None, content: Any, **more: Any) -> dict[str, Any]:
    body = {"role": kind, "content": content, **({"id": f"msg-{uuid[:2]}", "model": "claude-x"} if kind == "assistant" else {})}
    return {"type": kind, "uuid": uuid, "parentUuid": parent, "timestamp": "2026-01-05T09:00:00Z", "message": body, **more}


TRANSCRIPT = [
    {"type": "summary", "summary": "A title", "leafUuid": "z"},
    event("user", "u1", None, "Fix the test."),
    event("assistant", "a1", "u1", [{"type": "thinking", "thinking": "hm", "signature": "s"}]),
    event("assistant", "a1b", "a1", [tool_use("t1", "Read", {"file": "x.py"})]),
    event("assistant", "a1c", "a1b", [tool_use("t2", "Read", {"file": "y.py"})]),
    event("user", "u2", "a1b", [tool_result("t1", "x = 1")]),
    event("user", "u3", "a1c", [tool_result("t2", "y = 2")]),
    event("user", "side", None, "You are a sub-agent.", isSidechain=True),
    event("user", "meta", "u3", "A note.", isMeta=True),
    event("assistant", "err", "meta", [text("API Error")], isApiErrorMessage=True),
    event("assistant", "b1", "err", [text("Both are fine.")]),
]


def test_a_neutral_trace_is_read_with_its_results_and_what_the_user_said(tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl", {"id": "s1", "system": "Be brief.", "tools": [LOOK], "messages": MESSAGES})

    found = one(path)

    assert (found.id, found.system, found.tools) == ("s1", "Be brief.", (LOOK,))
    assert [text_of(s.told) for s in found.steps] == ["Where are a and b?", "Hurry, please.", "Thanks!"]
    assert found.results["t2"] == tool_result("t2", "box", is_error=True)


def test_a_gzipped_file_of_several_sessions_is_read_session_by_session(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps({"id": i, "messages": MESSAGES}) + "\n" for i in ("one", "two"))

    assert [r.id for r in read(path)] == ["one", "two"]


def test_plain_messages_are_read_and_a_tool_without_a_definition_gets_a_bare_one(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    path.write_text(json.dumps({"system": [text("Be brief.")], "messages": MESSAGES}, indent=2))

    found = one(path)

    assert (found.id, found.system) == ("chat", "Be brief.")
    assert [t["name"] for t in found.tools] == ["look"]


def test_a_claude_code_transcript_is_put_together_again(tmp_path: Path) -> None:
    found = one(written(tmp_path / "abc.jsonl", *TRANSCRIPT))

    assert found.id == "abc"
    assert found.model == "claude-x"
    assert [[b["type"] for b in s.reply] for s in found.steps] == [["thinking", "tool_use", "tool_use"], ["text"]]
    assert sorted(found.results) == ["t1", "t2"]
    assert all(s.at is not None for s in found.steps)


def test_what_a_transcript_holds_besides_is_counted(tmp_path: Path) -> None:
    said = " | ".join(one(written(tmp_path / "abc.jsonl", *TRANSCRIPT)).left_out)

    assert "1 lines of sub-agents" in said
    assert "1 messages about API errors" in said
    assert "system prompt" in said


def test_a_branch_that_was_left_is_left_out(tmp_path: Path) -> None:
    old = event("assistant", "old", "u1", [text("An answer that was undone.")])

    found = one(written(tmp_path / "abc.jsonl", TRANSCRIPT[1], old, *TRANSCRIPT[2:]))

    assert "undone" not in str(found.steps)
    assert any("branches that were left" in w for w in found.left_out)


def test_a_compaction_stays_as_a_user_message_and_is_said(tmp_path: Path) -> None:
    boundary = {"type": "system", "subtype": "compact_boundary", "uuid": "cb", "parentUuid": None, "logicalParentUuid": "b1"}
    summary = event("user", "cs", "cb", "Summary of before.", isCompactSummary=True)
    after = event("assistant", "d1", "cs", [text("Going on.")])

    found = one(written(tmp_path / "abc.jsonl", *TRANSCRIPT, boundary, summary, after))

    assert [text_of(s.told) for s in found.steps] == ["Fix the test.", "A note.", "Summary of before."]
    assert any("1 compactions" in w for w in found.left_out)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "empty"),
        ("hello\n", "is not JSON"),
        ('{"a": 1}\n', "no recording that agentloop knows"),
        ('{"id": "s", "messages": []}\n', "nothing to play"),
        ('{"id": "s", "messages": [{"role": "user", "content": [1]}]}\n', "messages.0"),
        ('{"id": "s", "messages": [7]}\n', "messages.0"),
        ('{"id": "s", "messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t"}]}]}\n', "'input' object"),
        ('{"type": "user"}\n', "no conversation"),
        ("[" * 100_000, "is not JSON"),
        ('{"id": "s", "messages": [{"role": "user", "content": [{"type": "tool_result", "content": 5}]}]}\n', "text or blocks"),
        ('{"id": "s", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n{"id"', "line 2"),
    ],
)
def test_what_is_no_recording_is_refused_with_the_place(content: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(content)

    with pytest.raises(ImportRefused, match=named):
        list(read(path))


@pytest.mark.parametrize("line", ["[" * 100_000, '{"id": "s", "messages": [NaN]}'])
def test_a_line_of_traces_that_no_log_could_hold_is_refused_with_its_number(line: str, tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl", {"id": "s1", "messages": MESSAGES})
    path.write_text(path.read_text() + line)

    with pytest.raises(ImportRefused, match="line 2 is not JSON"):
        list(read(path))


@pytest.mark.parametrize(
    "wrong", [{"tools": ["x"]}, {"tools": 5}, {"tools": [{"description": "x"}]}, {"system": 5}, {"system": [5]}]
)
@pytest.mark.parametrize("name", [{}, {"id": "s1"}])
def test_tools_and_a_system_prompt_of_another_form_are_refused(wrong: Any, name: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "t.json", {**name, "messages": MESSAGES, **wrong})

    with pytest.raises(ImportRefused, match=next(iter(wrong))):
        list(read(path))


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(json.dumps({"id": "s1", "messages": MESSAGES}).encode() * 50))
    data[40] ^= 0xFF
    data[41] ^= 0xFF
    (tmp_path / "t.jsonl.gz").write_bytes(data)

    with pytest.raises(ImportRefused, match=r"t\.jsonl\.gz cannot be read"):
        list(read(tmp_path / "t.jsonl.gz"))


def test_lone_surrogates_are_replaced_wherever_they_stand(tmp_path: Path) -> None:
    tool = {**LOOK, "description": "Look\ud800."}
    trace = {"id": "s\ud800", "system": "Be\ud800brief.", "tools": [tool], "messages": MESSAGES, "source": {"model": "m\ud800"}}

    found = one(written(tmp_path / "t.jsonl", trace))

    assert (found.id, found.system, found.model, found.tools[0]["description"]) == ("s?", "Be?brief.", "m?", "Look?.")
    assert played(found)[0].outcome == "completed"


def test_an_id_that_two_replies_use_has_a_result_for_each(tmp_path: Path) -> None:
    turns = [
        [message(assistant(tool_use("look:0", "look", {}))), message(user(tool_result("look:0", at)))] for at in ("a", "b")
    ]
    messages = [message(user(text("Look."))), *turns[0], *turns[1], message(assistant(text("Both.")))]

    found = one(written(tmp_path / "t.jsonl", {"id": "s1", "tools": [LOOK], "messages": messages}))

    assert {k: v["content"] for k, v in found.results.items()} == {"look_0": "a", "look_0_2": "b"}
    assert played(found)[0].asked == 3


def played(
    recording: Recording, policy: str = "never", facts: bool = False, over_http: bool = False
) -> tuple[State, list[Event]]:
    log = MemoryLog()
    settings = preset(policy) if facts else preset(policy).model_copy(update={"facts": Whole()})
    state = reenact(
        recording, log, MemoryBlobs(), session_id="s", model="claude-sonnet-4-6", models=models(), policies=settings,
        over_http=over_http,
    )  # fmt: skip
    return state, list(log.events())


def test_a_recording_plays_to_its_end_and_replays(tmp_path: Path) -> None:
    found = one(written(tmp_path / "t.jsonl", {"id": "s1", "tools": [LOOK], "messages": MESSAGES}))

    state, events = played(found, over_http=True)

    assert (state.outcome, state.asked) == ("completed", 3)
    assert replay(events, PolicySettings.model_validate(state.policies).policies()).same
    sent = [m for turn in state.turns for m in (turn.question, turn.answer)]
    assert [message(m) for m in sent] == MESSAGES


def test_a_recording_that_stops_in_the_middle_of_a_call_ends_there(tmp_path: Path) -> None:
    found = one(written(tmp_path / "t.jsonl", {"id": "s1", "tools": [LOOK], "messages": MESSAGES[:2]}))

    state, _ = played(found)

    assert state.outcome == "max_turns"
    assert "No result of this call was recorded" in str(state.given)


def test_never_costs_to_the_last_digit_what_the_baseline_of_automatic_caching_says(tmp_path: Path) -> None:
    found = one(written(tmp_path / "t.jsonl", {"id": "s1", "system": "word " * 3_000, "tools": [LOOK], "messages": MESSAGES}))

    _, events = played(found)

    bill = report(events)
    assert bill.baselines is not None
    assert bill.cost_usd == bill.baselines.automatic_caching_usd


def test_a_session_of_our_own_is_a_recording_too(tmp_path: Path) -> None:
    found = one(written(tmp_path / "t.jsonl", {"id": "s1", "tools": [LOOK], "messages": MESSAGES}))
    _, events = played(found)

    again = saved(events, MemoryBlobs())

    assert [(s.told, s.reply) for s in again.steps] == [(s.told, s.reply) for s in found.steps]
    assert {k: v["content"] for k, v in again.results.items()} == {k: v["content"] for k, v in found.results.items()}
