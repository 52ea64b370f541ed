"""`prefix check|warm` and `tools list|check`: what the model will see, and whether it stays the same."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from agentloop import freeze
from agentloop.adapters import model_table
from agentloop.api import Agent
from agentloop.cli import render
from agentloop.cli.options import agent_of, here, json_option, print_json, sessions_of, workspace_option
from agentloop.cli.warming import warm
from agentloop.core import prefix as prefixes
from agentloop.core import tokens, wire
from agentloop.errors import PrefixUnstable
from agentloop.types.base import Json, compact
from agentloop.types.request import Prefix
from agentloop.types.usage import ModelCard

ANOTHER_WORLD = {"PYTHONHASHSEED": "4711", "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "LANG": "C"}
"""What must not matter to the bytes of a prefix."""


@click.group()
def prefix() -> None:
    """The cached prefix: tools and system prompt."""


prefix.add_command(warm)


@prefix.command()
@click.argument("agent")
@click.option("--digest", "digest_only", is_flag=True, help="Print the digest and nothing else.")
@json_option
@workspace_option
def check(agent: str, digest_only: bool, as_json: bool, workspace: Path) -> None:
    """Is the prefix of AGENT stable, and long enough to be cached?"""
    ready = agent_of(workspace, agent)
    made = _prefix(ready)
    if digest_only:
        click.echo(wire.prefix_digest(made))
        return
    found = prefixes.volatile(made, ready.environment, ready.settings.allow_volatile)
    elsewhere = _digest_elsewhere(workspace, agent)
    data = _description(ready, made) | {
        "volatile": [v._asdict() for v in found],
        "same_in_another_process": elsewhere == wire.prefix_digest(made),
    }
    print_json(data) if as_json else _print(data)
    if found or elsewhere != wire.prefix_digest(made):
        raise PrefixUnstable(_unstable(data))


def _prefix(agent: Agent) -> Prefix:
    with agent.registry("prefix-check") as registry:
        return freeze.prefix(agent.model.card.id, agent.system, registry, agent.settings.effort)


def _description(agent: Agent, made: Prefix) -> dict[str, Any]:
    card = agent.model.card
    parts = [_tool_part(t, card.tokenizer) for t in made.tools]
    parts.append(("system", made.system.encode(), tokens.estimate(made.system, card.tokenizer)))
    added = tokens.weights(card.tokenizer).frame + (card.tool_system_tokens if made.tools else 0)
    total = sum(size for _, _, size in parts) + added
    return {
        "agent": agent.name,
        "model": card.id,
        "digest": wire.prefix_digest(made),
        "parts": [{"part": n, "bytes": len(b), "tokens": t, "digest": wire.digest(b)[:12]} for n, b, t in parts],
        "added_by_the_api_tokens": added,
        "tokens": total,
        "min_cacheable_tokens": card.min_cacheable_tokens,
        "cacheable": total >= card.min_cacheable_tokens,
    }


def _tool_part(tool: Json, family: str) -> tuple[str, bytes, int]:
    """A tool's name, bytes and tokens: a deferred one has none until it is found."""
    if tool.get("defer_loading"):
        return f"tool {tool['name']} (deferred)", compact(tool), 0
    return f"tool {tool['name']}", compact(tool), tokens.tool_tokens(tool, family)


def _digest_elsewhere(workspace: Path, agent: str) -> str:
    """The digest that another process finds, with another hash seed, locale, time zone and working directory."""
    name = str(Path(agent).resolve()) if agent.endswith(".md") and not (workspace / agent).exists() else agent
    check = ["prefix", "check", name, "--digest", "--workspace", str(workspace.resolve())]
    command = [sys.executable, "-P", "-m", "agentloop", *check]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **ANOTHER_WORLD}, capture_output=True, text=True, timeout=120, check=False
        )
    return done.stdout.strip()


def _print(data: dict[str, Any]) -> None:
    rows = [["part", "bytes", "tokens", "digest"]]
    rows += [[p["part"], f"{p['bytes']:,}", f"{p['tokens']:,}", p["digest"]] for p in data["parts"]]
    rows.append(["added by the API", "", f"{data['added_by_the_api_tokens']:,}", ""])
    rows.append(["prefix", "", f"{data['tokens']:,}", data["digest"][:12]])
    click.echo(render.table(rows, right=(1, 2)))
    reach = "reaches" if data["cacheable"] else "does NOT reach"
    click.echo(f"\nthe prefix {reach} the {data['min_cacheable_tokens']:,} tokens that {data['model']} needs to cache it")
    if data["same_in_another_process"]:
        click.echo("another process (hash seed, locale, time zone, folder) makes the same bytes")


def _unstable(data: dict[str, Any]) -> str:
    if not data["volatile"]:
        return "another process makes other bytes of this prefix: something in it depends on hash order, locale or place"
    lines = [f"{v['where']}, line {v['line']}: {v['what']}: '{v['value'][:60]}'" for v in data["volatile"]]
    return "volatile content in the cached prefix\n" + "\n".join(lines)


@click.group()
def tools() -> None:
    """The tools of a workspace."""


@tools.command("list")
@click.option("--agent", help="Only those that this agent has.")
@json_option
@workspace_option
def list_(agent: str | None, as_json: bool, workspace: Path) -> None:
    """The tools, and what each declares."""
    registry = _registry(workspace, agent)
    rows = [
        {"name": t.name, "effect": t.effect, "timeout_s": t.timeout_s, "facts": t.facts, "definition": t.definition}
        for t in registry.tools.values()
    ]
    if as_json:
        print_json(rows)
        return
    shown = [[r["name"], r["effect"], f"{r['timeout_s']:g} s", str(r["definition"].get("description", "")).partition("\n")[0]]
             for r in rows]  # fmt: skip
    click.echo(render.table([["tool", "effect", "limit", "what it does"], *shown]))


@tools.command("check")
@click.option("--agent", help="Only those that this agent has.")
@workspace_option
def check_tools(agent: str | None, workspace: Path) -> None:
    """Would the API take these tools? Says which module, line and parameter it would not."""
    registry = _registry(workspace, agent)
    size = sum(_tool_part(d, tokens.DEFAULT_FAMILY)[2] for d in registry.definitions)
    click.echo(f"{len(registry.tools)} tools are fine; {size:,} tokens on every request (estimated)")
    card = _card(workspace, agent)
    if (note := freeze.not_seen_once(registry.cards, card, freeze.prefix(card.id, "", registry, None))) is not None:
        click.echo(f"but {note}")


def _card(workspace: Path, agent: str | None) -> ModelCard:
    """The model that the tools are used with: the agent's, or the workspace's."""
    if agent is not None:
        return agent_of(workspace, agent).model.card
    settings = here(workspace).settings
    table = model_table.models(Path(settings.price_table) if settings.price_table else model_table.PACKAGED)
    return model_table.find(settings.model, table).card


def _registry(workspace: Path, agent: str | None) -> Any:
    from agentloop.adapters.plugins import load_tools
    from agentloop.adapters.recall import recall_tool
    from agentloop.tooling import Registry

    if agent is not None:
        with agent_of(workspace, agent).registry("tools-list") as registry:
            return registry
    blobs = sessions_of(workspace).blobs("tools-list")
    return Registry([*load_tools(workspace / here(workspace).settings.tools), recall_tool(blobs)])
