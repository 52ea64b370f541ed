"""For tests, yours and ours: an emulated API, a scripted model, builders for events, a clock that stands still, laws for
whatever keeps sessions. `agentloop.pytest_plugin` brings the emulated API as the fixture `emulator`."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from agentloop.conformance import NOON, blobs_conformance, log_conformance, store_conformance
from agentloop.core import wire
from agentloop.emulated import Bill, EmulatedApi
from agentloop.policies import PolicySettings
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block
from agentloop.types.events import Event, InputGiven, SessionStarted
from agentloop.types.limits import Limits
from agentloop.types.request import Failure, Prefix, Reply
from agentloop.types.tools import ToolCard
from agentloop.types.usage import ModelCard, Prices, Usage

__all__ = [
    "NOON",
    "Bill",
    "EmulatedApi",
    "FixedClock",
    "Scripted",
    "ScriptedModel",
    "blobs_conformance",
    "calls_tool",
    "card",
    "events",
    "given",
    "log_conformance",
    "reply",
    "says",
    "started",
    "store_conformance",
]


class FixedClock:
    """A clock that moves only when it is told to, or by `step_s` at each look."""

    def __init__(self, at: datetime = NOON, step_s: float = 0.0) -> None:
        """Start at this time."""
        self.at = at
        self.step_s = step_s

    def now(self) -> datetime:
        """The time it was set to."""
        now, self.at = self.at, self.at + timedelta(seconds=self.step_s)
        return now

    def monotonic(self) -> float:
        """The same, as seconds."""
        return self.at.timestamp()

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)


class ScriptedModel:
    """A `ModelClient` that answers from a list: replies, failures, or functions of the request body."""

    def __init__(self, answers: Sequence["Scripted"]) -> None:
        """Answer with these, in order; the last one again when they run out."""
        self._answers = list(answers)
        self.bodies: list[bytes] = []
        """Every body that was sent."""

    def ask(self, body: bytes) -> Iterator[Failure | Reply]:
        """The next answer. A failure that says it will be retried is followed by the answer after it."""
        self.bodies.append(body)
        while True:
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            made = answer(body) if callable(answer) else answer
            yield made
            if isinstance(made, Reply) or made.retry_in_s is None:
                return


Scripted = Reply | Failure | Callable[[bytes], Reply | Failure]


def card(**changes: object) -> ModelCard:
    """A model that costs 3 / 3.75 / 6 / 0.30 / 15 USD a million tokens."""
    prices = Prices(
        input=Decimal(3),
        cache_write_5m=Decimal("3.75"),
        cache_write_1h=Decimal(6),
        cache_read=Decimal("0.3"),
        output=Decimal(15),
    )
    known = ModelCard(
        id="claude-test",
        prices=(prices,),
        prices_as_of="2026-01-01",
        tokenizer="claude-4.7-plus",
        min_cacheable_tokens=512,
        context_window=1_000_000,
        max_output_tokens=64_000,
    )
    return known.model_copy(update=changes)


def started(
    *,
    session_id: str = "test",
    system: str = "You are a test.",
    tools: Sequence[Json] = (),
    tool_cards: Sequence[ToolCard] = (),
    model: ModelCard | None = None,
    policies: PolicySettings | None = None,
    limits: Limits | None = None,
) -> SessionStarted:
    """The first line of a log."""
    known = model or card()
    prefix = Prefix(model=known.id, system=system, tools=tuple(tools))
    return SessionStarted(
        session_id=session_id,
        agent="test",
        prefix=prefix,
        prefix_digest=wire.prefix_digest(prefix),
        card=known,
        tools=tuple(tool_cards),
        policies=(policies or PolicySettings()).data(),
        limits=limits or Limits(),
        played_by="test",
    )


def given(text: str) -> InputGiven:
    """What a user says."""
    return InputGiven(content=(blocks.text(text),))


def reply(*content: Block, stop_reason: str | None = None, message_id: str = "msg_test", usage: Usage | None = None) -> Reply:
    """A reply of these blocks; it stops for its tool calls if it has any."""
    return Reply(
        message_id=message_id,
        model="claude-test",
        content=content,
        stop_reason=stop_reason or ("tool_use" if blocks.calls(content) else "end_turn"),
        usage=usage or Usage(input_tokens=10, output_tokens=5),
    )


def says(words: str) -> Reply:
    """A reply that ends the session with these words."""
    return reply(blocks.text(words))


def calls_tool(call_id: str, name: str, **arguments: object) -> Reply:
    """A reply that calls one tool."""
    return reply(blocks.tool_use(call_id, name, dict(arguments)))


def events(*bodies: object) -> list[Event]:
    """Bodies as the events of a log, a second apart."""
    return [Event.model_validate({"seq": i, "at": NOON + timedelta(seconds=i), "body": body}) for i, body in enumerate(bodies)]
