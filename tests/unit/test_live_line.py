"""The live line while leaves run: how many have ended, how many run, what they have spent."""

import io
import re
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from agentloop.cli.live import LiveLine
from agentloop.core.state import State
from agentloop.types.events import Event
from tests.unit.leaves_of import Hasty, Office, leaves, script, task

TOLD = re.compile(r"leaves: (\d+) ended, (\d+) running of 10 · \$([0-9.]+) \(\$([0-9.]+) by leaves\) · \$([0-9.]+) left")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("mode", ["live", "batch"])
def test_the_line_follows_ten_leaves_from_the_first_to_the_last(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    office = Office(tmp_path, f"max_budget_usd: 5\nleaves: {{mode: {mode}}}\n")
    office.clock = Hasty()
    line = LiveLine(wanted=True)
    agent = office.agent(script([task(f"order {n}") for n in range(10)]), on_event=line, on_leaf_event=line.leaf)

    result = agent.run("Go.", session_id="s")

    said = terminal.getvalue().split("\r")
    told = [m.groups() for m in map(TOLD.match, (part.partition(" · ")[2] for part in said)) if m]
    by_leaves = sum((leaf.spent_usd for leaf in leaves(agent.sessions.events("s"))), Decimal(0))
    ended = [int(n) for n, *_ in told]
    assert result.outcome == "completed"
    assert any(part.startswith("turn 1 · leaves: 0 ended, 0 running of 10 · $") for part in said)
    assert ended == sorted(ended)
    assert told[-1][:2] == ("10", "0")
    assert told[-1][3] == f"{by_leaves:.4f}"
    assert any(int(running) > 1 for _, running, *_ in told)
    assert [float(t[3]) for t in told] == sorted(float(t[3]) for t in told)
    assert re.search(r"turn 2 · [\d,]+ tokens · \d+% cached · \$", said[-1])


def test_a_callback_is_told_of_each_event_of_a_leaf_and_what_it_raises_stops_none(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def watch(event: Event, state: State) -> None:
        seen.append((state.session_id, event.seq))
        raise ValueError("of no use")

    agent = Office(tmp_path).agent(script([task(f"order {n}") for n in range(4)]), on_leaf_event=watch)
    result = agent.run("Go.", session_id="s")

    there = {(i, e.seq) for i in agent.sessions.ids() if i != "s" for e in agent.sessions.events(i) if e.seq > 1}
    assert result.outcome == "completed"
    assert len(seen) == len(set(seen))
    assert set(seen) == there
