"""Which leaf does which task: under which id, with which prompt, tools and model. The same call always gives the same plan."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from agentloop.core import falling_back, tokens, wire
from agentloop.core.parking import SLEEP
from agentloop.core.state import State
from agentloop.leaves import kinds
from agentloop.leaves.world import World
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import RECALL, Blocks
from agentloop.types.events import Fallback, SessionStarted
from agentloop.types.grants import Grants
from agentloop.types.leaves import DELEGATE, KIND, LeafOf, LeafSettings, Mode
from agentloop.types.limits import Limits
from agentloop.types.request import Prefix
from agentloop.types.tools import ToolCard
from agentloop.types.usage import ModelCard
from agentloop.version import __version__

MOST_TASKS = 50
MAX_TOKENS = 16_000
"""Output tokens of one reply, unless the agent's file or the routing says otherwise."""
BATCH_GAP_S = 1_800.0
"""Seconds between two requests of a leaf that asks in batches, as its planner of lifetimes is told: entries have to live for
an hour. Most batches end within one (https://platform.claude.com/docs/en/build-with-claude/batch-processing)."""
_LONGEST_ID = 100
_NOT_FOR_LEAVES = frozenset({DELEGATE, SLEEP, RECALL})
"""Leaves do not delegate and do not sleep; `recall` is theirs where they have tools, over what they have seen themselves."""
_NOT_OF_AN_ID = re.compile(r"[^A-Za-z0-9_-]")


class Task(BaseModel):
    """One task for a leaf."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(pattern=f"^{KIND.pattern}$")
    task: str = Field(min_length=1)
    context: str = ""


class Who(NamedTuple):
    """The model that does a task, as it is asked."""

    card: ModelCard
    effort: str | None
    max_tokens: int
    fallback: tuple[Fallback, ...]
    """Who takes over, in this order."""


class Leaf(NamedTuple):
    """One leaf, before it is known what it may spend."""

    number: int
    session_id: str
    kind: str
    settings: LeafSettings
    prefix: Prefix
    who: Who
    tools: tuple[str, ...]
    """Of the registry of the session that delegates."""
    told: Blocks
    shares_prefix: bool
    """Whether other leaves of the call have the same prefix."""
    mode: Mode


class May(NamedTuple):
    """What one leaf may spend and do."""

    limits: Limits
    grants: Grants | None
    """None: somebody watches, and nothing has to be granted."""


def leaf_id(session_id: str, call_id: str, number: int) -> str:
    """The id of a leaf: `<session>.<call>.<number>`; where that is too long for an id, a digest takes the call's place."""
    return f"{call_name(session_id, call_id)}.{number}"


def call_name(session_id: str, call_id: str) -> str:
    """What the ids of a call's leaves begin with."""
    name = f"{session_id}.{_NOT_OF_AN_ID.sub('-', call_id)}"
    if len(f"{name}.{MOST_TASKS}") <= _LONGEST_ID and _NOT_OF_AN_ID.search(call_id) is None:
        return name
    digest = hashlib.sha256(f"{session_id}\n{call_id}".encode()).hexdigest()[:10]
    return f"{session_id[: _LONGEST_ID - 16]}.{digest}"


def leaves(state: State, call_id: str, tasks: Sequence[Task], world: World) -> list[Leaf]:
    """The leaves of a call. Raises UnknownModel, ConfigError."""
    shared = _shared(state, tasks)
    tools = [_tools(t.kind, _settings(t.kind, world), state, world) for t in tasks]
    made = []
    for i, task in enumerate(tasks):
        settings = _settings(task.kind, world)
        common = task.context if (task.kind, task.context) in shared else ""
        who = _who(task.kind, settings, tokens.estimate(task.context + task.task), state, world)
        system = world.redact(kinds.system(task.kind, settings, common))
        prefix = Prefix(model=who.card.id, system=system, tools=_definitions(tools[i], world), effort=who.effort)
        told = f"{kinds.marked(task.context)}\n\n{task.task}" if task.context and not common else task.task
        name = leaf_id(state.session_id, call_id, i + 1)
        content = (blocks.text(world.redact(told)),)
        mode = settings.mode or world.settings.mode
        made.append(Leaf(i + 1, name, task.kind, settings, prefix, who, tools[i], content, False, mode))
    often = Counter(wire.prefix_digest(leaf.prefix) for leaf in made)
    return [leaf._replace(shares_prefix=often[wire.prefix_digest(leaf.prefix)] > 1) for leaf in made]


def _settings(kind: str, world: World) -> LeafSettings:
    return world.settings.kinds.get(kind, LeafSettings())


def _shared(state: State, tasks: Sequence[Task]) -> set[tuple[str, str]]:
    """Kinds and contexts that several tasks share: such a context stands in the prefix, where it is paid for once. Not once
    strangers were heard: what they wrote does not belong into a system prompt."""
    if state.permits.strangers:
        return set()
    often = Counter((t.kind, t.context) for t in tasks if t.context)
    return {pair for pair, times in often.items() if times > 1}


def _tools(kind: str, settings: LeafSettings, state: State, world: World) -> tuple[str, ...]:
    """The tools of a kind, by name: never one that the session that delegates does not have."""
    there = {name: t for name, t in world.registry.tools.items() if name not in _NOT_FOR_LEAVES}
    known = {t.name for t in state.tools}
    if settings.tools is not None:
        return tuple(n for n in there if n in settings.tools and n in known)
    if not kinds.kind(kind).looks:
        return ()
    return tuple(n for n, t in there.items() if t.effect == "read" and not t.outward and n in known)


def _card(name: str | None, state: State, world: World) -> ModelCard:
    return state.card if name is None or name == state.card.id else world.card(name)


def _who(kind: str, settings: LeafSettings, tokens: int, state: State, world: World) -> Who:
    """Who does a task of this kind that is about so many tokens: as the kind says, as the routing says, or whoever does the
    session that delegates. Raises UnknownModel."""
    routed = world.route(kind, tokens) if settings.model is None else None
    card = _card(settings.model or (routed.model if routed is not None else None), state, world)
    effort = settings.effort or (routed.effort if routed is not None else _effort(card, state))
    most = settings.max_tokens or (routed.max_tokens if routed is not None else MAX_TOKENS)
    named = settings.fallback_model
    if named is None and settings.model is None and routed is None:
        return Who(card, effort, most, state.fallback)
    if named is None:
        named = routed.fallback if routed is not None else ()
    cards = [other for other in map(world.card, named) if other.id != card.id]
    return Who(card, effort, most, tuple(falling_back.fallback(other, effort, most) for other in cards))


def _effort(card: ModelCard, state: State) -> str | None:
    """That of the session that delegates, where it is of the same model."""
    return state.prefix.effort if card.id == state.card.id else None


def _definitions(tools: tuple[str, ...], world: World) -> tuple[Json, ...]:
    names = (*tools, RECALL) if tools and RECALL in world.registry.tools else tools
    return tuple(world.registry.tools[n].definition for n in sorted(names))


def started(leaf: Leaf, state: State, call_id: str, may: May, policies: Json, world: World) -> SessionStarted:
    """The first line of a leaf: everything frozen. Its spending is counted to the job of the session that delegates."""
    whose = LeafOf(
        session_id=state.session_id,
        call_id=call_id,
        number=leaf.number,
        kind=leaf.kind,
        mode=leaf.mode,
        strangers=state.permits.strangers,
        denied=dict(state.permits.denied),
    )
    return SessionStarted(
        session_id=leaf.session_id,
        agent=f"{state.agent}.{leaf.kind}",
        prefix=leaf.prefix,
        prefix_digest=wire.prefix_digest(leaf.prefix),
        card=leaf.who.card,
        tools=cards(leaf, state),
        policies=policies,
        limits=may.limits,
        fallback=leaf.who.fallback,
        played_by=state.played_by,
        expected_gap_s=BATCH_GAP_S if leaf.mode == "batch" else None,
        agentloop=__version__,
        grants=may.grants,
        job=world.job,
        leaf=whose,
    )


def cards(leaf: Leaf, state: State) -> tuple[ToolCard, ...]:
    """What a leaf's tools declare: what they declare to the session that delegates."""
    return tuple(t for t in state.tools if any(t.name == d["name"] for d in leaf.prefix.tools))


def limits(leaf: Leaf, most_tokens: int | None, most_usd: Decimal | None, most_s: float, batches_s: float) -> Limits:
    """Where a leaf stops; `batches_s`: so many seconds may pass until its batches have to be back."""
    return Limits(
        max_turns=leaf.settings.max_turns,
        max_budget_usd=most_usd,
        max_wall_s=min(leaf.settings.max_wall_s + batches_s, most_s),
        max_tokens=min(leaf.who.max_tokens, leaf.who.card.max_output_tokens),
        max_session_tokens=most_tokens,
    )
