"""Recorded sessions of other people's agents, through the whole engine, over HTTP."""

import os
from pathlib import Path

import pytest

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.model_table import models
from agentloop.importers import Recording, read
from agentloop.policies import preset
from agentloop.reenact import reenact
from agentloop.replay import replay
from agentloop.report import report

TRACES = Path(os.environ.get("AGENTLOOP_TRACES", Path(__file__).parents[3] / "shared" / "traces"))
FILES = sorted((TRACES / "dev").glob("*.jsonl.gz"))
pytestmark = pytest.mark.skipif(not FILES, reason=f"no recorded sessions in {TRACES}; AGENTLOOP_TRACES names another folder")
SHORT = 60
"""Turns: `make bench` plays all of them."""


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name.partition(".")[0])
@pytest.mark.parametrize("policy", ["never", "every_turn", "keep_pairs", "rent"])
def test_a_recorded_session_runs_to_its_end_and_replays(path: Path, policy: str) -> None:
    recordings = [r for r in read(path) if len(r.steps) <= SHORT][:2]

    for recording in recordings:
        log = MemoryLog()
        policies = preset(policy)
        state = reenact(
            recording, log, MemoryBlobs(), session_id="trace", model="claude-sonnet-4-6", models=models(), policies=policies,
            over_http=True,
        )  # fmt: skip
        events = list(log.events())

        assert state.asked == len(recording.steps), state.detail
        assert replay(events, policies.policies()).same
        assert report(events).failed_attempts == 0


def test_every_recorded_session_can_be_read() -> None:
    found: list[Recording] = [r for path in FILES for r in read(path)]

    assert len(found) >= len(FILES)
    assert all(r.steps for r in found)
    assert len({r.id for r in found}) == len(found)
