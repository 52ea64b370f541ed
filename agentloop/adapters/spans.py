"""Sessions as OpenTelemetry spans, by the GenAI semantic conventions: `invoke_agent`, and in it `chat` and `execute_tool`.

An observer: it sees events that are durable already, and gives their times to the spans. A run of a session is one trace;
one that is taken up again is another, with the same `gen_ai.conversation.id`. While the session runs, its span is the current
one of its thread: what tools and their libraries trace goes below it. Costs and counts stand under `agentloop.*`, which no
convention names. Where the SDK itself made the `chat` span of a request, none is made beside it: ours is linked to it.
"""

import json
from collections.abc import Iterable, Iterator
from contextvars import Token
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from agentloop.core.state import State
from agentloop.types import blocks
from agentloop.types.blocks import Block
from agentloop.types.events import Event, ModelFailed, ModelReplied, ModelRequested, SessionEnded, ToolFinished, ToolStarted
from agentloop.types.usage import Usage
from agentloop.version import __version__

SCOPE = "agentloop"
SDK_SCOPE = "com.anthropic.sdk.python"
"""Under this name the SDK makes its own spans."""
PROVIDER = gen_ai.GenAiProviderNameValues.ANTHROPIC.value
CACHE_WRITE = "gen_ai.usage.cache_write.input_tokens"
"""What the SDK's own spans call `gen_ai.usage.cache_creation.input_tokens`: both are set, so that one query finds both."""
WELL = frozenset({"completed", "sleeping", "waiting_for_approval", "interrupted"})
"""Outcomes that are no errors."""
CONTENT_CHARS = 64_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def provider() -> TracerProvider:
    """The provider that the program has set; or else one that sends to `OTEL_EXPORTER_OTLP_ENDPOINT`."""
    there = trace.get_tracer_provider()
    if isinstance(there, TracerProvider):
        return there
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    made = TracerProvider(resource=Resource.create({SERVICE_NAME: SCOPE}))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(made)
    return made


@dataclass
class _Run:
    """A session under way."""

    span: Span
    below: Context
    token: Token[Context]
    spent_usd: Decimal
    asked: ModelRequested | None = None
    asked_at: int = 0
    given: tuple[Block, ...] = ()
    failures: list[tuple[int, str]] = field(default_factory=list)
    sdk_chats: list[SpanContext] = field(default_factory=list)
    tools: dict[str, Span] = field(default_factory=dict)


class SpanObserver:
    """An observer that makes spans. One for all sessions of a process; each session is observed by one thread."""

    own = True
    """Told in the session's own thread: its span is the current one there."""

    def __init__(self, tracers: TracerProvider, *, content: bool = False) -> None:
        """With `content`, the spans hold what was said, too: nothing else decides that."""
        self._tracer: Tracer = tracers.get_tracer(SCOPE, __version__)
        self._content = content
        self._runs: dict[str, _Run] = {}
        tracers.add_span_processor(_SdkChats(self._runs))

    def __call__(self, event: Event, state: State) -> None:
        """One more event, and the state after it."""
        run, at = self._runs.get(state.session_id), _nanoseconds(event.at)
        if run is None:
            run = self._runs[state.session_id] = self._begun(state, at)
        match event.body:
            case ModelRequested() as asked:
                run.asked, run.asked_at, run.given = asked, at, state.given
                run.failures, run.sdk_chats = [], []
            case ModelReplied() as replied:
                self._replied(run, replied, state, at)
            case ModelFailed() as failed:
                self._failed(run, failed, state, at)
            case ToolStarted() as started:
                run.tools[started.call_id] = self._tool(run, started, state, at)
            case ToolFinished() as finished:
                self._finished(run, finished, at)
            case SessionEnded(outcome=outcome, detail=detail):
                self._ended(state.session_id, outcome, detail, state, at)
            case _:
                pass

    def close(self, session_id: str) -> None:
        """A session stopped without an outcome: what it left open is ended."""
        if (run := self._runs.pop(session_id, None)) is not None:
            _close(run, None)

    # the session

    def _begun(self, state: State, at: int) -> _Run:
        known: dict[str, AttributeValue] = {
            gen_ai.GEN_AI_OPERATION_NAME: gen_ai.GenAiOperationNameValues.INVOKE_AGENT.value,
            gen_ai.GEN_AI_PROVIDER_NAME: PROVIDER,
            gen_ai.GEN_AI_AGENT_NAME: state.agent,
            gen_ai.GEN_AI_CONVERSATION_ID: state.session_id,
            gen_ai.GEN_AI_REQUEST_MODEL: state.prefix.model,
            "agentloop.played_by": state.played_by,
        }
        if self._content:
            known[gen_ai.GEN_AI_SYSTEM_INSTRUCTIONS] = _json([{"type": "text", "content": state.prefix.system}])
        span = self._tracer.start_span(f"invoke_agent {state.agent}", kind=SpanKind.INTERNAL, attributes=known, start_time=at)
        below = trace.set_span_in_context(span)
        return _Run(span, below, context.attach(below), state.spent_usd)

    def _ended(self, session_id: str, outcome: str, detail: str, state: State, at: int) -> None:
        run = self._runs.pop(session_id)
        run.span.set_attributes(
            {**_usage(state.usage), "agentloop.outcome": outcome, "agentloop.turns": state.asked,
             "agentloop.compactions": state.compactions, "agentloop.session_cost_usd": float(state.spent_usd)}
        )  # fmt: skip
        if outcome in WELL:
            run.span.set_status(Status(StatusCode.OK))
        else:
            run.span.set_attribute(ERROR_TYPE, outcome)
            run.span.set_status(Status(StatusCode.ERROR, detail if self._content else outcome))
        _close(run, at)

    # the model

    def _replied(self, run: _Run, replied: ModelReplied, state: State, at: int) -> None:
        reply, asked = replied.reply, run.asked
        cost, run.spent_usd, run.asked = state.spent_usd - run.spent_usd, state.spent_usd, None
        known: dict[str, AttributeValue] = {
            **_usage(reply.usage),
            gen_ai.GEN_AI_RESPONSE_ID: reply.message_id,
            gen_ai.GEN_AI_RESPONSE_MODEL: reply.model,
            gen_ai.GEN_AI_RESPONSE_FINISH_REASONS: (reply.stop_reason,),
            "agentloop.cost_usd": float(cost),
            "agentloop.purpose": replied.purpose,
            "agentloop.turn": replied.turn,
        }
        if run.sdk_chats:
            linked = {k: v for k, v in known.items() if k.startswith("agentloop.")}
            for chat in run.sdk_chats:
                run.span.add_link(chat, linked)
            return
        if self._content:
            known[gen_ai.GEN_AI_INPUT_MESSAGES] = _json([{"role": "user", "parts": list(_parts(run.given))}])
            known[gen_ai.GEN_AI_OUTPUT_MESSAGES] = _json([{"role": "assistant", "parts": list(_parts(reply.content))}])
        span = self._chat(run, asked, state, known)
        span.set_status(Status(StatusCode.OK))
        span.end(at)

    def _failed(self, run: _Run, failed: ModelFailed, state: State, at: int) -> None:
        failure = failed.failure
        run.failures.append((at, failure.error_type))
        if failure.retry_in_s is not None or run.asked is None:
            return
        cost, run.spent_usd = state.spent_usd - run.spent_usd, state.spent_usd
        asked, run.asked = run.asked, None
        if run.sdk_chats:
            return
        span = self._chat(run, asked, state, {"agentloop.cost_usd": float(cost), ERROR_TYPE: failure.error_type})
        span.set_status(Status(StatusCode.ERROR, failure.kind))
        span.end(at)

    def _chat(self, run: _Run, asked: ModelRequested | None, state: State, known: dict[str, AttributeValue]) -> Span:
        model = asked.asked_of.id if asked is not None and asked.asked_of is not None else state.prefix.model
        first: dict[str, AttributeValue] = {
            gen_ai.GEN_AI_OPERATION_NAME: gen_ai.GenAiOperationNameValues.CHAT.value,
            gen_ai.GEN_AI_PROVIDER_NAME: PROVIDER,
            gen_ai.GEN_AI_CONVERSATION_ID: state.session_id,
            gen_ai.GEN_AI_REQUEST_MODEL: model,
            gen_ai.GEN_AI_REQUEST_STREAM: True,
        }
        if asked is not None:
            first[gen_ai.GEN_AI_REQUEST_MAX_TOKENS] = asked.max_tokens
        span = self._tracer.start_span(
            f"chat {model}", context=run.below, kind=SpanKind.CLIENT, attributes={**first, **known}, start_time=run.asked_at
        )
        for at, error_type in run.failures:
            span.add_event("agentloop.attempt_failed", {ERROR_TYPE: error_type}, timestamp=at)
        return span

    # tools

    def _tool(self, run: _Run, started: ToolStarted, state: State, at: int) -> Span:
        known: dict[str, AttributeValue] = {
            gen_ai.GEN_AI_OPERATION_NAME: gen_ai.GenAiOperationNameValues.EXECUTE_TOOL.value,
            gen_ai.GEN_AI_CONVERSATION_ID: state.session_id,
            gen_ai.GEN_AI_TOOL_NAME: started.name,
            gen_ai.GEN_AI_TOOL_CALL_ID: started.call_id,
            gen_ai.GEN_AI_TOOL_TYPE: "function",
            "agentloop.effect": started.effect,
        }
        call = next((c for c in state.open_calls if c.id == started.call_id), None)
        if self._content and call is not None:
            known[gen_ai.GEN_AI_TOOL_CALL_ARGUMENTS] = _json(call.input)
        return self._tracer.start_span(
            f"execute_tool {started.name}", context=run.below, kind=SpanKind.INTERNAL, attributes=known, start_time=at
        )

    def _finished(self, run: _Run, finished: ToolFinished, at: int) -> None:
        span = run.tools.pop(finished.call_id, None)
        if span is None:
            return
        span.set_attribute("agentloop.tool_outcome", finished.outcome)
        if self._content:
            span.set_attribute(gen_ai.GEN_AI_TOOL_CALL_RESULT, blocks.result_text(finished.content)[:CONTENT_CHARS])
        if finished.is_error:
            span.set_attribute(ERROR_TYPE, f"tool_{finished.outcome}")
            span.set_status(Status(StatusCode.ERROR, finished.outcome))
        else:
            span.set_status(Status(StatusCode.OK))
        span.end(at)


class _SdkChats(SpanProcessor):
    """Notices the `chat` spans that the SDK makes itself for a request of a session."""

    def __init__(self, runs: dict[str, _Run]) -> None:
        self._runs = runs

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        """A span begins, of whoever."""
        scope, known = span.instrumentation_scope, span.attributes or {}
        chat = known.get(gen_ai.GEN_AI_OPERATION_NAME) == gen_ai.GenAiOperationNameValues.CHAT.value
        if scope is None or not scope.name.startswith(SDK_SCOPE) or not chat or span.parent is None:
            return
        for run in tuple(self._runs.values()):
            if run.asked is not None and run.span.get_span_context().span_id == span.parent.span_id:
                run.sdk_chats.append(span.get_span_context())

    def on_end(self, span: ReadableSpan) -> None:
        """Nothing to do."""


def _close(run: _Run, at: int | None) -> None:
    for span in run.tools.values():
        span.end(at)
    run.span.end(at)
    if context.get_current() == run.below:  # on another thread there is nothing to take back
        context.detach(run.token)


def _usage(usage: Usage) -> dict[str, AttributeValue]:
    """As the SDK's own spans say it: cached tokens are part of the input."""
    written = usage.ephemeral_5m_input_tokens + usage.ephemeral_1h_input_tokens
    return {
        gen_ai.GEN_AI_USAGE_INPUT_TOKENS: usage.prompt_tokens,
        gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS: usage.output_tokens,
        gen_ai.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: usage.cache_read_input_tokens,
        gen_ai.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: written,
        CACHE_WRITE: written,
    }


def _parts(content: Iterable[Block]) -> Iterator[dict[str, Any]]:
    """Blocks as the conventions write parts of messages."""
    for block in content:
        match block.get("type"):
            case "text":
                yield {"type": "text", "content": block.get("text")}
            case "thinking":
                yield {"type": "reasoning", "content": block.get("thinking")}
            case "tool_use":
                yield {"type": "tool_call", "id": block["id"], "name": block["name"], "arguments": block["input"]}
            case "tool_result":
                response = blocks.result_text(block.get("content") or "")
                yield {"type": "tool_call_response", "id": block["tool_use_id"], "response": response}
            case other:
                yield {"type": f"anthropic_{other}"}


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= CONTENT_CHARS else f"{text[:CONTENT_CHARS]}…"


def _nanoseconds(at: datetime) -> int:
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
