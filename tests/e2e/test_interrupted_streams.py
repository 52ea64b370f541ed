"""Ctrl-C while a reply arrives (S10): no half message, the money counted, and the session goes on later."""

import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

from agentloop.adapters.model_table import models
from agentloop.core.folding import fold
from agentloop.emulator import Emulator, EmulatorSettings
from agentloop.emulator.faults import Faults
from agentloop.emulator.playbook import Playbook
from agentloop.emulator.server import running
from agentloop.policies import recorded
from agentloop.replay import replay
from agentloop.sessions import Sessions
from agentloop.types.events import ModelFailed
from tests.e2e.workplace import PLAIN, agentloop, workspace

KEY = {"ANTHROPIC_API_KEY": "sk-canary-1"}
PLAYBOOK = Playbook.from_data({"name": "talker", "steps": [{"say": "A long answer. " * 40}]})


@pytest.mark.parametrize("signals", [1, 2, 3])
def test_a_reply_that_is_interrupted_leaves_no_half_message_and_its_cost_is_counted(tmp_path: Path, signals: int) -> None:
    folder = workspace(tmp_path)
    stalls = Faults.of({"request": 1, "fault": "stall", "seconds": 60})
    emulator = Emulator(PLAYBOOK, models(), settings=EmulatorSettings(), faults=stalls)
    with running(emulator) as url:  # its stream is still stalled when it is told to stop: it says so
        options = ["--session-id", "s", "--provider", "anthropic", "--base-url", url, "-q"]
        command = [sys.executable, "-m", "agentloop", "run", "assistant", *options]
        process = subprocess.Popen(command, cwd=folder, env={**PLAIN, **KEY}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not emulator.report()["requests"]:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        time.sleep(0.3)  # half of the reply has arrived

        for _ in range(signals):
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        stopped = fold(Sessions(folder / "sessions").events("s"))
        resumed = agentloop(folder, "resume", "s", "--base-url", url, "-q", "--max-budget-usd", "5", **KEY)

    events = Sessions(folder / "sessions").events("s")
    state = fold(events)
    assert process.returncode in ((130,) if signals == 1 else (130, -signal.SIGINT)), err
    assert b"Traceback" not in err
    assert (stopped.turns, stopped.given != ()) == ((), True)
    assert [e.body.failure.kind for e in events if isinstance(e.body, ModelFailed)] == ["interrupted"]
    assert (resumed.code, resumed.out.strip()) == (0, ("A long answer. " * 40).strip())
    assert Decimal(emulator.report()["totals"]["cost_usd"]) <= state.charged_usd
    assert replay(events, recorded(state.policies).policies()).same
