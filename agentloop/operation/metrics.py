"""What happened in this process, counted for Prometheus: fed by an observer of sessions, read at `/metrics`."""

import threading
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from agentloop.core.state import State
from agentloop.errors import ConfigError
from agentloop.operation.standing import Standing
from agentloop.types.events import CallHeld, Compacted, Event, FellBack, ModelFailed, ModelReplied, SessionEnded, ToolFinished
from agentloop.types.usage import Usage

_COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "sessions": ("Sessions that came to an outcome.", ("agent", "outcome")),
    "turns": ("Replies to requests for a turn.", ("agent", "model")),
    "tokens": ("Tokens, by how they were billed.", ("agent", "model", "kind")),
    "cost_usd": ("USD: recorded usage times prices.", ("agent", "model")),
    "compactions": ("Compactions.", ("agent", "model")),
    "fallbacks": ("Models that took over from one that was not available, or refused.", ("agent", "model", "because")),
    "attempts": ("Requests to the API, by what came of them.", ("agent", "model", "result")),
    "faults": ("Attempts that brought no reply, by kind.", ("agent", "kind")),
    "tool_calls": ("Tool calls, by what came of them.", ("agent", "tool", "outcome")),
    "calls_held": ("Tool calls that were held for a person.", ("agent", "tool")),
    "due_times_missed": ("Due times that did not become a run, by reason.", ("schedule", "reason")),
    "notices": ("Notices to the operator, by whether they could be given.", ("kind", "result")),
}
_GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "cache_read_share": (
        "Share of the prompt tokens since the process started that was read from the cache.",
        ("agent", "model"),
    ),
    "queue_depth": ("Sessions that wait, by queue.", ("queue",)),
    "queue_oldest_seconds": ("How long the session that waits longest has waited.", ()),
    "sessions_running": ("Sessions under way, in all processes that share the queue.", ()),
    "heartbeat_age_seconds": ("Since the loop that does the work last came round.", ()),
}


class Metrics:
    """Counters of one process, in a registry of their own. They cost nothing where the extra `metrics` is missing."""

    def __init__(self) -> None:
        """Everything is zero."""
        self._lock = threading.Lock()
        self._counts: dict[str, dict[tuple[str, ...], Decimal]] = {name: {} for name in _COUNTERS}
        self._prompts: dict[tuple[str, str], tuple[int, int]] = {}
        self._spent: dict[str, Decimal] = {}

    def count(self, name: str, *labels: str, by: Decimal | int = 1) -> None:
        """Count something up."""
        if len(labels) != len(_COUNTERS[name][1]):
            raise ValueError(f"'{name}' is counted by {', '.join(_COUNTERS[name][1])}; found {labels}")
        with self._lock:
            self._counts[name][labels] = self._counts[name].get(labels, Decimal(0)) + by

    def value(self, name: str, **labels: str) -> Decimal:
        """What was counted, over all labels that are not named."""
        names = _COUNTERS[name][1]
        with self._lock:
            rows = list(self._counts[name].items())
        return sum((v for key, v in rows if labels.items() <= dict(zip(names, key, strict=True)).items()), Decimal(0))

    def missed(self, schedule: str, reason: str) -> None:
        """A due time did not become a run."""
        self.count("due_times_missed", schedule, reason)

    def observe(self, event: Event, state: State) -> None:
        """An observer of sessions."""
        agent, body = state.agent, event.body
        self._cost(state, body)
        match body:
            case ModelReplied(purpose=purpose, reply=reply):
                model = _answered_by(body, state)
                self.count("attempts", agent, model, "replied")
                self._usage(agent, model, reply.usage)
                if purpose == "turn":
                    self.count("turns", agent, model)
            case ModelFailed(failure=failure):
                self.count("attempts", agent, state.prefix.model, "failed")
                self.count("faults", agent, failure.kind)
                if failure.usage is not None:
                    self._usage(agent, state.prefix.model, failure.usage)
            case ToolFinished(name=name, outcome=outcome):
                self.count("tool_calls", agent, _known(name, state), outcome)
            case CallHeld(name=name):
                self.count("calls_held", agent, _known(name, state))
            case Compacted():
                self.count("compactions", agent, state.prefix.model)
            case FellBack(because=because):
                self.count("fallbacks", agent, state.prefix.model, because)
            case SessionEnded(outcome=outcome):
                self.count("sessions", agent, outcome)
                with self._lock:
                    self._spent.pop(state.session_id, None)
            case _:
                pass

    def _cost(self, state: State, body: object) -> None:
        """What the session's spend grew by: the sum is the bill's, whoever was asked and whatever failed."""
        with self._lock:
            before = self._spent.get(state.session_id)
            self._spent[state.session_id] = state.spent_usd
        if before is not None and state.spent_usd > before:
            model = _answered_by(body, state) if isinstance(body, ModelReplied) else state.prefix.model
            self.count("cost_usd", state.agent, model, by=state.spent_usd - before)

    def _usage(self, agent: str, model: str, usage: Usage) -> None:
        for billed in usage.billed:
            for kind, tokens in (
                ("fresh", billed.input_tokens),
                ("cache_read", billed.cache_read_input_tokens),
                ("cache_write_5m", billed.ephemeral_5m_input_tokens),
                ("cache_write_1h", billed.ephemeral_1h_input_tokens),
                ("output", billed.output_tokens),
            ):
                self.count("tokens", agent, model, kind, by=tokens)
            with self._lock:
                read, prompt = self._prompts.get((agent, model), (0, 0))
                self._prompts[agent, model] = read + billed.cache_read_input_tokens, prompt + billed.prompt_tokens

    def page(self, standing: Standing, now: datetime) -> bytes:
        """The text that Prometheus reads. Raises ConfigError where the extra is missing."""
        try:
            from prometheus_client import CollectorRegistry, generate_latest
        except ImportError as e:
            raise ConfigError("/metrics needs an extra: pip install 'agentloop[metrics]'") from e
        registry = CollectorRegistry()  # type: ignore[no-untyped-call,unused-ignore]
        registry.register(_Collector(lambda: self._families(standing, now)))  # type: ignore[arg-type,unused-ignore]
        return bytes(generate_latest(registry))

    def _families(self, standing: Standing, now: datetime) -> list[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        found: list[Any] = []
        with self._lock:
            counts = {name: list(rows.items()) for name, rows in self._counts.items()}
            prompts = list(self._prompts.items())
        for name, (text, labels) in _COUNTERS.items():
            counter = CounterMetricFamily(f"agentloop_{name}", text, labels=labels)
            for key, value in sorted(counts[name]):
                counter.add_metric(key, float(value))  # Prometheus has floats only; the exact sums stand in the logs
            found.append(counter)
        for name, rows in _gauges(standing, now, prompts).items():
            text, labels = _GAUGES[name]
            gauge = GaugeMetricFamily(f"agentloop_{name}", text, labels=labels)
            for key, number in sorted(rows.items()):
                gauge.add_metric(key, number)
            found.append(gauge)
        return found


class _Collector:
    def __init__(self, families: Callable[[], list[Any]]) -> None:
        self.collect = families


def _gauges(
    standing: Standing, now: datetime, prompts: list[tuple[tuple[str, str], tuple[int, int]]]
) -> dict[str, dict[tuple[str, ...], float]]:
    oldest = standing.oldest_queued_at
    return {
        "cache_read_share": {key: read / prompt for key, (read, prompt) in prompts if prompt},
        "queue_depth": {(queue,): float(depth) for queue, depth in standing.queued.items()},
        "queue_oldest_seconds": {(): (now - oldest).total_seconds() if oldest is not None else 0.0},
        "sessions_running": {(): float(standing.running)},
        "heartbeat_age_seconds": {(): (now - standing.heartbeat_at).total_seconds()},
    }


def _answered_by(body: ModelReplied, state: State) -> str:
    """A model by its name in the price table: what a server calls itself could be anything, and any number of things."""
    return body.reply.priced_by.id if body.reply.priced_by is not None else state.prefix.model


def _known(name: str, state: State) -> str:
    """A tool by its name; those that a model made up are counted together."""
    return name if any(t.name == name for t in state.tools) else "unknown"


METRICS = Metrics()
"""Those of this process."""
