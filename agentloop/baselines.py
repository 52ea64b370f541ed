"""What the same session would have cost in other hands: the plain loop, automatic caching, six pairs on each turn.

The trajectory is held fixed: the same calls, replies and times. Results count whole, as a loop without facts would have
carried them; turns that only asked for `recall` are left out, as such a loop would not have needed them. Prompts are
priced by the same theory of the cache as everything else (`core/cache.py`), their tokens scaled by what the session's
own requests really had.

One pass, and of each turn no more is kept than the figures of its three usages.
"""

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from agentloop.core import cache, costs, tokens
from agentloop.core.cache import Mark, Part
from agentloop.core.folding import evolve
from agentloop.core.measuring import prefix_tokens
from agentloop.core.parts import references
from agentloop.core.state import State
from agentloop.types import blocks
from agentloop.types.base import Frozen, compact
from agentloop.types.blocks import RECALL, Block
from agentloop.types.events import Event, FellBack, InputGiven, ModelReplied, ModelRequested, ResultExtracted, ToolFinished
from agentloop.types.request import Reply
from agentloop.types.usage import ModelCard, Usage

KEPT_PAIRS = 6
SUMMARY_CHARS = 200
"""What the six-pair habit keeps of an older assistant text."""


class Baselines(Frozen):
    """USD for the whole session."""

    naive_usd: Decimal
    """The whole history sent again on each turn, nothing cached."""
    automatic_caching_usd: Decimal
    """The whole history, with the API's automatic caching (5 minutes)."""
    every_turn_usd: Decimal
    """The last six pairs and a line for each older turn, tools and system cached."""


class Step(NamedTuple):
    """One turn of the trajectory: what happened, apart from how it was carried."""

    at: datetime
    given: tuple[Part, ...]
    reply: tuple[Part, ...]
    said: str
    output_tokens: int


def baselines(events: Iterable[Event], state: State) -> Baselines:
    """The three baselines of a session; `state` is its first (`core.folding.begin`)."""
    others = OtherHands(state)
    for event in events:
        before, state = state, evolve(state, event)
        others.take(before, event, state)
    return others.baselines()


class OtherHands:
    """The three baselines while the events pass by, whole results in the place of facts."""

    def __init__(self, state: State) -> None:
        """Nothing has happened yet in the session of this state."""
        static_tokens = prefix_tokens(state.prefix, state.card)
        self._card = state.card
        self._naive = _Naive(static_tokens)
        self._automatic = _Automatic(static_tokens, state.card)
        self._every_turn = _EveryTurn(static_tokens, state.card)
        self._whole: dict[str, int] = {}
        self._deferred = {str(t.get("name")): t for t in state.prefix.tools if t.get("defer_loading")}
        self._pending: list[Part] = []
        self._sent_at = state.started_at
        self._real, self._estimated = 0, Decimal(0)
        self._unit = Decimal(1)
        """Tokens as the first model counts them, for one as the model counts them that speaks now."""
        self._before = Baselines(naive_usd=Decimal(0), automatic_caching_usd=Decimal(0), every_turn_usd=Decimal(0))
        """What it came to with the models that spoke before."""
        self._leaves = Decimal(0)
        """What leaves spent: they would have cost the same."""

    def take(self, before: State, event: Event, after: State) -> None:
        """One more event, and the states around it."""
        match event.body:
            case InputGiven(content=content):
                self._pending += self._parts("user", content)
            case ModelRequested(purpose="turn" | "summary"):
                self._sent_at = event.at
            case ToolFinished() as finished:
                self._leaves += sum((leaf.spent_usd for leaf in finished.leaves or ()), Decimal(0))
                if finished.raw is not None:
                    self._whole[finished.call_id] = finished.raw.tokens
                if not after.open_calls and after.to_extract is None:
                    self._answered(before, after)
            case ResultExtracted():
                if not after.open_calls and after.to_extract is None:
                    self._answered(before, after)
            case ModelReplied(purpose="turn", reply=reply):
                self._real += reply.usage.prompt_tokens
                self._estimated += before.prompt_tokens * self._unit
                if len(after.turns) > len(before.turns) and not _only_recalls(reply.content):
                    self._step(reply)
            case FellBack():
                self._fell_back(before, after)
            case _:
                pass

    def _fell_back(self, before: State, after: State) -> None:
        """Whoever else had carried the session would have had to go on with that model too, and with an empty cache."""
        self._before = self._so_far()
        self._card, self._real, self._estimated = after.card, 0, Decimal(0)
        if before.card.tokenizer != after.card.tokenizer:
            self._unit *= Decimal(before.prompt_tokens) / max(1, after.prompt_tokens)
        for one in (self._naive, self._automatic, self._every_turn):
            one.usages = _Usages()
        self._automatic.forget()
        self._every_turn.forget()

    def _answered(self, before: State, after: State) -> None:
        if not _only_recalls(before.turns[-1].reply):
            self._pending += self._parts("user", [b for b in after.given if b.get("type") == "tool_result"])
        self._whole = {}

    def _step(self, reply: Reply) -> None:
        given, answer = tuple(self._pending), tuple(self._parts("assistant", reply.content))
        self._pending = []
        step = Step(self._sent_at, given, answer, blocks.text_of(reply.content), reply.usage.output_tokens)
        for one in (self._naive, self._automatic, self._every_turn):
            one.take(step)

    def _parts(self, role: str, content: Sequence[Block]) -> list[Part]:
        return [self._with_found(_part(role, block, self._card, self._whole), block) for block in content]

    def _with_found(self, part: Part, block: Block) -> Part:
        """The part with the definitions of the deferred tools that its block is the first to find."""
        found = [t for name in references(block) if (t := self._deferred.pop(name, None)) is not None]
        return part._replace(tokens=part.tokens + sum(tokens.tool_tokens(t, self._card.tokenizer) for t in found))

    def baselines(self) -> Baselines:
        """What it comes to."""
        found = self._so_far()
        return Baselines(**{name: usd + self._leaves for name, usd in found.model_dump().items()})

    def _so_far(self) -> Baselines:
        """Without leaves."""
        scale = Decimal(self._real) / self._estimated if self._estimated else Decimal(1)
        return Baselines(
            naive_usd=self._before.naive_usd + self._naive.usages.price(scale, self._card),
            automatic_caching_usd=self._before.automatic_caching_usd + self._automatic.usages.price(scale, self._card),
            every_turn_usd=self._before.every_turn_usd + self._every_turn.usages.price(scale, self._card),
        )


def _only_recalls(content: Sequence[Block]) -> bool:
    calls = blocks.calls(content)
    return bool(calls) and all(c.name == RECALL for c in calls)


def _part(role: str, block: Block, card: ModelCard, whole: dict[str, int]) -> Part:
    kind = str(block.get("type"))
    size = whole.get(str(block.get("tool_use_id"))) if kind == "tool_result" else None
    count = size if size is not None else tokens.block_tokens(block, card.tokenizer)
    return Part(f"{role}{kind}".encode() + compact(block), count, kind if kind in ("tool_use", "tool_result") else "")


class _Usages:
    """One usage a turn, as bare numbers: they are priced at the end, when it is known how the estimates have to be scaled."""

    def __init__(self) -> None:
        self._figures = array("q")

    def add(self, usage: Usage) -> None:
        self._figures.extend(
            (
                usage.input_tokens,
                usage.cache_read_input_tokens,
                usage.ephemeral_5m_input_tokens,
                usage.ephemeral_1h_input_tokens,
                usage.output_tokens,
            )
        )

    def price(self, scale: Decimal, card: ModelCard) -> Decimal:
        """USD, where estimated prompts are scaled to what such prompts really have."""
        return sum((costs.cost(usage, card) for usage in self._scaled(scale)), Decimal(0))

    def _scaled(self, scale: Decimal) -> Iterator[Usage]:
        for i in range(0, len(self._figures), 5):
            *prompt, output = self._figures[i : i + 5]
            fresh, read, written_5m, written_1h = (int((count * scale).to_integral_value()) for count in prompt)
            yield Usage(
                input_tokens=fresh,
                cache_read_input_tokens=read,
                ephemeral_5m_input_tokens=written_5m,
                ephemeral_1h_input_tokens=written_1h,
                output_tokens=output,
            )


class _Naive:
    """The plain loop."""

    def __init__(self, static_tokens: int) -> None:
        self.usages = _Usages()
        self._size = static_tokens

    def take(self, step: Step) -> None:
        self._size += _size(step.given)
        self.usages.add(Usage(input_tokens=self._size, output_tokens=step.output_tokens))
        self._size += _size(step.reply)


class _Automatic:
    """The plain loop with the API's automatic caching: one breakpoint, on the last block of each request."""

    def __init__(self, static_tokens: int, card: ModelCard) -> None:
        self.usages = _Usages()
        self._asked = cache.prompt([Part(b"static", static_tokens)], [], card)
        self._entries: dict[bytes, cache.Entry] = {}

    def forget(self) -> None:
        """Nothing is in the cache any more."""
        self._entries = {}

    def take(self, step: Step) -> None:
        last = len(self._asked.chain) + len(step.given) - 1
        asked = cache.extended(self._asked, step.given, [Mark(last, "5m")])
        self.usages.add(_accounted(asked, self._entries, step).usage(step.output_tokens))
        self._asked = cache.within_reach(cache.extended(asked, step.reply, []))
        self._entries = {key: self._entries[key] for key in self._asked.chain if key in self._entries}


class _EveryTurn:
    """Six pairs and a summary that is made anew on each turn: nothing behind the system prompt is ever read again."""

    def __init__(self, static_tokens: int, card: ModelCard) -> None:
        self.usages = _Usages()
        self._family = card.tokenizer
        self._static = cache.prompt([Part(b"static", static_tokens)], [Mark(0, "5m")], card)
        self._entries: dict[bytes, cache.Entry] = {}
        self._task: int | None = None
        self._kept: deque[tuple[int, str]] = deque()
        """Tokens of each kept reply and of what was given next, and what the reply said."""
        self._summary = 0
        """Thousandths of a token of the summary."""

    def forget(self) -> None:
        """Nothing is in the cache any more."""
        self._entries = {}

    def take(self, step: Step) -> None:
        usage = _accounted(self._static, self._entries, step).usage(step.output_tokens)
        behind = usage.input_tokens + self._behind(_size(step.given))
        self.usages.add(usage.model_copy(update={"input_tokens": behind}))
        self._kept.append((_size(step.reply), step.said))

    def _behind(self, given: int) -> int:
        """Tokens behind the system prompt: the task, the summary of what is older, the last six pairs."""
        if self._task is None:
            self._task = given
            return given
        size, said = self._kept.pop()
        self._kept.append((size + given, said))
        if len(self._kept) > KEPT_PAIRS:
            line = f"- {self._kept.popleft()[1][:SUMMARY_CHARS]}"
            self._summary += tokens.thousandths(f"\n{line}" if self._summary else line, self._family)
        return self._task + sum(size for size, _ in self._kept) + tokens.rounded_up(self._summary)


def _size(parts: Iterable[Part]) -> int:
    return sum(p.tokens for p in parts)


def _accounted(asked: cache.Prompt, entries: dict[bytes, cache.Entry], step: Step) -> cache.Account:
    """What a request reads and writes; the entries are brought up to date."""
    at = step.at.timestamp()
    account = cache.account(asked, entries, at, at)
    entries |= account.changes
    return account
