"""Facts that a cheap model makes: paid to the last digit, shown as they were written down, never asked for twice."""

import json
import re
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from agentloop.core import costs
from agentloop.policies import HeadTailMatches
from agentloop.replay import replay
from agentloop.report import report
from agentloop.testing import card
from agentloop.types.events import ModelFailed, ModelReplied, ModelRequested, ResultExtracted, SessionEnded, ToolFinished
from agentloop.types.usage import Prices
from tests.property.histories import Scenario, play, scenarios
from tests.property.test_cuts_and_resume import assert_the_same, known_calls, repeatable, taken_up

CHEAP = card(
    id="claude-cheap",
    prices=(Prices(input="0.1", cache_write_5m="0.125", cache_write_1h="0.2", cache_read="0.01", output="0.5"),),
)
FACTS = HeadTailMatches(over_tokens=50, head_lines=2, tail_lines=1, matches=2)


def asking(scenario: Scenario) -> Scenario:
    """The session with a cheap model for its large results."""
    return scenario._replace(facts_card=CHEAP, policies=scenario.policies.model_copy(update={"facts": FACTS}))


sessions = scenarios(interrupts=st.none()).map(asking)
steady = scenarios(scripts=known_calls, interrupts=st.none()).map(asking)


@given(sessions)
def test_each_result_is_asked_about_at_most_once_and_answered_for(scenario: Scenario) -> None:
    played = play(scenario)
    asked = [(r.turn, r.call_id) for r, _, _ in played.requests() if r.purpose == "extraction"]
    settled = [(e.body.turn, e.body.call_id) for e in played.events if isinstance(e.body, ResultExtracted)]
    cut = {(e.body.turn, e.body.call_id) for e in played.events if isinstance(e.body, ToolFinished) and _is_asked_about(e.body)}

    assert len(set(asked)) == len(asked)
    assert set(asked) <= set(settled)
    assert sorted(set(settled)) == sorted(settled)
    assert set(settled) <= cut
    assert isinstance(played.events[-1].body, SessionEnded)


@given(sessions)
def test_the_model_sees_what_was_written_down(scenario: Scenario) -> None:
    played = play(scenario)
    shown: dict[str, object] = {}
    wholes: dict[str, object] = {}
    bodies = iter(played.bodies)
    for event in played.events:
        match event.body:
            case ToolFinished(call_id=call_id, content=content, once=once):
                shown[call_id], wholes[call_id] = content, once
            case ResultExtracted(call_id=call_id, content=str(content)):
                shown[call_id] = content
            case ModelRequested(purpose=purpose):
                body = json.loads(next(bodies))
                if purpose == "turn":
                    for block in body["messages"][-1]["content"]:
                        if block["type"] == "tool_result":
                            assert block["content"] in (shown[block["tool_use_id"]], wholes[block["tool_use_id"]])
            case _:
                pass


@given(sessions)
def test_every_value_of_the_facts_stands_in_the_result(scenario: Scenario) -> None:
    played = play(scenario)
    raws = {e.body.call_id: e.body.raw for e in played.events if isinstance(e.body, ToolFinished)}

    for event in played.events:
        if isinstance(event.body, ResultExtracted) and event.body.content is not None:
            raw = raws[event.body.call_id]
            assert raw is not None
            whole = played.world.blobs.find(raw.digest)
            assert whole is not None
            facts = event.body.content.rpartition("\n")[0]
            assert _words(facts) <= _words(whole.decode())
            assert "R-9999" not in facts
            assert len(event.body.content) < len(whole)


@given(sessions)
def test_extractions_are_billed_at_the_prices_of_the_model_that_made_them(scenario: Scenario) -> None:
    played = play(scenario)
    sums = {"turn": Decimal(0), "summary": Decimal(0), "extraction": Decimal(0)}
    for event, before, _ in played.states():
        match event.body:
            case ModelReplied(purpose=purpose, reply=reply):
                known = CHEAP if purpose == "extraction" else reply.priced_by or before.card
                sums[purpose] += costs.cost(reply.usage, known)
            case ModelFailed(purpose=purpose, failure=failure) if failure.usage is not None:
                sums[purpose] += costs.cost(failure.usage, CHEAP if purpose == "extraction" else before.card)
            case _:
                pass
    bill = report(played.events)

    assert bill.cost_usd == sum(sums.values())
    assert sum(bill.cost_by_kind[k] for k in bill.cost_by_kind if k != "total") == bill.cost_usd
    assert sum((a.cost_usd for a in bill.cost_by_turn if a.purpose == "extraction"), Decimal(0)) == sums["extraction"]


@given(sessions)
def test_replay_decides_the_same(scenario: Scenario) -> None:
    played = play(scenario)

    found = replay(played.events, played.policies)

    assert found.difference is None
    assert found.divergence is None


@given(steady, st.lists(st.integers(0, 1_000), min_size=3, max_size=3))
def test_a_session_cut_at_any_line_ends_with_the_same_log(scenario: Scenario, places: list[int]) -> None:
    whole = play(repeatable(scenario))

    for place in places:
        cut = len(whole.events) * place // 1_001
        assert_the_same(whole, taken_up(whole, cut), cut)


def _words(text: str) -> set[str]:
    return {w for w in re.findall(r"\w+", text) if any(map(str.isdigit, w))}


def _is_asked_about(finished: ToolFinished) -> bool:
    return finished.raw is not None and finished.name in ("look_up", "put_row")
