"""Laws that hold for any session, whatever the model, the tools and the clock do."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from agentloop.adapters.jsonl_log import LOG, Dropped, JsonlLog
from agentloop.core import costs, wire
from agentloop.core.cache import parts_of
from agentloop.core.decide import CallModel, decide
from agentloop.core.folding import fold
from agentloop.core.state import State
from agentloop.errors import EXIT_CODES
from agentloop.policies import EveryTurn, PolicySettings
from agentloop.replay import replay
from agentloop.report import report
from agentloop.testing import card
from agentloop.types.base import Json
from agentloop.types.events import (
    Compacted,
    Event,
    FellBack,
    InputGiven,
    ModelFailed,
    ModelReplied,
    ModelRequested,
    SessionEnded,
    SessionResumed,
    ToolFinished,
    ToolStarted,
)
from agentloop.types.limits import Limits
from agentloop.types.usage import ModelCard, Usage
from tests.property.api_rules import MessagesApi, Turn, merged, without_mark
from tests.property.histories import (
    CallSpec,
    Played,
    Scenario,
    Step,
    budgets,
    play,
    same_lines,
    scenarios,
    steady_scripts,
    waits,
)

thorough = settings(max_examples=3 * settings().max_examples)

# what the API is sent


@thorough
@given(scenarios())
def test_every_request_is_valid_under_the_documented_rules(scenario: Scenario) -> None:
    """Invariants 1 and 2, and the check of thinking prefixes."""
    played = play(scenario)
    known = scenario.card
    api = MessagesApi(known.id, known.max_output_tokens, known.checks_thinking_prefix)
    bodies = iter(played.bodies)

    for event in played.events:
        match event.body:
            case ModelRequested():
                body = next(bodies)
                api.receive(body)
            case FellBack(to=to):
                api.takes_over(to.card.id, to.card.max_output_tokens, to.card.checks_thinking_prefix)
            case ModelReplied(reply=reply):
                api.answer(body, reply.message_id, reply.content, reply.stop_reason)


@given(scenarios())
def test_the_prefix_never_changes(scenario: Scenario) -> None:
    """Invariant 3; who reads it may change, where a model is not available."""
    played = play(scenario)

    prefixes = {json.dumps(_prefix(json.loads(body))) for body in played.bodies}
    models = [json.loads(body)["model"] for body in played.bodies]

    assert len(prefixes) <= 1
    chain = [c.id for c in (scenario.card, *scenario.fallback)]
    assert models == sorted(models, key=chain.index)
    assert wire.prefix_digest(scenario.start.prefix) == scenario.start.prefix_digest


@given(scenarios())
def test_between_two_compactions_each_request_extends_the_one_before(scenario: Scenario) -> None:
    """Invariants 4 and 15: what was once sent is never edited, but for results that were shown whole this once."""
    played = play(scenario)
    bodies = iter(played.bodies)
    before: list[str] = []

    for event in played.events:
        match event.body:
            case Compacted() | FellBack():
                before = []
            case ModelRequested(purpose=purpose):
                sent = _flat(merged(json.loads(next(bodies))["messages"]))
                assert same_lines(before, sent[: len(before)]), f"seq {event.seq}"
                before = sent if purpose == "turn" else before


@given(scenarios())
def test_state_segments_never_change_after_they_were_sent(scenario: Scenario) -> None:
    """Economics 3: the state message only grows."""
    played = play(scenario)
    segments: list[str] = []
    bodies = iter(played.bodies)

    for event in played.events:
        match event.body:
            case Compacted(segment=segment):
                segments.append(segment)
            case ModelRequested():
                opening = json.loads(next(bodies))["messages"][0]["content"]
                texts = [b["text"] for b in opening]
                assert texts[len(texts) - len(segments) :] == segments


@given(scenarios())
def test_the_task_is_never_dropped(scenario: Scenario) -> None:
    """Invariant 13."""
    played = play(scenario)

    for body in played.bodies:
        assert json.loads(body)["messages"][0]["content"][0]["text"] == scenario.task


@given(scenarios())
def test_what_was_said_before_the_first_reply_is_never_dropped(scenario: Scenario) -> None:
    """A user who had to start again, before anything was answered, said the task in two parts."""
    played = play(scenario)
    said: list[str] = []
    for _, before, after in played.states():
        if not before.turns and after.turns:
            said = [b["text"] for b in after.turns[0].given]
            break

    for _, before, body in played.requests():
        if before.turns or before.keep_from:
            texts = [b["text"] for b in json.loads(body)["messages"][0]["content"]]
            assert texts[: len(said)] == said


# compaction


@given(scenarios())
def test_a_compaction_leaves_the_last_pairs_word_for_word(scenario: Scenario) -> None:
    """Invariant 13: the newest replies, with what answered them, stand behind the state as they stood before."""
    played = play(scenario)
    keep = scenario.policies.compaction.keep_pairs
    shown: list[str] = []
    cut = False
    bodies = iter(played.bodies)

    for event, _, after in played.states():
        match event.body:
            case ModelRequested(purpose="turn"):
                turns = merged(json.loads(next(bodies))["messages"])
                if cut:
                    _assert_a_suffix(_behind_opening(turns), shown, after.card.checks_thinking_prefix)
                    assert keep is not None
                    assert len(after.turns) >= keep
                shown, cut = _flat(turns), False
            case ModelRequested():
                next(bodies)
            case ModelReplied(purpose="turn", reply=reply) if after.sent is not None and not after.sent.given_blocks:
                shown += [_line("assistant", b) for b in reply.content if b.get("text", "said").strip() or b["type"] != "text"]
            case Compacted():
                cut = True


@given(scenarios())
def test_a_compaction_never_parts_a_call_from_its_result(scenario: Scenario) -> None:
    """Invariant 13: every call of the view is answered in the view, and every answer has its call."""
    played = play(scenario)

    for event, _, after in played.states():
        if isinstance(event.body, Compacted):
            calls = [b["id"] for t in after.turns for b in t.reply if b["type"] == "tool_use"]
            answered = [b["tool_use_id"] for t in after.turns[1:] for b in t.given if b["type"] == "tool_result"]
            answered += [b["tool_use_id"] for b in after.given if b["type"] == "tool_result"]
            assert calls == answered


@given(scenarios())
def test_a_compaction_shrinks_the_request(scenario: Scenario) -> None:
    """Invariant 14. `every_turn` is the habit that agentloop is measured against: it cuts whatever comes of it."""
    played = play(scenario)
    habit = isinstance(scenario.policies.compaction, EveryTurn)

    for event, before, after in played.states():
        if isinstance(event.body, Compacted) and not (habit and event.body.decision.reason.startswith("more than")):
            assert after.prompt_tokens < before.prompt_tokens, f"seq {event.seq}"


@given(scenarios())
def test_at_most_two_compactions_come_before_one_reply(scenario: Scenario) -> None:
    """Invariant 14: one by the policy, and one where the API says that the prompt is too long."""
    played = play(scenario)
    row = 0

    for event in played.events:
        row = 0 if isinstance(event.body, ModelReplied | InputGiven) else row + isinstance(event.body, Compacted)
        assert row <= 2


@given(scenarios())
def test_a_paused_session_goes_on(scenario: Scenario) -> None:
    """A pause is not an answer, whatever is decided before the model is asked again."""
    played = play(scenario)
    reason = ""

    for event in played.events:
        match event.body:
            case ModelReplied(purpose="turn", reply=reply):
                reason = reply.stop_reason
            case SessionEnded(outcome="completed"):
                assert reason in ("end_turn", "stop_sequence", "tool_use")


# deciding again


@given(scenarios())
def test_replay_decides_the_same(scenario: Scenario) -> None:
    """Invariants 5 and 6: every decision again, every request with the same digest."""
    played = play(scenario)

    found = replay(played.events, played.policies)

    assert found.difference is None
    assert found.requests == len(played.bodies)


@given(scenarios())
def test_each_recorded_digest_is_that_of_the_bytes_that_were_sent(scenario: Scenario) -> None:
    played = play(scenario)

    for requested, before, body in played.requests():
        assert requested.digest == hashlib.sha256(body).hexdigest()
        assert requested.body_bytes == len(body)
        assert requested.turn == before.asked + 1


@given(scenarios())
def test_replay_fold_and_report_have_no_effects(scenario: Scenario) -> None:
    """Invariant 12."""
    played = play(scenario)
    ran, written = list(played.world.ran), [e.model_dump_json() for e in played.events]

    replay(played.events, played.policies)
    report(played.events)
    fold(played.events)

    assert played.world.ran == ran
    assert [e.model_dump_json() for e in played.events] == written


@given(scenarios())
def test_a_log_read_back_from_its_file_folds_to_the_same_state(scenario: Scenario) -> None:
    """Invariants 7 and 9: events, next request and money are those of the live session."""
    played = play(scenario)
    live = fold(played.events)

    with TemporaryDirectory() as folder:
        _write(Path(folder), played.events)
        read = list(JsonlLog(Path(folder)).events())
    state = fold(read)

    assert read == list(played.events)
    assert [e.seq for e in read] == list(range(len(read)))
    assert _everything(state) == _everything(live)
    for cut in range(2, len(read), 3):
        assert _next(read[:cut], played) == _next(played.events[:cut], played)


@settings(max_examples=max(2, settings().max_examples // 20))
@given(scenarios())
def test_a_fresh_process_decides_the_same_wherever_it_runs(scenario: Scenario) -> None:
    """Invariant 5: whatever the hash seed, the locale, the time zone and the working folder."""
    played = play(scenario)
    here = hashlib.sha256()
    for cut in range(2, len(played.events)):
        here.update(_next(played.events[:cut], played))

    with TemporaryDirectory() as folder:
        _write(Path(folder) / "session", played.events)
        for seed, zone, locale in (("1", "Asia/Kathmandu", "C"), ("2", "America/St_Johns", "tr_TR.UTF-8")):
            there = subprocess.run(
                [sys.executable, "-c", _AGAIN, str(Path(folder) / "session")],
                env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale, "LANG": locale},
                cwd=folder,
                capture_output=True,
                check=True,
                text=True,
            )
            assert there.stdout.strip() == here.hexdigest()


_AGAIN = """
import hashlib, sys
from pathlib import Path
from agentloop.adapters.jsonl_log import JsonlLog
from agentloop.core import wire
from agentloop.core.decide import CallModel, decide
from agentloop.core.folding import fold
from agentloop.policies import PolicySettings

events = list(JsonlLog(Path(sys.argv[1])).events())
policies = PolicySettings.model_validate(events[0].body.policies).policies()
seen = hashlib.sha256()
for cut in range(2, len(events)):
    effect = decide(fold(events[:cut]), policies, events[cut - 1].at)
    seen.update(wire.body(effect.request) if isinstance(effect, CallModel) else repr(effect).encode())
print(seen.hexdigest())
"""


@given(scenarios(), st.data())
def test_a_log_cut_at_any_byte_loads_as_a_prefix_and_says_what_it_dropped(scenario: Scenario, data: st.DataObject) -> None:
    """Invariants 8 and 9."""
    played = play(scenario)

    with TemporaryDirectory() as folder:
        whole = _write(Path(folder), played.events)
        ends = [0, *(i + 1 for i, byte in enumerate(whole) if byte == 10)]
        for thousandths in data.draw(st.lists(st.integers(0, 1_000), min_size=5, max_size=5)):
            size = len(whole) * thousandths // 1_000
            (Path(folder) / LOG).write_bytes(whole[:size])
            dropped: list[Dropped] = []
            read = list(JsonlLog(Path(folder), on_dropped=dropped.append).events())

            lines = sum(end <= size for end in ends) - 1
            assert read == list(played.events[:lines])
            assert [(d.line, d.bytes) for d in dropped] == ([(lines + 1, size - ends[lines])] if size > ends[lines] else [])


# money


@given(scenarios())
def test_the_report_is_the_exact_sum_over_all_attempts(scenario: Scenario) -> None:
    """Invariant 16, computed again with fractions."""
    played = play(scenario)

    bill = report(played.events)

    paid = [cost for e, before, _ in played.states() if (cost := _attempt_cost(e, before.card)) is not None]
    assert Fraction(bill.cost_usd) == sum(paid, Fraction())
    assert Fraction(sum(bill.cost_by_cause.values(), Decimal(0))) == Fraction(bill.cost_usd)
    assert Fraction(bill.cost_by_kind["total"]) == Fraction(bill.cost_usd)
    assert [Fraction(a.cost_usd) for a in bill.cost_by_turn] == paid
    assert bill.attempts == sum(isinstance(e.body, ModelReplied | ModelFailed) for e in played.events)


@given(scenarios())
def test_recorded_spend_never_decreases(scenario: Scenario) -> None:
    """Invariant 18."""
    played = play(scenario)

    for _, before, after in played.states():
        assert after.spent_usd >= before.spent_usd
        assert after.at_risk_usd >= before.at_risk_usd
        assert after.usage.prompt_tokens >= before.usage.prompt_tokens


@given(scenarios(limits=budgets, scripts=steady_scripts))
def test_spend_never_exceeds_the_budget(scenario: Scenario) -> None:
    """Invariant 17, retries and requests for the session state included."""
    played = play(scenario._replace(resumed_limits=None))

    assert scenario.limits.max_budget_usd is not None
    assert report(played.events).cost_usd <= scenario.limits.max_budget_usd


@given(scenarios(limits=budgets, scripts=steady_scripts))
def test_the_worst_case_of_each_request_fits_into_the_rest_of_the_budget(scenario: Scenario) -> None:
    """Invariant 17: what is sent can be paid."""
    played = play(scenario._replace(resumed_limits=None))

    for requested, before, body in played.requests():
        known = scenario.card_of(json.loads(body)["model"])
        size = sum(p.tokens for p in parts_of(json.loads(body), known)[0])
        worst = costs.worst_case(known, size, requested.max_tokens)
        assert scenario.limits.max_budget_usd is not None
        assert before.spent_usd + before.at_risk_usd + worst <= scenario.limits.max_budget_usd


@thorough
@given(scenarios())
def test_the_predicted_prompt_is_that_of_the_theory_of_the_cache(scenario: Scenario) -> None:
    played = play(scenario)

    for requested, before, body in played.requests():
        if requested.purpose == "turn":
            known = scenario.card_of(json.loads(body)["model"])
            assert before.prompt_tokens == sum(p.tokens for p in parts_of(json.loads(body), known)[0])


# effects


@given(scenarios(interrupts=st.none()))
def test_a_call_is_run_at_most_once_and_answered_exactly_once(scenario: Scenario) -> None:
    """Invariants 2 and 10, in a session that nothing interrupts."""
    played = play(scenario)
    started = Counter((e.body.turn, e.body.call_id) for e in played.events if isinstance(e.body, ToolStarted))
    finished = Counter((e.body.turn, e.body.call_id) for e in played.events if isinstance(e.body, ToolFinished))

    assert set(finished.values()) <= {1}
    assert set(started.values()) <= {1}
    assert started.keys() <= finished.keys()
    assert len(played.world.ran) <= started.total()


@given(scenarios())
def test_an_intent_is_on_record_before_its_effect(scenario: Scenario) -> None:
    """Invariant 11, for tools: the log held `tool_started` when the function ran, and not yet its answer."""
    played = play(scenario)

    for ran in played.world.ran:
        told = [e.body for e in played.events[: ran.on_record] if isinstance(e.body, ToolStarted | ToolFinished)]
        of_the_call = [b for b in told if f"random:{b.call_id}" == ran.key]
        assert isinstance(of_the_call[-1], ToolStarted)
        assert of_the_call[-1].idempotency_key == ran.key


@given(scenarios())
def test_what_the_model_sees_of_a_call_is_on_record(scenario: Scenario) -> None:
    """Invariant 11, for results: each result of a request is the recorded one."""
    played = play(scenario)
    recorded: dict[str, Json] = {}
    bodies = iter(played.bodies)

    for event in played.events:
        match event.body:
            case ToolFinished(call_id=call_id) as finished:
                recorded[call_id] = json.loads(finished.model_dump_json())
            case ModelRequested():
                turns = merged(json.loads(next(bodies))["messages"])
                for block in (b for t in turns for b in t.content if b["type"] == "tool_result"):
                    seen = recorded[block["tool_use_id"]]
                    assert block["content"] in (seen["content"], seen["once"])
                    assert block.get("is_error", False) == seen["is_error"]


@given(scenarios())
def test_a_shortened_result_is_shorter_and_can_be_had_whole(scenario: Scenario) -> None:
    played = play(scenario)

    for event in played.events:
        if isinstance(event.body, ToolFinished) and event.body.raw is not None:
            whole = played.world.blobs.find(event.body.raw.digest)
            assert whole is not None
            assert len(whole) == event.body.raw.bytes
            assert len(event.body.content) < len(whole.decode())


# ends


@given(scenarios())
def test_every_run_ends_with_one_documented_outcome(scenario: Scenario) -> None:
    """Invariants 20 and 21."""
    played = play(scenario)
    bodies = [e.body for e in played.events]

    assert isinstance(bodies[-1], SessionEnded)
    for body, following in pairwise(bodies):
        if isinstance(body, SessionEnded):
            assert body.outcome in EXIT_CODES
            assert isinstance(following, SessionResumed if body.outcome != "completed" else InputGiven)
    assert report(played.events).outcome == bodies[-1].outcome


@given(scenarios(limits=st.one_of(budgets, waits, st.just(Limits(max_turns=25)))))
def test_a_model_that_never_stops_is_stopped(scenario: Scenario) -> None:
    """Invariant 20: by turns, money, time, or because it goes round in circles."""
    steps = tuple(s._replace(gap_s=max(s.gap_s, 40.0), usage=None) for s in scenario.steps)
    endless = scenario._replace(steps=steps, endless=True, resumed_limits=None)

    played = play(endless)

    assert isinstance(played.events[-1].body, SessionEnded)


def test_the_same_call_with_the_same_result_is_stopped_without_any_limit() -> None:
    step = Step("tools", (CallSpec("look_up", "lines", rows=20),), before=("text",))
    circle = Scenario(card(), PolicySettings(), (step,), endless=True)

    ended = play(circle).events[-1].body

    assert isinstance(ended, SessionEnded)
    assert ended.outcome == "failed"


# helpers


def _prefix(request: Json) -> list[Json]:
    """What must stay as it is: everything before the messages, and what changes how they are read."""
    kept = {k: v for k, v in request.items() if k in ("thinking", "output_config", "tool_choice")}
    return [kept, *map(without_mark, request.get("system") or []), *map(without_mark, request.get("tools") or [])]


def _behind_opening(turns: Sequence[Turn]) -> list[str]:
    """Everything behind the first user message, which holds task and session state."""
    return _flat(turns[1:])


def _flat(turns: Sequence[Turn]) -> list[str]:
    """All blocks in a row, each with its role, without cache marks."""
    return [_line(t.role, b) for t in turns for b in t.content]


def _line(role: str, block: Json) -> str:
    return f"{role} {json.dumps(without_mark(block), ensure_ascii=False)}"


def _assert_a_suffix(kept: list[str], shown: list[str], without_thinking: bool) -> None:
    """What is kept, up to the last reply, is the end of what was shown before, up to the last reply."""
    kept, shown = _up_to_the_last_reply(kept), _up_to_the_last_reply(shown)
    if without_thinking:
        shown = [
            line for line in shown if not line.startswith(('assistant {"type": "thinking"', 'assistant {"type": "redacted'))
        ]
    assert same_lines(shown[len(shown) - len(kept) :], kept)


def _up_to_the_last_reply(lines: list[str]) -> list[str]:
    last = max((i for i, line in enumerate(lines) if line.startswith("assistant")), default=-1)
    return lines[: last + 1]


def _write(folder: Path, events: Sequence[Event]) -> bytes:
    """The events as a log in this folder; returns the file's bytes."""
    with JsonlLog(folder, fsync="never") as log:
        for event in events:
            log.append(event.body, event.at)
    return (folder / LOG).read_bytes()


def _everything(state: State) -> list[object]:
    """A state by value, field by field."""
    return [repr(state.turns) if f.name == "turns" else getattr(state, f.name) for f in fields(state)]


def _next(events: Sequence[Event], played: Played) -> bytes:
    """What is decided after these events, with the bytes of the request where there is one."""
    effect = decide(fold(events), played.policies, events[-1].at)
    return wire.body(effect.request) if isinstance(effect, CallModel) else repr(effect).encode()


def _attempt_cost(event: Event, known: ModelCard) -> Fraction | None:
    """What an attempt cost in USD; None where it was not billed."""
    match event.body:
        case ModelReplied(reply=reply):
            return _cost(reply.usage, reply.priced_by or known)
        case ModelFailed(failure=failure) if failure.usage is not None:
            return _cost(failure.usage, known)
        case _:
            return None


def _cost(usage: Usage, known: ModelCard) -> Fraction:
    written = (usage.ephemeral_5m_input_tokens, usage.ephemeral_1h_input_tokens)
    prompt = usage.input_tokens + usage.cache_read_input_tokens + sum(written)
    fitting = [p for p in known.prices if p.max_prompt_tokens is None or prompt <= p.max_prompt_tokens]
    price = fitting[0] if fitting else known.prices[-1]
    lines = (
        (usage.input_tokens, price.input),
        (usage.cache_read_input_tokens, price.cache_read),
        (written[0], price.cache_write_5m),
        (written[1], price.cache_write_1h),
        (usage.output_tokens, price.output),
    )
    return sum((Fraction(count) * Fraction(per_million) / 1_000_000 for count, per_million in lines), Fraction())
