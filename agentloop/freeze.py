"""What a session freezes when it starts: the prefix. And whether it is still the same when the session is taken up again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from agentloop.adapters import model_table, plugins
from agentloop.adapters.model_table import Model
from agentloop.adapters.recall import recall_tool
from agentloop.agents import AgentFile
from agentloop.core import prefix as prefixes
from agentloop.core import wire
from agentloop.core.state import State
from agentloop.errors import PrefixUnstable
from agentloop.ports import Blobs
from agentloop.tooling import Registry, Tool
from agentloop.types.events import FactsSettings, Limits, SessionResumed, ToolCard
from agentloop.types.request import Prefix
from agentloop.types.usage import ModelCard
from agentloop.workspace import Settings

RECALL = "recall"
SERVED = "mcp__"
"""How the name of an MCP server's tool begins."""


def registry(
    folder: Path, agent: AgentFile | None, given: Sequence[object], blobs: Blobs, served: Sequence[Tool] = ()
) -> Registry:
    """The tools of a session: those of the folder that the agent names (all, where it names none), those that were given,
    those that its MCP servers offer, and `recall`. Without a prompt file, the folder does not count. An agent that names
    some MCP tools has only these of them. Raises RegistryError."""
    named = agent.tools if agent is not None else ()
    of_servers = tuple(n for n in named or () if n.startswith(SERVED))
    named = tuple(n for n in named if n != RECALL and n not in of_servers) if named is not None else None  # all have recall
    loaded = plugins.load_tools(folder) if named != () else []
    chosen = Registry(loaded).only(named).tools.values() if loaded or named else ()
    offered = Registry(served).only(of_servers or None).tools.values()
    facts = agent.facts if agent is not None else {}
    tools = Registry([*chosen, *given, *offered, recall_tool(blobs)])
    tools.only(tuple(facts))
    return Registry(_with_facts(t, facts) for t in tools.tools.values())


def _with_facts(tool: Tool, facts: Mapping[str, FactsSettings | None]) -> Tool:
    """The tool, with what its agent says about its large results in the place of what it says itself."""
    if tool.name not in facts:
        return tool
    settings = facts[tool.name]
    return replace(tool, facts="keep" if settings is None else "facts", facts_settings=settings)


def cards(tools: Registry, models: Mapping[str, Model], day: date) -> tuple[ToolCard, ...]:
    """What the tools declare, with the prices of the models that they name for their facts. Raises UnknownModel."""
    return tuple(_priced(c, models, day) for c in tools.cards)


def _priced(card: ToolCard, models: Mapping[str, Model], day: date) -> ToolCard:
    named = card.facts_settings.model if card.facts_settings is not None else None
    return card if named is None else card.model_copy(update={"facts_card": model_table.find(named, models).card_on(day)})


def prefix(model: str, system: str, tools: Registry, effort: str | None) -> Prefix:
    """The prefix of a session."""
    return Prefix(model=model, system=system, tools=tools.definitions, effort=effort)


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


def limits(settings: Settings, card: ModelCard) -> Limits:
    """Where a session stops."""
    return Limits(
        max_turns=settings.max_turns,
        max_budget_usd=settings.max_budget_usd,
        max_wall_s=settings.max_wall_s,
        max_tokens=min(settings.max_tokens, card.max_output_tokens),
    )


def resumption(
    state: State,
    tools: Registry,
    tool_cards: tuple[ToolCard, ...],
    limits_now: Limits,
    explicit: frozenset[str],
    accept_new_prefix: bool,
) -> SessionResumed | None:
    """What changes when a session is taken up again: limits that were set explicitly, and, where that is accepted, the
    prefix. None where nothing does. Raises PrefixUnstable where the tools are others than they were."""
    wanted = limits_now.model_dump(include=set(explicit & Limits.model_fields.keys()))
    changed = state.limits.model_copy(update=wanted)
    new_limits = changed if changed != state.limits else None
    if tools.definitions == state.prefix.tools:
        return SessionResumed(limits=new_limits) if new_limits is not None else None
    made = state.prefix.model_copy(update={"tools": tools.definitions})
    if not accept_new_prefix:
        raise PrefixUnstable(_tools_changed(state.session_id, state.prefix, made))
    return SessionResumed(limits=new_limits, prefix=made, prefix_digest=wire.prefix_digest(made), tools=tool_cards)


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
