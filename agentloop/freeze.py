"""What a session freezes when it starts: the prefix. And whether it is still the same when the session is taken up again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

from agentloop.adapters import model_table, plugins
from agentloop.adapters.model_table import Model
from agentloop.adapters.recall import recall_tool
from agentloop.adapters.sleeping import sleep_tool
from agentloop.agents import AgentFile
from agentloop.core import falling_back, results, tokens, wire
from agentloop.core import prefix as prefixes
from agentloop.core.choices import Policies
from agentloop.core.parking import SLEEP
from agentloop.core.state import State
from agentloop.errors import PrefixUnstable
from agentloop.knowledge import NAME as KNOWLEDGE
from agentloop.knowledge import knowledge_tool
from agentloop.leaves.tool import delegate_tool
from agentloop.policies import PolicySettings, from_settings, preset
from agentloop.ports import Blobs, Clock, News
from agentloop.tooling import MAX_SEARCHED_TOOLS, MAX_TOOLS, Registry, Tool, as_tool
from agentloop.types.base import compact
from agentloop.types.blocks import RECALL
from agentloop.types.events import Fallback, SessionResumed
from agentloop.types.grants import Grants
from agentloop.types.leaves import DELEGATE
from agentloop.types.limits import Limits
from agentloop.types.request import Prefix
from agentloop.types.tools import FactsSettings, ToolCard
from agentloop.types.usage import ModelCard
from agentloop.workspace import Settings, ToolSearch, redactor

SERVED = "mcp__"
"""How the name of an MCP server's tool begins."""
BUILT_IN = frozenset({RECALL, KNOWLEDGE, SLEEP, DELEGATE})
"""Tools that no folder holds: an agent may name them, and need not."""
HOT_TOOLS = 5
"""Tools that stay in the prefix where the others have to be searched for: the API's documentation advises 3 to 5."""
SEARCHED_FROM_TOKENS = 10_000
"""From so many estimated tokens of definitions on `tool_search: auto` searches. Measured by tests/bench/tool_search.py: a
session that often needs other tools costs 3 to 7 % more behind search with 8,500 tokens, 26 % less with 14,300."""


def built_in(workspace: Path, agent: AgentFile | None, blobs: Blobs, news: News, clock: Clock) -> tuple[Tool, ...]:
    """The tools that agentloop itself brings: `recall`; where the agent names folders of knowledge, the search in them;
    where it names `sleep_until` or `delegate`, these. Raises ConfigError where a folder is missing or empty."""
    folders = agent.knowledge if agent is not None else ()
    knowledge = (knowledge_tool(workspace, folders),) if folders else ()
    sleeps = agent is not None and SLEEP in (agent.tools or ())
    delegates = (delegate_tool(agent.leaves),) if agent is not None and DELEGATE in (agent.tools or ()) else ()
    return (recall_tool(blobs, news), *knowledge, *((sleep_tool(clock),) if sleeps else ()), *delegates)


def registry(
    folder: Path,
    agent: AgentFile | None,
    given: Sequence[object],
    own: Sequence[Tool],
    served: Sequence[Tool] = (),
    tool_search: ToolSearch = "off",
) -> Registry:
    """The tools of a session: those of the folder that the agent names (all, where it names none), those that were given,
    those that its MCP servers offer, and agentloop's own. Without a prompt file, the folder does not count. An agent that
    names some MCP tools has only these of them. Raises RegistryError."""
    named = agent.tools if agent is not None else ()
    first = [n for n in named or () if n not in BUILT_IN] or [as_tool(t).name for t in given]
    of_servers = tuple(n for n in named or () if n.startswith(SERVED))
    named = tuple(n for n in named if n not in BUILT_IN and n not in of_servers) if named is not None else None
    loaded = plugins.load_tools(folder) if named != () else []
    chosen = Registry(loaded).only(named).tools.values() if loaded or named else ()
    most = MAX_TOOLS if tool_search == "off" else MAX_SEARCHED_TOOLS
    offered = Registry(served, most).only(of_servers or None).tools.values()
    facts = agent.facts if agent is not None else {}
    tools = Registry([*chosen, *given, *offered, *own], most)
    tools.only(tuple(facts))
    return _searched(Registry((_with_facts(t, facts) for t in tools.tools.values()), most), tool_search, first, own)


def _searched(tools: Registry, mode: ToolSearch, first: Sequence[str], own: Sequence[Tool]) -> Registry:
    """The tools as the setting says: all in the prefix, or all but agentloop's own and those that are named first."""
    size = sum(tokens.tool_tokens(d, tokens.DEFAULT_FAMILY) for d in tools.definitions)
    if mode == "off" or (mode == "auto" and size < SEARCHED_FROM_TOKENS):
        return tools
    mine = [t.name for t in own]
    return tools.searched({*mine, *[n for n in first if n not in mine][: HOT_TOOLS - len(mine)]})


def _as_before(tools: Registry, before: Prefix) -> Registry:
    """The tools, searched for as they were when the session started, whatever the setting says now."""
    if not any(t.get("defer_loading") for t in before.tools):
        return tools.searched(tools.tools.keys())
    return tools.searched({t["name"] for t in before.tools if not t.get("defer_loading")})


def _with_facts(tool: Tool, facts: Mapping[str, FactsSettings | None]) -> Tool:
    """The tool, with what its agent says about its large results in the place of what it says itself."""
    if tool.name not in facts:
        return tool
    settings = facts[tool.name]
    return replace(tool, facts="keep" if settings is None else settings.mode, facts_settings=settings)


def cards(tools: Registry, models: Mapping[str, Model], day: date) -> tuple[ToolCard, ...]:
    """What the tools declare, with the prices of the models that they name for their facts. Raises UnknownModel."""
    return tuple(_priced(c, models, day) for c in tools.cards)


def _priced(card: ToolCard, models: Mapping[str, Model], day: date) -> ToolCard:
    named = card.facts_settings.model if card.facts_settings is not None else None
    return card if named is None else card.model_copy(update={"facts_card": model_table.find(named, models).card_on(day)})


def not_seen_once(tools: Sequence[ToolCard], card: ModelCard, made: Prefix) -> str | None:
    """What to tell the operator where tools ask for `see_once` and the model's thinking forbids it; None where all is well."""
    names = [t.name for t in tools if t.facts == "see_once"]
    if not names or results.may_see_once(card, made):
        return None
    return (
        f"{', '.join(names)}: see_once is not possible with {card.id}, whose thinking is valid only behind unchanged results; "
        "large results are shown as facts at once"
    )


def prefix(model: str, system: str, tools: Registry, effort: str | None) -> Prefix:
    """The prefix of a session."""
    return Prefix(model=model, system=system, tools=tools.definitions, effort=effort)


def fallbacks(settings: Settings, first: ModelCard, card_of: Callable[[str], ModelCard]) -> tuple[Fallback, ...]:
    """Who takes over where the model of a session is not available, or refuses. Raises UnknownModel."""
    cards = {card.id: card for card in map(card_of, settings.fallback_model) if card.id != first.id}
    return tuple(falling_back.fallback(card, settings.effort, settings.max_tokens) for card in cards.values())


def refuse_volatile(made: Prefix, environment: Mapping[str, str], allowed: Sequence[str], agent: str) -> None:
    """Raise PrefixUnstable where a prefix holds what will not be the same next time."""
    found = prefixes.volatile(made, environment, allowed)
    if not found:
        return
    first = found[0]
    more = f" (and {len(found) - 1} more: 'agentloop prefix check {agent}' lists them)" if len(found) > 1 else ""
    raise PrefixUnstable(
        f"{first.where}, line {first.line}: {first.what} in the cached prefix: '{first.value[:80]}'{more}\n"
        "what changes from run to run costs the whole cache: give it in the first user message instead,\n"
        "or, if it never changes, name it in the setting allow_volatile"
    )


def refuse_secrets(made: Prefix, environment: Mapping[str, str], agent: str) -> None:
    """Raise PrefixUnstable where a prefix holds a secret: it would stand in every log, and be sent with every request."""
    redact = redactor(environment)
    parts = {"system prompt": made.system, **{f"tool '{t.get('name')}'": compact(t).decode() for t in made.tools}}
    if found := [name for name, text in parts.items() if redact(text) != text]:
        raise PrefixUnstable(
            f"agent '{agent}': the {found[0]} holds the value of a secret from the environment\n"
            "take it out: a tool that needs it reads it from the environment when it runs"
        )


def policy_settings(asked: str | PolicySettings | Policies | None, s: Settings) -> PolicySettings:
    """The policies of a session: those that are asked for, or the preset of that name (of the setting, where none is named)
    with what the settings say."""
    if isinstance(asked, PolicySettings):
        return asked
    return from_settings(
        preset(asked if isinstance(asked, str) else s.policy),
        keep_pairs=s.keep_pairs,
        static_ttl=s.static_ttl,
        state_ttl=s.state_ttl,
        tail_ttl=s.tail_ttl,
        facts_over_tokens=s.facts_over_tokens,
        facts_share=s.facts_share,
        state_written_by=s.state,
    )


def limits(settings: Settings, card: ModelCard) -> Limits:
    """Where a session stops."""
    return Limits(
        max_turns=settings.max_turns,
        max_budget_usd=settings.max_budget_usd,
        max_wall_s=settings.max_wall_s,
        max_tokens=min(settings.max_tokens, card.max_output_tokens),
        max_session_tokens=settings.max_session_tokens,
    )


def resumption(
    state: State,
    tools: Registry,
    tool_cards: tuple[ToolCard, ...],
    limits_now: Limits,
    explicit: frozenset[str],
    accept_new_prefix: bool,
    grants: Grants | None = None,
) -> SessionResumed | None:
    """What changes when a session is taken up again: limits that were set explicitly; what its tools declare and what it
    may do, which the log never decides; and, where that is accepted, the prefix. None where nothing does. Raises
    PrefixUnstable where the tools are others than they were."""
    wanted = limits_now.model_dump(include=set(explicit & Limits.model_fields.keys()))
    tools = _as_before(tools, state.prefix)
    limits = state.limits.model_copy(update=wanted)
    changed = SessionResumed(
        limits=limits if limits != state.limits else None,
        tools=tool_cards if _effects(tool_cards) != _effects(state.tools) else None,
        grants=grants if grants != state.permits.grants else None,
    )
    if tools.definitions == state.prefix.tools:
        return changed if changed != SessionResumed() else None
    made = state.prefix.model_copy(update={"tools": tools.definitions})
    if not accept_new_prefix:
        raise PrefixUnstable(_tools_changed(state.session_id, state.prefix, made))
    new = {"prefix": made, "prefix_digest": wire.prefix_digest(made), "tools": tool_cards}
    return changed.model_copy(update=new)


def rests(state: State, changed: SessionResumed | None, now: datetime) -> bool:
    """Whether nothing is to be done: it is complete, sleeps, or waits for an answer that has not come."""
    if state.outcome == "completed":
        return changed is None or (changed.limits is None and changed.prefix is None)
    if state.outcome == "sleeping":
        return state.sleeps_until is not None and now < state.sleeps_until
    return state.outcome == "waiting_for_approval" and bool(state.permits.held) and changed is None


def _effects(cards: Sequence[ToolCard]) -> list[tuple[object, ...]]:
    """What the tools do in the world, as they declare it."""
    return sorted((c.name, c.effect, c.outward, c.untrusted) for c in cards)


def kept_prompt(state: State, system_now: str) -> str | None:
    """What to tell the operator where the prompt file has changed since the session started; None where it has not."""
    if system_now == state.prefix.system:
        return None
    before, after = state.prefix.system.encode(), system_now.encode()
    at = prefixes.first_difference("system_changed", "system", before, after)
    return (
        f"system_changed: the prompt differs from byte {at.byte} on (…{at.before[-40:]} → …{at.after[-40:]}); "
        f"session '{state.session_id}' keeps the one it started with"
    )


def _tools_changed(session_id: str, before: Prefix, after: Prefix) -> str:
    old, new = {t["name"]: t for t in before.tools}, {t["name"]: t for t in after.tools}
    gone, come = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    other = sorted(n for n in old.keys() & new.keys() if old[n] != new[n])
    what = [f"{k}: {', '.join(v)}" for k, v in (("gone", gone), ("new", come), ("changed", other)) if v]
    digests = f"{wire.prefix_digest(before)[:12]} → {wire.prefix_digest(after)[:12]}"
    at = prefixes.first_difference("tools_changed", "tools", wire.prefix_bytes(before), wire.prefix_bytes(after))
    return (
        f"tools_changed: session '{session_id}' started with other tools ({'; '.join(what) or 'order'}; prefix {digests})\n"
        f"from byte {at.byte} on: …{at.before[-40:]} → …{at.after[-40:]}\n"
        "bring the tools back, or go on with --accept-new-prefix, which writes the whole cache anew"
    )
