"""Who is told of each event of a session: the log file, the counters, and the tracer where one is wanted."""

import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from agentloop.adapters import telemetry
from agentloop.core.state import State
from agentloop.engine.loop import Observer
from agentloop.errors import ConfigError
from agentloop.operation.metrics import METRICS, Metrics
from agentloop.types.events import Event
from agentloop.workspace import Settings, redactor

if TYPE_CHECKING:
    from agentloop.adapters.spans import SpanObserver


def logging_to(workspace: Path, settings: Settings, environment: Mapping[str, str] = os.environ) -> None:
    """Structured logging as the settings say, without the secrets of the environment."""
    telemetry.configure(
        settings.log_level,
        workspace / settings.log_file if settings.log_file else None,
        redact=redactor(environment),
        max_bytes=settings.log_max_bytes,
        keep=settings.log_keep,
    )


class Observing:
    """An observer that tells several. Use `close` when a session stops, with or without an outcome."""

    own = True
    """Told in the session's own thread: spans live in its context."""

    def __init__(self, settings: Settings, *also: Observer, metrics: Metrics = METRICS) -> None:
        """Raises ConfigError where spans are wanted and the extra is missing."""
        self._spans = tracer(settings.otel_content) if settings.otel == "on" else None
        first: tuple[Observer, ...] = (telemetry.observer(), metrics.observe)
        self._all: tuple[Callable[[Event, State], None], ...] = (*first, *((self._spans,) if self._spans else ()), *also)

    def __call__(self, event: Event, state: State) -> None:
        """One more event, and the state after it. Each is told, whatever another makes of it. A wish to stop comes through."""
        for told in self._all:
            try:
                told(event, state)
            except Exception as e:  # noqa: BLE001  whatever one who looks on does, the turn is committed
                structlog.get_logger("agentloop").warning("observer_failed", why=f"{type(e).__name__}: {e}")

    def close(self, session_id: str) -> None:
        """The session stopped."""
        if self._spans is not None:
            self._spans.close(session_id)


@lru_cache(maxsize=2)
def tracer(content: bool) -> "SpanObserver":
    """The one that makes spans in this process. Raises ConfigError where the extra is missing."""
    try:
        from agentloop.adapters.spans import SpanObserver, provider
    except ImportError as e:
        raise ConfigError("otel = 'on' needs an extra: pip install 'agentloop[otel]'") from e
    return SpanObserver(provider(), content=content)
