"""Laws of what an operator sees, for any session: the sums are those of the bill, and nothing is forgotten or made up."""

import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

from hypothesis import given, settings
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_current_span

from agentloop.adapters.spans import SpanObserver
from agentloop.core.folding import begin
from agentloop.core.state import State
from agentloop.operation.metrics import Metrics
from agentloop.operation.pages import markdown
from agentloop.operation.reports import RunReport, run_report
from agentloop.redaction import GuardedLog, redactor
from agentloop.replay import replay
from agentloop.report import report
from agentloop.types.events import (
    Event,
    ModelFailed,
    ModelReplied,
    ModelRequested,
    SessionEnded,
    SessionStarted,
    ToolFinished,
    ToolStarted,
)
from tests.property.histories import BoundedLog, Played, Scenario, play, scenarios

thorough = settings(max_examples=2 * settings().max_examples)


def observed(played: Played) -> Iterator[tuple[Event, State]]:
    """What an observer is told of a session."""
    first = played.events[0]
    assert isinstance(first.body, SessionStarted)
    yield first, begin(first.body, first.at)
    yield from ((event, after) for event, _, after in played.states())


@thorough
@given(scenarios())
def test_what_is_counted_adds_up_to_the_bill(scenario: Scenario) -> None:
    played = play(scenario)
    counted, bill = Metrics(), report(played.events, with_baselines=False)

    for event, state in observed(played):
        counted.observe(event, state)

    assert counted.value("cost_usd") == bill.cost_usd
    assert counted.value("turns") == bill.turns
    assert counted.value("attempts") == bill.attempts
    assert counted.value("attempts", result="failed") == counted.value("faults") == bill.failed_attempts
    assert counted.value("tool_calls") == bill.tool_calls
    assert counted.value("tool_calls", outcome="unknown") == len(bill.unknown_outcomes)
    assert counted.value("compactions") == bill.compactions
    assert counted.value("sessions") == sum(isinstance(e.body, SessionEnded) for e in played.events)
    assert counted.value("tokens") == bill.usage.prompt_tokens + bill.usage.output_tokens
    assert counted.value("tokens", kind="cache_read") == bill.usage.cache_read_input_tokens


@thorough
@given(scenarios())
def test_a_run_report_forgets_no_effect_and_no_fault(scenario: Scenario) -> None:
    played = play(scenario)

    made = run_report(played.events)

    started = {e.body.call_id for e in played.events if isinstance(e.body, ToolStarted) and e.body.effect != "read"}
    unknown = {e.body.call_id for e in played.events if isinstance(e.body, ToolFinished) and e.body.outcome == "unknown"}
    kinds = Counter(e.body.failure.kind for e in played.events if isinstance(e.body, ModelFailed))
    first = [e.call_id for e in made.effects][: len(unknown)]
    assert {e.call_id for e in made.effects} == started
    assert set(first) == unknown & started
    assert made.faults.by_kind == kinds
    assert sum(t.calls for t in made.tools) == sum(isinstance(e.body, ToolFinished) for e in played.events)
    assert made.money.cost_usd == report(played.events, with_baselines=False).cost_usd
    assert sum((v for k, v in made.money.by_kind.items() if k != "total"), Decimal(0)) == made.money.cost_usd
    assert RunReport.model_validate_json(made.model_dump_json()) == made


@given(scenarios())
def test_whatever_was_said_stands_on_the_page_as_text_only(scenario: Scenario) -> None:
    hostile = scenario._replace(task="# heading\n```\n<script>alert(1)</script> [a](javascript:1) \x1b[2J ````\u202e")

    page = markdown(run_report(play(hostile).events))

    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", page)
    outside = "\n".join(_outside_fences(page))
    assert "<script" not in outside
    assert "](javascript" not in outside


def _outside_fences(page: str) -> Iterator[str]:
    fence = ""
    for line in page.splitlines():
        opened = re.match(r"`{3,}", line)
        if fence:
            fence = "" if line == fence else fence
        elif opened:
            fence = opened[0]
        else:
            yield line
    assert not fence, "every fence is closed"


@thorough
@given(scenarios())
def test_spans_are_one_tree_a_run_and_cost_what_the_session_cost(scenario: Scenario) -> None:
    played = play(scenario)
    kept, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(kept))
    observe = SpanObserver(tracers)

    for event, state in observed(played):
        observe(event, state)
    observe.close("random")

    spans = kept.get_finished_spans()
    by_operation = Counter(str(_of(s, "gen_ai.operation.name")) for s in spans)
    assert by_operation["chat"] == _answered_or_given_up(played)
    assert by_operation["execute_tool"] == _tool_runs(played)
    assert by_operation["invoke_agent"] >= 1
    roots = {s.context.span_id: s for s in spans if s.name.startswith("invoke_agent ")}
    for span in spans:
        assert span.end_time is not None
        assert span.start_time is not None
        assert span.start_time <= span.end_time
        if span.context.span_id in roots:
            assert span.parent is None
        else:
            assert span.parent is not None
            assert span.context.trace_id == roots[span.parent.span_id].context.trace_id
    billed = float(report(played.events, with_baselines=False).cost_usd)
    assert abs(sum(float(str(_of(s, "agentloop.cost_usd") or 0)) for s in spans) - billed) <= 1e-9 * max(1.0, billed)
    assert not get_current_span().get_span_context().is_valid
    assert all(scenario.task not in str(dict(s.attributes or {})) for s in spans)


def _of(span: ReadableSpan, name: str) -> object:
    return (span.attributes or {}).get(name)


def _answered_or_given_up(played: Played) -> int:
    """Requests that came to an end, one way or the other."""
    asked, ends = False, 0
    for event in played.events:
        match event.body:
            case ModelRequested():
                asked = True
            case ModelReplied():
                asked, ends = False, ends + 1
            case ModelFailed(failure=failure) if failure.retry_in_s is None and asked:
                asked, ends = False, ends + 1
            case _:
                pass
    return ends


def _tool_runs(played: Played) -> int:
    """Starts of calls; one that was started again after a crash replaces the one that was left open."""
    return len({e.body.call_id for e in played.events if isinstance(e.body, ToolStarted)})


SECRET = "srv/reports/"
"""Stands in what the model says and in its calls."""


@thorough
@given(scenarios())
def test_a_session_whose_words_are_secret_keeps_none_of_them_and_replays_the_same(scenario: Scenario) -> None:
    log = BoundedLog()

    played = play(scenario, GuardedLog(log, redactor([SECRET])))

    found = replay(list(log.events()), played.policies)
    assert SECRET not in "".join(e.model_dump_json() for e in list(log.events())[1:])
    assert SECRET.encode() not in b"".join(played.bodies)
    assert found.same, found
