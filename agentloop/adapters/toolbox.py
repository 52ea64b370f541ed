"""Runs tool calls: side by side, each with a deadline, and whatever a tool does, the engine gets an answer.

A tool runs in a thread of its own with a copy of the context. One that does not come back in time is given up; its
thread cannot be killed, so it is counted (`leaked`).
"""

import json
import math
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError
from pydantic_core import to_json

from agentloop import surroundings
from agentloop.crash_points import reached
from agentloop.ports import Answer, Wakes, never
from agentloop.redaction import cleaned_blocks
from agentloop.tooling import Billed, CurrentCall, Registry, Tool, answering, settle
from agentloop.types.base import Json, compact, plain, plain_json
from agentloop.types.blocks import Block, Call
from agentloop.types.events import ToolOutcome
from agentloop.types.leaves import DELEGATE, LeafRun
from agentloop.types.tools import ToolCard

MAX_RESULT_CHARS = 8_000_000
MAX_ERROR_CHARS = 2_000
GRACE_S = 10.0
"""Seconds that a call with an effect is given to end when the process is told to stop."""
LOOK_S = 0.2
"""Seconds between two looks at a call that runs: a signal that came to another thread does not end the wait by itself."""
EMPTY = "(the tool returned nothing)"
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BLOCKS: dict[str, tuple[str, type]] = {
    "text": ("text", str),
    "image": ("source", dict),
    "document": ("source", dict),
    "search_result": ("content", list),
    "tool_reference": ("tool_name", str),
}
"""Content blocks by type, and the field without which a record only looks like one."""

_BLOCK_KEYS: dict[str, frozenset[str]] = {
    "text": frozenset({"type", "text", "cache_control"}),
    "image": frozenset({"type", "source", "cache_control"}),
    "document": frozenset({"type", "source", "title", "context", "citations", "cache_control"}),
    "search_result": frozenset({"type", "source", "title", "content", "citations", "cache_control"}),
    "tool_reference": frozenset({"type", "tool_name", "cache_control"}),
}
"""The fields the API takes: a record with any other is a record, not a block."""
_SOURCES = frozenset({"base64", "url", "file", "text", "content"})


class Toolbox:
    """A `ToolRunner` over a frozen registry."""

    def __init__(
        self,
        registry: Registry,
        *,
        session_id: str,
        root: Path,
        redact: Callable[[str], str] = lambda text: text,
        grace_s: float = GRACE_S,
    ) -> None:
        """Run the tools of this registry for this session, in this folder."""
        self._grace_s = grace_s
        self._tools = registry.tools
        self._session_id = session_id
        self._root = root
        self._redact = redact
        self.leaked = 0
        """Threads of calls that were given up and may still run."""
        self.undone: list[str] = []
        """What tools changed in the process, and was changed back: `name: the environment`."""

    def card(self, name: str) -> ToolCard | None:
        """What the tool declared."""
        return self._tools[name].card if name in self._tools else None

    def invalid(self, call: Call) -> str | None:
        """Why a call cannot be run."""
        tool = self._tools.get(call.name)
        if tool is None:
            return f"there is no tool named '{call.name}'; there are {', '.join(self._tools)}"
        if not isinstance(call.input, dict):
            return f"the input must be a JSON object, found {type(call.input).__name__}"
        return None

    def run(
        self, calls: Sequence[Call], idempotency_key: Callable[[Call], str], wakes_in_s: Wakes = never
    ) -> Iterator[Answer | None]:
        """The answers, in the order of the calls; None each time the caller is woken before one."""
        before = surroundings.here()
        running = [_Running(self._tools[c.name], c, self._current(c, idempotency_key(c))) for c in calls]
        for one in running:
            stopped = None
            while stopped is None and (seconds := wakes_in_s()) is not None and one.outlasts(seconds):
                stopped = self._stopped_while(one, seconds)
                if not one.over:
                    yield None
            stopped = stopped or self._stopped_while(one)
            answer = self._answer(one)
            self._undo(before, one.tool.name)
            yield answer
            if stopped is not None:
                raise stopped

    def _stopped_while(self, running: "_Running", at_most_s: float = math.inf) -> KeyboardInterrupt | None:
        """Wait for a call, so many seconds at most. A signal that comes meanwhile is handed back when the call came to its end
        in time, so that its answer is on record first; one that only reads is not waited for."""
        try:
            running.wait(at_most_s)
        except KeyboardInterrupt as e:
            if running.tool.effect == "read" or running.tool.name == DELEGATE or not running.wait(self._grace_s):
                raise  # leaves are stopped with their session, and carried on with it
            return e
        return None

    def _undo(self, before: surroundings.Surroundings, name: str) -> None:
        """The next turn starts in the process that the session started in, whatever a tool did to it."""
        if changed := surroundings.restored(before):
            self.undone += [f"{name}: {what}" for what in changed]
            structlog.get_logger(__name__).warning("tool_changed_process", tool=name, changed_back=changed)

    def _current(self, call: Call, key: str) -> CurrentCall:
        return CurrentCall(self._session_id, call.id, key, self._root)

    def _answer(self, running: "_Running") -> Answer:
        if not running.wait():
            self.leaked += 1
            limit = running.tool.timeout_s
            return Answer(f"no answer within {limit:g} seconds; the call was given up", "timeout", running.took())
        if running.error is not None:
            said, outcome = _said(running.error, running.tool)
            return Answer(self._redact(said), outcome, running.took())
        came_of_it: ToolOutcome = "error" if running.failed else "ok"
        return Answer(self._redacted(running.content), came_of_it, running.took(), running.leaves)

    def _redacted(self, content: str | list[Block]) -> str | list[Block]:
        if isinstance(content, str):
            return self._redact(content)
        return cleaned_blocks(content, self._redact)


class _Running:
    """One call in its thread."""

    def __init__(self, tool: Tool, call: Call, current: CurrentCall) -> None:
        self.tool = tool
        self.content: str | list[Block] = EMPTY
        self.error: BaseException | None = None
        self.leaves: tuple[LeafRun, ...] | None = None
        self.failed = False
        self._started = time.monotonic()
        self._finished: float | None = None
        # the tool gets its own copy of the input: what it changes is seen by nobody
        arguments: Json = json.loads(compact(plain_json(call.input)))
        self._over = threading.Event()  # a signal that comes while a thread is joined makes Python take it for ended
        context = copy_context()
        threading.Thread(
            target=context.run, args=(self._run, arguments, current), name=f"tool-{call.name}", daemon=True
        ).start()

    def _run(self, arguments: Json, current: CurrentCall) -> None:
        answering(current)
        try:
            reached("tool.starting")
            value = settle(self.tool.sdk.call(arguments))
            reached("tool.effected")
            self._returned(value)
        except BaseException as e:  # noqa: BLE001  SystemExit, RecursionError, MemoryError too: a tool must not end the session
            self.error = e
        self._finished = time.monotonic()
        self._over.set()

    def _returned(self, value: Any) -> None:
        if isinstance(value, Billed):
            value, self.leaves, self.failed = value.content, value.leaves, value.failed
        self.content = as_content(value)

    def wait(self, at_most_s: float = math.inf) -> bool:
        """Whether the call came back before its deadline, or before so many seconds."""
        until = time.monotonic() + min(self._left_s(), at_most_s)
        while not self._over.wait(max(0.0, min(until - time.monotonic(), LOOK_S))) and time.monotonic() < until:
            continue
        return self.over

    def outlasts(self, seconds: float) -> bool:
        """Whether the call is not back, and its deadline comes later than so many seconds from now."""
        return not self.over and seconds < self._left_s()

    @property
    def over(self) -> bool:
        """Whether the call is back."""
        return self._over.is_set()

    def _left_s(self) -> float:
        return self._started + self.tool.timeout_s - time.monotonic()

    def took(self) -> float:
        """Seconds."""
        return round((self._finished or time.monotonic()) - self._started, 6)


def as_content(value: Any) -> str | list[Block]:
    """What a tool returned, as the model can be shown it: text, or content blocks as they are.

    Numbers, models, dates, sets and the like become JSON; sets in a fixed order. Raises ValueError for what has no JSON.
    """
    match value:
        case None:
            return EMPTY
        case str():
            return _text(value)
        case bytes() | bytearray():
            return _text(bytes(value).decode("utf-8", "replace"))
        case list() if value and all(map(_is_block, value)):
            shown = [_block(b) for b in value]
            return "\n".join(b["text"] for b in shown) if all(b["type"] == "text" for b in shown) else shown
        case Iterator():
            return _text(_first(value))
        case _:
            return _text(to_json(_ordered(value), inf_nan_mode="constants").decode())


def _is_block(value: Any) -> bool:
    kind = value.get("type") if isinstance(value, dict) else None
    needed = _BLOCKS.get(kind) if isinstance(kind, str) else None
    if needed is None or not isinstance(value.get(needed[0]), needed[1]) or not value.keys() <= _BLOCK_KEYS[str(kind)]:
        return False
    return kind not in ("image", "document") or value["source"].get("type") in _SOURCES


def _block(block: Block) -> Block:
    """A content block as it is, without a cache mark: where the cache ends is for the engine to say."""
    kept = {k: v for k, v in block.items() if k != "cache_control"}
    shown: Block = plain_json({**kept, "text": _text(kept["text"])} if kept["type"] == "text" else kept)
    return shown


def _text(value: str) -> str:
    """Text that the model, the log and a terminal can all take; not blank, and no longer than the limit."""
    text = _ESCAPES.sub("", plain(value[: MAX_RESULT_CHARS + 1]))
    text = _CONTROLS.sub("\ufffd", text)
    if len(text) > MAX_RESULT_CHARS:
        text = f"{text[:MAX_RESULT_CHARS]}\n[cut: the tool returned more than {MAX_RESULT_CHARS:,} characters]"
    return text if text.strip() else EMPTY


def _first(pieces: Iterable[object]) -> str:
    """As much of an endless answer as the limit allows."""
    kept: list[str] = []
    size = 0
    for piece in pieces:
        kept.append(piece if isinstance(piece, str) else str(piece))
        size += max(1, len(kept[-1]))  # nothing, given without end, is endless too
        if size > MAX_RESULT_CHARS:
            break
    return "".join(kept)


def _ordered(value: Any) -> Any:
    """The value with its sets in a fixed order: their own differs from process to process."""
    match value:
        case set() | frozenset():
            return sorted((_ordered(v) for v in value), key=repr)
        case dict():
            return {k: _ordered(v) for k, v in value.items()}
        case list() | tuple():
            return [_ordered(v) for v in value]
        case _:
            return value


def _said(error: BaseException, tool: Tool) -> tuple[str, ToolOutcome]:
    """An exception in words for the model, and whether the call itself was wrong."""
    cause = error.__cause__
    if isinstance(error, ValueError) and isinstance(cause, ValidationError) and not _ran(cause, tool):
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'input'}: {e['msg']}" for e in cause.errors(include_url=False))
        return _shortened(f"not run, the input does not fit: {wrong}"), "invalid"
    return _shortened(_printed(error)), "error"


def _ran(error: BaseException, tool: Tool) -> bool:
    """Whether the tool's own code was running when this was raised: then its input had passed."""
    return any(frame.f_code is tool.code for frame, _ in traceback.walk_tb(error.__traceback__))


def _printed(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  an exception of a tool may do anything when it is printed
        return f"{type(error).__name__}, which cannot be printed"


def _shortened(text: str) -> str:
    text = _text(text)
    return text if len(text) <= MAX_ERROR_CHARS else f"{text[:MAX_ERROR_CHARS]}…"
