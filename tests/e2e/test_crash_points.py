"""`kill -9` at every named place of the code, in sessions of every shape: no turn is lost, nothing happens twice, and what is
asked afterwards is byte for byte what would have been asked.

AGENTLOOP_CRASHES=all kills at every time that a place is reached; else the middle one and the last.
"""

import ast
import os
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from agentloop import crash_points
from agentloop.adapters.jsonl_log import JsonlLog
from agentloop.core import upcasts
from agentloop.crash_points import POINTS, reached, watching
from tests.e2e import crashing
from tests.e2e.crash_shapes import SHAPES
from tests.e2e.nursery import Kills, Nurseries, nurseries
from tests.unit.test_log_versions import BODIES, as_it_is, old_log

__all__ = ["nurseries"]

OF_A_SESSION = frozenset(
    {
        "log",
        "blob",
        "session",
        "step",
        "request",
        "reply",
        "attempt",
        "tool",
        "parallel",
        "compaction",
        "extraction",
        "fallback",
    }
)
"""Groups of places that are looked after here; those of schedules, budgets, queues and commands have tests of their own."""
ONLY_IN_AGENTS = frozenset({"session.ready", "session.started", "session.resumed", "request.sending", "reply.streaming"})
ONLY_IN_OLD_LOGS = frozenset({"log.before_backup", "log.backed_up", "log.migrated"})
ONLY_WHEN_RESUMED = frozenset({"session.recovered"})
ONLY_WHEN_INTERRUPTED = frozenset({"session.interrupted"})


def times(shape: str, nurseries: Nurseries, database: str | None = None) -> Counter[str]:
    """How often each place is reached in an unbroken life of this shape."""
    (answer,) = nurseries.ask(shape, [None], database)
    assert "error" not in answer, answer["error"]
    return Counter(answer)


def chosen(n: int, few: bool = False) -> list[int]:
    """Which of n times count."""
    if os.environ.get("AGENTLOOP_CRASHES") == "all":
        return list(range(1, n + 1))
    return [(n + 1) // 2] if few else sorted({(n + 1) // 2, n})


def assert_they_go_on(shape: str, kills: Sequence[Kills], nurseries: Nurseries, database: str | None = None) -> list[list[int]]:
    """Every one of these cases; returns the exit codes of the lives that were to be ended."""
    answers = nurseries.ask(shape, kills, database)

    wrong = [(k, a["wrong"]) for k, a in zip(kills, answers, strict=True) if a["wrong"] is not None]
    assert not wrong, f"{len(wrong)} of {len(kills)}, the first:\n{wrong[0][0]}: {wrong[0][1]}"
    return [a["codes"] for a in answers]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_session_killed_at_any_named_place_goes_on_as_if_nothing_had_happened(shape: str, nurseries: Nurseries) -> None:
    kills = [[(point, nth)] for point, n in sorted(times(shape, nurseries).items()) for nth in chosen(n)]

    codes = assert_they_go_on(shape, kills, nurseries)

    assert codes == [[-signal.SIGKILL]] * len(kills), "some places were not reached"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_session_in_a_database_goes_on_too(shape: str, nurseries: Nurseries, postgres_url: str) -> None:
    found = times(shape, nurseries, postgres_url)
    kills = [[(point, nth)] for point, n in sorted(found.items()) for nth in chosen(n, few=True)]

    codes = assert_they_go_on(shape, kills, nurseries, postgres_url)

    assert codes == [[-signal.SIGKILL]] * len(kills), "some places were not reached"


def test_an_agent_killed_at_any_named_place_goes_on_as_if_nothing_had_happened(nurseries: Nurseries) -> None:
    found = times(crashing.AGENT, nurseries)
    kills = [[(point, nth)] for point, n in sorted(found.items()) for nth in chosen(n)]

    codes = assert_they_go_on(crashing.AGENT, kills, nurseries)

    assert found.keys() >= ONLY_IN_AGENTS
    assert codes == [[-signal.SIGKILL]] * len(kills), "some places were not reached"


@pytest.mark.parametrize("point", sorted(ONLY_IN_OLD_LOGS))
def test_an_older_log_killed_while_it_is_migrated_is_the_old_one_or_the_new_one(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(upcasts.UPCASTS, 0, as_it_is)
    data = old_log(tmp_path / "s")

    def migrate(hook: crash_points.Hook) -> None:
        with watching(hook), JsonlLog(tmp_path / "s"):
            pass

    code, _ = crashing.forked(lambda: migrate(crashing.killer(point, 1)))
    events = list(JsonlLog(tmp_path / "s").events())
    again, _ = crashing.forked(lambda: migrate(lambda name: None))

    assert (code, again) == (-signal.SIGKILL, 0)
    assert [e.body for e in events] == BODIES
    assert list(JsonlLog(tmp_path / "s").events()) == events
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["lock", "log.jsonl", "log.v0.jsonl"]
    assert (tmp_path / "s" / "log.v0.jsonl").read_bytes() == data


RECOVERY = ("log.ready", "session.folded", "session.recovered", "log.half_written")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_session_killed_while_it_is_resumed_goes_on_too(shape: str, nurseries: Nurseries) -> None:
    """Killed with a request under way or a tool at work; then again, where what that left open is looked at."""
    found = times(shape, nurseries)
    first = [p for p in ("reply.received", "tool.effected", "log.half_written") if found[p]]
    kills = [[(p, (found[p] + 1) // 2), (again, 1)] for p in first for again in RECOVERY]

    codes = assert_they_go_on(shape, kills, nurseries)

    assert all(first == -signal.SIGKILL for first, _ in codes)
    recovering = [again for k, (_, again) in zip(kills, codes, strict=True) if k[1][0] == "session.recovered"]
    assert -signal.SIGKILL in recovering


def test_the_shapes_come_to_every_place_of_a_session(nurseries: Nurseries) -> None:
    found: Counter[str] = Counter()
    for shape in SHAPES:
        found += times(shape, nurseries)

    ours = {p for p in POINTS if p.partition(".")[0] in OF_A_SESSION}
    elsewhere = ONLY_IN_AGENTS | ONLY_IN_OLD_LOGS | ONLY_WHEN_RESUMED | ONLY_WHEN_INTERRUPTED
    assert len(SHAPES) >= 20
    assert len(found) >= 30
    assert sorted(ours - found.keys()) == sorted(ours & elsewhere)


def test_every_place_in_the_code_is_registered_and_every_registered_place_is_in_the_code() -> None:
    named = [
        node.args[0].value
        for path in Path(crash_points.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "reached"
        if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    ]

    assert sorted(set(named)) == sorted(POINTS)
    assert len(POINTS) >= 30
    assert all(text and name.count(".") == 1 for name, text in POINTS.items())


def test_a_place_is_told_only_while_somebody_watches() -> None:
    seen: list[str] = []

    reached("log.locked")
    with watching(seen.append):
        reached("log.ready")
        with watching(lambda name: seen.append(f"inner {name}")):
            reached("log.durable")
        reached("log.opened")
    reached("log.locked")

    assert seen == ["log.ready", "inner log.durable", "log.opened"]
