"""Spans of real sessions over HTTP: names and attributes of the conventions, one `chat` a request, whoever made it."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from agentloop import Agent, tool
from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.model_table import models
from agentloop.adapters.spans import SpanObserver
from agentloop.adapters.toolbox import Toolbox
from agentloop.core.stream import StreamedReply
from agentloop.emulator.app import Emulator
from agentloop.emulator.playbook import Playbook
from agentloop.emulator.server import running
from agentloop.engine import Shell, run
from agentloop.errors import ConfigError
from agentloop.operation import observing
from agentloop.policies import PolicySettings
from agentloop.report import report
from agentloop.result import Result
from agentloop.testing import NOON, FixedClock, ScriptedModel, given, says, started
from agentloop.tooling import Registry
from agentloop.types.request import Failure, Reply

PLAYBOOK = {
    "name": "orders",
    "steps": [{"say": "I look.", "call": [{"look": {"order_id": "W1"}}, {"fail": {}}]}, {"say": "It is shipped."}],
}
inside: list[Any] = []


@tool(effect="read")
def look(order_id: str) -> str:
    """Look up an order."""
    with trace.get_tracer("a library", tracer_provider=TRACERS[0]).start_as_current_span("GET /orders"):
        inside.append(trace.get_current_span().get_span_context())
    return f"{order_id} is shipped"


@tool(effect="once")
def fail() -> str:
    """Fail."""
    raise RuntimeError("no such place")


TRACERS: list[TracerProvider] = []


@pytest.fixture
def kept() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    TRACERS[:] = [provider]
    yield exporter
    TRACERS.clear()


def ran(folder: Path, content: bool = False) -> Result:
    with running(Emulator(Playbook.from_data(PLAYBOOK), models())) as url:
        agent = Agent(
            system="You look after orders.", tools=[look, fail], name="desk", base_url=url, workspace=folder,
            environment={"ANTHROPIC_API_KEY": "any"}, on_event=SpanObserver(TRACERS[0], content=content), fsync="never",
        )  # fmt: skip
        return agent.run("Is W1 shipped?", session_id="s")


def named(kept: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [s for s in kept.get_finished_spans() if s.name.startswith(name)]


def test_a_session_is_one_tree_with_the_names_of_the_conventions(kept: InMemorySpanExporter, tmp_path: Path) -> None:
    result = ran(tmp_path)

    (root,) = named(kept, "invoke_agent desk")
    chats, tools = named(kept, f"chat {models()['claude-sonnet-5-5'].card.id}"), named(kept, "execute_tool ")
    (library,) = named(kept, "GET /orders")
    assert root.parent is None
    assert len(chats) == 2
    assert {s.name for s in tools} == {"execute_tool look", "execute_tool fail"}
    assert {s.parent.span_id for s in (*chats, *tools, library) if s.parent} == {root.context.span_id}
    assert {s.kind.name for s in chats} == {"CLIENT"}
    assert {s.kind.name for s in (root, *tools)} == {"INTERNAL"}
    known = dict(root.attributes or {})
    assert known["gen_ai.operation.name"] == "invoke_agent"
    assert known["gen_ai.conversation.id"] == "s"
    assert known["gen_ai.agent.name"] == "desk"
    assert known["gen_ai.provider.name"] == "anthropic"
    assert known["gen_ai.usage.input_tokens"] == result.usage.prompt_tokens
    assert known["gen_ai.usage.cache_read.input_tokens"] == result.usage.cache_read_input_tokens
    assert abs(Decimal(str(known["agentloop.session_cost_usd"])) - result.cost) < Decimal("1e-9")
    assert root.status.status_code is StatusCode.OK


def test_a_tool_that_failed_is_an_error_and_the_session_is_not(kept: InMemorySpanExporter, tmp_path: Path) -> None:
    ran(tmp_path)

    (failed,) = named(kept, "execute_tool fail")
    known = dict(failed.attributes or {})
    assert (failed.status.status_code, known["error.type"]) == (StatusCode.ERROR, "tool_error")
    assert known["gen_ai.tool.call.id"]
    assert known["agentloop.effect"] == "once"


WORDS = ("You look after orders", "Is W1 shipped", "W1 is shipped", "no such place", "I look.")


def test_what_was_said_stands_in_spans_only_where_that_was_asked_for(kept: InMemorySpanExporter, tmp_path: Path) -> None:
    ran(tmp_path / "a")
    without = _everything(kept)
    kept.clear()
    ran(tmp_path / "b", content=True)

    assert [w for w in WORDS if w in without] == []
    assert [w for w in WORDS if w not in _everything(kept)] == []


def _everything(kept: InMemorySpanExporter) -> str:
    return "".join(s.to_json() for s in kept.get_finished_spans())


class SdkModel:
    """A model client of somebody's own, on the SDK's own method: there the SDK makes the `chat` span."""

    def __init__(self, url: str) -> None:
        tracing: Any = {"tracer_provider": TRACERS[0]}
        self._client = anthropic.Anthropic(api_key="any", base_url=url, max_retries=0, open_telemetry=tracing)

    def ask(self, body: bytes) -> Iterator[Failure | Reply]:
        import json

        asked = json.loads(body)
        streamed = StreamedReply()
        fields = {k: asked[k] for k in ("model", "messages", "max_tokens", "system", "tools") if k in asked}
        with self._client.messages.create(**fields, stream=True) as events:
            for event in events:
                streamed.feed(event.to_dict())
        yield streamed.reply(None, len(body))


def test_where_the_sdk_makes_the_chat_span_there_is_no_second_one(kept: InMemorySpanExporter) -> None:
    log, known = MemoryLog(), models()["claude-sonnet-5-5"].card
    registry = Registry([look, fail])
    log.append(started(model=known, tools=registry.definitions, tool_cards=registry.cards), NOON)
    log.append(given("Is W1 shipped?"), NOON)

    with running(Emulator(Playbook.from_data(PLAYBOOK), models())) as url:
        tools = Toolbox(registry, session_id="test", root=Path("/"))
        shell = Shell(SdkModel(url), tools, MemoryBlobs(), FixedClock(step_s=1), SpanObserver(TRACERS[0]))
        state = run(log, shell, PolicySettings().policies())

    chats = [s for s in kept.get_finished_spans() if dict(s.attributes or {}).get("gen_ai.operation.name") == "chat"]
    (root,) = named(kept, "invoke_agent ")
    assert state.outcome == "completed"
    assert len(chats) == state.asked == 2
    assert {s.instrumentation_scope.name for s in chats if s.instrumentation_scope} == {"com.anthropic.sdk.python"}
    assert {s.parent.span_id for s in chats if s.parent} == {root.context.span_id}
    assert {link.context.span_id for link in root.links} == {s.context.span_id for s in chats}
    cost = sum(float(str((link.attributes or {})["agentloop.cost_usd"])) for link in root.links)
    assert abs(cost - float(report(list(log.events()), with_baselines=False).cost_usd)) < 1e-9


def test_attempts_that_failed_are_events_of_the_chat_that_came_of_them(kept: InMemorySpanExporter) -> None:
    log = MemoryLog()
    log.append(started(), NOON)
    log.append(given("task"), NOON)
    busy = Failure(kind="unavailable", error_type="overloaded_error", message="Overloaded", retry_in_s=1.0)
    shell = Shell(ScriptedModel([busy, busy, says("done")]), Toolbox(Registry([look]), session_id="test", root=Path("/")),
                  MemoryBlobs(), FixedClock(step_s=1), SpanObserver(TRACERS[0]))  # fmt: skip

    run(log, shell, PolicySettings().policies())

    (chat,) = named(kept, "chat ")
    assert [dict(e.attributes or {})["error.type"] for e in chat.events] == ["overloaded_error"] * 2
    assert chat.status.status_code is StatusCode.OK


def test_a_session_that_the_api_refused_is_an_error_without_its_words(kept: InMemorySpanExporter) -> None:
    log = MemoryLog()
    log.append(started(), NOON)
    log.append(given("task"), NOON)
    gone = Failure(kind="unauthorized", error_type="authentication_error", message="the key of Ines is revoked")
    shell = Shell(ScriptedModel([gone]), Toolbox(Registry([look]), session_id="test", root=Path("/")),
                  MemoryBlobs(), FixedClock(step_s=1), SpanObserver(TRACERS[0]))  # fmt: skip

    run(log, shell, PolicySettings().policies())

    (chat,), (root,) = named(kept, "chat "), named(kept, "invoke_agent ")
    assert (chat.status.status_code, root.status.status_code) == (StatusCode.ERROR, StatusCode.ERROR)
    assert dict(root.attributes or {})["error.type"] == "unauthorized"
    assert "Ines" not in _everything(kept)


def test_a_session_that_stops_without_an_outcome_leaves_nothing_current(kept: InMemorySpanExporter) -> None:
    observe = SpanObserver(TRACERS[0])
    log = MemoryLog()
    event = log.append(started(), NOON)
    from agentloop.core.folding import fold

    observe(event, fold(log.events()))
    during = trace.get_current_span().get_span_context().is_valid
    observe.close("test")

    assert during
    assert not trace.get_current_span().get_span_context().is_valid
    assert len(named(kept, "invoke_agent ")) == 1


def test_without_the_extra_the_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "agentloop.adapters.spans", None)
    observing.tracer.cache_clear()

    with pytest.raises(ConfigError, match=r"agentloop\[otel\]"):
        observing.tracer(False)
