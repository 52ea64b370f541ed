from decimal import Decimal

import pytest

from agentloop.adapters.memory import MemoryBlobs
from agentloop.core import view
from agentloop.core.calibration import Calibration
from agentloop.core.folding import fold
from agentloop.plan import Asked, Forecast, Past, forecast
from agentloop.plan.past import GO_ON, Besides, past
from agentloop.plan.sizes import Sizes, learned
from agentloop.policies import ModelLedger, PolicySettings
from agentloop.testing import card, events, given, reply, started
from agentloop.types import blocks
from agentloop.types.blocks import Block, text, tool_use
from agentloop.types.limits import Limits
from tests.property.recordings import SYSTEM, steady
from tests.unit.lines import answered, asked, failed, finished, used

NOTHING = Calibration()


def start(**limits: object) -> Asked:
    return Asked(started(system=SYSTEM, limits=Limits.model_validate(limits)), PolicySettings())


def known(turns: int = 4, output: int = 100) -> Past:
    return Past("s", steady(turns), (output,) * turns, (10.0,) * (turns - 1), card().tokenizer)


def plan(what: Asked, *sessions: Past) -> Forecast:
    return forecast(what, sessions, NOTHING)


def test_without_past_sessions_it_says_so_and_takes_the_usual_ones() -> None:
    found = plan(start())

    assert (found.basis, found.sessions) == ("defaults", ())
    assert (found.turns.low, found.turns.expected, found.turns.high) == (8, 25, 100)
    assert any("no past sessions of 'test' here" in note for note in found.notes)


def test_no_run_is_longer_than_its_limit() -> None:
    found = plan(start(max_turns=10))

    assert found.turns.high == 10


def test_turns_beyond_the_limit_are_said_to_be_cut_off() -> None:
    found = plan(start(max_turns=10)._replace(turns=50), known())

    assert found.turns.expected == 10
    assert any("50 turns were asked for, and max_turns is 10" in w for w in found.warnings)


def test_a_budget_below_the_low_end_is_a_warning_that_names_both() -> None:
    found = plan(start(max_budget_usd=Decimal("0.00001")), known())

    (warning,) = found.warnings
    assert "budget of 0.00001 USD" in warning
    assert f"{found.cost_usd.low:.4f} USD" in warning


def test_a_budget_that_may_not_last_is_said_too() -> None:
    low, high = (getattr(plan(start(), known()).cost_usd, end) for end in ("low", "high"))

    (warning,) = plan(start(max_budget_usd=(low + high) / 2), known()).warnings

    assert "it may not last" in warning


def test_a_budget_that_is_enough_needs_no_words() -> None:
    assert plan(start(max_budget_usd=Decimal(100)), known()).warnings == ()


def test_a_longer_task_makes_the_run_dearer() -> None:
    short, long = (plan(start()._replace(task=task), known()).cost_usd.expected for task in ("Go.", "Go on. " * 2_000))

    assert short < long


def test_a_session_that_was_shorter_goes_on_with_results_that_are_new() -> None:
    longer = known(3).of_turns(7)

    ids = [c.id for s in longer.recording.steps for c in blocks.calls(s.reply)]
    texts = [blocks.result_text(longer.recording.results[i]["content"]) for i in ids]
    assert (longer.turns, len(longer.output_tokens), len(longer.gaps_s)) == (7, 7, 6)
    assert len(set(ids)) == len(ids) == len(set(texts)) == 6
    assert not blocks.calls(longer.recording.steps[-1].reply)


def test_however_often_turns_come_again_they_bring_other_digits() -> None:
    longer = known(2).of_turns(60)

    texts = [blocks.result_text(result["content"]) for result in longer.recording.results.values()]
    assert len(set(texts)) == len(texts) >= 59


def test_a_session_that_was_longer_ends_in_words() -> None:
    shorter = known(6).of_turns(2)

    assert shorter.turns == 2
    assert not blocks.calls(shorter.recording.steps[-1].reply)


def test_behind_words_the_user_is_taken_to_say_something() -> None:
    talk = known(1).of_turns(3)

    assert [blocks.text_of(s.told) for s in talk.recording.steps] == ["Go.", GO_ON, GO_ON]


LOG = events(
    started(system=SYSTEM),
    given("task"),
    asked(),
    failed("unavailable", retry_in_s=1.0, usage=used(500)),
    answered(reply(text("I look."), tool_use("c0", "look", {}), usage=used(written=1_000, output=70))),
    finished("c0", "found " * 300),
    asked(2, "summary"),
    answered(reply(text("state"), usage=used(read=1_000, output=30)), 2, "summary"),
    asked(2),
    answered(reply(text("Done."), usage=used(read=1_000, output=20)), 2),
)


def test_a_log_tells_what_was_said_and_what_was_paid_besides() -> None:
    found = past(LOG, MemoryBlobs())

    assert found is not None
    assert (found.turns, found.output_tokens) == (2, (70, 20))
    assert found.besides == (
        Besides(used(500), None, summary=False),
        Besides(used(read=1_000, output=30), None, summary=True),
    )


def test_pings_of_a_past_session_are_not_paid_since_its_waits_are_played_cold() -> None:
    pinged = events(*(e.body for e in LOG[:6]), asked(1, "keepalive"), answered(reply(usage=used(read=1_000)), 1, "keepalive"),
                    *(e.body for e in LOG[8:]))  # fmt: skip

    found = past(pinged, MemoryBlobs())

    assert found is not None
    assert (found.pings, found.besides) == (1, (Besides(used(500), None, summary=False),))
    assert plan(start(), found).cost_usd == plan(start(), found._replace(pings=0)).cost_usd
    assert any("played without the ping that kept its cache warm" in note for note in plan(start(), found).notes)


def test_a_session_without_an_answer_tells_nothing() -> None:
    assert past(events(started(), given("task"), asked()), MemoryBlobs()) is None


def test_what_was_asked_besides_is_paid_again_the_state_only_where_a_model_writes_it() -> None:
    extra = (Besides(used(1_000), None, summary=False), Besides(used(2_000), None, summary=True))
    bare, more = plan(start(), known()), plan(start(), known()._replace(besides=extra))
    by_model = PolicySettings(ledger=ModelLedger())
    told = plan(start()._replace(policies=by_model), known()._replace(besides=extra))

    assert more.cost_usd.expected - bare.cost_usd.expected == Decimal("0.003")
    assert told.cost_usd.expected - bare.cost_usd.expected == Decimal("0.009")
    assert more.never_usd == bare.never_usd


def test_output_is_counted_anew_for_another_tokenizer() -> None:
    older = card(tokenizer="claude-3-to-4.6")
    here = plan(start(), known(output=10_000)).cost_usd.expected
    there = plan(Asked(started(system=SYSTEM, model=older), PolicySettings()), known(output=10_000)).cost_usd.expected

    assert there < here * Decimal("0.8")


@pytest.mark.parametrize("ratio", [0.8, 1.4])
def test_recorded_usage_teaches_how_far_the_estimates_are_off(ratio: float) -> None:
    before = fold(LOG[:4])
    counted = answered(reply(text("I look."), usage=used(round(before.prompt_tokens * ratio))))
    again = [*LOG[:4], LOG[4].model_copy(update={"body": counted})]

    found = learned(again, NOTHING)

    factor = Sizes(before.prefix, before.card).factor(view.messages(before), found)
    assert found.samples == 1
    assert factor == pytest.approx(ratio, abs=0.05)


def test_a_reply_of_another_model_teaches_nothing() -> None:
    fallen_back = reply(text("I look."), usage=used(1_000)).model_copy(update={"priced_by": card(id="other")})

    assert learned([*LOG[:4], LOG[4].model_copy(update={"body": answered(fallen_back)})], NOTHING) == NOTHING


def test_whole_results_that_are_gone_are_a_note() -> None:
    there = known()
    gone = there._replace(recording=there.recording._replace(left_out=("3 whole results that are not in blobs/ any more",)))

    assert any("'s' is played without 3 whole results" in note for note in plan(start(), gone).notes)
    assert not any("played without" in note for note in plan(start(), there).notes)


def test_web_searches_are_paid_for_again_and_by_everybody() -> None:
    there = known()
    found: Block = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    failed_one: Block = {**found, "content": {"type": "web_search_tool_result_error", "error_code": "unavailable"}}
    first, *rest = there.recording.steps

    def forecast_of(*searches: Block) -> Forecast:
        steps = (first._replace(reply=(*first.reply, *searches)), *rest)
        return plan(start(), there._replace(recording=there.recording._replace(steps=steps)))

    two, none = forecast_of(found, found), forecast_of(failed_one, failed_one)

    for kind in ("cost_usd", "never_usd", "naive_usd"):
        fees = getattr(two, kind).expected - getattr(none, kind).expected
        assert Decimal("0.019") < fees < Decimal("0.021")
