"""The results of a session that were shown as facts: who made the facts, what that cost, and how often the rest was wanted."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from agentloop.core import costs
from agentloop.core.results import LEAST_HANDLE
from agentloop.types import blocks
from agentloop.types.blocks import RECALL, Blocks
from agentloop.types.events import (
    Event,
    FellBack,
    ModelFailed,
    ModelReplied,
    ModelRequested,
    RawResult,
    ResultExtracted,
    SessionStarted,
    ToolFinished,
)
from agentloop.types.usage import ModelCard


@dataclass
class Trimmed:
    """One result, as its session went on."""

    tool: str
    raw: RawResult
    shown: str
    made_by: str
    """The extractor, or the model whose facts are shown."""
    call_id: str = ""
    asked_usd: Decimal = Decimal(0)
    why_not: str = ""
    """Why the facts of the model that was to be asked are not shown."""
    recalls: int = 0
    recalls_usd: Decimal = Decimal(0)
    """What the turns cost that asked for nothing but parts of trimmed results, each shared out over these."""


def trimmed(events: Sequence[Event]) -> dict[int, list[Trimmed]]:
    """By turn, the results of its calls that were shown as facts."""
    start = events[0].body
    assert isinstance(start, SessionStarted)
    found: dict[int, list[Trimmed]] = {}
    by_call: dict[str, Trimmed] = {}
    asked: ModelRequested | None = None
    card = start.card
    for event in events:
        match event.body:
            case ToolFinished(turn=turn, call_id=call_id, raw=raw) as finished if raw is not None:
                by_call[call_id] = Trimmed(finished.name, raw, str(finished.content), raw.extractor, call_id)
                found.setdefault(turn, []).append(by_call[call_id])
            case ModelRequested(purpose="extraction") as asked:
                pass
            case ModelReplied(purpose="extraction", reply=reply) if asked is not None and asked.call_id in by_call:
                by_call[asked.call_id].asked_usd += costs.cost(reply.usage, reply.priced_by or card)
            case ModelFailed(purpose="extraction", failure=failure) if asked is not None and asked.call_id in by_call:
                if failure.usage is not None:
                    by_call[asked.call_id].asked_usd += costs.cost(failure.usage, asked.asked_of or card)
            case ResultExtracted(call_id=call_id, content=content, detail=detail) if call_id in by_call:
                _settled(by_call[call_id], content, detail, asked)
            case ModelReplied(purpose="turn", reply=reply):
                _recalled(list(by_call.values()), reply.content, costs.cost(reply.usage, reply.priced_by or card))
            case FellBack(to=to):
                card = to.card
            case _:
                pass
    return found


def _settled(one: Trimmed, content: str | None, detail: str, asked: ModelRequested | None) -> None:
    if content is None:
        one.why_not = detail
    else:
        one.shown, one.made_by = content, _name(asked)


def _name(asked: ModelRequested | None) -> str:
    card: ModelCard | None = asked.asked_of if asked is not None else None
    return card.id if card is not None else "a model"


def _recalled(known: Sequence[Trimmed], content: Blocks, cost_usd: Decimal) -> None:
    """Count the calls of a reply that ask for the rest of a result; of one that came more than once, when it came last."""
    calls = blocks.calls(content)
    last = {one.raw.digest: one for one in known}
    wanted = [one for c in calls if c.name == RECALL for digest, one in last.items() if _means(c.input, digest)]
    for one in wanted:
        one.recalls += 1
        if all(c.name == RECALL for c in calls):
            one.recalls_usd += cost_usd / len(wanted)


def _means(given: Any, digest: str) -> bool:
    handle = given.get("handle") if isinstance(given, dict) else None
    return isinstance(handle, str) and len(handle) >= LEAST_HANDLE and digest.startswith(handle)
