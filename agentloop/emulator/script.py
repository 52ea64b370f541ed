"""Who answers: scripts, and where in a script a request stands.

A resumed session is a new process, so a script keeps nothing. The step is read from the request alone: the reply's id
carries it (`msg_<script>_<step>`), and a client that asks for cache diagnostics sends the id of its last reply back.
For a client that does not, the assistant's messages are counted.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from agentloop.core import extraction
from agentloop.core.cache import as_blocks
from agentloop.emulator import signatures
from agentloop.errors import ConfigError
from agentloop.types import blocks
from agentloop.types.base import Json, compact
from agentloop.types.blocks import Block
from agentloop.types.request import Reply

SUMMARY_QUESTION = "[agentloop] Before the oldest turns"
"""How the engine's request for a session state begins; every script answers it itself, and it is no step."""
_RESULT = re.compile(r"<(result_\w+)>\n(.*)\n</\1>", re.DOTALL)
_FACTS_LINES = 12

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FIRST_WORDS = 40
_STILL_TO_COME = ("_rule", "_cut")
"""Endings of ids whose reply did not use its step up: a rule spoke in its place, or it was cut off."""


class ScriptedReply(NamedTuple):
    """What a script answers to one request."""

    content: tuple[Block, ...]
    stop_reason: str = "end_turn"
    message_id: str = ""
    output_tokens: int | None = None
    """As it was recorded; None: counted from the content."""
    stop_details: Json | None = None
    stop_sequence: str | None = None


class Script(Protocol):
    """Answers requests. The same request gets the same reply, in any process."""

    def reply(self, request: Json) -> ScriptedReply:
        """The reply to the body of a Messages request."""
        ...


@dataclass(frozen=True)
class Recording:
    """A recorded session's replies, one a step. Their message ids are the script's, not the recorded ones."""

    name: str
    replies: Sequence[ScriptedReply]

    def __post_init__(self) -> None:
        checked_name(self.name)

    @classmethod
    def of(cls, name: str, replies: Iterable[Reply]) -> "Recording":
        """The replies that stand in a session's log."""
        return cls(name, tuple(_scripted(r) for r in replies))

    def reply(self, request: Json) -> ScriptedReply:
        """The reply of the step at which the request stands."""
        if (own := answered_by_itself(self.name, request)) is not None:
            return own
        at = step(self.name, request)
        said = self.replies[at] if at < len(self.replies) else spoken("The recording ends here.")
        return said._replace(message_id=message_id(self.name, at))


@dataclass(frozen=True)
class Function:
    """Replies that a function makes from the request and the step: content blocks, or a whole reply."""

    name: str
    answer: Callable[[Json, int], ScriptedReply | Sequence[Block]]

    def __post_init__(self) -> None:
        checked_name(self.name)

    def reply(self, request: Json) -> ScriptedReply:
        """What the function says."""
        if (own := answered_by_itself(self.name, request)) is not None:
            return own
        at = step(self.name, request)
        said = self.answer(request, at)
        reply = said if isinstance(said, ScriptedReply) else replying(said)
        return reply._replace(message_id=message_id(self.name, at))


def checked_name(name: str) -> str:
    """The name of a script, which stands in message and call ids. Raises ConfigError where it cannot."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"script name {name!r} is expected to be 1 to 64 letters, digits, '-' or '_'; rename the script")
    return name


def message_id(name: str, at: int) -> str:
    """The id of the reply at a step."""
    return f"msg_{name}_{at:04d}"


def step(name: str, request: Json) -> int:
    """The step at which a request stands, counted from 0."""
    previous = (request.get("diagnostics") or {}).get("previous_message_id")
    found = re.fullmatch(rf"msg_{re.escape(name)}_([0-9]{{4,18}})((?:{'|'.join(_STILL_TO_COME)})*)", str(previous))
    if found:
        return int(found[1]) + (0 if found[2] else 1)
    return _answers(request["messages"])


def _answers(messages: Sequence[Json]) -> int:
    """How many replies the messages hold, with those that the summary at their head stands for."""
    said = sum(1 for m in messages if m["role"] == "assistant" and any(b["type"] != "compaction" for b in _blocks(m)))
    first = next(iter(_blocks(messages[0])), None) if messages else None
    if first is None or first["type"] != "compaction":
        return said
    summarised = signatures.compaction_of(first)
    return said + (summarised.answers if summarised else 0)


def _blocks(message: Json) -> list[Block]:
    return as_blocks(message.get("content") or [])


def unchanged(reply: ScriptedReply) -> ScriptedReply:
    """The reply as it is."""
    return reply


def replying(content: Sequence[Block]) -> ScriptedReply:
    """A reply of these blocks, with the stop reason that they imply."""
    return ScriptedReply(tuple(content), "tool_use" if blocks.calls(content) else "end_turn")


def spoken(text: str) -> ScriptedReply:
    """A reply in words that ends the turn."""
    return ScriptedReply((blocks.text(text),))


def answered_by_itself(name: str, request: Json) -> ScriptedReply | None:
    """The reply to what the engine asks for its own ends, which is no step of a script; None for anything else."""
    if asks_for_summary(request):
        return summary(name, request)
    return facts(name, request) if asks_for_facts(request) else None


def asks_for_facts(request: Json) -> bool:
    """Whether the engine asks a cheap model for the facts of a result."""
    system = as_blocks(request.get("system") or [])
    return [b.get("text") for b in system] == [extraction.SYSTEM]


def facts(name: str, request: Json) -> ScriptedReply:
    """The first lines of the result that say something: a script does not know what matters."""
    found = _RESULT.search(blocks.text_of(as_blocks(request["messages"][-1]["content"])))
    lines = [line for line in (found[2] if found else "").split("\n") if line.strip()][:_FACTS_LINES]
    digest = hashlib.blake2b(compact(request["messages"]), digest_size=8).hexdigest()
    return spoken("\n".join(lines) or "nothing")._replace(message_id=f"msg_{name}_facts_{digest}")


def asks_for_summary(request: Json) -> bool:
    """Whether the engine asks for a session state before a compaction."""
    last = request["messages"][-1]
    texts = [b["text"] for b in as_blocks(last["content"]) if b.get("type") == "text"]
    return last["role"] == "user" and bool(texts) and texts[-1].startswith(SUMMARY_QUESTION)


def summary(name: str, request: Json) -> ScriptedReply:
    """A short session state: what was asked, which tools were called, what was said last."""
    history = [(m["role"], as_blocks(m["content"])) for m in request["messages"][:-1]]
    called = Counter(c.name for _, content in history for c in blocks.calls(content))
    asked = next((t for role, c in history if role == "user" and (t := blocks.text_of(c))), "nothing")
    told = next((t for role, c in reversed(history) if role == "assistant" and (t := blocks.text_of(c))), "nothing yet")
    tools = ", ".join(f"{tool} ({times} times)" for tool, times in sorted(called.items())) or "none"
    text = (
        f"Asked: {_first_words(asked)}\nTools called so far: {tools}.\nLast said: {_first_words(told)}\nStill open: the rest."
    )
    digest = hashlib.blake2b(compact(request["messages"]), digest_size=8).hexdigest()
    return spoken(text)._replace(message_id=f"msg_{name}_summary_{digest}")


def _first_words(text: str) -> str:
    return " ".join(text.split()[:_FIRST_WORDS])


def _scripted(reply: Reply) -> ScriptedReply:
    details = reply.stop_details if isinstance(reply.stop_details, dict) else None
    return ScriptedReply(reply.content, reply.stop_reason, "", reply.usage.output_tokens or None, details)
