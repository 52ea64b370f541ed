"""Structured logging: one JSON object an event, with keys and never with prompts, results or known secrets.

A line is one write to a file that is opened for appending, so that processes which share it do not tear each other's lines.
A file that has grown to its limit is put aside (`agentloop.log.1`, `.2`, …) by whoever sees that first.
"""

import fcntl
import logging
import os
import sys
import threading
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import structlog

from agentloop.core.state import State
from agentloop.types.events import (
    CallHeld,
    Compacted,
    Event,
    FellBack,
    ModelFailed,
    ModelReplied,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    ToolFinished,
)

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
OTHERS = ("anthropic", "httpx2", "httpcore2", "uvicorn", "sqlalchemy", "dbos", "opentelemetry", "mcp")
"""Libraries that log by themselves: what they say goes the same way, from warnings on, cleaned of secrets."""
Redact = Callable[[str], str]


def configure(
    level: str = "warning",
    file: Path | None = None,
    *,
    redact: Redact = lambda text: text,
    max_bytes: int | None = None,
    keep: int = 5,
) -> None:
    """Log to standard error, or to a file that only its owner reads: at `max_bytes` it is put aside, and the newest `keep`
    of those stay."""
    write = _File(file, max_bytes, keep).write if file is not None else _to_stderr
    render = structlog.processors.JSONRenderer()  # ASCII: no character in it ends a line or moves a terminal's cursor
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _cleaning(redact),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *args: _Lines(write),
        cache_logger_on_first_use=False,
    )
    _take_over(LEVELS[level])


def _cleaning(redact: Redact) -> structlog.typing.Processor:
    """A processor that takes secrets out of every value, however deep, before it is rendered: escapes would hide them."""

    def clean(value: Any) -> Any:
        match value:
            case None | bool() | int() | float():
                return value
            case dict():
                return {redact(str(k)): clean(v) for k, v in value.items()}
            case list() | tuple() | set() | frozenset():
                return [clean(v) for v in value]
            case _:
                return redact(value if isinstance(value, str) else repr(value))

    def process(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {redact(str(k)): clean(v) for k, v in event.items()}

    return process


class _Lines:
    """What structlog calls a logger: something that takes rendered lines."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def msg(self, message: str) -> None:
        self._write(message.encode("utf-8", "backslashreplace") + b"\n")

    debug = info = warning = warn = error = critical = fatal = exception = log = msg


def _to_stderr(line: bytes) -> None:
    sys.stderr.write(line.decode())
    sys.stderr.flush()


class _File:
    """A file of lines that several processes append to, and any of them puts aside when it is full."""

    def __init__(self, path: Path, max_bytes: int | None, keep: int) -> None:
        self._path, self._max_bytes, self._keep = path, max_bytes, keep
        self._lock = threading.Lock()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._handle = self._opened()

    def _opened(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._path, flags, 0o600)

    def write(self, line: bytes) -> None:
        """Append a line, in a new file where this one has no room for it."""
        with self._lock:
            while self._max_bytes is not None:
                fcntl.flock(self._handle, fcntl.LOCK_EX)  # nobody else fills it up or puts it aside before the line is in it
                if not self._is_current():
                    self._reopen()
                elif self._has_room(len(line), self._max_bytes):
                    break
                else:
                    self._put_aside()
            os.write(self._handle, line)
            if self._max_bytes is not None:
                fcntl.flock(self._handle, fcntl.LOCK_UN)

    def _has_room(self, size: int, limit: int) -> bool:
        filled = os.fstat(self._handle).st_size
        return filled == 0 or filled + size <= limit

    def _is_current(self) -> bool:
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        mine = os.fstat(self._handle)
        return (there.st_ino, there.st_dev) == (mine.st_ino, mine.st_dev)

    def _reopen(self) -> None:
        """Go on in the file of this name: ours was put aside."""
        os.close(self._handle)
        self._handle = self._opened()

    def _put_aside(self) -> None:
        for number in range(self._keep, 0, -1):
            older, newer = self._numbered(number), self._numbered(number - 1)
            if newer.exists():
                os.replace(newer, older)
        if self._keep == 0:
            self._path.unlink(missing_ok=True)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


class _Handler(logging.Handler):
    """Sends what libraries log the way of everything else."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        try:
            said = record.getMessage()
        except Exception:  # noqa: BLE001  a library's log line must not end what it is about
            said = str(record.msg)
        extra = {"exc_info": record.exc_info} if record.exc_info else {}
        log.log(max(10, record.levelno // 10 * 10), "library_said", library=record.name, said=said, **extra)


def _take_over(level: int) -> None:
    """The libraries speak to us alone. Below warnings they print whole requests, prompts too: nobody asked them to."""
    handler = _Handler(max(level, logging.WARNING))  # the SDK sets its loggers' levels itself, by ANTHROPIC_LOG
    for name in OTHERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(max(level, logging.WARNING))


def observer() -> Callable[[Event, State], None]:
    """An observer that logs what happened, by name and numbers."""
    log = structlog.get_logger("agentloop")
    cut_before = False

    def observe(event: Event, state: State) -> None:
        nonlocal cut_before
        _say(log.bind(session=state.session_id, turn=state.asked), event, state, cut_before)
        if isinstance(event.body, Compacted | FellBack | ModelReplied):
            cut_before = not isinstance(event.body, ModelReplied)  # the first request after a cut misses, as it should

    return observe


def _say(bound: Any, event: Event, state: State, cut_before: bool) -> None:
    match event.body:
        case SessionStarted() | SessionResumed():
            bound.info(event.body.type)
        case ModelReplied() as replied:
            _say_replied(bound, replied, state, cut_before)
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
        case CallHeld(name=name, call_id=call_id, reason=reason):
            bound.warning("call_held", tool=name, call=call_id, reason=reason)
        case Compacted(keep_from=keep_from, decision=decision):
            bound.info("compacted", keep_from=keep_from, reason=decision.reason)
        case FellBack(to=to, because=because, detail=detail):
            bound.warning("fell_back", model=to.card.id, because=because, detail=detail)
        case SessionEnded(outcome=outcome, detail=detail):
            bound.info("session_ended", outcome=outcome, detail=detail)
        case _:
            pass


def _say_replied(bound: Any, replied: ModelReplied, state: State, cut_before: bool) -> None:
    usage = replied.reply.usage
    bound.info(
        "model_replied",
        purpose=replied.purpose,
        cache_read=usage.cache_read_input_tokens,
        prompt=usage.prompt_tokens,
        output=usage.output_tokens,
        spent_usd=str(state.spent_usd),
        took_s=replied.duration_s,
    )
    if replied.reply.cache_miss and not cut_before:
        bound.warning("cache_missed", reason=replied.reply.cache_miss.get("type"), purpose=replied.purpose)
