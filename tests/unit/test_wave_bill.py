"""What the bill of a wave counts: all that its sessions have spent."""

from decimal import Decimal
from pathlib import Path

import pytest

from agentloop.emulator.faults import Faults
from agentloop.testing import card, events, given, reply, started
from agentloop.types.blocks import text
from agentloop.types.events import Compacted, ModelReplied, ModelRequested
from agentloop.types.usage import Usage
from agentloop.waves.bill import bill
from tests.unit.leaves_of import Api, Office, script, task

TASKS = [task("order 1"), task("order 2", "analysis")]
HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"


@pytest.mark.parametrize("away", [False, True])
def test_the_bill_of_a_wave_has_what_leaves_spent_and_the_prices_of_whoever_took_over(tmp_path: Path, away: bool) -> None:
    office = Office(tmp_path)
    played = script(TASKS)
    faults = Faults.of({"model": HAIKU, "fault": 529}) if away else Faults()
    agent = office.agent(played, Api(played, office.clock, faults=faults), model=HAIKU, fallback_model=(SONNET,))
    result = agent.run("Go.", session_id="s")

    whole, _ = bill([agent.sessions.events("s")])

    assert whole.cost_usd == whole.live_usd == result.cost


def test_what_is_not_found_behind_a_cut_is_no_miss() -> None:
    def asked(turn: int) -> ModelRequested:
        return ModelRequested(turn=turn, purpose="turn", digest="0", body_bytes=9, breakpoints=(), max_tokens=99)

    def replied(turn: int, **usage: int) -> ModelReplied:
        said = reply(text("x"), usage=Usage(service_tier="batch", output_tokens=1, **usage))
        return ModelReplied(turn=turn, purpose="turn", reply=said, duration_s=1.0)

    cut = Compacted(keep_from=0, segment="what was")
    log = events(
        started(model=card()), given("Go."),
        asked(1), replied(1, ephemeral_5m_input_tokens=9_000),
        cut, asked(2), replied(2, cache_read_input_tokens=1_000, ephemeral_5m_input_tokens=9_000),
    )  # fmt: skip

    whole, _ = bill([log])

    assert whole.hits is None
    assert whole.live_usd == 2 * whole.cost_usd > Decimal(0)
