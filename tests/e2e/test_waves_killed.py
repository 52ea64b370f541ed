"""`batch run`, and `kill -9` in the middle of it: the same command carries the wave on, and nothing is paid for twice."""

import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

from agentloop.adapters.model_table import models
from agentloop.emulator.app import Emulator
from agentloop.emulator.script import Function
from agentloop.emulator.server import running
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block

SESSIONS, TURNS = 6, 4
TEXT = "You count words. " + "Say exactly what you counted, and in which file. " * 300
"""Long enough to be cached."""


def said(request: Json, step: int) -> list[Block]:
    if step == TURNS - 1:
        return [blocks.text("Counted.")]
    return [blocks.tool_use(f"toolu_{step}", "count_words", {"path": "notes.md"})]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    command(tmp_path, "init", str(tmp_path))
    (tmp_path / "prompts" / "counter.md").write_text(
        f"---\nname: counter\nmodel: claude-sonnet-4-6\nmax_tokens: 2000\n---\n{TEXT}\n"
    )
    (tmp_path / "notes.md").write_text("one two three\n")
    (tmp_path / "tasks.txt").write_text("".join(f"Count for day {i}.\n" for i in range(SESSIONS)))
    return tmp_path


def command(workspace: Path, *arguments: str) -> str:
    done = subprocess.run(line(*arguments), cwd=workspace, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def line(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "agentloop", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "ANTHROPIC_API_KEY": "sk-ant-nobody-0001"}


def killed_at(workspace: Path, url: str, what: str, times: int) -> bool:
    """Whether the process was still there to be killed once its log said this so often."""
    process = subprocess.Popen(
        line("batch", "run", "counter", "--inputs", "tasks.txt", "--id", "w", "--base-url", url),
        cwd=workspace, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    log = workspace / ".agentloop" / "waves" / "w" / "log.jsonl"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.read_text().count(f'"type":"{what}"') >= times:
            break
        time.sleep(0.005)
    is_killed = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return is_killed


@pytest.mark.parametrize(("what", "times"), [("batch_intended", 2), ("batch_made", 2), ("batch_ended", 2)])
def test_a_wave_that_was_killed_goes_on_and_pays_no_item_twice(workspace: Path, what: str, times: int) -> None:
    emulator = Emulator(Function("counting", said), models())
    with running(emulator) as url:
        assert killed_at(workspace, url, what, times)

        arguments = ("batch", "run", "counter", "--inputs", "tasks.txt", "--id", "w", "--base-url", url, "--json")
        data = json.loads(command(workspace, *arguments))
        again = json.loads(command(workspace, *arguments))

    report = emulator.report()
    items = [r for r in report["requests"] if r["request_id"].startswith("req_msgbatch")]
    assert data["outcomes"] == {"completed": SESSIONS}
    assert data["replies"] == SESSIONS * TURNS
    assert data["batched"] == len(items) > SESSIONS
    assert data["cost_usd"] == again["cost_usd"]
    assert sum(Decimal(str(b["cost_usd"])) for b in data["each"]) == Decimal(data["cost_usd"])
    lost = Decimal(report["totals"]["cost_usd"]) - Decimal(data["cost_usd"])
    assert 0 <= lost <= sum(Decimal(r["cost_usd"]) for r in report["requests"] if r not in items)  # live, cut off by the kill


def test_a_wave_that_is_told_to_stop_says_how_it_goes_on(workspace: Path) -> None:
    emulator = Emulator(Function("counting", said), models())
    log = workspace / ".agentloop" / "waves" / "w" / "log.jsonl"
    arguments = line("batch", "run", "counter", "--inputs", "tasks.txt", "--id", "w")
    with running(emulator) as url:
        process = subprocess.Popen(
            [*arguments, "--base-url", url], cwd=workspace, env=environment(), stderr=subprocess.PIPE, text=True
        )
        until = time.monotonic() + 60
        while time.monotonic() < until and not (log.exists() and '"batch_made"' in log.read_text()):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)

    assert process.returncode == 143
    assert "w: stopped; its batches go on, and the same command carries it on" in told
