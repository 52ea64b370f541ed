"""What a terminal shows while a wave runs."""

import io
import sys
from decimal import Decimal

import pytest

from agentloop.cli.wave_line import WaveLine
from agentloop.core.folding import fold
from agentloop.core.state import State, changed
from agentloop.testing import events, given, started


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    return made


def stands(session_id: str, asked: int, usd: str) -> State:
    state = fold(events(started(session_id=session_id), given("Go.")))
    return changed(state, asked=asked, spent_usd=Decimal(usd))


(EVENT,) = events(started())


def test_it_tells_what_all_sessions_together_have_come_to(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    line = WaveLine(True, 2)
    for state in (stands("a", 3, "0.01"), stands("b", 1, "0.02"), stands("a", 4, "0.0125")):
        line(EVENT, state)
    line.over("a")
    line.over("b")

    assert terminal.getvalue().split("\r")[-1].rstrip() == "2/2 sessions over · 5 replies · $0.0325"


def test_a_thousand_steps_at_once_are_no_thousand_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    line = WaveLine(True, 1_000)
    for n in range(1_000):
        line(EVENT, stands(f"s{n}", 1, "0.001"))

    assert terminal.getvalue().count("\r") < 100


def test_it_leaves_the_terminal_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    line = WaveLine(True, 1)
    line.over("a")
    line.done()

    assert terminal.getvalue().endswith("\r")
    assert terminal.getvalue().split("\r")[-2].strip() == ""


@pytest.mark.parametrize("wanted", [True, False])
def test_where_nobody_looks_it_says_nothing(wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Terminal() if not wanted else io.StringIO()
    monkeypatch.setattr(sys, "stderr", made)
    line = WaveLine(wanted, 1)
    line(EVENT, stands("a", 1, "1"))
    line.over("a")
    line.done()

    assert made.getvalue() == ""
