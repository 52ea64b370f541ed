"""The lines of a log that `agentloop.testing` has no builder for, and texts of an exact size."""

from decimal import Decimal

from agentloop.core.folding import fold
from agentloop.core.state import State
from agentloop.testing import card, events
from agentloop.types.events import Compacted, Decision, ModelFailed, ModelReplied, ModelRequested, ToolFinished, ToolStarted
from agentloop.types.request import Breakpoint, Failure, FailureKind, Purpose, Reply
from agentloop.types.usage import ModelCard, Prices, Ttl, Usage


def after(*bodies: object) -> State:
    """The state after these lines."""
    return fold(events(*bodies))


def asked(
    turn: int = 1,
    purpose: Purpose = "turn",
    decision: Decision | None = None,
    max_tokens: int = 1_000,
    ttl: Ttl | None = None,
) -> ModelRequested:
    """`ttl`: how long its end is asked to be cached; None where it is not."""
    return ModelRequested(
        turn=turn,
        purpose=purpose,
        digest="0" * 64,
        body_bytes=100,
        max_tokens=max_tokens,
        decision=decision,
        breakpoints=(Breakpoint(0, 0, ttl),) if ttl is not None else (),
    )


def answered(reply: Reply, turn: int = 1, purpose: Purpose = "turn") -> ModelReplied:
    return ModelReplied(turn=turn, purpose=purpose, reply=reply)


def failed(kind: FailureKind, purpose: Purpose = "turn", **changes: object) -> ModelFailed:
    failure = Failure(kind=kind, error_type=kind, message=f"it was {kind}").model_copy(update=changes)
    return ModelFailed(turn=1, purpose=purpose, failure=failure)


def started_call(call_id: str, name: str = "look") -> ToolStarted:
    return ToolStarted(turn=1, call_id=call_id, name=name, effect="once", idempotency_key=f"test:{call_id}")


def finished(call_id: str, content: str = "ok", name: str = "look", **changes: object) -> ToolFinished:
    return ToolFinished(turn=1, call_id=call_id, name=name, content=content).model_copy(update=changes)


def cut(keep_from: int, segment: str = "state", thinking_dropped: bool = False) -> Compacted:
    return Compacted(keep_from=keep_from, segment=segment, thinking_dropped=thinking_dropped)


def words(tokens: int) -> str:
    """A text of exactly this many estimated tokens: a letter weighs 0.31."""
    return "a" * (tokens * 1_000 // 310)


def unit_card(read: str = "0.1", **changes: object) -> ModelCard:
    """A model whose uncached input costs 1 USD a million tokens, so that micro-dollars are token units."""
    prices = Prices(
        input=Decimal(1),
        cache_write_5m=Decimal("1.25"),
        cache_write_1h=Decimal(2),
        cache_read=Decimal(read),
        output=Decimal(5),
    )
    return card(prices=(prices,), **changes)


def used(input_tokens: int = 0, read: int = 0, written: int = 0, hour: int = 0, output: int = 0) -> Usage:
    return Usage(
        input_tokens=input_tokens,
        cache_read_input_tokens=read,
        ephemeral_5m_input_tokens=written,
        ephemeral_1h_input_tokens=hour,
        output_tokens=output,
    )
