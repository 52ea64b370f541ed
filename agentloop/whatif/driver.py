"""A recording under other policies, offline: log → fold → decide, and nothing is performed.

The model says what the recording says, the tools answer what they answered, and what a request reads and writes says the
theory of the cache (`core/cache.py`): so the bill is, to the last digit, that of the whole engine against the emulator.
Only the signatures of recorded thinking are not those that the emulator would make: where a state's room goes by the size
of what it stands for, it may hold a value more or less.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from agentloop.adapters.memory import MemoryBlobs
from agentloop.core import cache
from agentloop.core.choices import Policies
from agentloop.core.decide import CallModel, Effect, decide
from agentloop.core.folding import begin, evolve
from agentloop.core.state import State
from agentloop.emulator.reply import within
from agentloop.emulator.script import ScriptedReply
from agentloop.engine.loop import perform
from agentloop.engine.shell import Happened, Shell
from agentloop.importers.recording import Recording
from agentloop.recorded import Gaps, RecordedClock, RecordedTools, RecordedUser, started
from agentloop.types import blocks
from agentloop.types.events import Body, Compacted, Event, InputGiven, ModelFailed, ModelReplied, ModelRequested, SessionStarted
from agentloop.types.request import Failure, Reply, Request
from agentloop.types.usage import ModelCard, Usage
from agentloop.whatif.prompts import Prompts

Observer = Callable[[State, Event, State], None]
"""Told of each event, with the states before and after it."""


class Turn(NamedTuple):
    """One request for a turn, answered."""

    at: datetime
    request: Request
    usage: Usage
    cost_usd: Decimal


class Cut(NamedTuple):
    """One compaction: before which request (counted from 0) the turns before `keep_from` left, and what stands for them."""

    request: int
    keep_from: int
    segment_tokens: int


class Played(NamedTuple):
    """A recording, played to its end."""

    state: State
    turns: tuple[Turn, ...]
    cuts: tuple[Cut, ...]

    @property
    def cost_usd(self) -> Decimal:
        """The bill."""
        return self.state.spent_usd


def play(
    recording: Recording,
    card: ModelCard,
    policies: Policies,
    gaps: Gaps = None,
    observe: Observer = lambda *of: None,
    start: SessionStarted | None = None,
) -> Played:
    """The session that this recording would have been under these policies, at this model's prices, with these gaps.

    `start` takes the place of the recording's own tools, system prompt and limits; it must know the same card.
    """
    world = _World(recording, card, gaps, start)
    state = begin(world.start, world.clock.now())
    turns: list[Turn] = []
    cuts: list[Cut] = []
    number = 0

    def take(at: datetime, body: Body) -> State:
        nonlocal number
        number += 1
        event = Event(seq=number, at=at, body=body)
        after = evolve(state, event)
        observe(state, event, after)
        if isinstance(body, ModelReplied):
            world.clock.turn = after.asked
        elif isinstance(body, Compacted):
            cuts.append(Cut(state.asked, body.keep_from, after.segments[-1].tokens))
        return after

    state = take(world.clock.now(), InputGiven(content=recording.steps[0].told))
    while state.outcome is None:
        now = world.clock.now()
        for told in world.user(state):
            state = take(now, InputGiven(content=told))
        effect = decide(state, policies, now)
        for at, body in world.happens(effect, state, policies, now):
            before, state = state, take(at, body)
            if isinstance(effect, CallModel) and isinstance(body, ModelReplied):
                cost = state.spent_usd - before.spent_usd
                turns.append(Turn(now, effect.request, body.reply.usage, cost))
    return Played(state, tuple(turns), tuple(cuts))


class _Nobody:
    """A `ModelClient` that is not there: what the engine would ask besides the turns, no recording answers."""

    def ask(self, body: bytes) -> Iterator[Failure | Reply]:
        """No answer."""
        yield Failure(kind="unavailable", error_type="not_recorded", message="no recording knows the words of this answer")


class _World:
    """The recording in the place of model, tools, user and clock, and a cache that is only theory."""

    def __init__(self, recording: Recording, card: ModelCard, gaps: Gaps, start: SessionStarted | None) -> None:
        fixed = {"played_by": f"recording:{recording.id}", "grants": None}  # nobody hears a notice, nobody has to be asked
        self.start = start.model_copy(update=fixed) if start is not None else started(recording, "whatif", card, {})
        self.clock = RecordedClock(recording, gaps)
        self.user = RecordedUser(recording)
        self._steps = recording.steps
        self._card = card
        self._prompts = Prompts(self.start.prefix, card)
        self._entries: dict[bytes, cache.Entry] = {}
        self._shell = Shell(_Nobody(), RecordedTools(recording, self.start.tools), MemoryBlobs(), self.clock)

    def happens(self, effect: Effect, state: State, policies: Policies, now: datetime) -> Iterator[Happened]:
        """What comes of a decision."""
        if isinstance(effect, CallModel) and effect.request.purpose == "turn":
            yield from self._answered(effect, state, now)
        else:
            yield from perform(effect, state, policies, self._shell, now)

    def _answered(self, effect: CallModel, state: State, now: datetime) -> Iterator[Happened]:
        request, turn = effect.request, state.asked + 1
        asked = self._prompts.of(request)
        yield Happened(now, _requested(request, turn).model_copy(update={"decision": effect.decision}))
        if asked.tokens > self._card.context_window:
            yield Happened(now, ModelFailed(turn=turn, purpose="turn", failure=_too_long(asked.tokens, self._card)))
            return
        at = now.timestamp()
        account = cache.account(asked, self._entries, at, at)
        self._entries.update(account.changes)
        said = within(self._said(state.asked), request.max_tokens, asked.tokens, self._card)
        reply = Reply(
            message_id=f"msg_whatif_{turn:04d}",
            model=self._card.id,
            content=said.content,
            stop_reason=said.stop_reason,
            usage=account.usage(said.output_tokens or 0),
        )
        yield Happened(now, ModelReplied(turn=turn, purpose="turn", reply=reply))

    def _said(self, step: int) -> ScriptedReply:
        reply = self._steps[step].reply
        if not (self._card.thinks_by_default or self.start.prefix.thinking):
            reply = blocks.without_thinking(reply)
        return ScriptedReply(reply, "tool_use" if blocks.calls(reply) else "end_turn")


def _requested(request: Request, turn: int) -> ModelRequested:
    return ModelRequested(
        turn=turn,
        purpose=request.purpose,
        digest="",
        body_bytes=0,
        breakpoints=request.breakpoints,
        max_tokens=request.max_tokens,
    )


def _too_long(prompt_tokens: int, card: ModelCard) -> Failure:
    message = f"prompt is too long: {prompt_tokens} tokens > {card.context_window} maximum"
    return Failure(kind="prompt_too_long", error_type="invalid_request_error", message=message, status=400)
