"""The commands of the README, run as a person runs them."""

import hashlib
import json
from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.workplace import agentloop, workspace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return workspace(tmp_path)


def test_a_new_workspace_runs_at_once(tmp_path: Path) -> None:
    made = agentloop(tmp_path, "init", "shop")
    ran = agentloop(tmp_path / "shop", "run", "assistant")

    assert (made.code, ran.code) == (0, 0)
    assert "the model was played by script:assistant" in ran.out


def test_the_result_as_json_has_every_documented_field(folder: Path) -> None:
    ran = agentloop(folder, "run", "assistant", "--json")

    data = json.loads(ran.out)
    documented = {"session_id", "agent", "model", "outcome", "turns", "usage", "cost_usd", "cost_by_turn", "compactions",
                  "baselines", "log", "result"}  # fmt: skip
    assert documented <= data.keys()
    usage = {"input_tokens", "cache_read_input_tokens", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"}
    assert {*usage, "output_tokens"} <= data["usage"].keys()
    assert {"naive_usd", "automatic_caching_usd", "every_turn_usd"} == data["baselines"].keys()
    assert Decimal(data["cost_usd"]) == sum(Decimal(t["cost_usd"]) for t in data["cost_by_turn"])


def test_a_stream_of_json_is_one_object_a_line(folder: Path) -> None:
    ran = agentloop(folder, "run", "assistant", "--output-format", "stream-json")

    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line["seq"] for line in lines[:-1]] == list(range(len(lines) - 1))
    assert lines[-2]["body"]["type"] == "session_ended"
    assert lines[-1]["outcome"] == "completed"


def test_what_tools_print_does_not_stand_in_the_result(folder: Path) -> None:
    tool = folder / "tools" / "example.py"
    noisy = tool.read_text().replace(
        "    text = ", '    print("noise")\n    import os\n    os.system("echo more noise")\n    text = '
    )
    tool.write_text(noisy)

    ran = agentloop(folder, "run", "assistant", "--json")

    assert "noise" in noisy
    assert json.loads(ran.out)["outcome"] == "completed"
    assert "noise" in ran.err


def test_a_finished_session_can_be_listed_shown_reported_replayed_and_exported(folder: Path) -> None:
    agentloop(folder, "run", "assistant", "--session-id", "first")

    listed = json.loads(agentloop(folder, "sessions", "list", "--json").out)
    shown = agentloop(folder, "sessions", "show", "first")
    reported = json.loads(agentloop(folder, "report", "first", "--json").out)
    replayed = json.loads(agentloop(folder, "replay", "first", "--json").out)
    exported = agentloop(folder, "sessions", "export", "first", "copy")

    assert [(s["session_id"], s["outcome"]) for s in listed] == [("first", "completed")]
    assert "count_words" in shown.out
    assert reported["outcome"] == "completed"
    assert replayed["same"] is True
    assert replayed["requests"] == reported["turns"]
    assert exported.code == 0
    original = folder / "sessions" / "first" / "log.jsonl"
    assert (folder / "copy" / "log.jsonl").read_bytes() == original.read_bytes()


def test_a_replay_that_differs_says_where_and_exits_1(folder: Path) -> None:
    agentloop(folder, "run", "assistant", "--session-id", "s")
    forge(folder / "sessions" / "s" / "log.jsonl", '"text":"', '"text":"Forged: ')

    replayed = agentloop(folder, "replay", "s")

    assert replayed.code == 1
    assert "differs at seq" in replayed.err
    assert "recorded:" in replayed.err


def test_a_dry_run_says_which_old_sessions_would_go_and_deletes_none(folder: Path) -> None:
    agentloop(folder, "run", "assistant", "--session-id", "old")

    asked = agentloop(folder, "sessions", "prune", "--older-than", "0", "--dry-run")
    there = (folder / "sessions" / "old").exists()
    done = agentloop(folder, "sessions", "prune", "--older-than", "0")

    assert "would delete old" in asked.out
    assert there
    assert "deleted old" in done.out
    assert not (folder / "sessions" / "old").exists()


def test_turns_run_out_and_can_be_given_more(folder: Path) -> None:
    stopped = agentloop(folder, "run", "assistant", "--session-id", "s", "--max-turns", "1")
    resumed = agentloop(folder, "resume", "s", "--max-turns", "9")

    assert stopped.code == 3
    assert resumed.code == 0


def test_the_prefix_check_names_each_part_and_the_least_length(folder: Path) -> None:
    checked = agentloop(folder, "prefix", "check", "assistant", "--json")

    data = json.loads(checked.out)
    assert checked.code == 0
    assert data["same_in_another_process"] is True
    assert data["min_cacheable_tokens"] == 512
    assert {p["part"] for p in data["parts"]} >= {"tool recall", "system"}


def test_a_prefix_made_of_a_set_is_found_unstable(folder: Path) -> None:
    (folder / "tools" / "unstable.py").write_text(
        "from agentloop import tool\nwords = ' '.join({f'w{i}' for i in range(50)})\n"
        "def f(x: str) -> str:\n    return x\nf.__doc__ = words\nunstable = tool(f)\n"
    )

    checked = agentloop(folder, "prefix", "check", "assistant")

    assert checked.code == 5
    assert "another process makes other bytes" in checked.err


def test_list_doctor_and_replay_load_no_tool_module(folder: Path) -> None:
    agentloop(folder, "run", "assistant", "--session-id", "s")
    (folder / "tools" / "evil.py").write_text("open('was-loaded', 'w').close()\n")

    ran = [agentloop(folder, *c.split()) for c in ("sessions list", "sessions show s", "doctor", "replay s", "report s")]

    assert [r.code for r in ran] == [0] * 5
    assert not (folder / "was-loaded").exists()


def test_help_and_report_do_without_the_sdk(folder: Path) -> None:
    agentloop(folder, "run", "assistant", "--session-id", "s")
    (folder / "anthropic.py").write_text("raise SystemExit('the SDK was imported')\n")

    helped = agentloop(folder, "--help", PYTHONPATH=str(folder))
    reported = agentloop(folder, "report", "s", PYTHONPATH=str(folder))

    assert (helped.code, reported.code) == (0, 0)


def test_escape_sequences_of_a_model_are_shown_and_not_obeyed(folder: Path) -> None:
    playbook = folder / "prompts" / "assistant.playbook.yaml"
    playbook.write_text('name: assistant\nsteps:\n  - say: "\\e[2J\\e]0;owned\\a hello"\n')

    ran = agentloop(folder, "run", "assistant")

    assert "\x1b" not in ran.out
    assert "hello" in ran.out


def forge(log: Path, old: str, new: str) -> None:
    """Change the first reply of a log and seal every line again, as somebody with the program could."""
    lines: list[bytes] = []
    before = b""
    for line in log.read_bytes().splitlines():
        content = line[: line.rindex(b',"sum":"')]
        if b'"model_replied"' in content and not any(new.encode() in one for one in lines):
            content = content.replace(old.encode(), new.encode(), 1)
        before = hashlib.blake2b(before + content, digest_size=8).digest()
        lines.append(content + b',"sum":"' + before.hex().encode() + b'"}')
    log.write_bytes(b"\n".join(lines) + b"\n")


def test_structured_logging_goes_to_a_file_without_prompts_or_results(folder: Path) -> None:
    settings = folder / "agentloop.toml"
    settings.write_text(settings.read_text() + '\nlog_file = "agentloop.log"\nlog_level = "info"\n')

    ran = agentloop(folder, "run", "assistant", "-p", "A task that must not be logged.")

    lines = [json.loads(line) for line in (folder / "agentloop.log").read_text().splitlines()]
    assert {line["event"] for line in lines} >= {"model_replied", "tool_finished", "session_ended"}
    assert "must not be logged" not in str(lines)
    assert ran.err == ""
    assert (folder / "agentloop.log").stat().st_mode & 0o077 == 0
