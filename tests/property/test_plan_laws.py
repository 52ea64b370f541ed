"""Laws of the forecast: what its range holds, and what makes a run dearer."""

import math
import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.model_table import models
from agentloop.core.calibration import Calibration, Sample
from agentloop.importers.recording import Recording
from agentloop.plan import Asked, Forecast, Past, forecast
from agentloop.plan.past import past
from agentloop.plan.ranges import predicted
from agentloop.policies import PolicySettings, Whole, preset
from agentloop.recorded import started
from agentloop.reenact import reenact
from agentloop.types.usage import ModelCard, Prices
from tests.property.recordings import SYSTEM, TOOLS, recordings, step
from tests.unit.lines import unit_card

MODEL = "claude-sonnet-5-5"
CARD = models()[MODEL].card
NOTHING_LEARNED = Calibration()


def asked(card: ModelCard = CARD, policies: PolicySettings | None = None, turns: int | None = None) -> Asked:
    made = policies or PolicySettings()
    start = started(Recording("start", "", SYSTEM, TOOLS, (), {}), "plan", card, made.data())
    unlimited = start.model_copy(update={"limits": start.limits.model_copy(update={"max_turns": None})})
    return Asked(unlimited, made, turns=turns)


def run(recording: Recording, policies: PolicySettings) -> tuple[Past, Decimal]:
    """A session that really goes through engine and emulator, as a past one; and its bill."""
    log, blobs = MemoryLog(), MemoryBlobs()
    state = reenact(recording, log, blobs, session_id="past", model=MODEL, models=models(), policies=policies)
    found = past(list(log.events()), blobs)
    assert found is not None
    return found, state.spent_usd


def drawn(chance: random.Random) -> Recording:
    """A session of a kind: some turns, results of some size."""
    turns = max(1, round(chance.lognormvariate(math.log(5), 0.5)))
    sizes = [[max(1, round(chance.lognormvariate(math.log(8), 0.6)))] for _ in range(turns)]
    made = [step(t, size, "Look." if t == 0 else "", "On.", last=t == turns - 1) for t, size in enumerate(sizes)]
    return Recording("drawn", "", SYSTEM, TOOLS, tuple(s for s, _ in made), {k: b for _, r in made for k, b in r.items()})


def test_the_range_holds_the_bill_of_the_next_session_in_four_of_five_cases() -> None:
    chance = random.Random(4)
    population = [run(drawn(chance), PolicySettings()) for _ in range(50)]
    planned = [forecast(asked(), [p], NOTHING_LEARNED).cost_usd.expected for p, _ in population]
    held = 0
    for _ in range(1_000):
        *before, next_one = chance.sample(range(50), 13)
        held += predicted([planned[i] for i in before]).holds(population[next_one][1])

    assert held >= 800


def test_the_forecast_is_the_range_of_what_each_session_would_cost() -> None:
    chance = random.Random(5)
    before = [run(drawn(chance), PolicySettings())[0] for _ in range(10)]

    each = [forecast(asked(), [p], NOTHING_LEARNED).cost_usd.expected for p in before]

    assert tuple(v for _, v in forecast(asked(), before, NOTHING_LEARNED).cost_usd) == tuple(predicted(each))


@pytest.mark.parametrize("known", [1, 2, 4, 8, 9, 14, 25, 40])
@pytest.mark.parametrize("spread", [0.1, 0.5, 0.8])
def test_however_many_sessions_are_known_the_range_holds_four_of_five(known: int, spread: float) -> None:
    chance = random.Random(known)
    cases = [[Decimal(str(chance.lognormvariate(0, spread))) for _ in range(known + 1)] for _ in range(2_000)]

    held = sum(predicted(values[:-1]).holds(values[-1]) for values in cases)

    assert held >= (0.8 if spread <= 0.5 or known >= 9 else 0.7) * len(cases) - 3 * math.sqrt(0.16 * len(cases))


@given(st.lists(st.decimals("0.0001", 1_000, places=4), min_size=1, max_size=40))
def test_a_range_is_in_order_and_holds_what_is_expected(costs: list[Decimal]) -> None:
    found = predicted(costs)

    assert found.low <= found.expected <= found.high
    assert min(costs) <= found.expected <= max(costs)


@settings(max_examples=15)
@given(recordings(at_most=12, system=SYSTEM), st.sampled_from(["rent", "never"]))
def test_the_forecast_from_a_session_expects_that_session(recording: Recording, policy: str) -> None:
    policies = preset(policy).model_copy(update={"facts": Whole()})
    before, bill = run(recording, policies)

    assert forecast(asked(policies=policies), [before], NOTHING_LEARNED).cost_usd.expected == bill


@settings(max_examples=15)
@given(recordings(at_most=8, system=SYSTEM), st.integers(1, 20), st.integers(1, 20))
def test_more_turns_cost_more(recording: Recording, turns: int, more: int) -> None:
    before, _ = run(recording, PolicySettings())

    few, many = (forecast(asked(turns=n), [before], NOTHING_LEARNED) for n in (turns, turns + more))

    assert few.turns.expected == turns
    assert few.cost_usd.expected < many.cost_usd.expected
    assert few.naive_usd.expected < many.naive_usd.expected


@settings(max_examples=10)
@given(st.integers(1, 25), st.integers(1, 25))
def test_more_turns_cost_more_where_no_session_is_known(turns: int, more: int) -> None:
    few, many = (forecast(asked(turns=n), [], NOTHING_LEARNED).cost_usd for n in (turns, turns + more))

    assert few.low < many.low
    assert few.expected < many.expected
    assert few.high < many.high


def halved(card: ModelCard) -> ModelCard:
    prices = tuple(
        Prices(max_prompt_tokens=p.max_prompt_tokens, **{k: v / 2 for k, v in p if k != "max_prompt_tokens"})
        for p in card.prices
    )
    return card.model_copy(update={"prices": prices})


def amounts(found: Forecast) -> list[float]:
    return [float(v) for span in (found.cost_usd, found.never_usd, found.naive_usd) for _, v in span]


@settings(max_examples=15)
@given(st.lists(recordings(at_most=8, system=SYSTEM), max_size=3))
def test_halved_prices_halve_the_forecast(sessions: list[Recording]) -> None:
    before = [run(s, PolicySettings())[0] for s in sessions]

    whole, half = (amounts(forecast(asked(card), before, NOTHING_LEARNED)) for card in (CARD, halved(CARD)))

    assert half == pytest.approx([v / 2 for v in whole], rel=1e-6)


@settings(max_examples=5)
@given(st.floats(0.7, 1.6))
def test_tokens_that_weigh_more_than_they_are_estimated_make_a_run_dearer(ratio: float) -> None:
    learned = Calibration()
    for _ in range(200):
        learned = learned.learned(Sample({"results": 10_000}, 0, round(10_000 * ratio)))
    card = unit_card()

    plain, corrected = (forecast(asked(card, turns=10), [], known).naive_usd.expected for known in (NOTHING_LEARNED, learned))

    assert (corrected > plain) == (learned.ratios()["results"] > 1)
