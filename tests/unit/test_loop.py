import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.toolbox import Toolbox
from agentloop.core import wire
from agentloop.core.choices import Policies
from agentloop.core.state import State
from agentloop.engine import Interrupted, Shell, run
from agentloop.errors import LogWriteFailed
from agentloop.policies import EngineLedger, EveryTurn, HeadTailMatches, ModelLedger, Never, PolicySettings
from agentloop.testing import NOON, FixedClock, ScriptedModel, calls_tool, given, reply, says, started
from agentloop.tooling import Registry, tool
from agentloop.types.base import Json
from agentloop.types.blocks import text, tool_use
from agentloop.types.events import Body, Compacted, Event, ModelFailed, ModelReplied, ModelRequested, SessionEnded, ToolFinished
from agentloop.types.limits import Limits
from agentloop.types.request import Failure, Reply

PLAIN = PolicySettings(compaction=Never())
Answers = Sequence[object]
T = TypeVar("T")


@tool(effect="read")
def look(n: int = 0) -> str:
    """Look."""
    return f"seen {n}"


class Session:
    """A session in memory with a scripted model."""

    def __init__(
        self, answers: Answers, *tools: object, settings: PolicySettings = PLAIN, limits: Limits | None = None
    ) -> None:
        registry = Registry(tools or [look])
        self.log = MemoryLog()
        self.model = ScriptedModel(answers)  # type: ignore[arg-type]
        self.blobs = MemoryBlobs()
        self.clock = FixedClock(step_s=1)
        self.tools = Toolbox(registry, session_id="test", root=Path("/"))
        self.policies: Policies = settings.policies()
        self.seen: list[tuple[Event, State]] = []
        self.log.append(started(tools=registry.definitions, tool_cards=registry.cards, limits=limits), NOON)
        self.log.append(given("task"), NOON)

    def run(self) -> State:
        shell = Shell(self.model, self.tools, self.blobs, self.clock, lambda event, state: self.seen.append((event, state)))
        return run(self.log, shell, self.policies)

    @property
    def kinds(self) -> list[str]:
        return [str(e.body.type) for e in self.log.events()][2:]

    def of(self, kind: type[T]) -> list[T]:
        return [e.body for e in self.log.events() if isinstance(e.body, kind)]

    @property
    def sent(self) -> list[Json]:
        return [json.loads(b) for b in self.model.bodies]


TWO_TURNS = [calls_tool("c1", "look", n=1), says("Done.")]


def test_a_session_runs_to_its_outcome_and_writes_down_each_step() -> None:
    session = Session(TWO_TURNS)

    state = session.run()

    assert (state.outcome, state.text, state.asked) == ("completed", "Done.", 2)
    assert session.kinds == [
        "model_requested",
        "model_replied",
        "tool_started",
        "tool_finished",
        "model_requested",
        "model_replied",
        "session_ended",
    ]


def test_the_model_sees_the_result_of_its_call_in_the_next_message() -> None:
    session = Session(TWO_TURNS)

    session.run()

    assert session.sent[1]["messages"][-1]["content"][0]["content"] == "seen 1"


def test_the_digest_of_what_is_sent_is_written_before_it_is_sent() -> None:
    session = Session(TWO_TURNS)

    session.run()

    recorded = [(r.digest, r.body_bytes) for r in session.of(ModelRequested)]
    assert recorded == [(wire.digest(b), len(b)) for b in session.model.bodies]


def test_a_request_is_recorded_before_the_model_is_asked() -> None:
    kinds: list[str] = []

    def answer(body: bytes) -> Reply:
        kinds.extend(session.kinds)
        return says("Done.")

    session = Session([answer])
    session.run()

    assert kinds == ["model_requested"]


def test_the_start_of_a_call_is_recorded_before_it_runs() -> None:
    kinds: list[str] = []

    @tool
    def pay() -> str:
        """Pay."""
        kinds.extend(session.kinds)
        return "paid"

    session = Session([calls_tool("c", "pay"), says("Done.")], pay)
    session.run()

    assert kinds[-1] == "tool_started"


def test_each_failed_attempt_is_written_down() -> None:
    busy = Failure(kind="unavailable", error_type="overloaded_error", message="busy", retry_in_s=1.5)
    session = Session([busy, busy, says("Done.")])

    state = session.run()

    assert [f.failure.retry_in_s for f in session.of(ModelFailed)] == [1.5, 1.5]
    assert (state.outcome, len(session.model.bodies)) == ("completed", 1)


def test_a_provider_that_stays_away_ends_the_session_so_that_it_can_be_resumed() -> None:
    session = Session([Failure(kind="unavailable", error_type="overloaded_error", message="busy", attempt=8)])

    assert session.run().outcome == "provider_unavailable"


def test_a_large_result_is_kept_whole_and_shown_as_facts() -> None:
    whole = "\n".join(f"line {n}" for n in range(1_000))

    @tool(effect="read")
    def dump() -> str:
        """Dump."""
        return whole

    session = Session([calls_tool("c", "dump"), says("Done.")], dump, settings=PLAIN)
    session.run()

    (finished,) = session.of(ToolFinished)
    assert finished.raw is not None
    assert session.blobs.find(finished.raw.digest) == whole.encode()
    assert len(str(finished.content)) < len(whole) / 4


def test_a_cut_is_written_down_and_the_next_request_carries_the_state() -> None:
    settings = PolicySettings(compaction=EveryTurn(keep_pairs=2), ledger=EngineLedger())
    session = Session([*(calls_tool(f"c{n}", "look", n=n) for n in range(3)), says("Done.")], settings=settings)

    session.run()

    assert [c.keep_from for c in session.of(Compacted)] == [1]
    assert session.sent[3]["messages"][0]["content"][1]["text"].startswith("[Session state, kept by agentloop: turns 1 to 1")
    assert len(session.sent[3]["messages"]) == 1 + 2 * 2


def test_the_model_can_be_asked_for_the_state() -> None:
    settings = PolicySettings(compaction=EveryTurn(keep_pairs=2), ledger=ModelLedger())
    answers = [*(calls_tool(f"c{n}", "look", n=n) for n in range(3)), says("It looked."), says("Done.")]
    session = Session(answers, settings=settings)

    state = session.run()

    assert (state.outcome, state.asked) == ("completed", 4)
    assert "It looked." in session.of(Compacted)[0].segment
    # the question stands behind the very request that is already cached
    before, question = session.sent[2]["messages"], session.sent[3]["messages"]
    strip = ',"cache_control":{"type":"ephemeral"}'.replace(",", ", ").replace(":", ": ")
    assert json.dumps(question).replace(strip, "").startswith(json.dumps(before).replace(strip, "")[:-1])


def test_a_model_that_never_stops_is_stopped_by_its_turns() -> None:
    calls = iter(range(1_000))
    session = Session([lambda body: calls_tool(f"c{next(calls)}", "look", n=next(calls))], limits=Limits(max_turns=20))

    assert session.run().outcome == "max_turns"
    assert len(session.model.bodies) == 20


def test_a_model_that_never_stops_is_stopped_by_its_budget() -> None:
    calls = iter(range(1_000))
    session = Session(
        [lambda body: calls_tool(f"c{next(calls)}", "look", n=next(calls))], limits=Limits(max_budget_usd=Decimal("0.02"))
    )

    state = session.run()

    assert state.outcome == "budget_exceeded"
    assert state.spent_usd <= Decimal("0.02")


def test_a_model_that_makes_the_same_call_for_ever_is_told_and_then_stopped() -> None:
    calls = iter(range(1_000))
    session = Session([lambda body: calls_tool(f"c{next(calls)}", "look", n=1)])

    state = session.run()

    assert (state.outcome, state.asked, session.kinds.count("input_given")) == ("failed", 8, 1)


def test_an_unknown_tool_is_answered_with_the_names_of_those_that_exist() -> None:
    session = Session([calls_tool("c", "lok"), says("Done.")])

    session.run()

    (finished,) = session.of(ToolFinished)
    assert (finished.outcome, finished.is_error) == ("invalid", True)
    assert finished.content == "there is no tool named 'lok'; there are look"
    assert "tool_started" not in session.kinds


def test_a_call_of_a_truncated_reply_never_runs() -> None:
    ran: list[int] = []

    @tool
    def pay() -> str:
        """Pay."""
        ran.append(1)
        return "paid"

    cut_off = reply(tool_use("c", "pay", {}), stop_reason="max_tokens")
    session = Session([cut_off, says("Done.")], pay, limits=Limits(max_tokens=500))

    session.run()

    assert ran == []
    assert [b["max_tokens"] for b in session.sent] == [500, 64_000]


def stop_with(error: BaseException) -> object:
    def answer(body: bytes) -> Reply:
        raise error

    return answer


@pytest.mark.parametrize(("error", "name"), [(KeyboardInterrupt(), "SIGINT"), (Interrupted("SIGTERM"), "SIGTERM")])
def test_a_signal_ends_the_session_as_interrupted(error: BaseException, name: str) -> None:
    session = Session([stop_with(error)])

    state = session.run()

    assert (state.outcome, session.kinds) == ("interrupted", ["model_requested", "model_failed", "session_ended"])
    assert name in session.of(SessionEnded)[0].detail
    assert session.of(ModelFailed)[0].failure.possibly_billed


def test_an_interrupted_request_counts_as_what_it_may_have_cost() -> None:
    session = Session([stop_with(KeyboardInterrupt())], limits=Limits(max_tokens=1_000))

    state = session.run()

    # the prompt written for an hour at 6, 1,000 of output at 15
    assert state.at_risk_usd == (state.prompt_tokens * 6 + 15_000) / Decimal(1_000_000)


def test_a_request_without_an_answer_is_asked_again_and_said_so() -> None:
    session = Session([says("Done.")])
    session.log.append(ModelRequested(turn=1, digest="0", body_bytes=1, max_tokens=10), NOON)

    state = session.run()

    assert state.outcome == "completed"
    assert session.kinds == ["model_requested", "model_failed", "model_requested", "model_replied", "session_ended"]
    assert session.of(ModelFailed)[0].failure.kind == "interrupted"


def test_a_session_that_has_ended_is_left_alone() -> None:
    session = Session(TWO_TURNS)
    session.run()
    before = list(session.log.events())

    session.run()

    assert list(session.log.events()) == before


def test_a_session_resumed_from_any_line_sends_what_it_would_have_sent() -> None:
    answers = [
        calls_tool("c1", "look", n=1),
        reply(tool_use("c2", "look", {"n": 2}), tool_use("c3", "look", {"n": 3})),
        says("D"),
    ]
    whole = Session(answers)
    whole.run()
    lines = list(whole.log.events())

    for kept in range(2, len(lines)):
        replies = sum(isinstance(e.body, ModelReplied) for e in lines[:kept])
        again = Session(answers[replies:])
        again.log = MemoryLog(lines[:kept])

        state = again.run()

        assert state.outcome == "completed"
        assert again.model.bodies == whole.model.bodies[replies:]


def test_a_log_that_cannot_be_written_stops_the_session_before_anything_else_happens() -> None:
    ran: list[int] = []

    @tool
    def pay() -> str:
        """Pay."""
        ran.append(1)
        return "paid"

    class FullDisk(MemoryLog):
        def append(self, body: Body, at: object) -> Event:
            if body.type == "tool_started":
                raise LogWriteFailed("full")
            return super().append(body, at)  # type: ignore[arg-type]

    session = Session([calls_tool("c", "pay"), says("Done.")], pay)
    session.log = FullDisk(session.log.events())

    with pytest.raises(LogWriteFailed):
        session.run()

    assert ran == []


def test_an_observer_is_told_of_each_event_with_the_state_after_it() -> None:
    session = Session(TWO_TURNS)

    session.run()

    assert [e.body.type for e, _ in session.seen] == session.kinds
    assert [s.asked for _, s in session.seen] == [0, 1, 1, 1, 1, 2, 2]


def test_what_was_decided_carries_the_time_at_which_it_was_decided() -> None:
    session = Session([says("Done.")])

    session.run()

    times = [(e.at - NOON) / timedelta(seconds=1) for e in session.log.events()][2:]
    # decided at 0; replied at 1; decided at 2
    assert times == [0, 1, 2]


def test_the_time_of_an_answer_is_measured() -> None:
    session = Session([])
    session.clock.step_s = 0

    def answer(body: bytes) -> Reply:
        session.clock.pass_(2.5)
        return says("Done.")

    session.model = ScriptedModel([answer])
    session.run()

    assert session.of(ModelReplied)[0].duration_s == 2.5


def test_no_blank_block_is_ever_sent() -> None:
    session = Session([reply(text(" ")), says("Done.")])

    session.run()

    texts = [b["text"] for body in session.sent for m in body["messages"] for b in m["content"]]
    assert all(t.strip() for t in texts)


def test_facts_are_made_once_and_stay_as_they_were_sent() -> None:
    settings = PolicySettings(compaction=Never(), facts=HeadTailMatches(over_tokens=50))

    @tool(effect="read")
    def dump(n: int) -> str:
        """Dump."""
        return "\n".join(f"{n} line {k} of many" for k in range(200))

    session = Session([*(calls_tool(f"c{n}", "dump", n=n) for n in range(3)), says("Done.")], dump, settings=settings)
    session.run()

    def without_marks(body: Json) -> Iterator[str]:
        for message in body["messages"]:
            for block in message["content"]:
                yield json.dumps({k: v for k, v in block.items() if k != "cache_control"})

    views = [list(without_marks(b)) for b in session.sent]
    for earlier, later in pairwise(views):
        assert later[: len(earlier)] == earlier
