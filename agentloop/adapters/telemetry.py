"""Structured logging: one JSON object an event, with keys and never with prompts or results."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import structlog

from agentloop.core.state import State
from agentloop.types.events import (
    Compacted,
    Event,
    ModelFailed,
    ModelReplied,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    ToolFinished,
)

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(level: str = "warning", file: Path | None = None) -> None:
    """Log to standard error, or to a file that only its owner reads."""
    output: TextIO = _opened(file) if file is not None else sys.stderr
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(output),
        cache_logger_on_first_use=False,
    )


def _opened(file: Path) -> TextIO:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600, exist_ok=True)
    return file.open("a", encoding="utf-8", buffering=1)


def observer() -> Callable[[Event, State], None]:
    """An observer that logs what happened, by name and numbers."""
    log = structlog.get_logger("agentloop")
    cut_before = False

    def observe(event: Event, state: State) -> None:
        nonlocal cut_before
        bound = log.bind(session=state.session_id, turn=state.asked)
        match event.body:
            case SessionStarted() | SessionResumed():
                bound.info(event.body.type)
            case ModelReplied(purpose=purpose, reply=reply, duration_s=took):
                usage = reply.usage
                bound.info(
                    "model_replied",
                    purpose=purpose,
                    cache_read=usage.cache_read_input_tokens,
                    prompt=usage.prompt_tokens,
                    output=usage.output_tokens,
                    spent_usd=str(state.spent_usd),
                    took_s=took,
                )
                if reply.cache_miss and not cut_before:
                    bound.warning("cache_missed", reason=reply.cache_miss.get("type"), purpose=purpose)
            case ModelFailed(failure=failure):
                bound.warning(
                    "model_failed",
                    kind=failure.kind,
                    error_type=failure.error_type,
                    attempt=failure.attempt,
                    retry_in_s=failure.retry_in_s,
                )
            case ToolFinished(name=name, outcome=outcome, duration_s=took):
                bound.info("tool_finished", tool=name, outcome=outcome, took_s=took)
            case Compacted(keep_from=keep_from, decision=decision):
                bound.info("compacted", keep_from=keep_from, reason=decision.reason)
            case SessionEnded(outcome=outcome, detail=detail):
                bound.info("session_ended", outcome=outcome, detail=detail)
            case _:
                pass
        if isinstance(event.body, Compacted | ModelReplied):
            cut_before = isinstance(event.body, Compacted)  # the first request after a cut misses, as it should

    return observe
