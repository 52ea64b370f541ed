"""What a killed session becomes, place by place: what was sent and done outside, and what the log and the model are told."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentloop.core.folding import fold
from agentloop.types import blocks
from agentloop.types.events import Event, ModelFailed, ModelReplied, ModelRequested, SessionEnded, ToolFinished, ToolStarted
from tests.e2e.crashing import lines, store
from tests.e2e.nursery import Nurseries, nurseries

__all__ = ["nurseries"]

MIXED = "every kind of call at once"
LOOK, SEND, PUT = "look_up random:toolu_0_0", "send_note random:toolu_0_1", "put_row random:toolu_0_2"


class Became(NamedTuple):
    """A session that was killed once, at its end."""

    events: list[Event]
    sent: list[str]
    ran: Counter[str]

    def of(self, kind: type) -> list[Any]:
        return [e.body for e in self.events if isinstance(e.body, kind)]


def killed(nurseries: Nurseries, shape: str, point: str, nth: int) -> Became:
    (answer,) = nurseries.ask(shape, [[(point, nth)]])
    assert (answer["wrong"], answer["codes"]) == (None, [-9])
    folder: Path = answer["folder"]
    return Became(store(folder, None).events(), lines(folder / "sent"), Counter(lines(folder / "ran")))


def test_a_request_that_was_recorded_and_not_sent_is_sent_once(nurseries: Nurseries) -> None:
    became = killed(nurseries, MIXED, "request.recorded", 2)

    assert [became.sent.count(d) for d in dict.fromkeys(became.sent)] == [1, 1, 1]


@pytest.mark.parametrize(("point", "nth"), [("reply.received", 2), ("log.before_write", 16), ("log.half_written", 16)])
def test_a_request_whose_answer_was_lost_is_asked_again_and_both_attempts_are_in_the_cost(
    nurseries: Nurseries, point: str, nth: int
) -> None:
    became = killed(nurseries, MIXED, point, nth)

    asked = became.of(ModelRequested)
    lost = [f.failure for f in became.of(ModelFailed)]
    assert [became.sent.count(d) for d in dict.fromkeys(became.sent)] == [1, 2, 1]
    assert asked[1].digest == asked[2].digest
    assert [(f.kind, f.possibly_billed) for f in lost] == [("interrupted", True)]
    assert fold(became.events).at_risk_usd > 0
    assert len(became.of(ModelReplied)) == 3, "no half turn"


def test_a_tool_whose_call_was_recorded_and_not_started_starts_once(nurseries: Nurseries) -> None:
    became = killed(nurseries, MIXED, "reply.recorded", 1)

    assert (became.ran[LOOK], became.ran[SEND], became.ran[PUT]) == (1, 1, 1)
    assert Counter(s.call_id for s in became.of(ToolStarted)).most_common(1)[0][1] == 1


@pytest.mark.parametrize(("point", "happened"), [("tool.intended", 0), ("tool.starting", 0), ("tool.effected", 1)])
@pytest.mark.parametrize(("call", "nth"), [(LOOK, 1), (SEND, 2), (PUT, 3)])
def test_a_call_that_was_under_way_is_run_again_only_where_that_is_harmless(
    nurseries: Nurseries, point: str, happened: int, call: str, nth: int
) -> None:
    became = killed(nurseries, MIXED, point, nth)

    answer = next(f for f in became.of(ToolFinished) if f.call_id == call.partition(":")[2])
    keys = {s.idempotency_key for s in became.of(ToolStarted) if s.call_id == answer.call_id}
    assert keys == {call.partition(" ")[2]}, "one key, however often it runs"
    if call == SEND:
        assert (answer.outcome, answer.is_error, became.ran[call]) == ("unknown", True, happened)
        assert "outcome unknown" in str(answer.content)
    else:
        assert (answer.outcome, became.ran[call]) == ("ok", happened + 1)


def test_a_result_that_was_recorded_is_used_and_its_tool_does_not_run_again(nurseries: Nurseries) -> None:
    became = killed(nurseries, MIXED, "tool.recorded", 7)

    assert set(became.ran.values()) == {1}
    assert {f.outcome for f in became.of(ToolFinished)} == {"ok"}


@pytest.mark.parametrize("point", ["parallel.some_recorded", "parallel.intended"])
def test_of_parallel_calls_those_that_are_done_are_kept_and_all_results_stand_in_one_message(
    nurseries: Nurseries, point: str
) -> None:
    became = killed(nurseries, "parallel reads", point, 1)

    turn = fold(became.events).turns[1]
    assert [r["tool_use_id"] for r in turn.given] == ["toolu_0_0", "toolu_0_1", "toolu_0_2"]
    done = 1 if point == "parallel.some_recorded" else 0
    assert became.ran["look_up random:toolu_0_0"] <= 2 - done
    assert len(became.of(ToolFinished)) == len({f.call_id for f in became.of(ToolFinished)})


@pytest.mark.parametrize("point", ["compaction.decided", "log.half_written", "compaction.recorded", "request.recorded"])
def test_a_cut_is_there_or_not_there_and_never_half(nurseries: Nurseries, point: str) -> None:
    shape = "cuts after every turn"
    cut = 12 if point == "log.half_written" else 3 if point == "request.recorded" else 1

    became = killed(nurseries, shape, point, cut)

    state = fold(became.events)
    assert (state.compactions, len(state.segments)) == (3, 3)
    assert isinstance(became.events[-1].body, SessionEnded)


def test_a_state_that_a_model_writes_is_paid_for_at_most_twice(nurseries: Nurseries) -> None:
    unbroken = killed(nurseries, "a state that the model writes", "session.ended", 1)
    became = killed(nurseries, "a state that the model writes", "reply.received", 4)

    assert len(became.sent) == len(unbroken.sent) + 1
    assert max(Counter(became.sent).values()) == 2
    assert json.dumps([blocks.text_of(t.given) for t in fold(became.events).turns]) == json.dumps(
        [blocks.text_of(t.given) for t in fold(unbroken.events).turns]
    )
