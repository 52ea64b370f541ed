"""A session that was cut off at any line, or at any byte, goes on as if nothing had happened.

The model and the user answer by position, and the clock stands still, so the logs can be compared line by line.
"""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from agentloop.adapters.jsonl_log import LOG, JsonlLog
from agentloop.core.folding import fold
from agentloop.policies import EveryTurn, KeepPairs, ModelLedger, PolicySettings
from agentloop.replay import replay
from agentloop.testing import card
from agentloop.types.events import Event, ModelFailed, ModelRequested, SessionEnded, ToolFinished, ToolStarted
from agentloop.types.request import Failure
from tests.property.histories import (
    LAST,
    BoundedLog,
    CallSpec,
    Played,
    Scenario,
    Step,
    World,
    play,
    scenarios,
    steady_scripts,
    told,
)

known_calls = steady_scripts.map(lambda steps: [s for s in steps if s.kind != "again"] or [LAST])
"""Without ids that come back after they left the view: here a call is known by its id."""
sessions = scenarios(scripts=known_calls, interrupts=st.none())
thousandths = st.lists(st.integers(0, 1_000), min_size=3, max_size=3)


def repeatable(scenario: Scenario) -> Scenario:
    """The same session with tools that may all be run again."""
    return scenario._replace(steps=tuple(_asks_again(s) for s in scenario.steps))


def _asks_again(step: Step) -> Step:
    kind = "tools" if step.kind == "twins" else step.kind
    calls = tuple(c._replace(tool="put_row") if c.tool == "send_note" else c for c in step.calls)
    return step._replace(kind=kind, calls=calls)


MIXED = Scenario(
    card(),
    PolicySettings(compaction=KeepPairs(keep_pairs=2, at_most=3), ledger=ModelLedger()),
    (
        Step(
            "tools", (CallSpec("look_up", "lines", 60), CallSpec("read_page", "lines", 20), CallSpec("no_such_tool", "lines"))
        ),
        Step("tools", (CallSpec("put_row", "lines", 60), CallSpec("send_note", "lines", 20)), before=("thinking", "text")),
        Step("truncated", before=("text",)),
        Step("tools", (CallSpec("send_note", "error"), CallSpec("send_note", "wrong_field")), retries=("billed",)),
        Step("pause", before=("text",)),
        Step("tools", (CallSpec("look_up", "data", 20), CallSpec("look_up", "data", 21)), fails="unavailable"),
        Step("empty"),
        Step("tools", (CallSpec("put_row", "one_line", 60),), summary="fails"),
        Step("text"),
        Step("tools", (CallSpec("look_up", "lines", 60),), summary="long"),
    ),
    sends=("try again", "and R-18?"),
)


def test_a_session_cut_at_each_of_its_lines_ends_with_the_same_log() -> None:
    whole = play(repeatable(MIXED))

    for cut in range(len(whole.events)):
        assert_the_same(whole, taken_up(whole, cut), cut)


def test_a_once_call_is_started_at_most_once_wherever_the_session_is_cut() -> None:
    whole = play(MIXED)

    for cut in range(len(whole.events)):
        _assert_no_second_effect(whole, taken_up(whole, cut), cut)


@given(sessions, thousandths)
def test_a_session_cut_at_any_line_ends_with_the_same_log(scenario: Scenario, places: list[int]) -> None:
    """Invariant 6, for tools whose calls may be run again."""
    whole = play(repeatable(scenario))

    for place in places:
        cut = len(whole.events) * place // 1_001
        assert_the_same(whole, taken_up(whole, cut), cut)


@given(sessions, thousandths)
def test_no_finished_call_is_repeated_and_no_once_call_is_started_twice(scenario: Scenario, places: list[int]) -> None:
    """Invariant 10."""
    whole = play(scenario)

    for place in places:
        cut = len(whole.events) * place // 1_001
        _assert_no_second_effect(whole, taken_up(whole, cut), cut)


@given(sessions, thousandths)
def test_a_session_that_was_taken_up_ends_and_replays_the_same(scenario: Scenario, places: list[int]) -> None:
    """Invariants 20 and 6: what recovery writes is part of the log like everything else."""
    whole = play(scenario)

    for place in places:
        again = taken_up(whole, len(whole.events) * place // 1_001)

        assert isinstance(again.events[-1].body, SessionEnded)
        assert replay(again.events, again.policies).difference is None


@given(sessions, thousandths)
def test_a_log_file_cut_at_any_byte_is_taken_up(scenario: Scenario, places: list[int]) -> None:
    """Invariants 6, 8 and 9, through the file: a torn line counts as not written."""
    whole = play(repeatable(scenario))

    with TemporaryDirectory() as folder:
        with JsonlLog(Path(folder), fsync="never") as log:
            for event in whole.events:
                log.append(event.body, event.at)
        data = (Path(folder) / LOG).read_bytes()
        for place in places:
            size = len(data) * place // 1_000
            (Path(folder) / LOG).write_bytes(data[:size])
            with JsonlLog(Path(folder), fsync="never") as log:
                play(whole.scenario, log, World(blobs=whole.world.blobs))
            read = tuple(JsonlLog(Path(folder)).events())

            assert [e.seq for e in read] == list(range(len(read)))
            assert told(read) == told(whole.events), f"cut at byte {size}"


@given(sessions, thousandths)
def test_a_session_that_is_cut_again_and_again_still_ends(scenario: Scenario, places: list[int]) -> None:
    """A crash while recovering from a crash."""
    played = whole = play(repeatable(scenario))

    for place in places:
        played = taken_up(played, len(played.events) * place // 1_001)

    assert told(played.events) == told(whole.events)


def test_a_model_written_state_is_asked_for_again_where_the_answer_was_lost() -> None:
    steps = tuple(Step("tools", (CallSpec("look_up", "lines", 60),)) for _ in range(4))
    settings = PolicySettings(compaction=EveryTurn(keep_pairs=2), ledger=ModelLedger())
    whole = play(Scenario(card(), settings, steps))
    asked = next(e.seq for e in whole.events if isinstance(e.body, ModelRequested) and e.body.purpose == "summary")

    again = taken_up(whole, asked + 1)

    lost = again.events[asked + 1].body
    assert isinstance(lost, ModelFailed)
    assert (lost.purpose, lost.failure.kind, lost.failure.possibly_billed) == ("summary", "interrupted", True)
    assert fold(again.events).at_risk_usd > 0
    assert told(again.events) == told(whole.events)


# helpers


def taken_up(whole: Played, cut: int) -> Played:
    """The session with only its first lines written, carried on to its end."""
    return play(whole.scenario, BoundedLog(whole.events[:cut]), World(blobs=whole.world.blobs))


def assert_the_same(whole: Played, again: Played, cut: int) -> None:
    assert again.events[:cut] == whole.events[:cut], "what was written stays"
    assert told(again.events) == told(whole.events), f"cut after {cut} lines"


def _assert_no_second_effect(whole: Played, again: Played, cut: int) -> None:
    """The tools that were started before the cut are taken to have run."""
    before = [e.body for e in whole.events[:cut]]
    finished = {f"random:{b.call_id}" for b in before if isinstance(b, ToolFinished)}
    later = Counter(r.key for r in again.world.ran)
    assert not finished & later.keys(), "a finished call is never repeated"

    ran = Counter(b.idempotency_key for b in before if isinstance(b, ToolStarted) and b.effect == "once")
    ran += Counter(r.key for r in again.world.ran if r.tool == "send_note")
    assert not ran or max(ran.values()) == 1, "a call with an effect is never repeated"

    answers = Counter(b.call_id for e in again.events if isinstance(b := e.body, ToolFinished))
    unknown = [b for e in again.events if isinstance(b := e.body, ToolFinished) and b.outcome == "unknown"]
    assert set(answers.values()) <= {1}
    assert all(b.is_error and f"random:{b.call_id}" not in later for b in unknown)


def test_the_comparison_forgets_only_what_was_lost() -> None:
    lost = Failure(kind="interrupted", error_type="interrupted", message="")
    bodies = [ModelRequested(turn=1, digest="", body_bytes=1, max_tokens=1), ModelFailed(turn=1, failure=lost)]
    events = [e for e in play(MIXED).events if isinstance(e.body, ToolStarted)][:1]
    between = [Event(seq=i, at=events[0].at, body=b) for i, b in enumerate(bodies)]

    assert told([*events, *between]) == told(events)
