"""A callback that raises, blocks, or stops the session: the session's turns are committed all the same (S09)."""

import threading
from pathlib import Path

import pytest

from agentloop import Agent
from agentloop.callbacks import isolated
from agentloop.core.folding import fold
from agentloop.core.state import State
from agentloop.emulator.playbook import Playbook
from agentloop.engine import Interrupted
from agentloop.testing import events, given, started
from agentloop.types.events import Event

PLAYBOOK = Playbook.from_data({"name": "p", "steps": [{"say": "One."}, {"say": "Two."}]})
EVENTS = events(started(), *(given(f"{n}") for n in range(6)))
STATE = fold(EVENTS)


class Warnings(list[tuple[str, str]]):
    def __call__(self, event: str, detail: str) -> None:
        self.append((event, detail))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self]


def test_a_callback_knows_of_each_event_before_the_session_goes_on() -> None:
    heard: list[int] = []
    before = threading.active_count()

    with isolated(lambda event, state: heard.append(event.seq), Warnings()) as observe:
        for event in EVENTS:
            observe(event, STATE)
            assert heard[-1] == event.seq

    assert threading.active_count() == before


def test_what_a_callback_raises_is_a_warning_each_time() -> None:
    warned = Warnings()

    def broken(event: Event, state: State) -> None:
        raise RuntimeError("the dashboard is down")

    with isolated(broken, warned) as observe:
        for event in EVENTS:
            observe(event, STATE)

    assert warned == [("callback_failed", "RuntimeError: the dashboard is down")] * len(EVENTS)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted("SIGTERM")])
def test_a_callback_may_stop_the_session(stop: BaseException) -> None:
    def impatient(event: Event, state: State) -> None:
        raise stop

    with isolated(impatient, Warnings()) as observe, pytest.raises(type(stop)):
        observe(EVENTS[0], STATE)


def test_a_callback_that_blocks_holds_nothing_up_and_hears_the_rest_in_order_when_it_comes_back() -> None:
    warned, go_on = Warnings(), threading.Event()
    heard: list[int] = []

    def slow(event: Event, state: State) -> None:
        go_on.wait(30)
        heard.append(event.seq)

    with isolated(slow, warned, patience_s=0.05) as observe:
        for event in EVENTS[:4]:
            observe(event, STATE)
        assert (heard, warned.names) == ([], ["callback_late"])
        go_on.set()
        while len(heard) < 4:
            threading.Event().wait(0.001)
        for event in EVENTS[4:]:
            observe(event, STATE)

    assert heard == [e.seq for e in EVENTS]
    assert warned.names == ["callback_late"]


def test_a_session_whose_callback_never_comes_back_runs_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentloop.callbacks.isolated.__wrapped__.__defaults__", (0.05,))
    never = threading.Event()

    def waits_for_ever(event: object, state: object) -> None:
        never.wait()

    result = Agent(
        system="You answer.",
        workspace=tmp_path,
        script=PLAYBOOK,
        environment={},
        on_event=waits_for_ever,
    ).run("Well?")
    never.set()

    assert (result.outcome, result.text) == ("completed", "One.")
