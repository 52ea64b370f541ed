"""Simulated sessions in which nothing may go wrong, and proof that it would be seen."""

from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from agentloop.core import folding, permits
from agentloop.core.state import State, changed
from agentloop.engine import recovery, tools
from agentloop.policies import HardBudget
from agentloop.types import blocks
from agentloop.types.events import Body, Event, ToolStarted
from tests.simulator.__main__ import Failed, chunk, tried
from tests.simulator.session import simulate
from tests.simulator.world import Disk

Fault = Callable[[pytest.MonkeyPatch], None]
SEEDS = 2_000
PARTS = 20
ENOUGH = 400
"""Seeds within which a fault that was put in on purpose has to be found."""


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_happens_everything_holds(part: int) -> None:
    """More of them, and as many as one likes: `make simulate`."""
    size = SEEDS // PARTS

    failed = [r for r in chunk(range(part * size, (part + 1) * size)) if isinstance(r, Failed)]

    assert not failed, "\n".join(map(str, failed[:3]))


@pytest.mark.parametrize("seed", [1, 8, 21, 34])
def test_a_seed_is_the_same_run_byte_for_byte(seed: int) -> None:
    """Invariant 30."""
    assert simulate(seed) == simulate(seed)


def _forgets_what_was_started(patch: pytest.MonkeyPatch) -> None:
    """A call with an effect that was started is run again after a crash."""
    whole = recovery.left_open

    def careless(state: State, runner: Any) -> Iterator[Body]:
        return (b for b in whole(state, runner) if getattr(b, "outcome", None) != "unknown")

    patch.setattr(recovery, "left_open", careless)


def _intends_too_late(patch: pytest.MonkeyPatch) -> None:
    """A call's intent is written behind its answer."""
    whole = tools.answers

    def careless(*given: Any) -> Iterator[Body | None]:
        kept: list[Body] = []
        for body in whole(*given):
            if isinstance(body, ToolStarted):
                kept.append(body)
                continue
            yield body
            yield from kept
            kept.clear()

    patch.setattr(tools, "answers", careless)


def _grants_everything(patch: pytest.MonkeyPatch) -> None:
    """What was not granted runs."""
    patch.setattr(permits, "_forbids", lambda *of: "")


def _overrules_a_no(patch: pytest.MonkeyPatch) -> None:
    """What a person denied runs all the same."""
    whole = permits.verdicts

    def careless(*given: Any) -> tuple[permits.Verdict, ...]:
        return tuple(v._replace(what="run") if v.what == "deny" else v for v in whole(*given))

    patch.setattr(permits, "verdicts", careless)


def _spends_what_is_not_there(patch: pytest.MonkeyPatch) -> None:
    """The budget is looked at when it is gone, not before."""
    patch.setattr(HardBudget, "max_tokens", lambda self, state: state.limits.max_tokens)
    patch.setattr(HardBudget, "_tokens_for", lambda self, state, left: 9_999 if left is None or left > 0 else 0)


def _does_not_count_lost_attempts(patch: pytest.MonkeyPatch) -> None:
    """Attempts that may have been billed are forgotten."""
    whole = folding.evolve

    def careless(state: State, event: Event) -> State:
        after = whole(state, event)
        return changed(after, at_risk_usd=Decimal(0))

    for place in ("agentloop.core.folding.evolve", "agentloop.engine.loop.evolve", "agentloop.engine.asking.evolve"):
        patch.setattr(place, careless)
    patch.setattr("agentloop.engine.loop.fold", _folding_with(careless))
    patch.setattr("tests.simulator.session.fold", _folding_with(careless))


def _folding_with(step: Callable[[State, Event], State]) -> Callable[[Any], State]:
    def folded(events: Any) -> State:
        stream = iter(events)
        first = next(stream)
        state = folding.begin(first.body, first.at)
        for event in stream:
            state = step(state, event)
        return state

    return folded


def _says_written_what_is_not(patch: pytest.MonkeyPatch) -> None:
    """The disk refuses a line, and the log says that it is written."""
    whole = Disk.append

    def careless(self: Disk, body: Body, at: datetime) -> Event:
        if self._refusals and self._chance.random() < 0.02:
            return Event(seq=len(self.lines), at=at, body=body)
        return whole(self, body, at)

    patch.setattr(Disk, "append", careless)


def _parts_a_call_from_its_result(patch: pytest.MonkeyPatch) -> None:
    """One of several results is lost on the way to the model."""
    whole = blocks.calls
    patch.setattr("agentloop.core.results.blocks.calls", lambda content: whole(content)[:2])


FAULTS = [
    _forgets_what_was_started,
    _intends_too_late,
    _grants_everything,
    _overrules_a_no,
    _spends_what_is_not_there,
    _does_not_count_lost_attempts,
    _says_written_what_is_not,
    _parts_a_call_from_its_result,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__.strip("_"))
def test_a_fault_that_is_put_in_on_purpose_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)

    assert any(isinstance(tried(seed), Failed) for seed in range(ENOUGH))
