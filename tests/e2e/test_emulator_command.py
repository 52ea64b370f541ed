"""`agentloop emulator` as a person starts it: its bill, its faults, its mirror, its token."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from tests.e2e.test_importing import dear
from tests.e2e.workplace import PLAIN, agentloop

PLAYBOOK = "name: hello\nsteps:\n  - say: Hello.\n  - say: Hello again.\n"
SECRET = "sk-ant-api03-never-to-be-seen"
ASKED: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "word " * 1_500}],
    "cache_control": {"type": "ephemeral"},
}


class Started:
    """An emulator that runs in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stderr is not None
        self.said = ""
        while not (found := re.search(r"listening on (http://\S+)", self.said)):
            line = process.stderr.readline()
            assert line, self.said
            self.said += line
        self.url = found[1]
        self.port = self.url.rsplit(":", 1)[1]

    def ask(self, key: str = SECRET, **asked: Any) -> Any:
        """Send one request."""
        with Anthropic(api_key=key, base_url=self.url, max_retries=0) as sdk:
            return sdk.messages.create(**ASKED | asked)

    def ended(self) -> tuple[str, str]:
        """What it printed, after Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        return out, self.said + err


@contextmanager
def started(folder: Path, *arguments: str, **environment: str) -> Iterator[Started]:
    (folder / "hello.yaml").write_text(PLAYBOOK, "utf-8")
    command = [sys.executable, "-m", "agentloop", "emulator", "--port", "0", *arguments]
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**PLAIN, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Started(process)
        finally:
            process.kill()


def test_the_bill_of_a_running_emulator_and_the_one_at_its_end(tmp_path: Path) -> None:
    with started(tmp_path, "--playbook", "hello.yaml", "--report") as emulator:
        emulator.ask()
        emulator.ask()
        shown = agentloop(tmp_path, "emulator", "--report", "--port", emulator.port)
        data = agentloop(tmp_path, "emulator", "--report", "--json", "--port", emulator.port)
        at_the_end, logged = emulator.ended()

    totals = json.loads(data.out)["totals"]
    assert (shown.code, data.code) == (0, 0)
    assert shown.out.startswith("2 requests\n")
    assert re.search(r"read from the cache +2,\d\d\d", shown.out)
    assert at_the_end == shown.out
    assert totals["requests"] == 2
    assert SECRET not in shown.out + shown.err + data.out + at_the_end + logged


def test_no_emulator_to_ask_is_said_so(tmp_path: Path) -> None:
    ran = agentloop(tmp_path, "emulator", "--report", "--port", "1")

    assert ran.code == 1
    assert "no emulator answers on http://127.0.0.1:1" in ran.err


def test_the_report_of_an_emulator_with_a_token_needs_it(tmp_path: Path) -> None:
    with started(tmp_path, "--playbook", "hello.yaml", "--token", "open") as emulator:
        without = agentloop(tmp_path, "emulator", "--report", "--port", emulator.port)
        with_it = agentloop(tmp_path, "emulator", "--report", "--port", emulator.port, AGENTLOOP_EMULATOR_TOKEN="open")
        with pytest.raises(anthropic.AuthenticationError):
            emulator.ask()
        emulator.ask("open")

    assert (without.code, with_it.code) == (2, 0)
    assert "asks for its token" in without.err


def test_an_address_that_others_can_reach_needs_a_token(tmp_path: Path) -> None:
    (tmp_path / "hello.yaml").write_text(PLAYBOOK, "utf-8")

    ran = agentloop(tmp_path, "emulator", "--playbook", "hello.yaml", "--host", "0.0.0.0", "--port", "0")

    assert ran.code == 2
    assert "give it a token" in ran.err


def test_faults_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "faults.yaml").write_text("faults:\n  - request 2: 529\n", "utf-8")
    with started(tmp_path, "--playbook", "hello.yaml", "--faults", "faults.yaml", "--report") as emulator:
        emulator.ask()
        with pytest.raises(anthropic.OverloadedError):
            emulator.ask()
        emulator.ask()
        shown, _ = emulator.ended()

    assert shown.startswith("2 requests\n")
    assert "1 requests were hit by planned faults" in shown


def test_a_mirror_compares_records_and_is_played_again(tmp_path: Path) -> None:
    with (
        started(tmp_path, "--playbook", "hello.yaml") as upstream,
        started(tmp_path, "--mirror", upstream.url, "--record", "replies.jsonl", "--report") as mirror,
    ):
        first = mirror.ask()
        shown, logged = mirror.ended()
    recorded = (tmp_path / "replies.jsonl").read_text("utf-8")
    with started(tmp_path, "--recording", "replies.jsonl") as again:
        played = again.ask()

    assert played.content == first.content
    assert re.match(rf"1 requests to {upstream.url}, 0 other than forecast\n", shown)
    assert SECRET not in shown + logged + recorded


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name one of --agent"),
        (("--playbook", "a", "--mirror", "http://x"), "name one of --agent"),
        (("--mirror", "api.anthropic.com"), "expected to be a URL"),
        (("--mirror", "http://x", "--faults", "f"), "a mirror passes on"),
        (("--recording", "missing.jsonl"), "cannot be read"),
        (("--playbook", "hello.yaml", "--faults", "missing.yaml"), "cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "hello.yaml").write_text(PLAYBOOK, "utf-8")

    ran = agentloop(tmp_path, "emulator", *arguments)

    assert ran.code == 2
    assert said in ran.err


def test_the_bill_is_by_the_price_table_that_is_set(tmp_path: Path) -> None:
    bills = []
    for environment in ({}, {"AGENTLOOP_PRICE_TABLE": dear(tmp_path)}):
        with started(tmp_path, "--playbook", "hello.yaml", **environment) as emulator:
            emulator.ask()
            shown = agentloop(tmp_path, "emulator", "--report", "--json", "--port", emulator.port)
            bills.append(Decimal(json.loads(shown.out)["totals"]["cost_usd"]))

    assert bills[1] == 10 * bills[0] > 0
