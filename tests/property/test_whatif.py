"""`whatif`: its bill is the engine's bill, its optimum is one, and policies move with prices as the theory says."""

import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.model_table import models
from agentloop.core.prefix import divergence
from agentloop.importers.recording import Recording
from agentloop.policies import EngineLedger, FourMarks, PolicySettings, Rent, Threshold, Whole, preset
from agentloop.recorded import Gaps
from agentloop.reenact import reenact
from agentloop.testing import card
from agentloop.types.usage import ModelCard, Prices
from agentloop.whatif import fixed, optimum
from agentloop.whatif.driver import Cut, Played, play
from agentloop.whatif.fixed import Trajectory
from agentloop.whatif.grid import Choice, baselines
from agentloop.whatif.schedule import Schedule
from tests.property.recordings import GAPS, SYSTEM, pictured, recordings, steady, thinking

MODELS = models()
ALL = ("never", "every_turn", "keep_pairs", "rent")
FIVE_MINUTES = FourMarks(static_ttl="5m", state_ttl="5m", tail_ttl="5m")
few = settings(max_examples=max(5, settings().max_examples // 5), deadline=None)


def stepped() -> ModelCard:
    """A model whose price jumps at 3,000 tokens, and which caches from 512 on."""
    low = card().prices[0].model_copy(update={"max_prompt_tokens": 3_000})
    high = Prices(**{k: v * 2 for k, v in low.model_dump(exclude={"max_prompt_tokens"}).items()})
    return card(prices=(low, high))


@few
@given(recordings(), GAPS, st.sampled_from(ALL), st.sampled_from(["claude-sonnet-4-6", "claude-haiku-4-5"]), st.booleans())
def test_the_bill_is_that_of_the_engine_to_the_last_digit(
    recording: Recording, gaps: Gaps, policy: str, model: str, facts: bool
) -> None:
    chosen = Choice(policy, facts).settings()

    assert_same_bill(recording, gaps, chosen, model, over_http=False)


@pytest.mark.parametrize("policy", ALL)
def test_the_bill_is_that_of_the_engine_over_http(policy: str) -> None:
    assert_same_bill(steady(26), (10.0, 10.0, 400.0), preset(policy), "claude-sonnet-5-5", over_http=True)


@pytest.mark.parametrize("model", ["claude-sonnet-4-6", "claude-sonnet-5-5"])
@pytest.mark.parametrize("policy", ["never", "every_turn"])  # the state of the others has room by the size of signatures
@pytest.mark.parametrize(
    "recording",
    [thinking(steady(24), seen=True), thinking(steady(24), seen=False), pictured(steady(24), "toolu_9_0")],
    ids=["thinking", "unseen thinking", "an image"],
)
def test_what_counts_at_the_front_of_all_messages_is_billed_alike(recording: Recording, policy: str, model: str) -> None:
    assert_same_bill(recording, (10.0, 10.0, 400.0), preset(policy), model, over_http=False)


def assert_same_bill(recording: Recording, gaps: Gaps, policies: PolicySettings, model: str, over_http: bool) -> None:
    offline = play(recording, MODELS[model].card, policies.policies(), gaps)
    engine = reenact(
        recording, MemoryLog(), MemoryBlobs(), session_id="same", model=model, models=MODELS, policies=policies,
        gap_s=gaps, over_http=over_http,
    )  # fmt: skip

    assert offline.cost_usd == engine.spent_usd
    assert offline.state.usage == engine.usage
    assert (offline.state.outcome, offline.state.asked) == (engine.outcome, engine.asked)
    assert sum((t.cost_usd for t in offline.turns), Decimal(0)) == offline.cost_usd


@given(recordings(system=SYSTEM), GAPS)
def test_never_under_five_minutes_is_automatic_caching(recording: Recording, gaps: Gaps) -> None:
    settings = preset("never").model_copy(update={"facts": Whole(), "caching": FIVE_MINUTES})

    others = baselines(recording, card(), Schedule("gaps", (gaps,) if isinstance(gaps, float) else tuple(gaps or ())))

    assert play(recording, card(), settings.policies(), gaps).cost_usd == others.automatic_caching_usd


@given(recordings(), GAPS, st.sampled_from(["keep_pairs", "rent", "threshold:2000"]))
def test_between_cuts_every_request_extends_the_last_and_six_pairs_stay(recording: Recording, gaps: Gaps, policy: str) -> None:
    played = play(recording, card(), Choice(policy, True).settings().policies(), gaps)
    cut_before = {c.request for c in played.cuts}

    for i, (before, after) in enumerate(pairwise(played.turns), 1):
        assert i in cut_before or divergence(before.request, after.request) is None
    for i, turn in enumerate(played.turns):
        assert len(turn.request.messages) >= 2 * min(i, 6) + 1 - (i in cut_before)


@given(recordings(), GAPS, st.sampled_from(["never", "keep_pairs", "rent"]))
def test_no_policy_beats_the_optimum_and_nothing_beats_free_cutting(recording: Recording, gaps: Gaps, policy: str) -> None:
    session = fixed.trajectory(recording, stepped(), EngineLedger(chars_per_pair=200), gaps)
    best = optimum.optimum(session.sizes, stepped())

    for lifetimes in optimum.LIFETIMES:
        caching = FourMarks(static_ttl=lifetimes.static, state_ttl=lifetimes.state, tail_ttl=lifetimes.tail)
        played = play(recording, stepped(), Choice(policy, False).settings().policies(), gaps)
        assert best.cost_usd <= fixed.priced(session, _cuts(played), caching).cost_usd
    assert optimum.floor(session.sizes, stepped()) <= best.cost_usd
    assert _priced(session, best).cost_usd == best.cost_usd


def _cuts(played: Played) -> dict[int, int]:
    return {c.request: c.keep_from for c in played.cuts}


def _priced(session: Trajectory, best: optimum.Optimum) -> Played:
    static, state, tail = best.lifetimes
    return fixed.priced(session, best.cuts, FourMarks(static_ttl=static, state_ttl=state, tail_ttl=tail))


@few
@given(recordings(at_most=6), GAPS, st.sampled_from([card(), stepped()]))
def test_the_optimum_is_the_best_of_all_ways_to_cut(recording: Recording, gaps: Gaps, model: ModelCard) -> None:
    session = fixed.trajectory(recording, model, EngineLedger(chars_per_pair=100), gaps)
    small = session._replace(sizes=session.sizes._replace(segments=tuple(r // 3 for r in session.sizes.replies)))

    best = optimum.optimum(small.sizes, model, keep=1)

    ways = [
        _priced(small, optimum.Optimum(Decimal(0), cuts, lifetimes)).cost_usd
        for cuts in every_way(len(session.sizes.replies))
        for lifetimes in optimum.LIFETIMES
    ]
    assert best.cost_usd == min(ways)


def every_way(requests: int, request: int = 1, removed: int = 0) -> Iterator[dict[int, int]]:
    """Every way to cut a session back, down to one pair."""
    if request >= requests:
        yield {}
        return
    yield from every_way(requests, request + 1, removed)
    for to in range(removed + 1, request):
        for later in every_way(requests, request + 1, to):
            yield {request: to} | later


def test_a_prompt_stays_under_the_cap_wherever_a_cut_can_do_that() -> None:
    session = fixed.trajectory(steady(40), card(), EngineLedger(chars_per_pair=100), 10.0)
    smallest = session.sizes.static + session.sizes.task + 8 * (session.sizes.replies[1] + session.sizes.given[1])

    best = optimum.optimum(session.sizes, card(), cap=smallest * 2)

    longest = max(t.usage.prompt_tokens for t in _priced(session, best).turns)
    assert longest <= smallest * 2
    assert best.cost_usd >= optimum.optimum(session.sizes, card()).cost_usd


def test_half_the_read_price_moves_the_cuts_apart_by_the_root_of_two() -> None:
    distances = [
        _distance(play(steady(240), _reading(share), _rent().policies(), 10.0).cuts) for share in ("0.1", "0.05", "0.025")
    ]

    for before, after in pairwise(distances):
        assert math.sqrt(2) * 0.85 < after / before < math.sqrt(2) * 1.15


def _rent() -> PolicySettings:
    ledger = EngineLedger(chars_per_pair=100)
    return PolicySettings(compaction=Rent(hard_cap_tokens=10**9), ledger=ledger, facts=Whole(), caching=FIVE_MINUTES)


def _reading(share: str) -> ModelCard:
    (prices,) = card().prices
    return card(prices=(prices.model_copy(update={"cache_read": prices.input * Decimal(share)}),))


def _distance(cuts: Sequence[Cut]) -> float:
    return (cuts[-1].request - cuts[0].request) / (len(cuts) - 1)


def test_on_a_cold_turn_it_cuts_and_the_next_warm_one_does_not() -> None:
    gaps = [10.0] * 9 + [4_000.0, *[10.0] * 30]

    cuts = play(steady(20), card(), _rent().policies(), gaps).cuts

    assert cuts[0].request == 10
    assert all(c.request != 11 for c in cuts)


def test_a_threshold_cuts_where_the_prompt_is_over_it() -> None:
    whole = preset("never").model_copy(update={"facts": Whole(), "ledger": EngineLedger(chars_per_pair=200)})
    limit = play(steady(40), card(), whole.policies(), 10.0).turns[15].usage.prompt_tokens
    threshold = whole.model_copy(update={"compaction": Threshold(over_tokens=limit)})

    played = play(steady(40), card(), threshold.policies(), 10.0)

    sizes = [t.usage.prompt_tokens for t in played.turns]
    assert played.cuts[0].request == 16
    assert max(sizes) == limit
    assert all(sizes[c.request] < sizes[c.request - 1] for c in played.cuts)
