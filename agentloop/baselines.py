"""What the same session would have cost in other hands: the plain loop, automatic caching, six pairs on each turn.

The trajectory is held fixed: the same calls, replies and times. Results count whole, as a loop without facts would have
carried them; turns that only asked for `recall` are left out, as such a loop would not have needed them. Prompts are
priced by the same theory of the cache as everything else (`core/cache.py`), their tokens scaled by what the session's
own requests really had.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from agentloop.core import cache, costs, tokens
from agentloop.core.cache import Mark, Part
from agentloop.core.folding import evolve, prefix_tokens
from agentloop.core.state import State
from agentloop.types import blocks
from agentloop.types.base import Frozen, compact
from agentloop.types.blocks import Block
from agentloop.types.events import Event, InputGiven, ModelReplied, ModelRequested, ToolFinished
from agentloop.types.usage import ModelCard, Usage

KEPT_PAIRS = 6
SUMMARY_CHARS = 200
"""What the six-pair habit keeps of an older assistant text."""
RECALL = "recall"


class Baselines(Frozen):
    """USD for the whole session."""

    naive_usd: Decimal
    """The whole history sent again on each turn, nothing cached."""
    automatic_caching_usd: Decimal
    """The whole history, with the API's automatic caching (5 minutes)."""
    every_turn_usd: Decimal
    """The last six pairs and a line for each older turn, tools and system cached."""


class Step(NamedTuple):
    """One turn of the trajectory."""

    at: datetime
    given: tuple[Part, ...]
    reply: tuple[Part, ...]
    said: str
    output_tokens: int


class Trajectory(NamedTuple):
    """What happened, apart from how it was carried."""

    card: ModelCard
    static_tokens: int
    steps: tuple[Step, ...]
    scale: Decimal
    """Tokens that the session's own prompts really had, for one that was estimated."""


def baselines(events: Iterable[Event], state: State) -> Baselines:
    """The three baselines of a session; `state` is its first (`core.folding.begin`)."""
    path = trajectory(events, state)
    return Baselines(
        naive_usd=naive(path),
        automatic_caching_usd=automatic_caching(path),
        every_turn_usd=every_turn(path),
    )


def trajectory(events: Iterable[Event], state: State) -> Trajectory:
    """The turns of a session, whole results in the place of facts."""
    steps: list[Step] = []
    whole: dict[str, int] = {}
    sent_at = state.started_at
    real = estimated = 0
    pending: list[Part] = []
    for event in events:
        match event.body:
            case InputGiven(content=content):
                pending += _parts("user", content, state.card, whole)
            case ModelRequested():
                sent_at = event.at
            case ToolFinished(call_id=call_id, raw=raw) if raw is not None:
                whole[call_id] = raw.tokens
            case ModelReplied(purpose="turn", reply=reply):
                real, estimated = real + reply.usage.prompt_tokens, estimated + state.prompt_tokens
                after = evolve(state, event)
                if len(after.turns) > len(state.turns) and not _only_recalls(reply.content):
                    said = blocks.text_of(reply.content)
                    parts = _parts("assistant", reply.content, state.card, whole)
                    steps.append(Step(sent_at, tuple(pending), tuple(parts), said, reply.usage.output_tokens))
                    pending = []
            case _:
                pass
        before, state = state, evolve(state, event)
        if isinstance(event.body, ToolFinished) and not state.open_calls and not _only_recalls(before.turns[-1].reply):
            results = [b for b in state.given if b.get("type") == "tool_result"]
            pending += _parts("user", results, state.card, whole)
    scale = Decimal(real) / Decimal(estimated) if estimated else Decimal(1)
    return Trajectory(state.card, prefix_tokens(state.prefix, state.card), tuple(steps), scale)


def _only_recalls(content: Sequence[Block]) -> bool:
    calls = blocks.calls(content)
    return bool(calls) and all(c.name == RECALL for c in calls)


def _parts(role: str, content: Sequence[Block], card: ModelCard, whole: dict[str, int]) -> list[Part]:
    return [_part(role, block, card, whole) for block in content]


def _part(role: str, block: Block, card: ModelCard, whole: dict[str, int]) -> Part:
    kind = str(block.get("type"))
    size = whole.get(str(block.get("tool_use_id"))) if kind == "tool_result" else None
    count = size if size is not None else tokens.block_tokens(block, card.tokenizer)
    return Part(f"{role}{kind}".encode() + compact(block), count, kind if kind in ("tool_use", "tool_result") else "")


def naive(path: Trajectory) -> Decimal:
    """The plain loop."""
    total, size = Decimal(0), path.static_tokens
    for step in path.steps:
        size += sum(p.tokens for p in step.given)
        total += _price(path, Usage(input_tokens=size, output_tokens=step.output_tokens))
        size += sum(p.tokens for p in step.reply)
    return total


def automatic_caching(path: Trajectory) -> Decimal:
    """The plain loop with the API's automatic caching: one breakpoint, on the last block of each request."""
    asked = cache.prompt([Part(b"static", path.static_tokens)], [], path.card)
    entries: dict[bytes, cache.Entry] = {}
    total = Decimal(0)
    for step in path.steps:
        asked = cache.extended(asked, step.given, [Mark(len(asked.chain) + len(step.given) - 1, "5m")])
        account = _accounted(asked, entries, step)
        total += _price(path, account.usage(step.output_tokens))
        asked = cache.extended(asked, step.reply, [])
    return total


def every_turn(path: Trajectory) -> Decimal:
    """Six pairs and a summary that is made anew on each turn: nothing behind the system prompt is ever read again."""
    static = cache.prompt([Part(b"static", path.static_tokens)], [Mark(0, "5m")], path.card)
    entries: dict[bytes, cache.Entry] = {}
    total = Decimal(0)
    for i, step in enumerate(path.steps):
        usage = _accounted(static, entries, step).usage(step.output_tokens)
        fresh = usage.input_tokens + _six_pairs(path, i)
        total += _price(path, usage.model_copy(update={"input_tokens": fresh}))
    return total


def _six_pairs(path: Trajectory, turn: int) -> int:
    """Tokens behind the system prompt: the task, the summary of what is older, the last six pairs."""
    first = max(0, turn - KEPT_PAIRS)
    summary = "\n".join(f"- {s.said[:SUMMARY_CHARS]}" for s in path.steps[:first])
    pairs = [*path.steps[0].given] + [p for k in range(first, turn) for p in (*path.steps[k].reply, *path.steps[k + 1].given)]
    return sum(p.tokens for p in pairs) + tokens.estimate(summary, path.card.tokenizer)


def _accounted(asked: cache.Prompt, entries: dict[bytes, cache.Entry], step: Step) -> cache.Account:
    """What a request reads and writes; the entries are brought up to date."""
    at = step.at.timestamp()
    account = cache.account(asked, entries, at, at)
    entries |= account.changes
    return account


def _price(path: Trajectory, usage: Usage) -> Decimal:
    """USD of a usage whose prompt was estimated: scaled to what such prompts really have."""

    def scaled(count: int) -> int:
        return int((count * path.scale).to_integral_value())

    real = Usage(
        input_tokens=scaled(usage.input_tokens),
        cache_read_input_tokens=scaled(usage.cache_read_input_tokens),
        ephemeral_5m_input_tokens=scaled(usage.ephemeral_5m_input_tokens),
        ephemeral_1h_input_tokens=scaled(usage.ephemeral_1h_input_tokens),
        output_tokens=usage.output_tokens,
    )
    return costs.cost(real, path.card)
