"""Servers that others wrote, in whole sessions on the command line: over standard input and output, and over HTTP."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.workplace import Ran, agentloop

CLOCK = Path(sys.executable).with_name("mcp-server-time")
EVERYTHING = shutil.which("mcp-server-everything", path=os.environ.get("MCP_SERVERS", os.environ["PATH"]))
OWN = Path(__file__).parents[1] / "unit" / "mcp_server.py"
AGENT = """---
model: claude-sonnet-5-5
description: Asks its servers.
mcp: [{server}]
playbook: clerk.yaml
---
You are a clerk. Ask the server.
"""


def workspace(folder: Path, server: str, entry: dict[str, Any], call: dict[str, Any]) -> Path:
    (folder / ".mcp.json").write_text(json.dumps({"mcpServers": {server: entry}}), encoding="utf-8")
    (folder / "agentloop.toml").write_text('provider = "scripted"\n', encoding="utf-8")
    (folder / "prompts").mkdir()
    (folder / "prompts" / "clerk.md").write_text(AGENT.format(server=server), encoding="utf-8")
    playbook = {"name": "clerk", "steps": [{"say": "I ask.", "call": [call]}, {"say": "That is all."}]}
    (folder / "prompts" / "clerk.yaml").write_text(json.dumps(playbook), encoding="utf-8")
    return folder


def answers(folder: Path) -> list[dict[str, Any]]:
    [log] = folder.glob("sessions/*/log.jsonl")
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [line["body"] for line in lines if line["body"]["type"] == "tool_finished"]


def session(folder: Path) -> Ran:
    """Everything that a person would do with the agent."""
    listed = agentloop(folder, "tools", "list", "--agent", "clerk")
    assert listed.code == 0, listed.err
    checked = agentloop(folder, "prefix", "check", "clerk")
    assert checked.code == 0, checked.err
    ran = agentloop(folder, "run", "clerk", "-p", "Ask.")
    assert ran.code == 0, ran.err
    assert agentloop(folder, "replay", next(folder.glob("sessions/*")).name).code == 0
    return listed


@contextmanager
def listening(*command: str, **environment: str) -> Iterator[str]:
    """A server on a free port of 127.0.0.1; `PORT` in the command stands for it."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    process = subprocess.Popen(
        [port if part == "PORT" else part for part in command],
        env={"PATH": os.environ["PATH"], "PORT": port, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until and process.poll() is None:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", int(port))) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(not CLOCK.exists(), reason="mcp-server-time is not installed: it is in the extra 'dev'")
def test_a_session_asks_the_time_of_a_server_over_standard_input_and_output(tmp_path: Path) -> None:
    entry = {"command": str(CLOCK), "args": ["--local-timezone", "Europe/Vienna"]}
    call = {"mcp__time__convert_time": {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}}
    folder = workspace(tmp_path, "time", entry, call)

    listed = session(folder)

    assert "mcp__time__get_current_time" in listed.out
    [answer] = answers(folder)
    assert not answer["is_error"]
    assert "21:00" in answer["content"]


@pytest.mark.skipif(EVERYTHING is None, reason="mcp-server-everything is not installed: npm, then its folder in MCP_SERVERS")
def test_a_session_calls_the_reference_server_over_http(tmp_path: Path) -> None:
    with listening(str(EVERYTHING), "streamableHttp") as url:
        folder = workspace(tmp_path, "all", {"type": "http", "url": url}, {"mcp__all__echo": {"message": "hello there"}})
        session(folder)

    [answer] = answers(folder)
    assert not answer["is_error"]
    assert "hello there" in answer["content"]


def test_a_session_calls_a_server_of_our_own_over_http(tmp_path: Path) -> None:
    with listening(sys.executable, str(OWN), "PORT") as url:
        folder = workspace(tmp_path, "own", {"type": "http", "url": url}, {"mcp__own__add": {"a": 20, "b": 22}})
        session(folder)

    [answer] = answers(folder)
    assert (answer["is_error"], answer["content"]) == (False, "42")


def test_an_http_server_that_is_not_there_is_an_error_before_any_session_is_written(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/mcp"
        folder = workspace(tmp_path, "own", {"type": "http", "url": url}, {"mcp__own__add": {"a": 1, "b": 2}})
        ran = agentloop(folder, "run", "clerk", "-p", "Ask.")

    assert ran.code == 2
    assert "MCP server 'own' of .mcp.json" in ran.err
    assert "Traceback" not in ran.err
    assert not list(folder.glob("sessions/*/log.jsonl"))
