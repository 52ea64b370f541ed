"""The session that is saved in the repository: an hour's reading, and a log of today's shape for ever."""

from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from agentloop.core.folding import begin
from agentloop.policies import PolicySettings
from agentloop.replay import replay
from agentloop.report import report
from agentloop.sessions import Sessions
from agentloop.types.events import ModelReplied, SessionStarted, ToolFinished, ToolStarted

STORE = Sessions(Path(__file__).parents[2] / "sessions")
EVENTS = STORE.events("atlas-example")


def test_it_replays_with_every_digest_the_same() -> None:
    start = EVENTS[0].body
    assert isinstance(start, SessionStarted)

    replayed = replay(EVENTS, PolicySettings.model_validate(begin(start, EVENTS[0].at).policies).policies())

    assert replayed.same, replayed
    assert replayed.requests == 57


def test_it_holds_compactions_facts_recalls_and_parallel_calls() -> None:
    kinds = [e.body.type for e in EVENTS]
    finished = [e.body for e in EVENTS if isinstance(e.body, ToolFinished)]

    assert kinds.count("compacted") == 2
    assert sum(f.raw is not None for f in finished) > 20
    assert any(f.name == "recall" and not f.is_error for f in finished)
    assert any(isinstance(a.body, ToolStarted) and isinstance(b.body, ToolStarted) for a, b in pairwise(EVENTS))


def test_its_bill_is_the_sum_of_its_usage_at_the_prices_in_its_own_log() -> None:
    start = EVENTS[0].body
    assert isinstance(start, SessionStarted)
    prices = start.card.prices[0]
    usages = [e.body.reply.usage for e in EVENTS if isinstance(e.body, ModelReplied)]
    assert max(u.prompt_tokens for u in usages) <= (prices.max_prompt_tokens or 0)

    pico = sum(
        u.input_tokens * int(prices.input * 10**6)
        + u.cache_read_input_tokens * int(prices.cache_read * 10**6)
        + u.ephemeral_5m_input_tokens * int(prices.cache_write_5m * 10**6)
        + u.ephemeral_1h_input_tokens * int(prices.cache_write_1h * 10**6)
        + u.output_tokens * int(prices.output * 10**6)
        for u in usages
    )

    assert report(EVENTS).cost_usd == Decimal(pico) / 10**12


def test_every_result_that_was_shortened_is_there_whole() -> None:
    raws = [e.body.raw for e in EVENTS if isinstance(e.body, ToolFinished) and e.body.raw is not None]

    found = [STORE.blobs("atlas-example").find(raw.digest) for raw in raws]

    assert [len(data or b"") for data in found] == [raw.bytes for raw in raws]
