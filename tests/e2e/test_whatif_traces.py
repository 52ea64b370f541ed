"""`whatif` on recorded sessions of other people's agents: the engine's bill over HTTP, to the last digit."""

from pathlib import Path

import pytest

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.model_table import models
from agentloop.importers import read
from agentloop.policies import preset
from agentloop.reenact import reenact
from agentloop.whatif.driver import play
from agentloop.whatif.needs import Met, Seen, met, needs
from tests.e2e.test_traces import FILES, SHORT, TRACES

pytestmark = pytest.mark.skipif(not FILES, reason=f"no recorded sessions in {TRACES}; AGENTLOOP_TRACES names another folder")
BURSTS = (10.0, 10.0, 10.0, 400.0, 10.0, 4_000.0)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name.partition(".")[0])
@pytest.mark.parametrize("policy", ["never", "every_turn", "rent"])
def test_a_recorded_session_costs_what_it_costs_over_http(path: Path, policy: str) -> None:
    recording = next((r for r in read(path) if len(r.steps) <= SHORT), None)
    if recording is None:
        pytest.skip(f"every session of {path.name} has more than {SHORT} turns")
    policies, model = preset(policy), models()["claude-sonnet-5-5"]

    engine = reenact(
        recording, MemoryLog(), MemoryBlobs(), session_id="trace", model=model.card.id, models=models(), policies=policies,
        gap_s=BURSTS, over_http=True,
    )  # fmt: skip

    assert play(recording, model.card, policies.policies(), BURSTS).cost_usd == engine.spent_usd


def test_a_history_that_is_never_cut_meets_every_need_of_every_recorded_session() -> None:
    total = Met()
    for recording in (r for path in FILES for r in read(path)):
        seen = Seen()
        whole = preset("never").model_copy(update={"facts": preset("never").facts.model_copy(update={"over_tokens": 10**9})})
        turns = play(recording, models()["claude-sonnet-5-5"].card, whole.policies(), 10.0).turns
        total += sum((met(n, t.request.messages, seen) for n, t in zip(needs(recording, seen), turns, strict=True)), Met())

    assert total.needs > 1_000
    assert (total.recall, total.whole) == (1.0, 1.0)
