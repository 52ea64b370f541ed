from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given as over
from hypothesis import strategies as st

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.model_table import models
from agentloop.carried import chosen, portions
from agentloop.core.state import Found
from agentloop.explain import TurnExplained, explain
from agentloop.importers.recording import Recording
from agentloop.policies import FourMarks, PolicySettings
from agentloop.reenact import reenact
from agentloop.testing import NOON, calls_tool, card, given, reply, says, started
from agentloop.trimmed import trimmed
from agentloop.types.blocks import text
from agentloop.types.events import Compacted, Decision, Event, ModelRequested, RawResult, ResultExtracted
from agentloop.types.past import PastSession, Prior
from agentloop.types.request import Breakpoint
from agentloop.types.tools import FactsSettings, ToolCard
from agentloop.types.usage import Usage
from tests.property.recordings import SYSTEM, recordings
from tests.unit.lines import after, answered, asked, failed, finished, unit_card, used, words

CHEAP = unit_card(id="cheap")
DIGEST = "ab12" * 16
RAW = RawResult(digest=DIGEST, bytes=40_000, tokens=10_000, extractor="by_kind", left_out="300 lines")
LOOKS = ToolCard(name="look", facts_settings=FactsSettings(model="cheap"), facts_card=CHEAP)


def session(*lines: object, cards: tuple[ToolCard, ...] = ()) -> list[Event]:
    """A log whose lines are a second apart; a number lets so many seconds pass first."""
    at, found = NOON, list[Event]()
    for line in [started(system=words(994), tool_cards=cards), given("task"), *lines]:
        if isinstance(line, int):
            at += timedelta(seconds=line)
        else:
            found.append(Event.model_validate({"seq": len(found), "at": at, "body": line}))
            at += timedelta(seconds=1)
    return found


def call(call_id: str, turn: int = 1, name: str = "look", usage: Usage | None = None, **arguments: object) -> list[object]:
    said = calls_tool(call_id, name, **arguments).model_copy(update={"usage": usage or used(written=1_000, output=10)})
    return [asked(turn), answered(said, turn)]


def done(turn: int, usage: Usage | None = None) -> list[object]:
    return [asked(turn), answered(says("Done.").model_copy(update={"usage": usage or used(read=1_000)}), turn)]


def shown(call_id: str, content: str = "facts", name: str = "look") -> object:
    return finished(call_id, content, name, raw=RAW)


def question(call_id: str) -> ModelRequested:
    return ModelRequested(
        turn=1, purpose="extraction", digest="0", body_bytes=9, max_tokens=100, call_id=call_id, asked_of=CHEAP
    )


def told(words_: str = "facts of a model") -> object:
    made = reply(text(words_), usage=used(1_000, output=100)).model_copy(update={"priced_by": CHEAP})
    return answered(made, 1, "extraction")


def first(found: list[TurnExplained]) -> TurnExplained:
    return found[0]


def test_facts_of_a_model_are_told_with_what_they_cost() -> None:
    lines = [*call("c0"), shown("c0"), question("c0"), told(), ResultExtracted(turn=1, call_id="c0", content="short"), *done(2)]

    (trim,) = first(explain(session(*lines, cards=(LOOKS,)))).trims

    assert (trim.made_by, trim.asked_usd, trim.why_not) == ("cheap", Decimal("0.0015"), "")
    assert trim.shown_tokens < 5


def test_where_a_model_failed_it_is_said_why_the_other_facts_stand() -> None:
    why = ResultExtracted(turn=1, call_id="c0", detail="the model does not answer")
    broken = failed("unavailable", "extraction", usage=used(500))

    (trim,) = first(explain(session(*call("c0"), shown("c0"), question("c0"), broken, why, *done(2), cards=(LOOKS,)))).trims

    assert (trim.made_by, trim.asked_usd, trim.why_not) == ("by_kind", Decimal("0.0005"), "the model does not answer")


def test_what_was_asked_around_a_turn_is_told_beside_it() -> None:
    lines = [*call("c0"), shown("c0"), question("c0"), told(), ResultExtracted(turn=1, call_id="c0", content="short"), *done(2)]

    one, two = explain(session(*lines, cards=(LOOKS,)))

    assert [a.cause for a in one.besides] == ["extraction"]
    assert two.besides == ()


def test_recalls_of_a_trimmed_result_are_what_the_trim_cost() -> None:
    lines = [
        *call("c0"), shown("c0"),
        *call("c1", 2, "recall", used(read=1_000, output=20), handle=DIGEST[:12]), finished("c1", "lines", "recall"),
        *done(3),
    ]  # fmt: skip

    (trim,) = first(explain(session(*lines))).trims

    assert (trim.recalls, trim.recalls_usd) == (1, Decimal("0.0006"))


def test_of_a_result_that_came_twice_a_recall_counts_once() -> None:
    lines = [*call("c0"), shown("c0"), *call("c1", 2), shown("c1"), *call("c2", 3, "recall", handle=DIGEST[:12]),
             finished("c2", "lines", "recall"), *done(4)]  # fmt: skip

    found = trimmed(session(*lines))

    assert [one.recalls for of_turn in found.values() for one in of_turn] == [0, 1]


def test_a_recall_beside_other_calls_costs_no_turn_of_its_own_and_another_handle_counts_for_nothing() -> None:
    both = reply(
        *calls_tool("c1", "recall", handle=DIGEST[:12]).content, *calls_tool("c2", "look").content, usage=used(read=1_000)
    )
    lines = [*call("c0"), shown("c0"), asked(2), answered(both, 2), finished("c1"), finished("c2"),
             *call("c3", 3, "recall", handle="ffffffffffff"), finished("c3"), *done(4)]  # fmt: skip

    (one,) = trimmed(session(*lines))[1]

    assert (one.recalls, one.recalls_usd) == (1, Decimal(0))


def test_a_cut_tells_who_wrote_the_state_and_what_asking_cost() -> None:
    state = asked(3, "summary"), answered(reply(text("state"), usage=used(read=1_000, output=100)), 3, "summary")
    compacted = Compacted(
        keep_from=1,
        segment="state",
        written_by="model",
        decision=Decision(keep_from=1, reason="the rent was due", price_usd=Decimal("0.01")),
    )
    lines = [*call("c0"), finished("c0", words(500)), *call("c1", 2), finished("c1"), *state, compacted, *done(3), *done(4)]

    third = explain(session(*lines))[2]

    assert third.cut is not None
    assert (third.cut.written_by, third.cut.asked_usd, third.cut.price_usd) == ("model", Decimal("0.0018"), Decimal("0.01"))
    assert third.cut.saved_usd == (third.cut.removed_tokens - third.cut.segment_tokens) * Decimal("0.3") / 1_000_000
    assert [a.cause for a in third.besides] == ["summary"]
    assert third.broken is not None


def test_a_prompt_is_told_part_by_part() -> None:
    lines = [*call("c0"), finished("c0", words(1_000)), *done(2, used(read=1_000, written=1_030))]

    second = explain(session(*lines))[1]

    parts = {p.part: p for p in second.portions}
    assert list(parts) == ["tools and system", "task", "new"]
    assert parts["tools and system"].read > 990
    assert parts["new"].written == parts["new"].tokens > 1_000
    assert parts["new"].read == parts["new"].fresh == 0


@over(recordings(at_most=10), st.sampled_from(["auto", "1h", "5m", "off"]))
def test_the_parts_of_a_prompt_add_up_to_its_usage(made: Recording, ttl: str) -> None:
    caching = FourMarks.model_validate({"static_ttl": ttl, "state_ttl": ttl, "tail_ttl": ttl})
    log = MemoryLog()
    reenact(made, log, MemoryBlobs(), session_id="s", model="claude-sonnet-5-5", models=models(),
            policies=PolicySettings(caching=caching))  # fmt: skip

    for turn in explain(list(log.events())):
        u = turn.usage
        assert sum(p.read for p in turn.portions) == u.cache_read_input_tokens
        assert sum(p.written for p in turn.portions) == u.ephemeral_5m_input_tokens + u.ephemeral_1h_input_tokens
        assert sum(p.fresh for p in turn.portions) == u.input_tokens
        assert all(p.tokens == p.read + p.written + p.fresh for p in turn.portions)
        if ttl in ("1h", "5m"):
            assert {life.ttl for life in turn.lifetimes if made.system or life.part != "tools and system"} == {ttl}
        elif ttl == "off":
            assert {life.ttl for life in turn.lifetimes} == {"off"}


STATE = after(started(system=SYSTEM), given("task"))


def why(
    gaps: tuple[float, ...], *marks: Breakpoint, policies: PolicySettings | None = None, **known: object
) -> list[tuple[str, str]]:
    """What is said of lifetimes; `known` when the session started: `prior`, `expected_gap_s`."""
    state = after(started(system=SYSTEM, policies=policies).model_copy(update=known), given("task"))
    object.__setattr__(state, "gaps", gaps)
    return [(life.ttl, life.why) for life in chosen(state, marks, alone=False)]


MARKS = (Breakpoint(-1, 0, "1h"), Breakpoint(0, 0, "1h"), Breakpoint(4, 1, "5m"))


def test_a_lifetime_is_told_with_the_gaps_that_it_was_chosen_from() -> None:
    found = why((10.0, 20.0, 400.0, 5_000.0), *MARKS)

    assert [ttl for ttl, _ in found] == ["1h", "1h", "5m"]
    assert found[2][1] == "2 of 4 gaps within 5m, 3 of 4 gaps within 1h"


@pytest.mark.parametrize(
    ("edition", "said"), [(3, "no gap seen yet; the cache finds 80% of what it should"), (2, "no gap seen yet")]
)
def test_a_cache_that_does_not_find_all_is_told_where_it_counts(edition: int, said: str) -> None:
    policies = PolicySettings(caching=FourMarks.model_validate({"edition": edition}))
    state = after(started(system=SYSTEM, policies=policies), given("task"))
    object.__setattr__(state, "found", Found(10, Decimal(6)))

    assert chosen(state, MARKS, alone=False)[2].why == said


@pytest.mark.parametrize(("gaps", "said"), [((), "no gap seen yet"), ((10.0,), "1 gap seen so far")])
def test_few_gaps_tell_nothing_in_shares(gaps: tuple[float, ...], said: str) -> None:
    assert why(gaps, *MARKS)[0][1] == said


LONG = PastSession(gaps=10, within_5m=1, within_1h=10)


def test_gaps_that_were_announced_are_not_told_as_seen() -> None:
    assert why((), *MARKS, expected_gap_s=420.0)[2][1] == "gaps of 420 s were announced; no gap seen yet"


def test_gaps_of_past_sessions_are_told_apart_from_those_seen_for_as_long_as_they_count() -> None:
    known = Prior(sessions=(LONG, LONG))

    assert why((10.0,), *MARKS, prior=known)[2][1] == "in 2 past sessions 10% within 5m, 100% within 1h; 1 gap seen so far"
    assert why((10.0,) * 2, *MARKS, prior=known)[2][1] == "2 gaps seen so far"


def test_who_shares_tools_and_system_is_told_of_them_only() -> None:
    static, state, tail = (said for _, said in why((), *MARKS, prior=Prior(starts_s=(60.0, 1_200.0, 90_000.0))))
    announced = why((), *MARKS, prior=Prior(next_start_s=1_200.0))[0][1]

    assert static == "sessions with this prefix follow each other: 1 of 3 within 5m, 2 of 3 within 1h; no gap seen yet"
    assert state == tail == "no gap seen yet"
    assert announced == "the next session was announced within 1,200 s; no gap seen yet"


def test_a_trim_saves_only_until_its_turn_leaves_the_view() -> None:
    def saved(*between: object) -> Decimal:
        pairs = [line for i in range(1, 4) for line in (*call(f"c{i}", i + 1), finished(f"c{i}"))]
        (trim,) = first(explain(session(*call("c0"), shown("c0"), *pairs, *between, *done(5)))).trims
        return trim.saved_usd

    spared = saved() - saved(Compacted(keep_from=1, segment="state"))

    assert saved(Compacted(keep_from=0, segment="state")) == saved()
    assert spared == Decimal(10_000 - 2) * Decimal("0.3") / 1_000_000


def test_a_lifetime_that_was_set_is_told_as_that() -> None:
    policies = PolicySettings(caching=FourMarks(static_ttl="1h"))

    assert why((), *MARKS, policies=policies)[0] == ("1h", "static_ttl is set to 1h")


def test_an_end_without_a_breakpoint_was_not_written() -> None:
    assert [ttl for ttl, _ in why((4_000.0,) * 5, Breakpoint(-1, 0, "5m"), Breakpoint(0, 0, "5m"))] == ["5m", "5m", "off"]


def test_a_prompt_that_nobody_counted_has_no_parts() -> None:
    assert portions(STATE, Usage()) == ()


def test_what_stands_behind_a_session_without_limits_is_of_its_card() -> None:
    free = card(id="free", prices=CHEAP.prices)
    lines = [*call("c0"), finished("c0"), asked(2)]
    last = answered(says("Done.").model_copy(update={"usage": used(1_000), "priced_by": free}), 2)

    assert explain(session(*lines, last))[1].cost_by_kind["fresh"] == Decimal("0.001")


def test_of_a_cold_turn_it_is_told_how_long_the_last_request_was_to_be_kept() -> None:
    tail = asked().model_copy(update={"breakpoints": (Breakpoint(0, 0, "1h"),)})
    said = answered(calls_tool("c0", "look").model_copy(update={"usage": used(hour=1_000)}))

    turn = explain(session(tail, said, finished("c0"), 3_700, *done(2, used(hour=1_000))))[1]

    assert (turn.cause, turn.kept_s, turn.gap_s) == ("cold", 3_600, 3_703)


def test_behind_a_cut_the_kept_turns_are_not_new() -> None:
    pairs = [line for i in range(3) for line in (*call(f"c{i}", i + 1), finished(f"c{i}", words(300 * (i + 1))))]
    lines = [*pairs, Compacted(keep_from=1, segment="state"), *done(4, used(read=1_000, written=1_600))]

    parts = {p.part: p for p in explain(session(*lines))[3].portions}

    assert list(parts) == ["tools and system", "task", "session state", "turns", "new"]
    assert 900 < explain(session(*lines))[3].carried.new < 1_000
    assert 600 < parts["turns"].written < 700
    assert 900 < parts["new"].written < 1_000
