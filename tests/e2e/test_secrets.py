"""Canaries: secrets that are put wherever a session can meet one, and must come out nowhere."""

import base64
import json
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.workplace import PLAIN, agentloop, workspace

ROOT = Path(__file__).parents[2]
KEY = 'sk-canary-"environment"-7f3a'
PROMPT_TOKEN = "canary/prompt+token=91bc"
RESULT_SECRET = "canary-result-secret\nwith-a-second-line-c0de"
MODEL_PASSWORD = "canary-model-password-55aa"
DATABASE_PASSWORD = "canary-database-word"
CANARIES = {
    "DEMO_API_KEY": KEY,
    "DEMO_TOKEN": PROMPT_TOKEN,
    "DEMO_SECRET": RESULT_SECRET,
    "DEMO_PASSWORD": MODEL_PASSWORD,
    "DEMO_ADDRESS": f"postgresql://somebody:{DATABASE_PASSWORD}@db.example/x",
}
_SETTINGS = 'provider = "scripted"\nlog_file = "run.log"\nlog_level = "debug"\n'
_AGENT = "---\nname: leaky\nplaybook: leaky.yaml\ngrants: [keep]\n---\nYou test what leaks.\n"
_TOOLS = '''
import base64, os
from agentloop import tool

@tool(effect="read")
def environment() -> list[str]:
    """All of it."""
    return [f"{k}={v}" for k, v in os.environ.items()]

@tool(effect="read")
def encoded() -> str:
    """A secret as it travels."""
    return " ".join(base64.b64encode(("x" * n + os.environ["DEMO_API_KEY"] + "yz").encode()).decode() for n in range(6))

@tool(effect="read")
def failing() -> str:
    """Raise."""
    raise RuntimeError("cannot log in with " + os.environ["DEMO_SECRET"])

@tool(effect="read")
def long() -> str:
    """A result that is cut to facts."""
    return "\\n".join(f"line {n} {os.environ['DEMO_PASSWORD']} {n * n}" for n in range(3000))

@tool(effect="once")
def keep(note: str) -> str:
    """Keep a note."""
    return "kept " + note
'''
_PLAYBOOK = f"""
name: leaky
steps:
  - think: The password is {MODEL_PASSWORD}.
    say: I look, and remember {MODEL_PASSWORD}.
    call: [{{environment: {{}}}}, {{encoded: {{}}}}, {{failing: {{}}}}, {{long: {{}}}}]
  - call: [{{keep: {{note: "my password is {MODEL_PASSWORD}", "{MODEL_PASSWORD}": 1}}}}, {{"{MODEL_PASSWORD}": {{}}}}]
  - say: I end with {MODEL_PASSWORD}.
"""


class Heard:
    """A server on this machine that keeps every byte that it is sent."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.bodies: list[bytes] = []


@contextmanager
def listening() -> Iterator[tuple[str, Heard]]:
    heard = Heard()

    class Keep(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.paths.append(self.path)
            heard.bodies.append(str(self.headers).encode() + self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keep)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", heard
    finally:
        server.shutdown()
        server.server_close()


def forms(secret: str) -> Iterator[bytes]:
    """A secret as it may stand in a file: made here in another way than the code makes them."""
    yield secret.encode()
    yield json.dumps(secret)[1:-1].encode()
    yield urllib.parse.quote_plus(secret).encode()
    yield urllib.parse.quote(secret).encode()
    for line in secret.split("\n"):
        yield line.encode()
    for before in range(3):
        whole = base64.b64encode(b"x" * before + secret.encode())
        yield whole[4:-4]


def found_in(data: bytes) -> list[bytes]:
    secrets = (KEY, PROMPT_TOKEN, RESULT_SECRET, MODEL_PASSWORD, DATABASE_PASSWORD)
    return [form for secret in secrets for form in forms(secret) if form in data]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    workspace(tmp_path)
    (tmp_path / "agentloop.toml").write_text(_SETTINGS)
    (tmp_path / "prompts" / "leaky.md").write_text(_AGENT)
    (tmp_path / "prompts" / "leaky.yaml").write_text(_PLAYBOOK)
    (tmp_path / "tools" / "leaky.py").write_text(_TOOLS)
    return tmp_path


GIVEN = frozenset({"leaky.yaml"})
"""What this test itself wrote the canaries into."""


def test_no_secret_comes_out_of_a_session_anywhere(folder: Path) -> None:
    shown = []
    with listening() as (url, heard):
        everywhere = {
            **CANARIES,
            "ANTHROPIC_LOG": "debug",
            "AGENTLOOP_OTEL": "on",
            "AGENTLOOP_OTEL_CONTENT": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "AGENTLOOP_NOTIFY_WEBHOOK": f"{url}/{MODEL_PASSWORD}",
            "AGENTLOOP_NOTIFY_ON": "success",
        }
        ran = subprocess.run(
            [sys.executable, "-m", "tests.e2e.leaky", str(folder), "s", f"Log in with {PROMPT_TOKEN} and {KEY}."],
            cwd=ROOT, env={**PLAIN, **everywhere}, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        for command in (
            ("sessions", "show", "s"), ("sessions", "show", "s", "--json"), ("report", "s"), ("report", "s", "--json"),
            ("report", "s", "--format", "markdown"), ("report", "s", "--format", "json"), ("explain", "s"),
            ("sessions", "export", "s", "copy"), ("config", "show"), ("config", "show", "--json"), ("doctor",),
            ("run", "leaky", "--json", "-p", f"Again, with {RESULT_SECRET}"), ("resume", PROMPT_TOKEN),
        ):  # fmt: skip
            done = agentloop(folder, *command, **everywhere)
            shown += [done.out.encode(), done.err.encode()]

    assert ran.returncode == 0, ran.stderr.decode()
    sent = [body for path, body in zip(heard.paths, heard.bodies, strict=True) if path == "/v1/traces"]
    noticed = [body for path, body in zip(heard.paths, heard.bodies, strict=True) if path.endswith(MODEL_PASSWORD)]
    written = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in GIVEN}
    kept = {p.name for p in written}
    assert {"log.jsonl", "report.md", "report.json", "run.log", "operation.sqlite"} <= kept
    assert sent
    assert len(noticed) == 1
    assert b"[redacted]" in b"".join(sent)  # they do hold content, and what was secret in it
    assert [(str(p), found_in(data)) for p, data in written.items() if found_in(data)] == []
    assert [found_in(data) for data in (*shown, *sent, *noticed, ran.stdout, ran.stderr) if found_in(data)] == []


def test_what_was_redacted_is_so_for_model_and_tools_too_and_replays_without_the_secrets(folder: Path) -> None:
    ran = agentloop(folder, "run", "leaky", "--session-id", "s", "-p", f"Log in with {PROMPT_TOKEN}.", **CANARIES)

    bodies = [json.loads(line)["body"] for line in (folder / "sessions" / "s" / "log.jsonl").read_text().splitlines()]
    task = next(b for b in bodies if b["type"] == "input_given")
    kept = next(b for b in bodies if b["type"] == "tool_finished" and b["name"] == "keep")
    first = next(b for b in bodies if b["type"] == "model_replied")
    elsewhere, here = agentloop(folder, "replay", "s"), agentloop(folder, "replay", "s", **CANARIES)
    assert ran.code == 0
    assert "secret_redacted" in (folder / "run.log").read_text()
    assert task["content"][0]["text"] == "Log in with [redacted]."
    assert kept["content"].startswith("kept my password is [redacted]") or "[redacted]" in kept["content"]
    assert [b["type"] for b in first["reply"]["content"]] == ["text", "tool_use", "tool_use", "tool_use", "tool_use"]
    assert (elsewhere.code, here.code) == (0, 0)
    assert elsewhere.out == here.out


def test_a_secret_in_a_prompt_file_is_refused_before_anything_is_written(folder: Path) -> None:
    (folder / "prompts" / "leaky.md").write_text(_AGENT + f"The key is {KEY}.\n")

    ran = agentloop(folder, "run", "leaky", **CANARIES)

    assert ran.code == 5
    assert "the system prompt holds the value of a secret" in ran.err
    assert found_in(ran.err.encode()) == []
    assert not list(folder.glob("sessions/*/log.jsonl"))
