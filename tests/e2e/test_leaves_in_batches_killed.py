"""`kill -9` while the leaves of a session wait for a batch: the session that is resumed takes that batch up, and no item of
any batch is paid for twice. The API is an emulator in a process of its own, which outlives every session."""

import json
import os
import random
import signal
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from agentloop.adapters.model_table import models
from agentloop.api import Agent
from agentloop.core.folding import fold
from agentloop.crash_points import POINTS, watching
from agentloop.emulator import Emulator, EmulatorSettings, Function
from agentloop.emulator.server import serve
from agentloop.emulator.settings import BatchSettings
from agentloop.policies import recorded
from agentloop.replay import replay
from agentloop.sessions import Sessions
from agentloop.types.base import Json
from agentloop.types.events import ModelReplied
from tests.e2e import test_leaves_killed as live_leaves
from tests.e2e.crashing import forked, killer

WAVE = sorted(p for p in POINTS if p.startswith("wave.") and p != "wave.over")
ANYWHERE = (*live_leaves.ANYWHERE, *WAVE, *live_leaves.OURS)


@pytest.fixture
def url() -> Iterator[str]:
    """An emulator, in a process of its own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        settings = EmulatorSettings(batches=BatchSettings(start_s=0.2, item_s=0.2))
        emulator = Emulator(Function("killed", live_leaves.said), models(), settings=settings)
        serve(emulator, ready=lambda url: _tell(writing, url))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        yield pipe.readline().strip()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _tell(pipe: int, url: str) -> None:
    os.write(pipe, f"{url}\n".encode())


def live(folder: Path, url: str, point: str = "", nth: int = 0) -> None:
    """Start the session, or carry it on to its end, unless it is killed at that point."""
    live_leaves.written(folder, "mode: batch, ", usd=5)
    agent = Agent("desk.md", tools=[live_leaves.put, live_leaves.send], workspace=folder, root="world", base_url=url,
                  environment={"ANTHROPIC_API_KEY": "sk-ant-nobody-0001"}, workspace_total_usd="9")  # fmt: skip
    with watching(killer(point, nth)):
        agent.run("Do it all.", session_id="s")


def lives(folder: Path, url: str) -> Callable[[], None]:
    return lambda: live(folder, url)


def items(url: str) -> list[Json]:
    """The lines of the emulator's bill that are items of batches."""
    with urllib.request.urlopen(f"{url}/emulator/report") as answer:
        requests: list[Json] = json.load(answer)["requests"]
    return [r for r in requests if r["request_id"].startswith("req_msgbatch")]


def assert_nothing_is_paid_twice(folder: Path, url: str) -> None:
    live_leaves.assert_it_goes_on(folder, lives(folder, url))
    kept = Sessions(folder / "sessions")
    states = {i: fold(kept.events(i)) for i in kept.ids()}
    replies = [e.body.reply for i in states for e in kept.events(i) if isinstance(e.body, ModelReplied)]
    batched = [r for r in replies if r.usage.service_tier == "batch"]
    billed = items(url)
    assert len(batched) == len(billed) > 0
    assert sum(Decimal(r["cost_usd"]) for r in billed) == sum(s.spent_usd for i, s in states.items() if i != "s")
    for session_id, state in states.items():
        assert replay(kept.events(session_id), recorded(state.policies).policies()).same


@pytest.mark.parametrize("point", [*WAVE, *live_leaves.OURS])
def test_a_session_killed_while_its_leaves_wait_takes_their_batch_up(point: str, tmp_path: Path, url: str) -> None:
    nth = 2 if point.startswith("wave.") and point != "wave.started" else 1

    code, _ = forked(lambda: live(tmp_path, url, point, nth))

    assert code == -signal.SIGKILL
    assert_nothing_is_paid_twice(tmp_path, url)


@pytest.mark.parametrize("seed", range(6))
def test_a_session_killed_again_and_again_pays_nothing_twice(seed: int, tmp_path: Path, url: str) -> None:
    chance = random.Random(seed)

    codes = [forked(lambda: live(tmp_path, url, chance.choice(ANYWHERE), chance.randint(1, 3)))[0] for _ in range(3)]

    assert -signal.SIGKILL in codes
    assert_nothing_is_paid_twice(tmp_path, url)
