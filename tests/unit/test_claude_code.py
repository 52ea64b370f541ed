"""Claude Code transcripts of invented sessions, line for line as the program writes them."""

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.model_table import models
from agentloop.core.state import State
from agentloop.errors import ImportRefused
from agentloop.importers import Recording, read
from agentloop.policies import PolicySettings, preset
from agentloop.reenact import reenact
from agentloop.replay import replay
from agentloop.types.blocks import Block, calls, text, text_of, tool_result, tool_use
from agentloop.types.events import Event
from agentloop.types.usage import Usage

Line = dict[str, Any]


def thinking(words: str) -> Block:
    return {"type": "thinking", "thinking": words, "signature": "c2lnbmVk"}


class Transcript:
    """A transcript that grows line by line, each linked to the one before it."""

    def __init__(self, agent: str | None = None, model: str = "claude-opus-4-5-20251101") -> None:
        self.lines: list[Line] = []
        self.last: str | None = None
        self.model = model
        self._shared: Line = {
            "userType": "external",
            "cwd": "/home/mill",
            "sessionId": "s-1",
            "version": "2.1.9",
            "gitBranch": "",
        }
        self._shared |= {"isSidechain": agent is not None} | ({"agentId": agent} if agent else {})
        self._at = datetime(2026, 1, 5, 9, tzinfo=UTC)

    def loose(self, kind: str, **fields: Any) -> None:
        """A line that nothing links to."""
        self.lines.append({"type": kind, "sessionId": "s-1", **fields})

    def linked(self, kind: str, *, parent: str | None = "", **fields: Any) -> str:
        """A line of the conversation, or of what went on around it."""
        uuid = f"line-{len(self.lines)}"
        self._at += timedelta(seconds=7)
        at = {"timestamp": self._at.isoformat().replace("+00:00", "Z")}
        self.lines.append(
            {"parentUuid": self.last if parent == "" else parent, **self._shared, "type": kind, "uuid": uuid, **at, **fields}
        )
        self.last = uuid
        return uuid

    def user(self, content: Any, **fields: Any) -> str:
        return self.linked("user", message={"role": "user", "content": content}, **fields)

    def part(self, reply: str, block: Block, output: int = 3, stop: str | None = None, **fields: Any) -> str:
        """One block of a reply: the line says what the whole request used, and of the output what had come by then."""
        told: Line = {
            "input_tokens": 9,
            "cache_read_input_tokens": 19_000,
            "cache_creation_input_tokens": 600,
            "output_tokens": output,
        }
        told |= {
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 500},
            "service_tier": "standard",
        }
        message: Line = {"model": self.model, "id": reply, "type": "message", "role": "assistant", "content": [block]}
        message |= {"stop_reason": stop, "stop_sequence": None, "usage": told}
        return self.linked("assistant", message=message, requestId=f"req-{reply}", **fields)

    def reply(self, name: str, *blocks: Block) -> None:
        stop = "tool_use" if blocks[-1]["type"] == "tool_use" else "end_turn"
        for i, block in enumerate(blocks):
            last = i == len(blocks) - 1
            self.part(name, block, output=120 if last else 3, stop=stop if last else None)

    def result(self, call: str, content: Any, *, is_error: bool = False, **fields: Any) -> str:
        block = {"tool_use_id": call, "type": "tool_result", "content": content} | ({"is_error": True} if is_error else {})
        return self.user([block], toolUseResult={"stdout": str(content), "stderr": "", "interrupted": False}, **fields)

    def compacted(self, summary: str) -> None:
        self.linked("system", parent=None, logicalParentUuid=self.last, subtype="compact_boundary",
                    content="Conversation compacted", compactMetadata={"trigger": "auto", "preTokens": 155_000})  # fmt: skip
        self.user(summary, isCompactSummary=True, isVisibleInTranscriptOnly=True)

    def written(self, path: Path) -> Path:
        path.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        return path


def whole_session() -> Transcript:
    """Every kind of line that transcripts are known to hold."""
    t = Transcript()
    t.loose("summary", summary="The mill wheel", leafUuid="of-another-session")
    t.linked("system", subtype="local_command", content="<command-name>/model</command-name>", level="info", isMeta=False)
    t.loose("file-history-snapshot", messageId="m", snapshot={"trackedFileBackups": {}}, isSnapshotUpdate=False)
    t.loose("permission-mode", permissionMode="default")
    t.user("Why does the wheel stand still?", thinkingMetadata={"level": "high", "disabled": False, "triggers": []}, todos=[])
    t.linked("attachment", attachment={"type": "skill_listing", "content": "- oiling", "names": ["oiling"]})
    t.user("Caveat: what follows was typed by the user.", isMeta=True)
    # Two calls at once: the first one's result comes before the second one's line.
    t.part("msg_1", thinking("I look at the axle and the sluice."))
    t.part("msg_1", text("I look at both."))
    first = t.part("msg_1", tool_use("toolu_1", "Read", {"file_path": "axle.txt"}) | {"caller": {"type": "direct"}})
    t.result("toolu_1", "The axle is dry. " * 400, sourceToolAssistantUUID=first)
    second = t.part("msg_1", tool_use("toolu_2", "Bash", {"command": "cat sluice"}), output=161, stop="tool_use", parent=first)
    t.linked("progress", data={"type": "bash_progress", "output": ""}, toolUseID="toolu_2")
    t.result("toolu_2", "exit 1", is_error=True, parent=second)
    t.loose("queue-operation", operation="enqueue", content="And the belt?", timestamp="2026-01-05T09:02:00Z")
    t.linked("attachment", attachment={"type": "queued_command", "prompt": "And the belt?", "commandMode": "prompt"})
    t.linked("system", subtype="api_error", level="error", error={"status": 529}, retryAttempt=1, maxRetries=10)
    t.part("msg_e", text("API Error: 529 overloaded"), isApiErrorMessage=True)
    t.reply("msg_2", tool_use("toolu_3", "Task", {"prompt": "Look at the belt.", "subagent_type": "general-purpose"}))
    main = t.last
    t.linked("user", parent=None, isSidechain=True, agentId="a1", message={"role": "user", "content": "Look at the belt."})
    t.linked(
        "assistant", isSidechain=True, agentId="a1", message={"id": "msg_s", "role": "assistant", "content": [text("Torn.")]}
    )
    t.result("toolu_3", [text("The belt is torn."), text("agentId: a1")], parent=main)
    t.reply("msg_3", text("The belt is torn and the axle dry."))
    t.linked("system", subtype="stop_hook_summary", hookCount=1, hookErrors=[], preventedContinuation=False)
    t.linked("system", subtype="turn_duration", durationMs=73_553, isMeta=False)
    end = t.last
    t.user("Buy a new one.")
    t.reply("msg_left", text("From whom?"))
    t.user([text("Here is a picture; mend it."), {"type": "image", "source": {"type": "base64", "media_type": "image/png",
            "data": "iVBORw0KGgo="}}], parent=end)  # fmt: skip
    t.reply("msg_4", tool_use("toolu_4", "Bash", {"command": "rm belt"}))
    t.result("toolu_4", "The user doesn't want to proceed with this tool use.", is_error=True, toolDenialKind="user-rejected")
    t.user([text("[Request interrupted by user for tool use]")])
    t.user("Sew it instead.")
    t.compacted("So far: the belt of the mill is torn, the axle is dry.")
    t.model = "claude-haiku-4-5-20251001"
    t.part("msg_5", thinking(""))
    t.part("msg_5", text("Sewn."))
    t.user("<local-command-stdout>Bye!</local-command-stdout>")
    t.loose("last-prompt", lastPrompt="Sew it instead.", leafUuid=t.last)
    return t


TOLD = [
    "<command-name>/model</command-name>\nWhy does the wheel stand still?\nCaveat: what follows was typed by the user.",
    "And the belt?",
    "",
    "Here is a picture; mend it.",
    "[Request interrupted by user for tool use]\nSew it instead.\nSo far: the belt of the mill is torn, the axle is dry.",
]


def imported(transcript: Transcript, folder: Path, name: str = "s-1") -> Recording:
    (found,) = read(transcript.written(folder / f"{name}.jsonl"))
    return found


def played(found: Recording, policies: PolicySettings) -> tuple[State, Sequence[Event]]:
    log = MemoryLog()
    state = reenact(found, log, MemoryBlobs(), session_id="s", model="claude-sonnet-4-6", models=models(), policies=policies)
    return state, list(log.events())


def test_each_reply_is_one_step_though_results_stand_between_its_lines(tmp_path: Path) -> None:
    found = imported(whole_session(), tmp_path)

    assert [[b["type"] for b in step.reply] for step in found.steps] == [
        ["thinking", "text", "tool_use", "tool_use"],
        ["tool_use"],
        ["text"],
        ["tool_use"],
        ["thinking", "text"],
    ]
    assert sorted(found.results) == ["toolu_1", "toolu_2", "toolu_3", "toolu_4"]


def test_the_model_was_told_what_the_program_put_in_the_users_mouth_too(tmp_path: Path) -> None:
    found = imported(whole_session(), tmp_path)

    assert [text_of(step.told) for step in found.steps] == TOLD
    assert [b["type"] for b in found.steps[3].told] == ["text", "image"]


def test_whatever_is_left_out_is_said(tmp_path: Path) -> None:
    said = " | ".join(imported(whole_session(), tmp_path).left_out)

    assert "2 lines of sub-agents" in said
    assert "2 lines of branches that were left" in said
    assert "1 messages about API errors" in said
    assert "1 attachments" in said
    assert "10 lines of bookkeeping" in said
    assert "1 compactions" in said
    assert "a last user message that nobody answered" in said
    assert "4 replies of claude-opus-4-5-20251101, 1 replies of claude-haiku-4-5-20251001" in said
    assert "the first recorded request held 19,609 tokens" in said


def test_the_recorded_usage_of_a_reply_is_taken_once_with_the_most_output_that_was_counted(tmp_path: Path) -> None:
    found = imported(whole_session(), tmp_path)

    assert len(found.used) == len(found.steps)
    assert found.used[0].usage == Usage(
        input_tokens=9, cache_read_input_tokens=19_000, ephemeral_5m_input_tokens=100, ephemeral_1h_input_tokens=500,
        output_tokens=161,
    )  # fmt: skip
    assert [u.complete for u in found.used] == [True, True, True, True, False]


@pytest.mark.parametrize("policy", ["never", "every_turn", "keep_pairs", "rent"])
def test_a_transcript_with_every_kind_of_line_plays_to_its_end_and_replays(policy: str, tmp_path: Path) -> None:
    found = imported(whole_session(), tmp_path)

    state, events = played(found, preset(policy))

    assert (state.outcome, state.asked) == ("completed", 5)
    assert replay(events, preset(policy).policies()).same


def a_session_of(seed: int) -> tuple[Transcript, int]:
    """A transcript with turns of every shape, in an order that chance makes; and how many replies it holds."""
    chance, t, replies = random.Random(seed), Transcript(), 0
    t.user("Begin.")
    for turn in range(chance.randint(3, 25)):
        asked = [f"toolu_{turn}_{i}" for i in range(chance.choice([0, 1, 1, 1, 2, 3, 5]))]
        replies += 1
        if chance.random() < 0.5:
            t.part(f"msg_{turn}", thinking("Hm."))
        if not asked or chance.random() < 0.5:
            t.part(f"msg_{turn}", text("Well."), stop=None if asked else "end_turn")
        parents: dict[str, str] = {}
        waiting: list[str] = []
        above = t.last
        for call in asked:
            above = parents[call] = t.part(f"msg_{turn}", tool_use(call, "Bash", {"command": call}), parent=above)
            waiting.append(call)
            while waiting and chance.random() < 0.4:
                t.result(waiting[0], "done " * chance.randint(1, 300), parent=parents[waiting.pop(0)])
        for call in waiting:
            t.result(call, "done", is_error=chance.random() < 0.2, parent=parents[call])
        if asked and chance.random() < 0.2:
            t.linked("attachment", attachment={"type": "queued_command", "prompt": [text("Quick!")], "commandMode": "prompt"})
        if not asked or chance.random() < 0.1:
            t.linked("system", subtype="turn_duration", durationMs=1)
            t.user(f"Go on with {turn}.", isMeta=chance.random() < 0.3)
        if chance.random() < 0.15:
            t.compacted(f"The story until {turn}.")
    t.reply("msg_end", text("The end."))
    return t, replies + 1


@pytest.mark.parametrize("seed", range(12))
def test_sessions_of_any_shape_are_read_whole_and_play(seed: int, tmp_path: Path) -> None:
    transcript, replies = a_session_of(seed)

    found = imported(transcript, tmp_path)
    state, _ = played(found, preset("every_turn"))

    assert len(found.steps) == replies
    assert {c.id for step in found.steps for c in calls(step.reply)} == set(found.results)
    assert (state.outcome, state.asked) == ("completed", replies)


def test_a_file_of_a_sub_agent_is_a_session(tmp_path: Path) -> None:
    t = Transcript(agent="a54e5f8")
    t.user("Look at the belt.")
    t.reply("msg_1", text("Torn."))

    found = imported(t, tmp_path, "agent-a54e5f8")

    assert (found.id, [text_of(s.told) for s in found.steps]) == ("agent-a54e5f8", ["Look at the belt."])


def test_a_sub_agent_that_was_only_warmed_up_holds_nothing_to_play(tmp_path: Path) -> None:
    t = Transcript(agent="a54e5f8")
    t.user("Warmup")

    with pytest.raises(ImportRefused, match="nothing to play"):
        imported(t, tmp_path)


def test_the_end_of_a_transcript_begins_with_what_the_user_says_first(tmp_path: Path) -> None:
    t = Transcript()
    t.last = "of-a-line-that-was-cut-away"
    t.result("toolu_0", "of a call before")
    t.reply("msg_1", text("So much for that."))
    t.user("Next.")
    t.reply("msg_2", text("Done."))

    found = imported(t, tmp_path)

    assert [text_of(s.told) for s in found.steps] == ["Next."]
    assert "1 replies before the first thing that the user said" in found.left_out


@pytest.mark.parametrize("lost", ["user", "assistant", "system"])
def test_where_a_link_leads_out_of_the_file_the_line_above_is_taken(lost: str, tmp_path: Path) -> None:
    t = Transcript()
    t.user("One.")
    t.reply("msg_1", text("Won."))
    gone = t.linked(lost, message={"role": lost, "content": "Lost."}) if lost != "system" else t.linked("system", subtype="x")
    t.user("Two.")
    t.reply("msg_2", text("Too."))
    t.lines = [line for line in t.lines if line["uuid"] != gone]

    found = imported(t, tmp_path)

    assert [text_of(s.told) for s in found.steps] == ["One.", "Two."]
    assert any("1 links to lines that are not in the file" in w for w in found.left_out)


def test_a_compaction_whose_boundary_names_nothing_keeps_what_was_before(tmp_path: Path) -> None:
    t = Transcript()
    t.user("One.")
    t.reply("msg_1", text("Won."))
    t.linked("system", parent=None, subtype="compact_boundary")
    t.user("Summary.", isCompactSummary=True)
    t.reply("msg_2", text("Too."))

    assert [text_of(s.told) for s in imported(t, tmp_path).steps] == ["One.", "Summary."]


def test_lines_that_are_not_json_are_left_out_and_counted(tmp_path: Path) -> None:
    t = Transcript()
    t.user("One.")
    t.reply("msg_1", text("Won."))
    path = t.written(tmp_path / "s.jsonl")
    path.write_text(path.read_text() + '{"type":"user","mess')

    (found,) = read(path)

    assert len(found.steps) == 1
    assert "1 lines that are not JSON" in found.left_out


def test_blocks_are_kept_as_the_api_takes_them_back(tmp_path: Path) -> None:
    t = Transcript()
    t.user("Go.")
    t.reply("msg_1", {"type": "thinking", "thinking": "Hm."}, {"type": "thinking", "thinking": "", "signature": ""},
            tool_use("functions.Bash:0", "Bash", {}) | {"caller": None, "_note": 1})  # fmt: skip
    t.user([{"type": "tool_result", "tool_use_id": "functions.Bash:0", "content": "ok", "is_error": None}])
    t.reply("msg_2", text("Done.") | {"citations": None})

    found = imported(t, tmp_path)

    assert found.steps[0].reply == (
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        tool_use("functions_Bash_0", "Bash", {}),
    )
    assert found.results == {"functions_Bash_0": tool_result("functions_Bash_0", "ok")}
    assert played(found, preset("never"))[0].outcome == "completed"


def test_a_call_that_is_written_down_twice_is_made_once(tmp_path: Path) -> None:
    t = Transcript()
    t.user("Go.")
    for _ in range(2):
        t.part("msg_1", tool_use("toolu_1", "Bash", {}))
    t.result("toolu_1", "ok")
    t.reply("msg_2", text("Done."))

    found = imported(t, tmp_path)

    assert [len(calls(s.reply)) for s in found.steps] == [1, 0]
    assert "1 repeated calls" in found.left_out


def test_a_line_with_a_repeated_call_gives_what_is_new_in_it(tmp_path: Path) -> None:
    t = Transcript()
    t.user("Go.")
    t.part("msg_1", text("I look."))
    t.part("msg_1", tool_use("toolu_1", "Bash", {}))
    for line in (t.lines[-2], t.lines[-1]):
        line["message"]["content"] = [text("I look."), tool_use("toolu_1", "Bash", {})]
    t.lines[-1]["message"]["content"] += [text("And there."), tool_use("toolu_2", "Bash", {})]
    t.result("toolu_1", "one")
    t.result("toolu_2", "two")
    t.reply("msg_2", text("Done."))

    found = imported(t, tmp_path)

    assert found.steps[0].reply == (
        text("I look."),
        tool_use("toolu_1", "Bash", {}),
        text("And there."),
        tool_use("toolu_2", "Bash", {}),
    )
    assert "1 repeated calls" in found.left_out


@pytest.mark.parametrize("named", [True, False])
def test_an_id_that_every_reply_uses_again_names_a_call_of_its_own_each_time(named: bool, tmp_path: Path) -> None:
    t = Transcript()
    t.user("Go.")
    for turn in range(3):
        t.reply(f"msg_{turn}", tool_use("functions.Bash:0", "Bash", {"n": turn}))
        t.result("functions.Bash:0", f"result {turn}")
    t.reply("msg_end", text("Done."))
    for line in t.lines if not named else []:
        line["message"].pop("id", None)

    found = imported(t, tmp_path)

    ids = [c.id for step in found.steps for c in calls(step.reply)]
    assert ids == ["functions_Bash_0", "functions_Bash_0_2", "functions_Bash_0_3"]
    assert [found.results[i]["content"] for i in ids] == ["result 0", "result 1", "result 2"]
    assert not any("repeated" in what for what in found.left_out)
    assert played(found, preset("never"))[0].asked == 4


def test_ids_that_only_what_the_api_refuses_tells_apart_stay_apart(tmp_path: Path) -> None:
    t = Transcript()
    t.user("Go.")
    t.reply("msg_1", tool_use("f:0", "Bash", {}), tool_use("f.0", "Bash", {}))
    t.result("f:0", "one")
    t.result("f.0", "two")
    t.reply("msg_2", text("Done."))

    found = imported(t, tmp_path)

    assert [found.results[c.id]["content"] for c in calls(found.steps[0].reply)] == ["one", "two"]


def test_a_result_that_no_call_stands_above_answers_no_later_call_of_its_id(tmp_path: Path) -> None:
    t = Transcript()
    t.user([{"type": "tool_result", "tool_use_id": "f:0", "content": "of a call before"}, text("Go.")])
    t.reply("msg_1", tool_use("f:0", "Bash", {}))
    t.user("Stop.")
    t.reply("msg_2", text("Stopped."))

    found = imported(t, tmp_path)

    assert [c.id in found.results for c in calls(found.steps[0].reply)] == [False]


@pytest.mark.parametrize("later", [True, False])
def test_a_result_beside_the_chain_counts_only_where_the_chain_has_none(later: bool, tmp_path: Path) -> None:
    t = Transcript()
    t.user("Go.")
    first = t.part("msg_1", tool_use("toolu_1", "Bash", {}))
    second = t.part("msg_1", tool_use("toolu_2", "Bash", {}), stop="tool_use")
    beside = [{"type": "tool_result", "tool_use_id": f"toolu_{i}", "content": "beside"} for i in (1, 2)]
    if not later:
        t.user(beside, parent=first)
    t.result("toolu_2", "on the chain", parent=second)
    on_chain = t.last
    if later:
        t.user(beside, parent=first)
    t.user([beside[0] | {"content": "once more"}], parent=first)
    t.last = on_chain
    t.reply("msg_2", text("Done."))

    found = imported(t, tmp_path)

    assert {call: result["content"] for call, result in found.results.items()} == {
        "toolu_1": "beside",
        "toolu_2": "on the chain",
    }
    assert "1 results on branches that were left" in found.left_out
    assert "1 lines of branches that were left" in found.left_out


@pytest.mark.parametrize("odd", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "yesterday"])
def test_a_time_that_is_none_is_not_taken(odd: str, tmp_path: Path) -> None:
    t = Transcript()
    t.user("One.")
    t.reply("msg_1", text("Won."))
    for line in t.lines:
        line["timestamp"] = odd

    found = imported(t, tmp_path)

    assert [step.at for step in found.steps] == [None]
    assert played(found, preset("never"))[0].outcome == "completed"


@pytest.mark.parametrize("odd", [-5, True, 1.5, "7", 10**4000])
def test_what_cannot_be_a_count_of_tokens_is_not_believed(odd: Any, tmp_path: Path) -> None:
    t = Transcript()
    t.user("One.")
    t.reply("msg_1", text("Won."))
    for line in t.lines[1:]:
        line["message"]["usage"] |= {"input_tokens": odd, "output_tokens": odd, "cache_creation_input_tokens": 0}
        line["message"]["usage"]["cache_creation"] = {"ephemeral_1h_input_tokens": odd}

    found = imported(t, tmp_path)

    assert [u.usage for u in found.used] == [Usage(cache_read_input_tokens=19_000)]


@pytest.mark.parametrize("torn", ["[" * 100_000, '{"type": "user", "message": ' + "[" * 200 + "]" * 200 + "}", '{"a": NaN}'])
def test_a_line_that_is_nested_too_deep_or_holds_no_numbers_is_counted_with_the_torn_ones(torn: str, tmp_path: Path) -> None:
    t = Transcript()
    t.user("One.")
    t.reply("msg_1", text("Won."))
    path = t.written(tmp_path / "s.jsonl")
    path.write_text(path.read_text() + torn + "\n")

    (found,) = read(path)

    assert "1 lines that are not JSON" in found.left_out


def test_a_lone_surrogate_in_a_name_is_replaced(tmp_path: Path) -> None:
    t = Transcript(model="cl\ud800")
    t.user("One.")
    t.reply("msg_1", text("Won."))

    found = imported(t, tmp_path)

    assert (found.model, found.used[0].model) == ("cl?", "cl?")


def test_times_never_go_back(tmp_path: Path) -> None:
    t = Transcript()
    t.user("One.")
    t.reply("msg_1", text("Won."))
    t.user("Two.")
    t.reply("msg_2", text("Too."))
    t.lines[-1]["timestamp"] = "2026-01-01T00:00:00"

    found = imported(t, tmp_path)

    first, second = (s.at for s in found.steps)
    assert first is not None
    assert second is not None
    assert first <= second


def test_an_unanswered_call_in_the_middle_is_answered_with_an_error(tmp_path: Path) -> None:
    t = Transcript()
    t.user("Go.")
    t.reply("msg_1", tool_use("toolu_1", "Bash", {}))
    t.user([text("[Request interrupted by user]")])
    t.reply("msg_2", text("Stopped."))

    state, _ = played(imported(t, tmp_path), preset("never"))

    assert (state.outcome, state.asked) == ("completed", 2)


ODD = ["null", "7", '"x"', "[]", "{}", "[1]", '{"a": 1}', "true", "[null]"]


def spoiled(lines: Sequence[Line], seed: int) -> list[Line]:
    """The same lines, with a few values that are not what they should be."""
    chance, again = random.Random(seed), json.loads(json.dumps(lines))
    for _ in range(3):
        holder = chance.choice(again)
        while isinstance(inner := holder[at := chance.choice(list(holder))], dict) and inner and chance.random() < 0.8:
            holder = inner
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            holder, at = inner[0], chance.choice(list(inner[0]))
        holder[at] = json.loads(chance.choice(ODD))
    return list(again)


@pytest.mark.parametrize("seed", range(60))
def test_lines_of_any_form_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    t = whole_session()
    t.lines = spoiled(t.lines, seed)

    try:
        steps = len(imported(t, tmp_path).steps)
    except ImportRefused:
        steps = 0

    assert 0 <= steps <= 6
