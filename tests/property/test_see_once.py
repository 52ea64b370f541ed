"""A result that is seen once: whole in the request that follows it, its facts ever after, and never a cache write too many."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.model_table import models
from agentloop.core.prefix import divergence
from agentloop.explain import explain
from agentloop.importers.recording import Recording
from agentloop.policies import Never, PolicySettings, preset
from agentloop.recorded import Gaps, seen_once
from agentloop.reenact import reenact
from agentloop.replay import replay
from agentloop.testing import card
from agentloop.types.blocks import Block
from agentloop.types.events import ModelFailed, ModelRequested
from agentloop.whatif.driver import play as played_offline
from agentloop.whatif.grid import Choice
from tests.property.histories import SEEN_ONCE, CallSpec, Scenario, Step, play, scenarios
from tests.property.recordings import GAPS, pictured, recordings, steady, thinking
from tests.property.test_cuts_and_resume import assert_the_same, repeatable, taken_up, thousandths

MODELS = models()
few = settings(max_examples=max(5, settings().max_examples // 5), deadline=None)

_calls = st.tuples(
    st.sampled_from(("glance_at", "glance_at", "look_up", "read_page")),
    st.sampled_from(("lines", "lines", "data", "one_line", "error")),
    st.sampled_from((1, 20, 60, 150)),
).map(lambda drawn: CallSpec(*drawn))
_steps = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(("tools",) * 8 + ("empty", "truncated", "pause", "text")),
        "calls": st.lists(_calls, min_size=1, max_size=4).map(tuple),
        "before": st.sampled_from(((), ("text",), ("thinking",), ("thinking", "text", "thinking"))),
        "retries": st.sampled_from(((), (), ("unavailable",), ("billed", "unavailable"))),
        "summary": st.sampled_from(("short", "fails")),
    }
).map(lambda drawn: Step(**drawn))
glances = scenarios(scripts=st.lists(_steps, min_size=2, max_size=14), interrupts=st.none())


@given(glances)
def test_a_whole_stands_only_in_the_last_message_until_a_reply_to_it_stands(scenario: Scenario) -> None:
    played = play(scenario)
    answered: set[str] = set()

    for requested, state, body in played.requests():
        messages = json.loads(body)["messages"]
        answered |= {b["tool_use_id"] for t in state.turns for b in t.given if b["type"] == "tool_result"}
        wholes = [b for m in messages for b in m["content"] if _is_whole(b)]
        assert wholes == [b for b in messages[-1]["content"] if _is_whole(b)]
        assert answered.isdisjoint(b["tool_use_id"] for b in wholes)
        assert not wholes or requested.purpose == "turn"


@given(glances)
def test_between_two_cuts_each_request_extends_the_last_up_to_what_was_seen_once(scenario: Scenario) -> None:
    assert replay(play(scenario).events, scenario.policies.policies()).same


@given(glances)
def test_no_cache_entry_is_asked_for_on_or_behind_what_is_seen_once(scenario: Scenario) -> None:
    for _, _, body in play(scenario).requests():
        flat = [b for m in json.loads(body)["messages"] for b in m["content"]]
        first = next((i for i, b in enumerate(flat) if _is_whole(b)), len(flat))

        assert all("cache_control" not in b for b in flat[first:])
        assert sum("cache_control" in b for b in flat) <= 4


@given(glances, thousandths)
def test_a_session_cut_at_any_line_shows_the_same_wholes_again(scenario: Scenario, places: list[int]) -> None:
    whole = play(repeatable(scenario))

    for place in places:
        cut = len(whole.events) * place // 1_001
        assert_the_same(whole, taken_up(whole, cut), cut)


@given(glances)
def test_where_thinking_is_checked_nothing_is_seen_once(scenario: Scenario) -> None:
    checked = play(scenario._replace(card=card(checks_thinking_prefix=True, thinks_by_default=True)))

    assert not any(_is_whole(b) for body in checked.bodies for m in json.loads(body)["messages"] for b in m["content"])


def test_a_retry_sends_the_same_bytes() -> None:
    calls = (CallSpec("glance_at", "lines", 150),)
    never = PolicySettings(compaction=Never())
    steps = (Step("tools", calls), Step("text", retries=("billed", "unavailable")))
    whole = play(Scenario(card(), never, steps))
    asked = max(e.seq for e in whole.events if isinstance(e.body, ModelRequested))

    again = taken_up(whole, asked + 1)

    assert any(isinstance(e.body, ModelFailed) and e.body.failure.kind == "interrupted" for e in again.events)
    assert again.bodies == (whole.bodies[-1],)
    assert SEEN_ONCE.encode() in again.bodies[0]


@few
@given(
    recordings(),
    GAPS,
    st.sampled_from(["never", "keep_pairs", "rent"]),
    st.sampled_from(["claude-sonnet-4-6", "claude-haiku-4-5"]),
)
def test_the_bill_is_as_predicted_to_the_last_digit(recording: Recording, gaps: Gaps, policy: str, model: str) -> None:
    _assert_predicted(recording, gaps, policy, model, over_http=False)


@pytest.mark.parametrize("policy", ["never", "keep_pairs", "rent"])
def test_the_bill_over_http_is_as_predicted_to_the_last_digit(policy: str) -> None:
    log = _assert_predicted(steady(26, 60), (10.0, 10.0, 400.0), policy, "claude-sonnet-4-6", over_http=True)

    events = list(log.events())
    seen = [trim for turn in explain(events) for trim in turn.trims if trim.once_usd]
    assert len(seen) > 15
    assert replay(events, preset(policy).policies()).same


@pytest.mark.parametrize(
    "made", [thinking(steady(24, 60), seen=True), pictured(steady(24, 60), "toolu_9_0")], ids=["thinking", "image"]
)
def test_thinking_that_nobody_checks_may_stand_behind_what_was_seen_once(made: Recording) -> None:
    _assert_predicted(made, 10.0, "never", "claude-sonnet-4-6", over_http=False)


def _assert_predicted(recording: Recording, gaps: Gaps, policy: str, model: str, over_http: bool) -> MemoryLog:
    shown, policies, log = seen_once(recording), preset(policy), MemoryLog()
    offline = played_offline(shown, MODELS[model].card, policies.policies(), gaps)

    engine = reenact(
        shown, log, MemoryBlobs(), session_id="same", model=model, models=MODELS, policies=policies, gap_s=gaps,
        over_http=over_http,
    )  # fmt: skip

    assert (offline.cost_usd, offline.state.usage) == (engine.spent_usd, engine.usage)
    assert not any(isinstance(e.body, ModelFailed) for e in log.events())
    return log


def test_on_warm_turns_everything_before_a_whole_is_read_and_nothing_is_written_twice() -> None:
    played = played_offline(seen_once(steady(12, 60)), card(), preset("never").policies(), 10.0)

    for before, after in pairwise(played.turns):
        written = before.usage.cache_read_input_tokens + before.usage.ephemeral_5m_input_tokens
        assert after.usage.cache_read_input_tokens == written
        assert divergence(before.request, after.request) is None
    assert any(t.request.once for t in played.turns)
    assert all(bool(t.usage.input_tokens) == bool(t.request.once) for t in played.turns)


def test_seeing_once_costs_less_than_keeping_and_more_than_facts() -> None:
    recording = steady(40, 60)
    facts, whole = Choice("never", True), Choice("never", False)

    bills = [
        played_offline(r, card(), c.settings().policies(), 10.0).cost_usd
        for r, c in ((recording, facts), (seen_once(recording), facts), (recording, whole))
    ]

    assert bills == sorted(set(bills))


def _is_whole(block: Block) -> bool:
    return block["type"] == "tool_result" and SEEN_ONCE in str(block["content"])
